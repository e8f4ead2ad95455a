//! A lane: the task that writes one partition while this node leads it.
//!
//! ```text
//!   wait until we lead ──► open: read the database's place ──► follow the feed from there ──► write …
//!         ▲                          ▲                                                       │
//!         └── no longer leader ──────┴──────────── pause ◄──── anything else than a clean commit
//! ```
//!
//! There is one way to open and every failure takes it: what was read and not committed is dropped
//! and read again from the feed. A lane reads on only while it gathers a transaction's worth or rests
//! (see `pacing`, which bounds what all lanes hold), so a database that is away is felt by nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use grid::{FeedError, GridClient, Leadership};
use grid_config::PumpSettings;
use grid_core::{Cursor, PartitionId, StateHash};
use processing_unit::Unit;
use sqlx::PgConnection;
use tokio::sync::{Mutex, watch};
use uuid::Uuid;

use super::backoff::Backoff;
use super::connections::{ACQUIRE_WAIT, Connections, Lease};
use super::look::{LOOK_INTERVAL, look};
use super::pacing::{Held, HeldByAll, Situation};
use super::paused::wait_while_paused;
use super::pending::Pending;
use super::reader::{Reader, read_while};
use super::signing::RootSchedule;
use super::status::LaneStatus;
use super::telling::Report;
use super::trouble::LaneTrouble;
use super::writer::{Place, WriteError, Written};
use crate::archive::{DrainedPlaces, Passage, unmark_drained};
use crate::audit::AuditKey;
use crate::schema::{self, SchemaError};

/// The checkpoint moves over entries without changes at most this often.
const IDLE_CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
/// How long one transaction may take before its connection is given up.
pub(super) const WRITE_WAIT: Duration = Duration::from_secs(90);
/// The longest that changes wait for more of them because other lanes write too.
const GATHER_WAIT_MAX: Duration = Duration::from_millis(250);
/// The least wait for more changes where all lanes share one connection, which is opened for a round.
const SINGLE_FLUSH_INTERVAL: Duration = Duration::from_millis(200);

/// What all lanes of a pump share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) client: GridClient<Unit>,
    pub(super) grid_id: Uuid,
    pub(super) connections: Arc<Connections>,
    /// Whether tables and views are in place; held while they are made.
    pub(super) is_schema_ready: Mutex<bool>,
    /// Whether lanes rest while clients wait.
    pub(super) steps_back: bool,
    /// What lanes hold while they rest.
    pub(super) held: Arc<HeldByAll>,
    pub(super) settings: PumpSettings,
    /// Where lanes stood that had written everything when they ended.
    pub(super) drained: Arc<DrainedPlaces>,
    /// With which roots over the audit trail are signed.
    pub(super) audit_key: Option<AuditKey>,
    pub(super) stop: watch::Receiver<bool>,
    /// Lanes of partitions that this node leads.
    pub(super) active_lanes: AtomicUsize,
}

impl Shared {
    /// What a transaction archives.
    fn passage(&self, hash: Option<(u64, StateHash)>) -> Passage<'_> {
        if self.settings.archive {
            Passage::new(&self.client, hash)
        } else {
            Passage::NONE
        }
    }
}

/// Why a lane stopped writing.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaneError {
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error("the database did not answer in time")]
    TimedOut,
    #[error(
        "the database is behind the log, which no longer reaches back to it; it must be written anew \
         from the grid's state (resync)"
    )]
    ResyncNeeded,
    #[error("the database is ahead of this replica's log")]
    DatabaseAhead,
    #[error("the replica has stopped")]
    ReplicaStopped,
}

impl LaneError {
    fn needs_somebody(&self) -> bool {
        match self {
            Self::Write(error) => !error.is_retryable(),
            Self::Schema(error) => !error.is_retryable(),
            Self::ResyncNeeded => true,
            Self::TimedOut | Self::DatabaseAhead | Self::ReplicaStopped => false,
        }
    }
}

