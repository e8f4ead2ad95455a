//! A copy of a partition's past on its way to the present, for changes that memory no longer holds.
//!
//! It begins at the newest snapshot at or before the place that is asked for and applies the log to it,
//! a step at a time, away from the tasks that serve. How readily it gives way is the reader's choice
//! ([`ReplayPace`]); each pace has slots of its own, so that nobody who waits is kept waiting by work
//! that nobody waits for.

use std::sync::Arc;

use grid_core::{PartitionState, Space};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{FeedError, FeedSlice, FeedSource};
use crate::platform;
use crate::replay::{self, ReplayError};

/// Replays at a time on one node for readers that somebody waits for; the next waits.
const REPLAYS_MAX: usize = 2;
/// Replays at a time on one node that give way to all other work; the next waits.
const BACKGROUND_REPLAYS_MAX: usize = 1;

/// How a reader's replays share the machine with what the node serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplayPace {
    /// As other blocking work: a client or the pump waits.
    Usual,
    /// On threads that give their core away to whoever wants it.
    Background,
}

/// A node's room for replays, each of which holds one partition's state in memory.
#[derive(Clone, Debug)]
pub(crate) struct ReplaySlots {
    usual: Arc<Semaphore>,
    background: Arc<Semaphore>,
}

impl ReplaySlots {
    pub(crate) fn new() -> Self {
        Self {
            usual: Arc::new(Semaphore::new(REPLAYS_MAX)),
            background: Arc::new(Semaphore::new(BACKGROUND_REPLAYS_MAX)),
        }
    }

    async fn take(&self, pace: ReplayPace) -> Result<OwnedSemaphorePermit, FeedError> {
        let slots = match pace {
            ReplayPace::Usual => &self.usual,
            ReplayPace::Background => &self.background,
        };
        let permit = Arc::clone(slots).acquire_owned().await;
        permit.map_err(|_| FeedError::Stopped)
    }
}

/// See the module's documentation.
pub(super) struct Past<S: Space> {
    state: PartitionState<S>,
    source: FeedSource<S>,
    _slot: OwnedSemaphorePermit,
}

impl<S: Space> Past<S> {
    /// Restores the state at or before `after`.
    pub(super) async fn begin(source: FeedSource<S>, after: u64) -> Result<Self, FeedError> {
        let slot = source.replays.take(source.pace).await?;
        metrics::counter!("grid_feed_replays_total").increment(1);
        let snapshots = source.snapshots.clone();
        let restored = run(source.pace, move || snapshots.restore_before::<S>(after)).await?;
        let state = restored.unwrap_or_else(|| PartitionState::new(source.replica.partition()));
        Ok(Self {
            state,
            source,
            _slot: slot,
        })
    }

    /// Whether nothing after `after` has been passed by.
    pub(super) fn is_at(&self, after: u64) -> bool {
        self.state.applied_index() >= after
    }

    /// Applies the next run of entries, up to `present`, and returns the changes after `after`.
    pub(super) async fn step(
        mut self,
        after: u64,
        present: u64,
    ) -> Result<(Self, FeedSlice<S::Change>), FeedError> {
        let pace = self.source.pace;
        run(pace, move || {
            let slice = self.step_blocking(after, present)?;
            Ok((self, slice))
        })
        .await?
    }

    fn step_blocking(
        &mut self,
        after: u64,
        present: u64,
    ) -> Result<FeedSlice<S::Change>, FeedError> {
        let mut batches = Vec::new();
        while batches.is_empty() && self.state.applied_index() < present {
            let stepped = replay::step(&self.source.group, &mut self.state, present, |batch| {
                if batch.index > after && !batch.changes.is_empty() {
                    batches.push(batch);
                }
            });
            stepped.map_err(|error| match error {
                ReplayError::TooOld(_) => FeedError::CursorTooOld,
                ReplayError::Apply(error) => {
                    tracing::error!(%error, "a replay cannot apply the log");
                    FeedError::Stopped
                }
            })?;
        }
        Ok(FeedSlice {
            batches,
            upto_index: self.state.applied_index().max(after),
        })
    }
}

/// Does blocking work at a pace.
async fn run<T: Send + 'static>(
    pace: ReplayPace,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, FeedError> {
    match pace {
        ReplayPace::Usual => platform::blocking(work).await.ok(),
        ReplayPace::Background => platform::in_background(work).await.ok(),
    }
    .ok_or(FeedError::Stopped)
}
