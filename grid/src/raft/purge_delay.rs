//! Entries that the group has let go of stay readable for a moment.
//!
//! openraft lets a range of the log go when no replication is sending it. A report of an old connection's
//! end can make it believe so of a stream that has just begun anew behind that range, and a stream that
//! cannot read the next entry ends the whole group. So the log itself lets go later than it is told:
//! whoever still reads has either got past those entries by then or been sent a snapshot.
//!
//! Flow: `purge` notes the place here; the retention's turn, once a second, frees what is old enough.
//!
//! Invariant: places ascend, and so do the times at which they were noted.
//!
//! What it deliberately does not do: survive a restart. What was not freed then is still in the log, and a
//! snapshot covers it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::types::LogId;

/// How long entries stay; longer than a replication stream lives without an answer.
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// Places remembered at once; with more, the newest takes the place of the one before it, which then
/// stays longer.
const PLACES_MAX: usize = 32;

/// Places up to which the log may go, oldest first.
#[derive(Debug, Default)]
pub(super) struct PurgeDelay {
    places: VecDeque<(Instant, LogId)>,
}

impl PurgeDelay {
    /// Notes that everything up to `upto` may go.
    pub(super) fn note(&mut self, upto: LogId, now: Instant) {
        if self.places.len() >= PLACES_MAX {
            self.places.pop_back();
        }
        self.places.push_back((now, upto));
    }

    /// The place up to which the log may go now; it is forgotten here.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<LogId> {
        let is_due = |noted: Instant| now.saturating_duration_since(noted) >= GRACE;
        let mut due = None;
        while let Some((_, upto)) = self.places.pop_front_if(|(noted, _)| is_due(*noted)) {
            due = Some(upto);
        }
        due
    }

    /// Forgets all places: the log goes now, further than any of them.
    pub(super) fn clear(&mut self) {
        self.places.clear();
    }

    /// Whether something waits to be freed.
    pub(super) fn is_waiting(&self) -> bool {
        !self.places.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::types::at;
    use super::*;

    #[test]
    fn a_place_is_due_when_its_time_is_over_and_takes_older_ones_along() {
        let start = Instant::now();
        let mut delay = PurgeDelay::default();
        delay.note(at(10), start);
        delay.note(at(20), start + Duration::from_secs(1));
        delay.note(at(30), start + Duration::from_secs(2));
        let before = start + GRACE - Duration::from_millis(1);
        assert_eq!(delay.take_due(before), None);
        let second = start + GRACE + Duration::from_secs(1);
        assert_eq!(delay.take_due(second), Some(at(20)));
        assert_eq!(delay.take_due(second), None);
        assert!(delay.is_waiting());
        assert_eq!(delay.take_due(second + GRACE), Some(at(30)));
        assert!(!delay.is_waiting());
    }

    #[test]
    fn no_more_places_are_kept_than_the_bound() {
        let start = Instant::now();
        let mut delay = PurgeDelay::default();
        for index in 0..2 * PLACES_MAX as u64 {
            delay.note(at(index), start);
        }
        assert_eq!(delay.places.len(), PLACES_MAX);
        let last = at(2 * PLACES_MAX as u64 - 1);
        assert_eq!(delay.take_due(start + GRACE), Some(last));
    }
}
