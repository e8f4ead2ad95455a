//! The time that leaders stamp into their entries: what most nodes' clocks say, carried on by the
//! monotonic clock in between.
//!
//! ```text
//!   own clock ─┐
//!   peers' ────┼─► the one in the middle ─► agreed ── + monotonic time since ─► a leader's stamp
//!   agreed ────┘   (in place of those that are not known)
//! ```
//!
//! A machine's clock may jump: an operator sets it, a time server is wrong, a virtual machine wakes up.
//! Holds end and auctions close by the stamps, so a leader does not believe its own clock alone. Every
//! node asks its peers for theirs, one after another (see `cluster::news`), and takes the middle one.
//!
//! Invariants:
//! * as long as the clocks of fewer than half of the nodes are wrong, the stamps are never ahead of a
//!   right clock by more than half a question's round trip, and behind it only until enough of the
//!   others have answered;
//! * between two questions a jump of this node's clock has no effect;
//! * a node that does not know the time yet takes a clock that is not early even if all those that may
//!   be wrong are: late is better than early;
//! * nothing is stamped before a majority of those that this node shares a replica with have shown
//!   their clocks: without them it leads nothing.
//!
//! What it deliberately does not do: measure how fast clocks run, set the machine's clock, keep time
//! where most nodes' clocks are wrong (a grid of one node believes its own).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use grid_core::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::node::NodeId;

/// A clock that was not read for so long says nothing: it may have been set right meanwhile.
const READING_AGE_MAX: Duration = Duration::from_secs(10);
/// A larger grid is treated as one of so many nodes: more clocks do not make the time more certain.
const CLOCKS_COUNTED: usize = 9;
/// After this long without a majority's clocks fewer are enough to begin with.
const PATIENCE: Duration = Duration::from_secs(5);
/// So many.
const CLOCKS_AFTER_PATIENCE: usize = 2;
/// A clock this far from the agreed time is worth a warning.
const OFF_MS: u64 = 5_000;

/// What a clock said, and when that was by the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reading {
    said: Timestamp,
    at: Instant,
}

impl Reading {
    /// What it says now, if it runs as fast as ours.
    fn now(self, now: Instant) -> Timestamp {
        let since = now.saturating_duration_since(self.at).as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        Timestamp::from_millis(self.said.as_millis().saturating_add(since))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Agreed {
    reading: Reading,
    /// Whether it came from so many clocks that it may speak where they are divided.
    is_settled: bool,
}

/// How many nodes there are whose clocks may count, this one included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Electorate {
    /// All members of the grid.
    pub(crate) members: usize,
    /// Those that hold a replica of a group that this node holds one of.
    pub(crate) sharers: usize,
}

fn majority(nodes: usize) -> usize {
    nodes.min(CLOCKS_COUNTED) / 2 + 1
}

/// A node's view of the grid's time.
#[derive(Debug)]
pub(crate) struct GridClock {
    started: Instant,
    readings: Mutex<BTreeMap<NodeId, Reading>>,
    agreed: watch::Sender<Option<Agreed>>,
}

impl GridClock {
    /// A clock that does not know the time yet.
    pub(crate) fn new(started: Instant) -> Self {
        Self {
            started,
            readings: Mutex::default(),
            agreed: watch::Sender::new(None),
        }
    }

    /// Notes what a peer's clock said in answer to a question.
    pub(crate) fn note(&self, peer: NodeId, said: Timestamp, asked: Instant, answered: Instant) {
        // Read somewhere between; in the middle the error is least.
        let at = asked + answered.saturating_duration_since(asked) / 2;
        self.readings.lock().insert(peer, Reading { said, at });
    }

    /// Looks at all clocks anew. `wall` is this node's own; `is_peer` says whose others count.
    pub(crate) fn agree(
        &self,
        wall: Timestamp,
        electorate: Electorate,
        is_peer: impl Fn(NodeId) -> bool,
        now: Instant,
    ) {
        let mut clocks = vec![wall];
        {
            let mut readings = self.readings.lock();
            readings.retain(|peer, reading| {
                is_peer(*peer) && now.saturating_duration_since(reading.at) < READING_AGE_MAX
            });
            clocks.extend(readings.values().map(|reading| reading.now(now)));
        }
        let before = *self.agreed.borrow();
        let is_settled = clocks.len() >= majority(electorate.members);
        let was_settled = before.is_some_and(|before| before.is_settled);
        let is_late = now.saturating_duration_since(self.started) >= PATIENCE;
        let is_usable = clocks.len() >= majority(electorate.sharers)
            || (is_late && clocks.len() >= CLOCKS_AFTER_PATIENCE);
        // What most clocks said is worth more than what few say now.
        if !is_settled && (was_settled || !is_usable) {
            return;
        }
        let running = before.filter(|_| was_settled);
        let running = running.map(|running| running.reading.now(now));
        let said = choose(clocks, electorate.members.min(CLOCKS_COUNTED), running);
        warn_of_own(wall, said, before.is_none());
        let reading = Reading { said, at: now };
        self.agreed.send_replace(Some(Agreed {
            reading,
            is_settled,
        }));
    }