impl From<FeedError> for LaneError {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::CursorTooOld => Self::ResyncNeeded,
            FeedError::CursorAhead => Self::DatabaseAhead,
            FeedError::Stopped => Self::ReplicaStopped,
        }
    }
}

/// Why a session ended without an error.
pub(super) enum End {
    Stopped,
    NotLeader,
    Resumed,
}

/// The task of one partition.
pub(super) struct Lane {
    shared: Arc<Shared>,
    partition: PartitionId,
    status: watch::Sender<LaneStatus>,
    metrics: LaneMetrics,
    report: Report,
    /// Where this lane left the database, while it leads.
    confirmed_index: Option<u64>,
}

struct LaneMetrics {
    flush_seconds: metrics::Histogram,
    flush_rows: metrics::Histogram,
    retries: metrics::Counter,
    dead_letters: metrics::Counter,
    missing_rows: metrics::Counter,
}

impl Lane {
    pub(super) fn new(
        shared: Arc<Shared>,
        partition: PartitionId,
        status: watch::Sender<LaneStatus>,
    ) -> Self {
        let label = partition.to_string();
        Self {
            shared,
            partition,
            status,
            metrics: LaneMetrics {
                flush_seconds: metrics::histogram!("pump_flush_seconds", "partition" => label.clone()),
                flush_rows: metrics::histogram!("pump_flush_rows", "partition" => label.clone()),
                retries: metrics::counter!("pump_retries_total", "partition" => label.clone()),
                dead_letters: metrics::counter!("pump_dead_letters_total", "partition" => label.clone()),
                missing_rows: metrics::counter!("pump_missing_rows_total", "partition" => label),
            },
            report: Report::default(),
            confirmed_index: None,
        }
    }

