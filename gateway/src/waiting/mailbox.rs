//! What waits to be told to one connection: the latest message of each room, nothing older.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use processing_unit::EventId;
use uuid::Uuid;

use super::lobby::{Lobby, WaiterKey};

/// Rooms whose news one connection gets at a time.
const QUEUES_PER_CONNECTION_MAX: usize = 8;

/// A connection's mailbox; the lobby writes, the connection's task reads.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    /// At most [`QUEUES_PER_CONNECTION_MAX`] events: those that the connection waits for.
    latest: Mutex<BTreeMap<EventId, Bytes>>,
    waker: AtomicWaker,
}

impl Mailbox {
    /// Leaves a message, in place of an older one of that room.
    pub(super) fn put(&self, event_id: EventId, message: Bytes) {
        self.latest.lock().insert(event_id, message);
        self.waker.wake();
    }

    fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// The next message.
    pub(super) fn take(&self) -> Option<Bytes> {
        self.latest.lock().pop_first().map(|(_, message)| message)
    }
}

/// The rooms that one connection waits in.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    /// Made with the first room; most connections never wait.
    mailbox: Option<Arc<Mailbox>>,
    events: BTreeSet<EventId>,
}

impl Queues {
    /// From now on the connection is told how its person stands in this room. With too many rooms the first
    /// one by id gives way; its place in the queue stays.
    pub(crate) fn enter(&mut self, lobby: &Lobby, event_id: Uuid, key: WaiterKey) {
        if self.events.len() >= QUEUES_PER_CONNECTION_MAX
            && !self.events.contains(&EventId(event_id))
            && let Some(first) = self.events.pop_first()
        {
            lobby.exit(first, key);
        }
        self.events.insert(EventId(event_id));
        let mailbox = self.mailbox.get_or_insert_default();
        lobby.enter(EventId(event_id), key, mailbox);
    }

    /// Says whom to wake. To be called before [`Self::take`].
    pub(crate) fn register(&self, waker: &Waker) {
        if let Some(mailbox) = &self.mailbox {
            mailbox.register(waker);
        }
    }

    /// The next message.
    pub(crate) fn take(&self) -> Option<Bytes> {
        self.mailbox.as_ref()?.take()
    }

    /// The connection ends.
    pub(crate) fn leave_all(self, lobby: &Lobby, key: WaiterKey) {
        for event_id in self.events {
            lobby.exit(event_id, key);
        }
    }
}
