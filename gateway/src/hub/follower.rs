//! Follows every partition's change feed for as long as the gateway runs.

use std::sync::Arc;
use std::time::Duration;

use grid::{Feed, FeedError};
use grid_core::PartitionId;
use processing_unit::Unit;

use crate::limits::FEED_RETRY_MS;
use crate::state::Shared;

/// Starts a follower a partition. When this returns, the registry of every partition that this node
/// holds knows where its feed begins; the others learn it from the first slice.
pub(crate) fn follow_all(shared: &Arc<Shared>) {
    for partition in shared.layout.iter() {
        let feed = shared.client.follow(partition, None);
        shared.hub.registry(partition).restart(feed.cursor().index);
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
    loop {
        let is_unplaced = feed.is_unplaced();
        match feed.next().await {
            Ok(slice) if is_unplaced => {
                shared.hub.registry(partition).restart(slice.upto_index);
            }
            Ok(slice) => {
                for batch in &slice.batches {
                    if shared.hub.registry(partition).dispatch(batch) {
                        shared.hub.untold.notify_one();
                    }
                }
                shared.hub.registry(partition).advance(slice.upto_index);
            }
            Err(FeedError::Stopped) => {
                let from = (!is_unplaced).then(|| feed.cursor());
                tokio::time::sleep(Duration::from_millis(FEED_RETRY_MS)).await;
                feed = shared.client.follow(partition, from);
                if is_unplaced && !feed.is_unplaced() {
                    shared.hub.registry(partition).restart(feed.cursor().index);
                }
            }
            Err(error @ (FeedError::CursorTooOld | FeedError::CursorAhead)) => {
                tracing::warn!(%partition, %error, "this node's feed begins anew; its subscribers resume");
                tokio::time::sleep(Duration::from_millis(FEED_RETRY_MS)).await;
                feed = shared.client.follow(partition, None);
                shared.hub.registry(partition).restart(feed.cursor().index);
            }
        }
    }
}