    pub(super) async fn run(mut self) {
        let Ok(mut leadership) = self.shared.client.leadership(self.partition) else {
            self.fail("the grid has no such partition", true, LaneTrouble::Passing);
            return;
        };
        let mut stop = self.shared.stop.clone();
        let settings = &self.shared.settings;
        let mut backoff = Backoff::new(settings.retry_min_ms, settings.retry_max_ms);
        loop {
            let term = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                led = leadership.wait_for(|leadership| leadership.is_local) => match led {
                    Ok(leadership) => leadership.term,
                    Err(_) => return,
                },
            };
            self.status.send_modify(|status| status.active = true);
            let written_before = self.status.borrow().checkpoint_index;
            self.shared.active_lanes.fetch_add(1, Ordering::Relaxed);
            let outcome = self.session(term, &mut leadership, &mut stop).await;
            self.shared.active_lanes.fetch_sub(1, Ordering::Relaxed);
            match outcome {
                Ok(End::Stopped) => return,
                Ok(End::NotLeader) => {
                    self.status
                        .send_modify(|status| *status = status.resigned());
                    self.confirmed_index = None;
                    backoff.reset();
                    continue;
                }
                Ok(End::Resumed) => {
                    tracing::info!(partition = self.partition.0, "the pump is resumed");
                    backoff.reset();
                    continue;
                }
                // It opens anew and finds the pause there.
                Err(LaneError::Write(WriteError::Paused { .. })) => continue,
                Err(error) => {
                    self.fail(
                        &error.to_string(),
                        error.needs_somebody(),
                        LaneTrouble::of(&error),
                    );
                    tracing::warn!(partition = self.partition.0, %error, "the pump will try again");
                }
            }
            if self.status.borrow().checkpoint_index > written_before {
                backoff.reset();
            }
            self.metrics.retries.increment(1);
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(backoff.next()) => {}
            }
        }
    }

    /// Opens at the database's place and writes until something ends it.
    async fn session(
        &mut self,
        term: u64,
        leadership: &mut watch::Receiver<Leadership>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<End, LaneError> {
        let mut place = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return Ok(End::Stopped),
            opened = tokio::time::timeout(WRITE_WAIT, self.open(term)) => {
                opened.map_err(|_| LaneError::TimedOut)??
            }
        };
        self.compare_fence(place.applied_index);
        if place.is_paused {
            let (shared, status) = (&self.shared, &self.status);
            return wait_while_paused(shared, self.partition, status, term, leadership, stop).await;
        }
        place.parked_max = self.shared.settings.parked_changes_max;
        let from = Cursor::after_entry(self.partition, place.applied_index);
        let mut reader = Reader::new(self.shared.client.follow(self.partition, Some(from)));
        let mut pending = Pending::new(place.applied_index);
        let mut roots = RootSchedule::new(&self.shared, &self.status);
        let mut checkpoint_at = Instant::now();
        let mut looked_at = Instant::now();
        loop {
            let idle_at = checkpoint_at + IDLE_CHECKPOINT_INTERVAL;
            let has_news = pending.upto_index > place.applied_index || self.report.news() > 0;
            let mut is_root_due = false;
            let is_stopping = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => true,
                led = leadership.wait_for(|now| !now.is_local || now.term != term) => {
                    return Ok(if led.is_ok() { End::NotLeader } else { End::Stopped });
                }
                () = roots.due(&self.shared, &place) => {
                    is_root_due = true;
                    false
                }
                // What was read ahead while the lane rested goes first.
                () = std::future::ready(()), if pending.changes > 0 => false,
                slice = reader.next() => {
                    pending.add(slice?);
                    false
                }
                () = tokio::time::sleep_until(idle_at.into()), if has_news => false,
                () = tokio::time::sleep_until((looked_at + LOOK_INTERVAL).into()) => false,
            };
            if is_stopping {
                return self.drain(place, pending, reader, stop).await;
            }
            if pending.changes == 0 && looked_at.elapsed() >= LOOK_INTERVAL {
                look(&self.shared, &place).await?;
                looked_at = Instant::now();
            }
            if is_root_due {
                roots.sign(&self.shared, &place, &self.status).await;
                continue;
            }
            if pending.changes > 0 {
                self.gather(&mut pending, &mut reader, stop).await?;
            } else if checkpoint_at.elapsed() < IDLE_CHECKPOINT_INTERVAL {
                continue;
            }
            if pending.upto_index > place.applied_index {
                pending = self.flush(&mut place, pending, &mut reader, stop).await?;
                looked_at = Instant::now();
            } else {
                self.report.tell(&self.shared.client, self.partition);
            }
            checkpoint_at = Instant::now();
        }
    }

    /// Writes what is left, and notes where the lane stood when nothing was.
    async fn drain(
        &mut self,
        mut place: Place,
        mut pending: Pending,
        mut reader: Reader,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<End, LaneError> {
        self.report.close().await;
        let applied = |lane: &Self| lane.shared.client.applied_index(lane.partition);
        while let Some(applied) = applied(self)
            && applied > place.applied_index
        {
            while pending.upto_index < applied {
                pending.add(reader.next().await?);
            }
            pending = self.flush(&mut place, pending, &mut reader, stop).await?;
        }
        let drained = &self.shared.drained;
        drained.add(self.partition, place.epoch, place.applied_index);
        Ok(End::Stopped)
    }

    /// Counts how the database stands against where it was last known to be: where this lane left it,
    /// or as far as the grid was told.
    fn compare_fence(&mut self, index: u64) {
        let client = &self.shared.client;
        let told = client.pumped_index(self.partition).unwrap_or(0);
        let is_all = client.applied_index(self.partition) == Some(index);
        let left_at = self.confirmed_index.replace(index);
        let mut name = "";
        self.status.send_modify(|status| {
            status.checkpoint_index = Some(index);
            if is_all {
                // What failed to be confirmed was written all the same.
                status.oldest_unwritten_at_ms = None;
            }
            status.opened(is_all);
            name = status.fence.count(index, left_at, told);
        });
        let label = self.partition.to_string();
        metrics::counter!("pump_fence_total", "partition" => label, "outcome" => name).increment(1);
        if name == "behind" {
            tracing::warn!(
                partition = self.partition.0,
                index,
                told,
                "the database is behind where it was; what it lacks is written again"
            );
        }
    }

    /// The one way to begin: schema, connection, the database's place.
    async fn open(&self, term: u64) -> Result<Place, LaneError> {
        let shared = &self.shared;
        let mut lease = acquire(shared).await?;
        let outcome = self.open_over(&mut lease, term).await;
        match outcome {
            Ok(place) => {
                lease.release().await;
                Ok(place)
            }
            Err(error) => {
                lease.discard().await;
                // Perhaps it is another database than before, under the same address.
                *shared.is_schema_ready.lock().await = false;
                Err(error)
            }
        }
    }

    async fn open_over(
        &self,
        connection: &mut PgConnection,
        term: u64,
    ) -> Result<Place, LaneError> {
        let mut is_schema_ready = self.shared.is_schema_ready.lock().await;
        if !*is_schema_ready {
            schema::migrate(connection).await?;
            *is_schema_ready = true;
        }
        drop(is_schema_ready);
        let epoch = i64::try_from(term).unwrap_or(i64::MAX);
        let place = Place::open(connection, self.shared.grid_id, self.partition.0, epoch).await?;
        let unmarked = unmark_drained(connection, self.partition).await;
        unmarked.map_err(WriteError::from)?;
        Ok(place)
    }

    /// Waits a little for more changes, so that a transaction is worth its sync.
    async fn gather(
        &self,
        pending: &mut Pending,
        reader: &mut Reader,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), LaneError> {
        self.status.send_modify(|status| {
            if status.oldest_unwritten_at_ms.is_none() {
                status.oldest_unwritten_at_ms = pending.oldest_at_ms();
            }
        });
        let settings = &self.shared.settings;
        // A sync costs the machine the same for one row as for a thousand, so the lanes of a node
        // together commit about once an interval.
        let lanes = self.shared.active_lanes.load(Ordering::Relaxed).max(1);
        let interval = Duration::from_millis(settings.flush_interval_ms);
        let mut wait = interval.saturating_mul(u32::try_from(lanes).unwrap_or(u32::MAX));
        wait = wait.min(interval.max(GATHER_WAIT_MAX));
        if self.shared.connections.is_single() {
            wait = wait.max(SINGLE_FLUSH_INTERVAL);
        }
        // What was read while the lane rested or wrote has waited already.
        let waited = pending.oldest_at_ms().map_or(Duration::ZERO, age);
        let deadline = Instant::now() + wait.saturating_sub(waited);
        while pending.changes < settings.batch_changes_max {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                () = tokio::time::sleep_until(deadline.into()) => return Ok(()),
                slice = reader.next() => pending.add(slice?),
            }
        }
        Ok(())
    }

    /// Writes what is pending, whole entries a transaction. Between transactions other lanes have
    /// their turn. Returns what was read meanwhile.
    async fn flush(
        &mut self,
        place: &mut Place,
        pending: Pending,
        reader: &mut Reader,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Pending, LaneError> {
        let shared = Arc::clone(&self.shared);
        let mut ahead = Pending::new(pending.upto_index);
        let mut unwritten = pending.changes;
        let mut held = Held::new(Arc::clone(&shared.held));
        let mut runs = pending.runs(place.applied_index, shared.settings.batch_changes_max);
        while let Some((changes, new_index)) = runs.next_run() {
            let mut lease = acquire(&shared).await?;
            let started = Instant::now();
            let passage = shared.passage(runs.last_hash());
            let write = place.write(&mut lease, &changes, new_index, &passage);
            let write = tokio::time::timeout(WRITE_WAIT, write);
            let ahead_max = shared.settings.batch_changes_max;
            let (written, read) = read_while(write, reader, &mut ahead, ahead_max).await;
            let written = match written {
                Ok(Ok(written)) => written,
                Ok(Err(error)) => {
                    lease.discard().await;
                    return Err(error.into());
                }
                Err(_) => {
                    lease.discard().await;
                    return Err(LaneError::TimedOut);
                }
            };
            lease.release().await;
            let took = started.elapsed();
            self.confirmed_index = Some(place.applied_index);
            self.note(place.applied_index, &written, took);
            unwritten = unwritten.saturating_sub(changes.len());
            if !changes.is_empty() {
                self.report.worth_telling = place.applied_index;
            }
            self.report.tell(&self.shared.client, self.partition);
            read?;
            let oldest_at_ms = runs.oldest_at_ms().or(ahead.oldest_at_ms());
            self.status
                .send_modify(|status| status.oldest_unwritten_at_ms = oldest_at_ms);
            if shared.steps_back {
                let situation = Situation {
                    commit_delay: shared.client.commit_delay(self.partition),
                    took,
                    lanes: held.lanes(),
                    held_changes: held.set(unwritten + ahead.changes),
                    behind: oldest_at_ms.map_or(Duration::ZERO, age),
                };
                tracing::trace!(
                    partition = self.partition.0,
                    ?situation,
                    "a transaction is written"
                );
                let time = situation.rest();
                if !time.is_zero() {
                    self.status.send_modify(|status| status.resting = true);
                    let rested = rest(time, reader, &mut ahead, stop).await;
                    self.status.send_modify(|status| status.resting = false);
                    rested?;
                }
            }
        }
        self.status
            .send_modify(|status| status.oldest_unwritten_at_ms = ahead.oldest_at_ms());
        Ok(ahead)
    }

    fn note(&self, index: u64, written: &Written, took: Duration) {
        self.metrics.flush_seconds.record(took.as_secs_f64());
        self.metrics.flush_rows.record(written.rows as f64);
        self.metrics.dead_letters.increment(written.parked);
        self.metrics.missing_rows.increment(written.missing);
        if written.missing > 0 {
            tracing::warn!(
                partition = self.partition.0,
                index,
                rows = written.missing,
                "updates of rows that are not in the database; see dead_letter"
            );
        }
        self.status.send_modify(|status| {
            status.checkpoint_index = Some(index);
            status.parked += written.parked;
            status.parked_in_all = written.parked_in_all;
            status.last_error = None;
            status.trouble = None;
            status.stuck = false;
        });
    }

    fn fail(&self, error: &str, stuck: bool, trouble: LaneTrouble) {
        self.status.send_modify(|status| {
            status.paused = false;
            status.last_error = Some(error.to_owned());
            status.trouble = Some(trouble);
            status.stuck = stuck;
        });
    }
}

/// Leaves the database alone for a while and reads ahead.
async fn rest(
    time: Duration,
    reader: &mut Reader,
    ahead: &mut Pending,
    stop: &mut watch::Receiver<bool>,
) -> Result<(), LaneError> {
    let until = Instant::now() + time;
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            () = tokio::time::sleep_until(until.into()) => return Ok(()),
            slice = reader.next() => ahead.add(slice?),
        }
    }
}

/// How long ago a log entry was stamped.
fn age(at_ms: u64) -> Duration {
    Duration::from_millis(wall_clock_ms().saturating_sub(at_ms))
}

/// Milliseconds since the Unix epoch.
pub(super) fn wall_clock_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

pub(super) async fn acquire(shared: &Shared) -> Result<Lease<'_>, WriteError> {
    match shared.connections.acquire().await {
        Ok(lease) => Ok(lease),
        Err(sqlx::Error::PoolTimedOut) => Err(WriteError::NoConnection { wait: ACQUIRE_WAIT }),
        Err(error) => Err(error.into()),
    }
}