    /// The grid's time; `None` before enough clocks are known, never after.
    pub(crate) fn now(&self) -> Option<Timestamp> {
        #[cfg(feature = "planted-bugs")]
        if crate::platform::simulated::is_planted("believe-own-clock") {
            return Some(crate::platform::wall_now());
        }
        let agreed = (*self.agreed.borrow())?;
        Some(agreed.reading.now(crate::platform::monotonic_now()))
    }

    /// Waits until the time is known.
    pub(crate) async fn known(&self) {
        let mut agreed = self.agreed.subscribe();
        if agreed.wait_for(Option::is_some).await.is_err() {
            // The sender is this very clock's.
            std::future::pending().await
        }
    }
}

/// What the time is by these clocks of a grid of so many nodes: the middle one. A clock that is not
/// known is taken to say what was agreed so far, and so is one more where that breaks a tie. Where
/// nothing was agreed so far, the latest clock is taken that is not early even if the latest of all are
/// as many as may be wrong.
fn choose(mut clocks: Vec<Timestamp>, nodes: usize, running: Option<Timestamp>) -> Timestamp {
    if let Some(running) = running {
        let missing = nodes.saturating_sub(clocks.len());
        let for_a_tie = (clocks.len() + missing + 1) % 2;
        clocks.extend(std::iter::repeat_n(running, missing + for_a_tie));
    }
    clocks.sort_unstable();
    let wrong_max = nodes.saturating_sub(1) / 2;
    let last = clocks.len() - 1;
    let place = match running {
        Some(_) => last / 2,
        None => last.saturating_sub(wrong_max).min(last / 2),
    };
    clocks[place]
}

fn warn_of_own(wall: Timestamp, agreed: Timestamp, is_first: bool) {
    let off_ms = wall.as_millis().abs_diff(agreed.as_millis());
    metrics::gauge!("grid_clock_off_seconds").set(off_ms as f64 / 1_000.0);
    if off_ms < OFF_MS {
        return;
    }
    if is_first {
        tracing::warn!(
            off_ms,
            "this node's clock is wrong; the grid goes by the others"
        );
    } else {
        tracing::debug!(
            off_ms,
            "this node's clock is wrong; the grid goes by the others"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;
    const EPOCH_MS: u64 = 1_767_225_600_000;

    /// A grid's clock under a time of its own.
    struct Bench {
        clock: GridClock,
        begun: Instant,
        at_ms: u64,
        members: usize,
        sharers: usize,
    }

    impl Bench {
        fn new(members: usize) -> Self {
            let begun = Instant::now();
            Self {
                clock: GridClock::new(begun),
                begun,
                at_ms: 0,
                members,
                sharers: members,
            }
        }

        fn instant(&self) -> Instant {
            self.begun + Duration::from_millis(self.at_ms)
        }

        fn true_ms(&self) -> u64 {
            EPOCH_MS + self.at_ms
        }

        /// Reads the clocks of peers, each so far off, then agrees with its own so far off.
        fn round(&mut self, own_off_ms: i64, peers: &[(NodeId, i64)]) {
            let now = self.instant();
            for (peer, off_ms) in peers {
                let said = self.true_ms().saturating_add_signed(*off_ms);
                self.clock
                    .note(*peer, Timestamp::from_millis(said), now, now);
            }
            let wall = self.true_ms().saturating_add_signed(own_off_ms);
            let electorate = Electorate {
                members: self.members,
                sharers: self.sharers,
            };
            self.clock
                .agree(Timestamp::from_millis(wall), electorate, |_| true, now);
        }

        /// How far the agreed time is ahead of the true one.
        fn off_ms(&self) -> Option<i64> {
            let agreed = (*self.clock.agreed.borrow())?;
            let now = agreed.reading.now(self.instant()).as_millis();
            Some(i64::try_from(i128::from(now) - i128::from(self.true_ms())).expect("small"))
        }
    }

    const HOUR: i64 = HOUR_MS as i64;

    #[test]
    fn nothing_is_known_before_a_majority_has_answered() {
        let mut bench = Bench::new(3);
        bench.round(0, &[]);
        assert_eq!(bench.off_ms(), None);
        bench.round(0, &[(2, 0)]);
        assert_eq!(bench.off_ms(), Some(0));
    }

    #[test]
    fn one_node_believes_its_own_clock() {
        let mut bench = Bench::new(1);
        bench.round(HOUR, &[]);
        assert_eq!(bench.off_ms(), Some(HOUR));
    }

    #[test]
    fn a_jump_of_the_own_clock_changes_nothing() {
        for jump in [HOUR, -HOUR] {
            let mut bench = Bench::new(3);
            bench.round(0, &[(2, 0), (3, 0)]);
            bench.at_ms = 2_000;
            bench.round(jump, &[(2, 0)]);
            assert_eq!(bench.off_ms(), Some(0));
            // Also when the others are no longer heard, as far as anybody remembers them and after.
            for at_ms in [5_000, 11_500, 60_000] {
                bench.at_ms = at_ms;
                bench.round(jump, &[]);
                assert_eq!(bench.off_ms(), Some(0), "after {at_ms} ms");
            }
        }
    }

    #[test]
    fn of_two_clocks_the_one_that_goes_on_as_before_is_believed() {
        for jump in [HOUR, -HOUR] {
            let mut bench = Bench::new(3);
            bench.round(0, &[(2, 0)]);
            bench.at_ms = 1_000;
            bench.round(0, &[(2, jump)]);
            assert_eq!(bench.off_ms(), Some(0));
            bench.at_ms = 2_000;
            bench.round(jump, &[(2, 0)]);
            assert_eq!(bench.off_ms(), Some(0));
        }
    }

    #[test]
    fn a_node_that_starts_with_a_wrong_clock_is_never_early() {
        let mut bench = Bench::new(3);
        bench.round(HOUR, &[(2, 0)]);
        assert_eq!(bench.off_ms(), Some(0));
        let mut bench = Bench::new(3);
        bench.round(-HOUR, &[(2, 0)]);
        assert_eq!(bench.off_ms(), Some(-HOUR), "late, until the third answers");
        bench.round(-HOUR, &[(2, 0), (3, 0)]);
        assert_eq!(bench.off_ms(), Some(0));
    }

    #[test]
    fn two_wrong_clocks_of_five_are_outvoted() {
        let mut bench = Bench::new(5);
        bench.round(HOUR, &[(2, HOUR), (3, 0)]);
        assert_eq!(bench.off_ms(), Some(0), "of three that are known");
        bench.round(HOUR, &[(2, HOUR), (3, 0), (4, 0)]);
        assert_eq!(bench.off_ms(), Some(0), "of four");
        bench.round(-HOUR, &[(2, -HOUR), (3, 0), (4, 0), (5, 0)]);
        assert_eq!(bench.off_ms(), Some(0), "of all");
    }

    #[test]
    fn in_a_grid_of_four_and_of_two_one_clock_that_jumps_is_not_believed() {
        for (members, peers) in [(4, vec![2, 3, 4]), (2, vec![2])] {
            let right: Vec<(NodeId, i64)> = peers.iter().map(|peer| (*peer, 0)).collect();
            for jump in [HOUR, -HOUR] {
                let mut bench = Bench::new(members);
                bench.round(0, &right);
                bench.round(jump, &right);
                assert_eq!(bench.off_ms(), Some(0), "of {members}, {jump}");
            }
        }
    }

    #[test]
    fn when_most_clocks_move_the_time_moves() {
        let mut bench = Bench::new(3);
        bench.round(0, &[(2, 0), (3, 0)]);
        bench.round(HOUR, &[(2, HOUR)]);
        assert_eq!(bench.off_ms(), Some(HOUR));
    }

    #[test]
    fn after_a_while_two_clocks_of_many_are_enough_to_begin_with() {
        let mut bench = Bench::new(5);
        bench.round(0, &[(2, 0)]);
        assert_eq!(bench.off_ms(), None);
        bench.at_ms = 6_000;
        bench.round(0, &[(2, HOUR)]);
        assert_eq!(bench.off_ms(), Some(0));
    }

    #[test]
    fn a_removed_nodes_clock_does_not_count() {
        let mut bench = Bench::new(3);
        bench.round(0, &[]);
        let now = bench.instant();
        let wall = Timestamp::from_millis(bench.true_ms());
        bench.clock.note(9, wall, now, now);
        let electorate = Electorate {
            members: 3,
            sharers: 3,
        };
        bench.clock.agree(wall, electorate, |peer| peer != 9, now);
        assert_eq!(bench.off_ms(), None);
    }

    #[test]
    fn a_node_that_shares_nothing_begins_alone_and_gives_way_to_the_others() {
        let mut bench = Bench::new(3);
        bench.sharers = 1;
        bench.round(HOUR, &[]);
        assert_eq!(bench.off_ms(), Some(HOUR));
        bench.sharers = 3;
        bench.round(HOUR, &[(2, 0)]);
        assert_eq!(bench.off_ms(), Some(0), "its first guess has no vote");
        bench.at_ms = 20_000;
        bench.sharers = 1;
        bench.round(HOUR, &[]);
        assert_eq!(bench.off_ms(), Some(0), "what most said is kept");
    }
}
