//! The fan-out hub: one follower a partition reads the grid's change feed and hands each event,
//! serialised once as a whole WebSocket frame, to every subscriber on this gateway.
//!
//! ```text
//!   feed of a partition ──► follower ──► Registry ──┬─ auction events, each ─┬─► Parcels ─► Outlets
//!                              │                    │                        └─► Ring (for those who resume)
//!                              └── once an interval ┴─ seats ─► Board ─────────► Parcels ─► Outlets
//!                                                               (latest wins)
//! ```
//!
//! Invariants: an event is queued to each of its subscribers in the feed's order; a subscriber that
//! registers is told the cursor after which nothing escapes it; a seat update never says less than the
//! changes before its cursor; a partition without subscribers costs nothing but its position.
//!
//! What it deliberately does not do: wait for any client, or keep more than the recent past. Older replays
//! come from the grid, one at a time a partition, and are kept for the next who asks.

mod board;
mod follower;
mod frames;
mod registry;
mod ring;
mod subscribe;
mod topic;

use bytes::Bytes;
use grid_core::{PartitionId, SlotLayout};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Mutex as Turn, MutexGuard as HeldTurn};
use uuid::Uuid;

pub(crate) use board::Board;
pub(crate) use follower::follow_all;
pub(crate) use frames::{auction_frame, hold_expired_frame, seats_frame};
pub(crate) use subscribe::{AskedPast, Opening, Subscriber, open};

use crate::protocol::message::Topic;
use crate::ws::Outlet;
use registry::Registry;
use topic::SubscriberKey;

/// The subscribers of this node.
#[derive(Debug)]
pub(crate) struct Hub {
    layout: SlotLayout,
    partitions: Vec<Mutex<Registry>>,
    /// Whose turn it is to ask the grid on behalf of subscribers, for each partition.
    asking: Vec<Turn<()>>,
}

impl Hub {
    pub(crate) fn new(layout: SlotLayout) -> Self {
        Self {
            layout,
            partitions: layout
                .iter()
                .map(|partition| Mutex::new(Registry::new(partition)))
                .collect(),
            asking: layout.iter().map(|_| Turn::new(())).collect(),
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

    /// Waits until nobody else asks the grid about the partition's topics: who waited may find the answer
    /// here.
    async fn turn_of(&self, id: Uuid) -> HeldTurn<'_, ()> {
        self.asking[self.layout.partition_of(id).0 as usize]
            .lock()
            .await
    }

    /// One message about all the seats that a slow subscriber of an event has missed.
    pub(crate) fn catch_up(&self, topic: Topic, outlet: &Outlet) -> Option<Bytes> {
        match topic {
            Topic::Event(id) => self.registry_of(id).catch_up(id, outlet),
            Topic::Auction(_) => None,
        }
    }

    fn registry_of(&self, id: Uuid) -> MutexGuard<'_, Registry> {
        self.registry(self.layout.partition_of(id))
    }

    pub(crate) fn unregister(&self, topic: Topic, key: SubscriberKey) {
        self.registry(self.partition_of(topic))
            .unregister(topic, key);
    }
}
