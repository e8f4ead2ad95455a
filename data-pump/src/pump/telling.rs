//! Tells the grid how far the database is, so that it can forget log that the database has.
//!
//! Only changes are worth telling: what is told becomes a log entry itself, and telling of that would never
//! end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use grid::GridClient;
use grid_core::PartitionId;
use processing_unit::Unit;
use tokio::task::JoinHandle;

/// The grid is told at most this often,
const REPORT_INTERVAL: Duration = Duration::from_millis(500);
/// or when this many entries are new.
const REPORT_ENTRIES: u64 = 5_000;
/// How long telling may take; the next time says it anew.
const REPORT_WAIT: Duration = Duration::from_secs(5);

/// How far the database is, as the grid was told.
#[derive(Default)]
pub(super) struct Report {
    /// The last written index that has changes.
    pub(super) worth_telling: u64,
    told: Arc<AtomicU64>,
    at: Option<Instant>,
    under_way: Option<JoinHandle<()>>,
    is_over: bool,
}

impl Report {
    /// How many entries the grid does not know of.
    pub(super) fn news(&self) -> u64 {
        self.worth_telling
            .saturating_sub(self.told.load(Ordering::Relaxed))
    }

    /// Tells what is new, if it is time to.
    pub(super) fn tell(&mut self, client: &GridClient<Unit>, partition: PartitionId) {
        let news = self.news();
        let is_due =
            news >= REPORT_ENTRIES || self.at.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL);
        let is_under_way = self
            .under_way
            .as_ref()
            .is_some_and(|task| !task.is_finished());
        if news == 0 || !is_due || is_under_way || self.is_over {
            return;
        }
        self.at = Some(Instant::now());
        let client = client.clone();
        let index = self.worth_telling;
        let told = Arc::clone(&self.told);
        self.under_way = Some(tokio::spawn(async move {
            let deadline = Instant::now() + REPORT_WAIT;
            match client.record_pumped(partition, index, deadline).await {
                Ok(()) => {
                    told.fetch_max(index, Ordering::Relaxed);
                }
                Err(error) => {
                    tracing::debug!(partition = partition.0, %error, "the grid was not told");
                }
            }
        }));
    }

    /// Tells nothing more: it would make entries, after which nothing would be drained.
    pub(super) async fn close(&mut self) {
        self.is_over = true;
        if let Some(telling) = self.under_way.take() {
            // How it ended matters to nobody any more.
            let _ = telling.await;
        }
    }
}
