//! The fan-out hub: one follower a partition reads the grid's change feed and hands each event,
//! serialised once, to every subscriber on this node.
//!
//! ```text
//!   feed of a partition ──► follower ──► Registry ──┬─ auction events, each ────────► Outlets
//!                                                   └─ seats ─► Board ─► teller ────► Outlets
//!                                                       (latest wins, once an interval)
//! ```
//!
//! Invariants: an event is queued to each of its subscribers in the feed's order; a subscriber that
//! registers is told the cursor after which nothing escapes it; a seat update never says less than the
//! changes before its cursor; a partition without subscribers costs nothing but its position.
//!
//! What it deliberately does not do: wait for any client, or keep history. Replays come from the grid.

mod board;
mod follower;
mod frames;
mod registry;
mod subscribe;
mod topic;

use std::time::Duration;

use grid_core::{PartitionId, SlotLayout};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use uuid::Uuid;

pub(crate) use board::Board;
pub(crate) use follower::follow_all;
pub(crate) use frames::{auction_frame, hold_expired_frame, seats_frame};
pub(crate) use subscribe::{Opening, Subscriber, open};

use crate::protocol::message::Topic;
use crate::state::Shared;
use registry::Registry;
use topic::SubscriberKey;

/// The subscribers of this node.
#[derive(Debug)]
pub(crate) struct Hub {
    layout: SlotLayout,
    partitions: Vec<Mutex<Registry>>,
    /// There are seat updates to tell.
    untold: Notify,
}

impl Hub {
    pub(crate) fn new(layout: SlotLayout) -> Self {
        Self {
            layout,
            partitions: layout
                .iter()
                .map(|partition| Mutex::new(Registry::new(partition)))
                .collect(),
            untold: Notify::new(),
        }
    }

    fn partition_of(&self, topic: Topic) -> PartitionId {
        match topic {
            Topic::Auction(id) | Topic::Event(id) => self.layout.partition_of(id),
        }
    }

    fn registry(&self, partition: PartitionId) -> MutexGuard<'_, Registry> {
        self.partitions[partition.0 as usize].lock()
    }

    fn registry_of(&self, id: Uuid) -> MutexGuard<'_, Registry> {
        self.registry(self.layout.partition_of(id))
    }

    pub(crate) fn unregister(&self, topic: Topic, key: SubscriberKey) {
        self.registry(self.partition_of(topic))
            .unregister(topic, key);
    }
}

/// Tells seat updates: the first at once, later ones merged to one an interval.
pub(crate) async fn tell_seats(shared: &Shared) {
    let interval = Duration::from_millis(shared.settings.seat_update_interval_ms);
    loop {
        shared.hub.untold.notified().await;
        for partition in &shared.hub.partitions {
            partition.lock().tell();
        }
        tokio::time::sleep(interval).await;
    }
}
