//! How a lane steps back for the sale where the database shares the machine with the nodes.
//!
//! While writes of clients wait, a lane rests after each transaction for a multiple of what the
//! transaction took and for as many such times as lanes of the node have something to write: all of them
//! together then keep the database busy for the same part of the time as one lane would. It reads ahead
//! meanwhile, so that it stays within the feed's recent changes. It rests only as long as what it holds
//! and how far it is behind stay within bounds, so that reports are never more than about a second old;
//! beyond them it writes at full speed whatever that costs the clients. Niceness alone does not do it: schedulers let a
//! process that has begun its slice end it, and a database runs in the gaps between syncs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Clients count as waiting when entries take this long from proposal to applied.
const BUSY_COMMIT_DELAY: Duration = Duration::from_millis(5);
/// A rest is this many times as long as the transaction before it, and that for each lane.
const REST_FACTOR: u32 = 9;
/// The most changes that a node's lanes hold together, unwritten, before they no longer rest; about
/// 200 bytes each.
const HELD_CHANGES_MAX: usize = 250_000;
/// A lane rests no longer than until its oldest change, written then, will have waited so long.
const BEHIND_MAX: Duration = Duration::from_millis(600);

/// What the lanes of a node have read and not written.
#[derive(Debug, Default)]
pub(super) struct HeldByAll {
    changes: AtomicUsize,
    /// Lanes that are writing or resting.
    lanes: AtomicUsize,
}

/// One lane's part of it, from its first transaction until all is written; gone with it.
#[derive(Debug)]
pub(super) struct Held {
    all: Arc<HeldByAll>,
    here: usize,
}

impl Held {
    pub(super) fn new(all: Arc<HeldByAll>) -> Self {
        all.lanes.fetch_add(1, Ordering::Relaxed);
        Self { all, here: 0 }
    }

    /// Says how many changes this lane holds now and returns how many all lanes hold.
    pub(super) fn set(&mut self, here: usize) -> usize {
        self.all.changes.fetch_add(here, Ordering::Relaxed);
        let before = self.all.changes.fetch_sub(self.here, Ordering::Relaxed);
        let all = before.saturating_sub(self.here);
        self.here = here;
        all
    }

    /// How many lanes have something to write, this one among them.
    pub(super) fn lanes(&self) -> usize {
        self.all.lanes.load(Ordering::Relaxed)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.changes.fetch_sub(self.here, Ordering::Relaxed);
        self.all.lanes.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a lane knows when a transaction has been written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    pub(super) commit_delay: Duration,
    /// What the transaction took.
    pub(super) took: Duration,
    /// Lanes of the node that have something to write.
    pub(super) lanes: usize,
    /// Changes that the node's lanes have read and not written.
    pub(super) held_changes: usize,
    /// The age of the oldest change that is not written.
    pub(super) behind: Duration,
}

impl Situation {
    /// How long to rest now; zero for not at all.
    pub(super) fn rest(&self) -> Duration {
        let is_busy = self.commit_delay >= BUSY_COMMIT_DELAY;
        if is_busy && self.held_changes < HELD_CHANGES_MAX {
            let lanes = u32::try_from(self.lanes.max(1)).unwrap_or(u32::MAX);
            let rest = self.took.saturating_mul(REST_FACTOR);
            // What follows takes about as long to write as what was written.
            let left = BEHIND_MAX.saturating_sub(self.behind + self.took);
            rest.saturating_mul(lanes).min(left)
        } else {
            Duration::ZERO
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lanes_hold_is_summed_and_leaves_with_them() {
        let all = Arc::new(HeldByAll::default());
        let (mut one, mut other) = (Held::new(Arc::clone(&all)), Held::new(Arc::clone(&all)));
        assert_eq!(one.set(10), 10);
        assert_eq!(other.set(5), 15);
        assert_eq!(one.set(3), 8);
        assert_eq!(one.lanes(), 2);
        drop(other);
        assert_eq!(one.lanes(), 1);
        assert_eq!(one.set(0), 0);
    }

    #[test]
    fn a_lane_rests_only_while_clients_wait_and_within_its_bounds() {
        let busy = Situation {
            commit_delay: Duration::from_millis(12),
            took: Duration::from_millis(50),
            lanes: 1,
            held_changes: 10_000,
            behind: Duration::from_millis(20),
        };
        assert_eq!(busy.rest(), Duration::from_millis(450));
        let among_others = Situation { lanes: 4, ..busy };
        assert_eq!(among_others.rest(), Duration::from_millis(530));
        let refusals = [
            Situation {
                commit_delay: Duration::from_millis(4),
                ..busy
            },
            Situation {
                held_changes: HELD_CHANGES_MAX,
                ..busy
            },
            Situation {
                behind: Duration::from_millis(550),
                ..busy
            },
        ];
        for situation in refusals {
            assert_eq!(situation.rest(), Duration::ZERO, "{situation:?}");
        }
        let slow = Situation {
            took: Duration::from_secs(9),
            ..busy
        };
        assert_eq!(slow.rest(), Duration::ZERO);
    }
}
