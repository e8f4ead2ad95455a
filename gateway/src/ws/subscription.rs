//! A connection's subscriptions: what makes the hub's events come once, in order, without a gap.
//!
//! A subscription is *opening* while its snapshot or replay is being made: the hub already delivers,
//! and what it delivers is held. When the opening is done, it stands at a cursor; held and later events
//! are sent if they lie after it. The cursor moves with every event, so nothing is sent twice.
//!
//! A subscription whose client is slow falls *behind* with what merges: those events are left out, and one
//! about all of them follows when the client takes messages again.

use std::sync::Arc;

use grid_core::Cursor;

use super::outlet::Delivery;
use crate::protocol::message::Topic;

#[derive(Debug)]
enum Stage {
    Opening {
        held: Vec<Arc<Delivery>>,
    },
    Live {
        /// The last event's.
        after: Cursor,
        /// What merges has been told up to this index of the log.
        told_index: u64,
        is_behind: bool,
    },
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
    /// Left out for now; see [`Subscriptions::behind`].
    Behind,
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
            None if self.entries.len() < self.subscriptions_max => {
                // Most clients watch one thing; growing by doubling would begin with four places.
                self.entries.reserve_exact(1);
                self.entries.push(entry);
            }
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
        let mut told_index = live_after.index;
        let mut due = std::mem::take(held);
        due.retain(|delivery| {
            let is_new = delivery.cursor > after;
            if is_new {
                after = delivery.cursor;
                if delivery.merges {
                    told_index = after.index;
                }
            }
            is_new
        });
        entry.stage = Stage::Live {
            after,
            told_index,
            is_behind: false,
        };
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

    /// Every topic with the cursor that the client has all events up to, once it is open.
    pub(crate) fn cursors(&self) -> Vec<(Topic, Option<Cursor>)> {
        let cursor = |stage: &Stage| match stage {
            Stage::Opening { .. } => None,
            Stage::Live {
                after,
                told_index,
                is_behind: true,
            } => Some(Cursor::after_entry(after.partition, *told_index).min(*after)),
            Stage::Live { after, .. } => Some(*after),
        };
        let entries = self.entries.iter();
        entries
            .map(|entry| (entry.topic, cursor(&entry.stage)))
            .collect()
    }

    /// Decides about an event from the hub. What merges is left out unless the socket `is_free`.
    pub(crate) fn judge(&mut self, delivery: &Arc<Delivery>, is_free: bool) -> Verdict {
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
            Stage::Live { after, .. } if delivery.cursor <= *after => Verdict::Nothing,
            Stage::Live { is_behind, .. } if delivery.merges && (*is_behind || !is_free) => {
                *is_behind = true;
                Verdict::Behind
            }
            Stage::Live {
                after, told_index, ..
            } => {
                *after = delivery.cursor;
                if delivery.merges {
                    *told_index = delivery.cursor.index;
                }
                Verdict::Send
            }
        }
    }

    /// Whether anything was left out.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind().is_some()
    }

    /// A topic of which something was left out.
    pub(crate) fn behind(&self) -> Option<Topic> {
        let behind = |entry: &&Entry| {
            matches!(
                entry.stage,
                Stage::Live {
                    is_behind: true,
                    ..
                }
            )
        };
        self.entries.iter().find(behind).map(|entry| entry.topic)
    }

    /// The topic is made up for up to `cursor`: returns the index after which something is missing.
    pub(crate) fn catch_up(&mut self, topic: Topic, cursor: Cursor) -> Option<u64> {
        let place = self.position(topic)?;
        let Stage::Live {
            after,
            told_index,
            is_behind,
        } = &mut self.entries[place].stage
        else {
            return None;
        };
        if !std::mem::take(is_behind) {
            return None;
        }
        *after = cursor.max(*after);
        Some(std::mem::replace(told_index, cursor.index))
    }

    fn position(&self, topic: Topic) -> Option<usize> {
        self.entries.iter().position(|entry| entry.topic == topic)
    }
}

#[cfg(test)]
mod tests {
    use grid_core::PartitionId;
    use uuid::Uuid;

    use super::*;
    use crate::protocol::event::Encoded;

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
            message: Encoded::text(b""),
            merges: false,
        })
    }

    fn update(index: u64) -> Arc<Delivery> {
        Arc::new(Delivery {
            topic: TOPIC,
            cursor: at(index, u32::MAX),
            message: Encoded::text(b""),
            merges: true,
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
            assert_eq!(subscriptions.judge(&event, true), Verdict::Nothing);
        }
        let due = subscriptions
            .opened(TOPIC, generation, Cursor::after_entry(PartitionId(0), 5))
            .expect("current");
        let cursors: Vec<_> = due.iter().map(|event| event.cursor).collect();
        assert_eq!(cursors, [at(6, 0)]);
        assert_eq!(subscriptions.judge(&delivery(6, 0), true), Verdict::Nothing);
        assert_eq!(subscriptions.judge(&delivery(6, 1), true), Verdict::Send);
        assert_eq!(subscriptions.judge(&delivery(6, 1), true), Verdict::Nothing);
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
        subscriptions.judge(&delivery(1, 0), true);
        subscriptions.judge(&delivery(2, 0), true);
        assert_eq!(subscriptions.judge(&delivery(3, 0), true), Verdict::TooSlow);
    }

    #[test]
    fn a_slow_client_falls_behind_with_what_merges_and_with_nothing_else() {
        let mut subscriptions = Subscriptions::new(1, 8);
        let generation = subscriptions.begin(TOPIC).expect("room");
        subscriptions.opened(TOPIC, generation, Cursor::after_entry(PartitionId(0), 5));
        assert_eq!(subscriptions.judge(&update(6), true), Verdict::Send);
        assert_eq!(subscriptions.judge(&update(7), false), Verdict::Behind);
        assert_eq!(subscriptions.judge(&delivery(8, 0), false), Verdict::Send);
        // Free again, but what was left out comes first.
        assert_eq!(subscriptions.judge(&update(9), true), Verdict::Behind);
        let resume = Cursor::after_entry(PartitionId(0), 6);
        assert_eq!(subscriptions.cursors(), [(TOPIC, Some(resume))]);
        assert_eq!(subscriptions.behind(), Some(TOPIC));
        assert_eq!(subscriptions.catch_up(TOPIC, at(9, u32::MAX)), Some(6));
        assert_eq!(subscriptions.behind(), None);
        assert_eq!(subscriptions.catch_up(TOPIC, at(9, u32::MAX)), None);
        assert_eq!(subscriptions.judge(&update(9), true), Verdict::Nothing);
        assert_eq!(subscriptions.judge(&update(10), true), Verdict::Send);
    }
}
