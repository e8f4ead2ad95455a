//! Follows every partition's change feed for as long as the gateway runs, and delivers what comes of it.
//!
//! One task a partition does both, so that a partition's events reach everybody in its order. It reads the
//! feed no faster than it delivers: the feed waits meanwhile, in the grid's memory. It gives way to other
//! tasks between two runs of [`DELIVERIES_PER_TURN_MAX`] deliveries.

use std::sync::Arc;
use std::time::Duration;

use grid::{Feed, FeedError, FeedSlice};
use grid_core::PartitionId;
use processing_unit::{Change, Unit};
use tokio::time::Instant;

use super::registry::Parcel;
use crate::limits::{DELIVERIES_PER_TURN_MAX, FEED_RETRY_MS};
use crate::state::Shared;

/// Starts a follower a partition. When this returns, the registry of every partition that this node
/// holds knows where its feed begins; the others learn it from the first slice.
pub(crate) fn follow_all(shared: &Arc<Shared>) {
    for partition in shared.layout.iter() {
        let feed = shared.client.follow(partition, None);
        shared.hub.registry(partition).restart(feed.cursor().index);
        shared.note_placed(partition, !feed.is_unplaced());
        let shared = Arc::clone(shared);
        let tasks = shared.tasks.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = shared.stopping.cancelled() => {}
                () = follow(&shared, partition, feed) => {}
            }
        });
    }
}

async fn follow(shared: &Shared, partition: PartitionId, mut feed: Feed<Unit>) {
    let mut seats = SeatTelling::new(shared.settings.seat_update_interval_ms);
    loop {
        let is_unplaced = feed.is_unplaced();
        // Dropping the wait for the feed loses nothing of it.
        let next = tokio::select! {
            biased;
            () = seats.due() => None,
            next = feed.next() => Some(next),
        };
        match next {
            None => {
                seats.told();
                let parcels = {
                    let mut registry = shared.hub.registry(partition);
                    registry.tell();
                    registry.take_parcels()
                };
                deliver(shared, parcels).await;
            }
            Some(Ok(slice)) if is_unplaced => {
                shared.hub.registry(partition).restart(slice.upto_index);
                shared.note_placed(partition, true);
            }
            Some(Ok(slice)) => {
                if dispatch(shared, partition, &slice).await {
                    seats.wanted();
                }
            }
            Some(Err(FeedError::Stopped)) => {
                let from = (!is_unplaced).then(|| feed.cursor());
                tokio::time::sleep(Duration::from_millis(FEED_RETRY_MS)).await;
                feed = shared.client.follow(partition, from);
                if is_unplaced && !feed.is_unplaced() {
                    shared.hub.registry(partition).restart(feed.cursor().index);
                    shared.note_placed(partition, true);
                }
            }
            Some(Err(error @ (FeedError::CursorTooOld | FeedError::CursorAhead))) => {
                tracing::warn!(%partition, %error, "this node's feed begins anew; its subscribers resume");
                tokio::time::sleep(Duration::from_millis(FEED_RETRY_MS)).await;
                feed = shared.client.follow(partition, None);
                shared.hub.registry(partition).restart(feed.cursor().index);
            }
        }
    }
}

/// Dispatches a slice and delivers what comes of it. Returns whether seats are to be told of.
async fn dispatch(shared: &Shared, partition: PartitionId, slice: &FeedSlice<Change>) -> bool {
    let mut is_wanted = false;
    for batch in &slice.batches {
        let parcels = {
            let mut registry = shared.hub.registry(partition);
            is_wanted |= registry.dispatch(batch);
            registry.take_parcels()
        };
        deliver(shared, parcels).await;
    }
    shared.hub.registry(partition).advance(slice.upto_index);
    is_wanted
}

/// Hands each message to everybody who gets it.
async fn deliver(shared: &Shared, parcels: Vec<Parcel>) {
    for parcel in parcels {
        for outlets in parcel.audience.chunks(DELIVERIES_PER_TURN_MAX) {
            for outlet in outlets {
                outlet.push(&parcel.delivery);
            }
            shared.metrics.deliveries.increment(outlets.len() as u64);
            if outlets.len() == DELIVERIES_PER_TURN_MAX {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// When seat updates are told: the first at once, later ones merged to one an interval.
struct SeatTelling {
    interval: Duration,
    next: Option<Instant>,
    rests_until: Instant,
}

impl SeatTelling {
    fn new(interval_ms: u64) -> Self {
        Self {
            interval: Duration::from_millis(interval_ms),
            next: None,
            rests_until: Instant::now(),
        }
    }

    fn wanted(&mut self) {
        self.next
            .get_or_insert_with(|| self.rests_until.max(Instant::now()));
    }

    fn told(&mut self) {
        self.next = None;
        self.rests_until = Instant::now() + self.interval;
    }

    async fn due(&self) {
        match self.next {
            Some(next) => tokio::time::sleep_until(next).await,
            None => std::future::pending().await,
        }
    }
}
