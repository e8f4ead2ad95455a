//! Back-pressure from the database to the clients: how much log may wait for the pump.
//!
//! ```text
//!   log that the database has not got, of all replicas of this node
//!     │ below the soft bound            nothing
//!     │ between the two                 new work is delayed to what the pump drains, and a part of the
//!     │                                 room that is left
//!     ▼ at the hard bound               new work is refused; what drains is still taken
//! ```
//!
//! Bytes are what is bounded, because bytes fill a disk. Entries and seconds are measured and told (see
//! the pump's status) and bound nothing: a database that is away for an hour harms no sale while
//! there is room for its log.
//!
//! Between the bounds new work may take `drained + left / HORIZON` bytes a second. So there is no cliff: near
//! the soft bound hardly anybody notices, near the hard one writers go at the rate at which the pump
//! drains, and the hard bound is reached only by work that is never delayed. A command is delayed by a
//! timer of its own, at most [`DELAY_MAX`]; one that would wait longer is refused and told how long.
//!
//! Invariants: work that drains is neither delayed nor refused here; at most [`DELAYED_MAX`] commands of a
//! node are delayed at a time; without bounds nothing is counted.
//!
//! What it deliberately does not do: look at the disk (see `disk_guard`), or let log go (see `retention`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use grid_core::{PartitionId, Space};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::admission::CommandClass;
use crate::members::Members;
use crate::platform;
use crate::status::{BacklogState, BacklogStatus};

/// How often it is looked how much waits.
const PERIOD: Duration = Duration::from_millis(500);
/// Between the bounds, new work may use up the room that is left in about this time.
const HORIZON_S: u64 = 600;
/// The longest that a command is delayed; one that would have to wait longer is refused.
const DELAY_MAX: Duration = Duration::from_millis(500);
/// Commands of a node that are delayed at a time; with more, the next is refused.
const DELAYED_MAX: usize = 4_096;
/// What a command costs in the log beside its body.
const COMMAND_OVERHEAD_BYTES: u64 = 64;
/// What a refused client is told to wait, at least.
const RETRY_AFTER_MS_MIN: u64 = 100;
/// And at most, also where nothing drains.
const RETRY_AFTER_MS_MAX: u64 = 5_000;
/// A new measurement of the drain rate counts for one part in this many.
const SMOOTHING: u64 = 4;
/// As many bytes a second as anybody could want.
const UNLIMITED: u64 = u64::MAX;

/// The bounds; 0 for none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BacklogBounds {
    pub(crate) soft_bytes: u64,
    pub(crate) max_bytes: u64,
}

/// What becomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passage {
    Now,
    After(Duration),
    Refused { retry_after_ms: u64 },
}

/// One node's account.
#[derive(Debug)]
pub(crate) struct Backlog {
    bounds: BacklogBounds,
    bytes: AtomicU64,
    drained_per_s: AtomicU64,
    /// What new work may take, in bytes a second.
    allowed_per_s: AtomicU64,
    delayed: Arc<AtomicUsize>,
    /// When the room is there for the next command.
    next_at: Mutex<Option<Instant>>,
}

/// Counts a delayed command for as long as it waits.
#[derive(Debug)]
pub(crate) struct Delayed(Arc<AtomicUsize>);

impl Drop for Delayed {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Backlog {
    pub(crate) fn new(bounds: BacklogBounds) -> Self {
        Self {
            bounds,
            bytes: AtomicU64::new(0),
            drained_per_s: AtomicU64::new(0),
            allowed_per_s: AtomicU64::new(UNLIMITED),
            delayed: Arc::default(),
            next_at: Mutex::default(),
        }
    }

