//! The data pump: every change of every partition that this node leads, into PostgreSQL.
//!
//! One lane a partition ([`lane`]) reads the feed, the [`planner`] turns changes into rows, the
//! [`writer`] writes rows and checkpoint together. A lane is active only on the partition's leader;
//! the Raft term in the checkpoint keeps a deposed leader's late write out.
//!
//! What it deliberately does not do: hold changes back from anybody, or keep them in memory while the
//! database is away. The log is the queue; what a lane reads ahead while it rests is bounded.

mod archiving;
mod backoff;
mod connections;
mod control;
mod dead_letters;
mod lane;
mod look;
mod months;
mod pacing;
mod parking;
mod paused;
mod pending;
pub(crate) mod planner;
mod reader;
mod resync;
mod rows;
mod signing;
mod sqlstate;
mod statements;
mod status;
mod telling;
mod thread;
mod trail;
mod trouble;
mod writer;

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod migration_tests;
#[cfg(test)]
mod months_tests;
#[cfg(test)]
mod parking_tests;
#[cfg(test)]
mod planner_tests;
#[cfg(test)]
mod report_fixtures;
#[cfg(test)]
mod report_tests;
#[cfg(test)]
mod report_view_tests;
#[cfg(test)]
mod waiting_room_tests;
#[cfg(test)]
mod writer_tests;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use grid::GridClient;
use grid_config::PumpSettings;
use processing_unit::Unit;
use tokio::sync::{Mutex, watch};
use tokio::task::{JoinHandle, JoinSet};
use uuid::Uuid;

use crate::audit::AuditKey;
use connections::Connections;
pub use control::{OperatorError, PartitionControl, PumpOperator};
pub use dead_letters::{
    ChangePlace, Dropped, ParkedChange, ParkedEntity, ParkedFilter, Refused, Retried,
};
use lane::{Lane, Shared};
pub use resync::{EntityKind, Remade};
pub use status::{FenceOutcomes, LaneState, LaneStatus};
use thread::PumpThread;
pub use trouble::LaneTrouble;
#[cfg(test)]
pub(crate) use writer::Place;
pub use writer::WriteError;
pub(crate) use writer::partition_number;

/// How long a shutdown waits for the lanes' last transactions.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(5);
/// And then for the mark of a clean end.
const MARK_WAIT: Duration = Duration::from_secs(2);
/// How often the lag is published.
const LAG_INTERVAL: Duration = Duration::from_secs(1);

/// What a pump needs.
#[derive(Debug)]
pub struct PumpOptions {
    /// The grid to read.
    pub client: GridClient<Unit>,
    /// Its id; a database that holds another grid's data is not touched.
    pub grid_id: Uuid,
    /// Where to write. It need not answer yet.
    pub database_url: String,
    /// Whether the database answers one connection at a time.
    pub single_connection: bool,
    /// Whether the database shares this machine with the nodes, so that lanes step back while clients
    /// wait (see [`pacing`]).
    pub steps_back: bool,
    /// Batches, waits and connections.
    pub settings: PumpSettings,
    /// The grid's key for the audit trail. Without it facts are chained, and no root is signed.
    pub audit_key: Option<AuditKey>,
}

