//! The recent events of one auction, ready to be sent again: what clients that come back with a cursor are
//! served from, without asking the grid.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use grid_core::Cursor;
use processing_unit::UserId;

use crate::limits::RING_EVENTS_MAX;
use crate::ws::Delivery;

/// One event, as everybody gets it and as the person whom it concerns does.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) shared: Arc<Delivery>,
    pub(super) own: Option<(UserId, Arc<Delivery>)>,
}

impl Told {
    pub(super) fn cursor(&self) -> Cursor {
        self.shared.cursor
    }

    /// The event as that person gets it.
    pub(super) fn payload_for(&self, user: UserId) -> Bytes {
        match &self.own {
            Some((owner, own)) if *owner == user => own.message.payload(),
            _ => self.shared.message.payload(),
        }
    }
}

/// Every event of an auction after a cursor, at most [`RING_EVENTS_MAX`].
#[derive(Debug)]
pub(super) struct Ring {
    events: VecDeque<Told>,
    /// Nothing after this cursor is missing.
    from: Cursor,
}

impl Ring {
    pub(super) fn new(from: Cursor) -> Self {
        Self {
            events: VecDeque::new(),
            from,
        }
    }

    /// Adds the latest event; the oldest goes when there is no room.
    pub(super) fn push(&mut self, told: Told) {
        if self.events.len() >= RING_EVENTS_MAX
            && let Some(oldest) = self.events.pop_front()
        {
            self.from = oldest.cursor();
        }
        self.events.push_back(told);
    }

    /// Whether nothing after that cursor is missing.
    pub(super) fn reaches(&self, from: Cursor) -> bool {
        from >= self.from
    }

    /// The events after a cursor; `None` when some of them are missing.
    pub(super) fn since(&self, from: Cursor) -> Option<impl Iterator<Item = &Told>> {
        let first = self.events.partition_point(|told| told.cursor() <= from);
        self.reaches(from).then(|| self.events.range(first..))
    }

    /// Adds what was before, which must be every event after `from` and up to `upto`. Older ones than there
    /// is room for are left out.
    pub(super) fn extend_back(&mut self, from: Cursor, upto: Cursor, older: &[Told]) {
        if upto < self.from || from >= self.from {
            return;
        }
        for told in older.iter().rev() {
            if told.cursor() > self.from {
                continue;
            }
            if self.events.len() >= RING_EVENTS_MAX {
                self.from = told.cursor();
                return;
            }
            self.events.push_front(told.clone());
        }
        self.from = from;
    }
}

#[cfg(test)]
mod tests {
    use grid_core::PartitionId;
    use uuid::Uuid;

    use super::*;
    use crate::protocol::event::Encoded;
    use crate::protocol::message::Topic;

    fn at(index: u64) -> Cursor {
        Cursor::after_entry(PartitionId(0), index)
    }

    fn told(index: u64) -> Told {
        Told {
            shared: Arc::new(Delivery {
                topic: Topic::Auction(Uuid::nil()),
                cursor: at(index),
                message: Encoded::text(b""),
                merges: false,
            }),
            own: None,
        }
    }

    fn since(ring: &Ring, from: u64) -> Option<Vec<u64>> {
        let events = ring.since(at(from))?;
        Some(events.map(|told| told.cursor().index).collect())
    }

    #[test]
    fn what_is_there_is_told_and_what_is_missing_is_not_guessed() {
        let mut ring = Ring::new(at(10));
        for index in [11, 13, 14] {
            ring.push(told(index));
        }
        assert_eq!(since(&ring, 10), Some(vec![11, 13, 14]));
        assert_eq!(since(&ring, 12), Some(vec![13, 14]));
        assert_eq!(since(&ring, 14), Some(vec![]));
        assert_eq!(since(&ring, 9), None);
    }

    #[test]
    fn the_oldest_goes_and_the_ring_knows_it() {
        let mut ring = Ring::new(at(0));
        for index in 1..=RING_EVENTS_MAX as u64 + 2 {
            ring.push(told(index));
        }
        assert_eq!(since(&ring, 1), None);
        assert_eq!(
            since(&ring, 2).map(|events| events.len()),
            Some(RING_EVENTS_MAX)
        );
    }

    #[test]
    fn it_grows_backwards_without_a_gap_or_a_double() {
        let mut ring = Ring::new(at(10));
        ring.push(told(12));
        // What was read ends before the ring begins: there may be something between them.
        ring.extend_back(at(3), at(8), &[told(5)]);
        assert_eq!(since(&ring, 3), None);
        // It may overlap, since the ring went on while it was read.
        ring.extend_back(at(3), at(12), &[told(5), told(7), told(12)]);
        assert_eq!(since(&ring, 3), Some(vec![5, 7, 12]));
        assert_eq!(since(&ring, 2), None);

        let many: Vec<Told> = (1..=RING_EVENTS_MAX as u64).map(told).collect();
        let mut ring = Ring::new(at(RING_EVENTS_MAX as u64));
        ring.push(told(RING_EVENTS_MAX as u64 + 1));
        ring.extend_back(at(0), at(RING_EVENTS_MAX as u64), &many);
        assert_eq!(since(&ring, 0), None);
        assert_eq!(
            since(&ring, 1).map(|events| events.len()),
            Some(RING_EVENTS_MAX)
        );
    }
}
