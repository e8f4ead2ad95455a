//! SQL connections for the lanes: a small pool, or one connection in turns.
//!
//! A database that answers one connection at a time must be left now and then, or nobody else gets
//! in. So the lanes pass one connection on for a round and then close it; a report that waits to
//! connect is served before the next round.

use std::ops::{Deref, DerefMut};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, PgPool, Postgres};
use tokio::sync::{Mutex, MutexGuard};

/// How the pump's sessions are called in the database.
pub(super) const PUMP_APPLICATION: &str = "spacegrid-pump";
/// How long a lane waits for one of the pool's connections.
pub(super) const ACQUIRE_WAIT: Duration = Duration::from_secs(10);
/// How long an unused connection is kept.
const IDLE_WAIT: Duration = Duration::from_secs(300);
/// The longest that the lanes keep the only connection among themselves.
const ROUND_MAX: Duration = Duration::from_millis(250);

/// What every connection of the pump is set to. The updates join a small array with a large table:
/// only by the table's key is that cheap, whatever the statistics of a young table say. The timeouts
/// free the checkpoint row when a pump hangs.
pub(super) const SESSION: &str = "SET jit = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
     SET enable_seqscan = off; SET statement_timeout = '60s'; \
     SET idle_in_transaction_session_timeout = '60s'";

/// Where the lanes get their connections.
#[derive(Debug)]
pub(super) enum Connections {
    Pool(PgPool),
    Single(Box<SingleConnection>),
}

/// The only connection, and who waits for it.
#[derive(Debug)]
pub(super) struct SingleConnection {
    options: PgConnectOptions,
    slot: Mutex<Option<OpenConnection>>,
    waiting: AtomicUsize,
}

#[derive(Debug)]
pub(super) struct OpenConnection {
    connection: PgConnection,
    since: Instant,
}

/// A connection in a lane's hands.
#[derive(Debug)]
pub(super) enum Lease<'a> {
    Pooled(PoolConnection<Postgres>),
    Single {
        owner: &'a SingleConnection,
        slot: MutexGuard<'a, Option<OpenConnection>>,
        open: OpenConnection,
    },
}

impl Connections {
    pub(super) fn new(
        url: &str,
        single_connection: bool,
        connections_max: u32,
    ) -> Result<Arc<Self>, sqlx::Error> {
        let options = PgConnectOptions::from_str(url)?
            .application_name(PUMP_APPLICATION)
            .disable_statement_logging();
        if single_connection {
            return Ok(Arc::new(Self::Single(Box::new(SingleConnection {
                options,
                slot: Mutex::new(None),
                waiting: AtomicUsize::new(0),
            }))));
        }
        let pool = PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(ACQUIRE_WAIT)
            .idle_timeout(IDLE_WAIT)
            .test_before_acquire(false)
            .after_connect(|connection, _| {
                Box::pin(async move { connection.execute(SESSION).await.map(|_| ()) })
            })
            .connect_lazy_with(options);
        Ok(Arc::new(Self::Pool(pool)))
    }

    pub(super) fn is_single(&self) -> bool {
        matches!(self, Self::Single(_))
    }

    /// A connection, as soon as one is free.
    pub(super) async fn acquire(&self) -> Result<Lease<'_>, sqlx::Error> {
        match self {
            Self::Pool(pool) => Ok(Lease::Pooled(pool.acquire().await?)),
            Self::Single(owner) => {
                let turn = Turn::new(&owner.waiting);
                let mut slot = owner.slot.lock().await;
                drop(turn);
                let open = match slot.take() {
                    Some(open) => open,
                    None => owner.open().await?,
                };
                Ok(Lease::Single { owner, slot, open })
            }
        }
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Pool(pool) => pool.close().await,
            Self::Single(owner) => {
                if let Some(open) = owner.slot.lock().await.take() {
                    goodbye(open).await;
                }
            }
        }
    }
}

impl SingleConnection {
    async fn open(&self) -> Result<OpenConnection, sqlx::Error> {
        let mut connection = PgConnection::connect_with(&self.options).await?;
        connection.execute(SESSION).await?;
        Ok(OpenConnection {
            connection,
            since: Instant::now(),
        })
    }
}

/// Counts one who waits, also when it stops waiting.
struct Turn<'a>(&'a AtomicUsize);

impl<'a> Turn<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lease<'_> {
    /// Gives a connection back that is fit for the next lane. A lease that is dropped instead closes
    /// its connection, whose state nobody knows.
    pub(super) async fn release(self) {
        match self {
            Self::Pooled(connection) => drop(connection),
            Self::Single {
                owner,
                mut slot,
                open,
            } => {
                let is_wanted = owner.waiting.load(Ordering::Relaxed) > 0;
                if is_wanted && open.since.elapsed() < ROUND_MAX {
                    *slot = Some(open);
                } else {
                    goodbye(open).await;
                }
            }
        }
    }

    /// Closes a connection that failed.
    pub(super) async fn discard(self) {
        match self {
            Self::Pooled(connection) => {
                // It failed already; how it closes is of no interest.
                let _ = connection.close().await;
            }
            Self::Single { open, .. } => drop(open),
        }
    }
}

async fn goodbye(open: OpenConnection) {
    if let Err(error) = open.connection.close().await {
        tracing::debug!(%error, "the database connection did not close in an orderly way");
    }
}

impl Deref for Lease<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match self {
            Self::Pooled(connection) => connection,
            Self::Single { open, .. } => &open.connection,
        }
    }
}

impl DerefMut for Lease<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match self {
            Self::Pooled(connection) => connection,
            Self::Single { open, .. } => &mut open.connection,
        }
    }
}
