//! The grid's database: started beside the nodes, announced to them, stopped after them.

use std::time::Duration;

use anyhow::Context as _;
use data_pump::database::{Database, DatabaseOptions, DatabaseSource, provide};
use tokio::sync::watch;

use crate::context::Context;
use crate::data_dir::GridFile;
use crate::supervise::{DatabaseAddress, Order};

/// The pause before a database that could not be started is tried again, doubled up to the second.
const DATABASE_RETRY_MIN: Duration = Duration::from_secs(1);
/// See [`DATABASE_RETRY_MIN`].
const DATABASE_RETRY_MAX: Duration = Duration::from_secs(60);

/// Where the database stands.
#[derive(Clone, Debug)]
pub(super) enum DatabaseState {
    None,
    Starting,
    Running {
        url: String,
        source: String,
        version: Option<String>,
        durable: bool,
    },
    Failed(String),
}

/// Starts the database, tells the nodes, and stops it last.
pub(super) struct DatabaseKeeper<'a> {
    /// Which database.
    pub(super) options: DatabaseOptions,
    /// Told where it stands.
    pub(super) state: watch::Sender<DatabaseState>,
    /// Told to every node.
    pub(super) orders: watch::Sender<Option<Order>>,
    /// Where `grid.json` lies,
    pub(super) context: &'a Context,
    /// and what is in it.
    pub(super) grid: GridFile,
}

impl DatabaseKeeper<'_> {
    /// Keeps it until told to stop; does nothing `without` one.
    pub(super) async fn run(mut self, without: bool, mut stopping: watch::Receiver<bool>) {
        if without {
            return;
        }
        let database = tokio::select! {
            database = self.provide() => database,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        let Some(database) = database else { return };
        // The sender lives as long as the nodes.
        let _ = stopping.wait_for(|stop| *stop).await;
        if let Err(error) = database.stop().await {
            tracing::warn!(%error, "the database did not stop in order");
        }
    }

    async fn provide(&mut self) -> Option<Database> {
        let mut pause = DATABASE_RETRY_MIN;
        loop {
            match provide(self.options.clone()).await {
                Ok(database) => {
                    self.announce(&database);
                    return Some(database);
                }
                Err(error) => {
                    tracing::warn!(%error, "there is no database; the grid sells without it");
                    self.state
                        .send_replace(DatabaseState::Failed(error.to_string()));
                    if !error.is_retryable() {
                        return None;
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(DATABASE_RETRY_MAX);
        }
    }

    fn announce(&mut self, database: &Database) {
        self.grid.database_url = Some(database.url.clone());
        let written = self.context.data_dir.write(&self.grid).context("grid.json");
        if let Err(error) = written {
            tracing::warn!(
                error = format!("{error:#}"),
                "reports will not find the database"
            );
        }
        let address = DatabaseAddress {
            url: database.url.clone(),
            single_connection: database.single_connection,
            is_private: !matches!(database.source, DatabaseSource::Given(_)),
        };
        self.orders.send_replace(Some(Order::Database(address)));
        self.state.send_replace(DatabaseState::Running {
            url: database.url.clone(),
            source: match database.source {
                DatabaseSource::Given(_) => "given".to_owned(),
                DatabaseSource::Supervised => "private".to_owned(),
                DatabaseSource::Embedded => "embedded".to_owned(),
            },
            version: database.version.clone(),
            durable: database.durable,
        });
    }
}