/// Why there is no pump.
#[derive(Debug, thiserror::Error)]
pub enum PumpError {
    /// The URL cannot be read. Correct it.
    #[error("the database URL is wrong: {0}")]
    Url(#[source] sqlx::Error),
    /// The system has no thread to give. Try again when it has.
    #[error("the pump has no thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// A running pump.
#[derive(Debug)]
pub struct Pump {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    lanes: JoinSet<()>,
    reporter: JoinHandle<()>,
    statuses: Statuses,
    connections: Arc<Connections>,
    thread: PumpThread,
}

#[derive(Clone, Debug)]
struct Statuses {
    client: GridClient<Unit>,
    lanes: Arc<Vec<watch::Receiver<LaneStatus>>>,
}

impl Pump {
    /// Starts a lane for every partition. It returns at once: schema and connections are the lanes'
    /// affair, and they wait for a database that is away.
    ///
    /// # Errors
    /// [`PumpError`].
    pub fn start(options: PumpOptions) -> Result<Self, PumpError> {
        let thread = PumpThread::start().map_err(PumpError::Thread)?;
        let entered = thread.handle().enter();
        let connections = Connections::new(
            &options.database_url,
            options.single_connection,
            options.settings.connections_max,
        )
        .map_err(PumpError::Url)?;
        let (stop, stopped) = watch::channel(false);
        let layout = options.client.layout();
        let shared = Arc::new(Shared {
            client: options.client.clone(),
            grid_id: options.grid_id,
            connections: Arc::clone(&connections),
            is_schema_ready: Mutex::new(false),
            steps_back: options.steps_back,
            held: Arc::default(),
            drained: Arc::default(),
            settings: options.settings,
            audit_key: options.audit_key,
            stop: stopped,
            active_lanes: AtomicUsize::new(0),
        });
        let mut lanes = JoinSet::new();
        let mut receivers = Vec::new();
        for partition in layout.iter() {
            let (status, receiver) = watch::channel(LaneStatus::new(partition));
            receivers.push(receiver);
            lanes.spawn(Lane::new(Arc::clone(&shared), partition, status).run());
        }
        lanes.spawn(months::keep_months(Arc::clone(&shared)));
        let statuses = Statuses {
            client: options.client,
            lanes: Arc::new(receivers),
        };
        let reporter = tokio::spawn(publish_lag(statuses.clone()));
        lanes.spawn(archiving::run(Arc::clone(&shared)));
        drop(entered);
        Ok(Self {
            shared,
            stop,
            lanes,
            reporter,
            statuses,
            connections,
            thread,
        })
    }

    /// How every lane stands, by partition.
    #[must_use]
    pub fn status(&self) -> Vec<LaneStatus> {
        self.statuses.read()
    }

    /// A handle that outlives the borrow of the pump, for whoever serves its status.
    pub fn status_reader(&self) -> impl Fn() -> Vec<LaneStatus> + Clone + Send + Sync + 'static {
        let statuses = self.statuses.clone();
        move || statuses.read()
    }

    /// Lets the lanes write what is left, as far as they can in a few seconds, and closes the connections.
    pub async fn shutdown(self) {
        self.drain().await.close().await;
    }

    /// Lets the lanes write what is left, as far as they can in a few seconds. Hand what comes back to
    /// [`Drained::mark`] once the node has ended.
    pub async fn drain(mut self) -> Drained {
        self.reporter.abort();
        self.stop.send_replace(true);
        let finish = async { while self.lanes.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_WAIT, finish).await.is_err() {
            tracing::warn!("the pump's last transactions did not end in time");
            self.lanes.shutdown().await;
        }
        Drained {
            shared: self.shared,
            connections: self.connections,
            thread: self.thread,
        }
    }
}

/// A pump whose lanes have ended.
#[derive(Debug)]
pub struct Drained {
    shared: Arc<Shared>,
    connections: Arc<Connections>,
    /// Serves the connections until they are closed.
    thread: PumpThread,
}

impl Drained {
    /// Marks in the database which partitions have everything there that their grid ever accepted, and
    /// closes the connections. To be called when the node has ended, so that it accepts nothing any more.
    pub async fn mark(self) {
        let marking = tokio::time::timeout(MARK_WAIT, archiving::mark_drained(&self.shared));
        match marking.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the clean end is not marked in the database"),
            Err(_) => tracing::warn!("the database took too long to mark the clean end"),
        }
        self.close().await;
    }

    async fn close(self) {
        self.connections.close().await;
        drop(self.thread);
    }
}

impl Statuses {
    fn read(&self) -> Vec<LaneStatus> {
        let now_ms = lane::wall_clock_ms();
        let mut statuses = Vec::with_capacity(self.lanes.len());
        for lane in self.lanes.iter() {
            let mut status = lane.borrow().clone();
            let applied = self.client.applied_index(status.partition);
            if let (true, Some(applied)) = (status.active, applied) {
                // A lane that has not seen the database yet goes by what the grid was told of it.
                let told = || self.client.pumped_index(status.partition).unwrap_or(0);
                let checkpoint = status.checkpoint_index.unwrap_or_else(told);
                status.behind_entries = Some(applied.saturating_sub(checkpoint));
                let bytes = self.client.log_bytes_after(status.partition, checkpoint);
                status.behind_bytes = Some(bytes);
            }
            status.behind_ms = status
                .oldest_unwritten_at_ms
                .map_or(0, |oldest| now_ms.saturating_sub(oldest));
            statuses.push(status);
        }
        statuses
    }
}

async fn publish_lag(statuses: Statuses) {
    let mut ticks = tokio::time::interval(LAG_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for status in statuses.read() {
            let partition = status.partition.to_string();
            if let Some(entries) = status.behind_entries {
                metrics::gauge!("pump_lag_entries", "partition" => partition.clone())
                    .set(entries as f64);
            }
            if let Some(bytes) = status.behind_bytes {
                metrics::gauge!("pump_lag_bytes", "partition" => partition.clone())
                    .set(bytes as f64);
            }
            metrics::gauge!("pump_lag_seconds", "partition" => partition.clone())
                .set(status.behind_ms as f64 / 1_000.0);
            // What another node leads now is that node's to tell.
            metrics::gauge!("pump_parked_changes", "partition" => partition.clone())
                .set(status.parked_in_all as f64);
            metrics::gauge!("pump_paused", "partition" => partition)
                .set(f64::from(u8::from(status.paused)));
        }
    }
}