    /// Whether, and when, a command may go on to its partition's queue.
    pub(crate) fn pass(&self, class: CommandClass, body_bytes: usize, now: Instant) -> Passage {
        let allowed = self.allowed_per_s.load(Ordering::Relaxed);
        if allowed == UNLIMITED || class == CommandClass::Draining {
            return Passage::Now;
        }
        let refused = |wait: Duration| Passage::Refused {
            retry_after_ms: platform::whole_ms(wait).clamp(RETRY_AFTER_MS_MIN, RETRY_AFTER_MS_MAX),
        };
        if allowed == 0 {
            return refused(Duration::from_millis(RETRY_AFTER_MS_MAX));
        }
        let cost = body_bytes as u64 + COMMAND_OVERHEAD_BYTES;
        let mut next_at = self.next_at.lock();
        let at = next_at.map_or(now, |at| at.max(now));
        let wait = at.saturating_duration_since(now);
        if wait > DELAY_MAX {
            return refused(wait);
        }
        let is_delayed = !wait.is_zero();
        if is_delayed && self.delayed.load(Ordering::Relaxed) >= DELAYED_MAX {
            return refused(DELAY_MAX);
        }
        *next_at = Some(at + Duration::from_secs_f64(cost as f64 / allowed as f64));
        if is_delayed {
            Passage::After(wait)
        } else {
            Passage::Now
        }
    }

    /// Counts a command that waits until the value is dropped.
    pub(crate) fn delayed(&self) -> Delayed {
        metrics::counter!("grid_backlog_delayed_total").increment(1);
        self.delayed.fetch_add(1, Ordering::Relaxed);
        Delayed(Arc::clone(&self.delayed))
    }

    /// Takes up what was measured: what waits, what was drained of the partitions led here, and which part
    /// of the held partitions those are.
    fn measured(&self, bytes: u64, drained_per_s: u64, led: u64, held: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
        let before = self.drained_per_s.load(Ordering::Relaxed);
        let drained = before - before / SMOOTHING + drained_per_s / SMOOTHING;
        self.drained_per_s.store(drained, Ordering::Relaxed);
        let allowed = self.allowed(bytes, drained, led, held);
        self.allowed_per_s.store(allowed, Ordering::Relaxed);
    }

    fn allowed(&self, bytes: u64, drained_per_s: u64, led: u64, held: u64) -> u64 {
        let BacklogBounds {
            soft_bytes,
            max_bytes,
        } = self.bounds;
        if max_bytes > 0 && bytes >= max_bytes {
            return 0;
        }
        if soft_bytes == 0 || bytes < soft_bytes {
            return UNLIMITED;
        }
        let left = match max_bytes {
            0 => 0,
            max_bytes => max_bytes - bytes,
        };
        // Other nodes lead the other partitions, whose entries come into this log too.
        let share = (u128::from(left) * u128::from(led) / u128::from(held.max(1))) as u64;
        drained_per_s + share / HORIZON_S
    }

