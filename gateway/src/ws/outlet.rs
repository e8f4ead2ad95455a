//! The bounded queue of events between the hub and one connection.
//!
//! The hub never waits for a connection: when the queue is full, the connection is marked as a slow
//! consumer and its queue emptied at once, so that memory does not grow with a slow client.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use grid_core::Cursor;
use parking_lot::Mutex;

use crate::protocol::message::Topic;

/// An empty queue that once held more than this many events gives its memory back.
const IDLE_CAPACITY_MAX: usize = 32;

/// One event for the subscribers of a topic: serialised once, shared by all.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) topic: Topic,
    pub(crate) cursor: Cursor,
    pub(crate) frame: Bytes,
}

/// Why the server ends a connection that did nothing wrong by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// The gateway stops.
    Draining,
    /// The client takes its events too slowly.
    SlowConsumer,
    /// The node's own feed has a gap; the client resumes from its cursor.
    Resync,
    /// The session was taken back.
    Revoked,
}

#[derive(Debug)]
struct State {
    queue: VecDeque<Arc<Delivery>>,
    ended: Option<EndReason>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Outlet {
    state: Mutex<State>,
    waker: AtomicWaker,
    queue_max: usize,
}

impl Outlet {
    pub(crate) fn new(queue_max: usize) -> Self {
        Self {
            state: Mutex::new(State {
                queue: VecDeque::new(),
                ended: None,
            }),
            waker: AtomicWaker::new(),
            queue_max,
        }
    }

    /// Queues an event, or gives the connection up.
    pub(crate) fn push(&self, delivery: Arc<Delivery>) {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return;
        }
        if state.queue.len() >= self.queue_max {
            state.queue = VecDeque::new();
            state.ended = Some(EndReason::SlowConsumer);
        } else {
            state.queue.push_back(delivery);
        }
        let is_first = state.queue.len() <= 1;
        drop(state);
        // A longer queue was announced by its first event, which is still there.
        if is_first {
            self.waker.wake();
        }
    }

    /// Asks the connection to end; the first reason counts.
    pub(crate) fn end(&self, reason: EndReason) {
        self.state.lock().ended.get_or_insert(reason);
        self.waker.wake();
    }

    pub(crate) fn ended(&self) -> Option<EndReason> {
        self.state.lock().ended
    }

    /// The connection's task wants to know of the next event.
    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    pub(crate) fn take(&self) -> Option<Arc<Delivery>> {
        let mut state = self.state.lock();
        let delivery = state.queue.pop_front();
        if state.queue.is_empty() && state.queue.capacity() > IDLE_CAPACITY_MAX {
            state.queue = VecDeque::new();
        }
        delivery
    }
}

#[cfg(test)]
mod tests {
    use grid_core::PartitionId;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_full_queue_ends_the_connection_and_holds_nothing() {
        let outlet = Outlet::new(2);
        for index in 0..3 {
            assert_eq!(outlet.ended(), None);
            outlet.push(Arc::new(Delivery {
                topic: Topic::Auction(Uuid::nil()),
                cursor: Cursor::after_entry(PartitionId(0), index),
                frame: Bytes::new(),
            }));
        }
        assert_eq!(outlet.ended(), Some(EndReason::SlowConsumer));
        assert!(outlet.take().is_none());
        outlet.end(EndReason::Draining);
        assert_eq!(outlet.ended(), Some(EndReason::SlowConsumer));
    }
}
