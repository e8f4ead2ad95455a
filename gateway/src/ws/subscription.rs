//! A connection's subscriptions: what makes the hub's events come once, in order, without a gap.
//!
//! A subscription is *opening* while its snapshot or replay is being made: the hub already delivers,
//! and what it delivers is held. When the opening is done, it stands at a cursor; held and later events
//! are sent if they lie after it. The cursor moves with every event, so nothing is sent twice.

use std::sync::Arc;

use grid_core::Cursor;

use super::outlet::Delivery;
use crate::protocol::message::Topic;

#[derive(Debug)]
enum Stage {
    Opening { held: Vec<Arc<Delivery>> },
    Live { after: Cursor },
}

#[derive(Debug)]
struct Entry {
    topic: Topic,
    generation: u64,
    stage: Stage,
}

/// What to do with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Send,
    /// Held, or already known, or not subscribed to any more.
    Nothing,
    /// More is held than may be.
    TooSlow,
}

/// The subscriptions of one connection, at most `subscriptions_max`.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    entries: Vec<Entry>,
    next_generation: u64,
    subscriptions_max: usize,
    held_max: usize,
}

impl Subscriptions {
    pub(crate) fn new(subscriptions_max: usize, held_max: usize) -> Self {
        Self {
            entries: Vec::new(),
            next_generation: 0,
            subscriptions_max,
            held_max,
        }
    }

    /// Begins to open a subscription, or to open it anew. `None` when there are too many.
    pub(crate) fn begin(&mut self, topic: Topic) -> Option<u64> {
        self.next_generation += 1;
        let entry = Entry {
            topic,
            generation: self.next_generation,
            stage: Stage::Opening { held: Vec::new() },
        };
        match self.position(topic) {
            Some(place) => self.entries[place] = entry,
            None if self.entries.len() < self.subscriptions_max => self.entries.push(entry),
            None => return None,
        }
        Some(self.next_generation)
    }

    /// The opening is done: returns what was held and lies after the cursor. `None` when the
    /// subscription was given up or begun anew meanwhile.
    pub(crate) fn opened(
        &mut self,
        topic: Topic,
        generation: u64,
        live_after: Cursor,
    ) -> Option<Vec<Arc<Delivery>>> {
        let place = self.position(topic)?;
        let entry = &mut self.entries[place];
        if entry.generation != generation {
            return None;
        }
        let Stage::Opening { held } = &mut entry.stage else {
            return None;
        };
        let mut after = live_after;
        let mut due = std::mem::take(held);
        due.retain(|delivery| {
            let is_new = delivery.cursor > after;
            if is_new {
                after = delivery.cursor;
            }
            is_new
        });
        entry.stage = Stage::Live { after };
        Some(due)
    }

    /// The opening failed: forgets the subscription, unless it was begun anew meanwhile.
    pub(crate) fn failed(&mut self, topic: Topic, generation: u64) {
        self.entries
            .retain(|entry| entry.topic != topic || entry.generation != generation);
    }

    pub(crate) fn remove(&mut self, topic: Topic) {
        self.entries.retain(|entry| entry.topic != topic);
    }

    pub(crate) fn contains(&self, topic: Topic) -> bool {
        self.position(topic).is_some()
    }

    pub(crate) fn topics(&self) -> impl Iterator<Item = Topic> {
        self.entries.iter().map(|entry| entry.topic)
    }

    /// Decides about an event from the hub.
    pub(crate) fn judge(&mut self, delivery: &Arc<Delivery>) -> Verdict {
        let held_max = self.held_max;
        let Some(place) = self.position(delivery.topic) else {
            return Verdict::Nothing;
        };
        match &mut self.entries[place].stage {
            Stage::Opening { held } if held.len() >= held_max => Verdict::TooSlow,
            Stage::Opening { held } => {
                held.push(Arc::clone(delivery));
                Verdict::Nothing
            }
            Stage::Live { after } if delivery.cursor > *after => {
                *after = delivery.cursor;
                Verdict::Send
            }
            Stage::Live { .. } => Verdict::Nothing,
        }
    }

    fn position(&self, topic: Topic) -> Option<usize> {
        self.entries.iter().position(|entry| entry.topic == topic)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use grid_core::PartitionId;
    use uuid::Uuid;

    use super::*;

    const TOPIC: Topic = Topic::Auction(Uuid::nil());

    fn at(index: u64, seq: u32) -> Cursor {
        Cursor {
            partition: PartitionId(0),
            index,
            seq,
        }
    }

    fn delivery(index: u64, seq: u32) -> Arc<Delivery> {
        Arc::new(Delivery {
            topic: TOPIC,
            cursor: at(index, seq),
            frame: Bytes::new(),
        })
    }

    #[test]
    fn held_events_follow_the_snapshot_without_gap_or_double() {
        let mut subscriptions = Subscriptions::new(8, 8);
        let generation = subscriptions.begin(TOPIC).expect("room");
        for event in [
            delivery(4, 0),
            delivery(5, 0),
            delivery(5, 1),
            delivery(6, 0),
        ] {
            assert_eq!(subscriptions.judge(&event), Verdict::Nothing);
        }
        let due = subscriptions
            .opened(TOPIC, generation, Cursor::after_entry(PartitionId(0), 5))
            .expect("current");
        let cursors: Vec<_> = due.iter().map(|event| event.cursor).collect();
        assert_eq!(cursors, [at(6, 0)]);
        assert_eq!(subscriptions.judge(&delivery(6, 0)), Verdict::Nothing);
        assert_eq!(subscriptions.judge(&delivery(6, 1)), Verdict::Send);
        assert_eq!(subscriptions.judge(&delivery(6, 1)), Verdict::Nothing);
    }

    #[test]
    fn an_opening_that_was_given_up_changes_nothing() {
        let mut subscriptions = Subscriptions::new(1, 8);
        let first = subscriptions.begin(TOPIC).expect("room");
        subscriptions.remove(TOPIC);
        assert!(subscriptions.opened(TOPIC, first, at(1, 0)).is_none());
        let second = subscriptions.begin(TOPIC).expect("room");
        subscriptions.failed(TOPIC, first);
        assert!(subscriptions.opened(TOPIC, first, at(1, 0)).is_none());
        assert!(subscriptions.opened(TOPIC, second, at(1, 0)).is_some());
    }

    #[test]
    fn subscriptions_and_what_they_hold_are_bounded() {
        let mut subscriptions = Subscriptions::new(1, 2);
        subscriptions.begin(TOPIC).expect("room");
        assert_eq!(subscriptions.begin(Topic::Event(Uuid::nil())), None);
        assert!(subscriptions.begin(TOPIC).is_some(), "anew");
        subscriptions.judge(&delivery(1, 0));
        subscriptions.judge(&delivery(2, 0));
        assert_eq!(subscriptions.judge(&delivery(3, 0)), Verdict::TooSlow);
    }
}