    /// For the status.
    pub(crate) fn status(&self) -> BacklogStatus {
        let allowed = self.allowed_per_s.load(Ordering::Relaxed);
        BacklogStatus {
            state: match allowed {
                UNLIMITED => BacklogState::Open,
                0 => BacklogState::Refusing,
                _ => BacklogState::Slowed,
            },
            bytes: self.bytes.load(Ordering::Relaxed),
            soft_bytes: self.bounds.soft_bytes,
            max_bytes: self.bounds.max_bytes,
            drained_bytes_per_s: self.drained_per_s.load(Ordering::Relaxed),
            allowed_bytes_per_s: Some(allowed).filter(|allowed| *allowed != UNLIMITED),
            delayed: self.delayed.load(Ordering::Relaxed) as u64,
        }
    }
}

/// Measures until stopped. Not to be run where no pump reads the changes.
pub(crate) async fn run<S: Space>(members: Arc<Members<S>>, stop: CancellationToken) {
    let mut pumped_before: BTreeMap<PartitionId, u64> = BTreeMap::new();
    let mut looked_at = platform::monotonic_now();
    let mut before = BacklogState::Open;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = platform::pause(PERIOD) => {}
        }
        let now = platform::monotonic_now();
        let elapsed = now.saturating_duration_since(looked_at);
        looked_at = now;
        let (mut bytes, mut drained, mut led, mut held) = (0, 0.0, 0, 0);
        for (partition, member) in members.replicas() {
            held += 1;
            let (applied, pumped) = member
                .replica
                .read(|state| (state.applied_index(), state.pumped_index()));
            let entries = applied.saturating_sub(pumped);
            let waiting = match entries {
                0 => 0,
                _ => members.wal.bytes_after(partition.0, pumped),
            };
            bytes += waiting;
            let moved = pumped_before
                .insert(partition, pumped)
                .map_or(0, |before| pumped.saturating_sub(before));
            if member.leadership.borrow().is_local {
                led += 1;
                // What was drained is about as large as what follows it.
                drained += moved as f64 * waiting as f64 / entries.max(1) as f64;
            }
        }
        let drained_per_s = drained / elapsed.as_secs_f64().max(1e-3);
        let backlog = &members.backlog;
        backlog.measured(bytes, drained_per_s as u64, led, held);
        let status = backlog.status();
        if status.state != before {
            tracing::warn!(
                state = ?status.state,
                bytes,
                drained_bytes_per_s = status.drained_bytes_per_s,
                "what waits for the database has passed a bound"
            );
            before = status.state;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOFT: u64 = 1_000_000;
    const MAX: u64 = 7_000_000;

    fn backlog() -> Backlog {
        Backlog::new(BacklogBounds {
            soft_bytes: SOFT,
            max_bytes: MAX,
        })
    }

    #[test]
    fn writers_are_slowed_to_the_drain_rate_as_the_hard_bound_comes_near() {
        let backlog = backlog();
        let allowed = |bytes| backlog.allowed(bytes, 5_000, 1, 1);
        assert_eq!(allowed(SOFT - 1), UNLIMITED);
        assert_eq!(allowed(SOFT), 5_000 + (MAX - SOFT) / HORIZON_S);
        assert_eq!(allowed(MAX - HORIZON_S), 5_001);
        assert_eq!(allowed(MAX), 0);
        // A third of the partitions are led here, so a third of the room is this node's to fill.
        assert_eq!(backlog.allowed(SOFT, 0, 2, 6), (MAX - SOFT) / 3 / HORIZON_S);
        let none = Backlog::new(BacklogBounds::default());
        assert_eq!(none.allowed(u64::MAX, 0, 1, 1), UNLIMITED);
    }

    #[test]
    fn a_slowed_command_waits_its_turn_and_one_that_would_wait_long_is_refused() {
        let backlog = backlog();
        let now = Instant::now();
        let pass = |class| backlog.pass(class, 36, now);
        assert_eq!(pass(CommandClass::New), Passage::Now);
        // Ten commands a second.
        backlog.allowed_per_s.store(1_000, Ordering::Relaxed);
        assert_eq!(pass(CommandClass::New), Passage::Now);
        for turn in 1..=5 {
            let wait = Duration::from_millis(100 * turn);
            assert_eq!(pass(CommandClass::New), Passage::After(wait));
        }
        let refused = Passage::Refused {
            retry_after_ms: 600,
        };
        assert_eq!(pass(CommandClass::New), refused);
        assert_eq!(pass(CommandClass::Draining), Passage::Now);
        let later = now + Duration::from_secs(1);
        assert_eq!(backlog.pass(CommandClass::New, 36, later), Passage::Now);
    }

    #[test]
    fn at_the_hard_bound_only_what_drains_is_taken() {
        let backlog = backlog();
        backlog.measured(MAX, 0, 1, 1);
        assert_eq!(backlog.status().state, BacklogState::Refusing);
        let now = Instant::now();
        let refused = Passage::Refused {
            retry_after_ms: RETRY_AFTER_MS_MAX,
        };
        assert_eq!(backlog.pass(CommandClass::New, 1, now), refused);
        assert_eq!(backlog.pass(CommandClass::Draining, 1, now), Passage::Now);
        backlog.measured(SOFT, 80_000, 1, 1);
        assert_eq!(backlog.status().state, BacklogState::Slowed);
        assert_eq!(backlog.status().drained_bytes_per_s, 20_000);
        backlog.measured(0, 0, 1, 1);
        assert_eq!(backlog.status().state, BacklogState::Open);
    }

    #[test]
    fn no_more_are_delayed_than_the_bound() {
        let backlog = backlog();
        backlog.allowed_per_s.store(1_000, Ordering::Relaxed);
        let now = Instant::now();
        assert_eq!(backlog.pass(CommandClass::New, 36, now), Passage::Now);
        let waiting: Vec<Delayed> = (0..DELAYED_MAX).map(|_| backlog.delayed()).collect();
        let refused = backlog.pass(CommandClass::New, 36, now);
        assert!(matches!(refused, Passage::Refused { .. }), "{refused:?}");
        drop(waiting);
        let passed = backlog.pass(CommandClass::New, 36, now);
        assert!(matches!(passed, Passage::After(_)), "{passed:?}");
    }
}
