//! Which commands a partition's queue takes, so that it never holds more than can be done in time.
//!
//! ```text
//!   submit ──admit──► queue (bounded by commands and bytes) ──taken──► proposer
//!     ▲                                                         │
//!     └─ refuse new work while commands wait too long ◄─ delay ─┘
//! ```
//!
//! The delay is what commands have waited when they are taken, as in the CoDel scheme for routers: a
//! queue that absorbs a burst is good, one that stays long only makes everybody wait. When the delay
//! has stayed above its target for [`PATIENCE`], new work is refused until it is below the target
//! again; for a while afterwards ([`RELAPSE`]) there is no patience. The queue is short then, but never
//! empty, so what is refused costs no throughput. A queue from which nothing is taken at all counts as
//! one that has waited since.
//!
//! Invariants: work that drains ([`CommandClass::Draining`]) is refused only when the queue is full,
//! and a part of the queue is kept for it; an empty queue takes anything.
//!
//! What it deliberately does not know: what commands mean. Who submits one says of which class it is.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// How long commands may wait longer than the target before new work is refused.
const PATIENCE: Duration = Duration::from_millis(500);
/// After an overload has ended, the next one is answered without [`PATIENCE`] for this long.
const RELAPSE: Duration = Duration::from_millis(2_000);
/// New work leaves one part in so many of the queue to work that drains.
const DRAINING_SHARE_DIVISOR: usize = 8;
/// The drain rate is measured over this long.
const RATE_WINDOW: Duration = Duration::from_millis(250);
/// What a refused client is told to wait, at least.
const RETRY_AFTER_MS_MIN: u64 = 50;
/// And at most.
const RETRY_AFTER_MS_MAX: u64 = 5_000;
/// And when nothing has been measured yet.
const RETRY_AFTER_MS_UNKNOWN: u64 = 250;

/// What a command does to the work that is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommandClass {
    /// It begins something: refused first when there is too much to do.
    #[default]
    New,
    /// It completes or ends something that was begun, after which there is less to do. Accepted as
    /// long as there is room at all.
    Draining,
}

impl CommandClass {
    /// How much of a bounded room commands of this class may fill: new ones leave a part of it to those
    /// that drain.
    #[must_use]
    pub fn share(self, whole: usize) -> usize {
        match self {
            Self::New => whole - whole / DRAINING_SHARE_DIVISOR,
            Self::Draining => whole,
        }
    }
}

/// Why a command is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// How long the client waits before it asks again.
    pub(crate) retry_after_ms: u64,
    /// For metrics.
    pub(crate) reason: &'static str,
}

/// The bounds of a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdmissionLimits {
    pub(crate) commands_max: usize,
    pub(crate) bytes_max: usize,
    pub(crate) delay_target: Duration,
}

#[derive(Debug, Default)]
struct State {
    commands: usize,
    bytes: usize,
    /// Since when something waits of which nothing was taken.
    untouched_since: Option<Instant>,
    /// Since when commands wait longer than the target.
    late_since: Option<Instant>,
    refuses_new: bool,
    /// When new work was last refused for its delay.
    overloaded_at: Option<Instant>,
    window_began: Option<Instant>,
    window_commands: u64,
    drained_per_s: f64,
}

/// Keeps count of one partition's queue.
#[derive(Debug)]
pub(crate) struct Admission {
    limits: AdmissionLimits,
    state: Mutex<State>,
}

impl Admission {
    pub(crate) fn new(limits: AdmissionLimits) -> Self {
        Self {
            limits,
            state: Mutex::default(),
        }
    }

    /// Counts a command in.
    ///
    /// # Errors
    /// [`Refused`]; the command is then not counted and must not be queued.
    pub(crate) fn admit(
        &self,
        class: CommandClass,
        bytes: usize,
        now: Instant,
    ) -> Result<(), Refused> {
        let mut state = self.state.lock();
        if state.commands > 0 {
            let retry_after_ms = state.retry_after_ms();
            let refused = |reason| {
                Err(Refused {
                    retry_after_ms,
                    reason,
                })
            };
            if state.commands >= class.share(self.limits.commands_max) {
                return refused("queue");
            }
            if state.bytes + bytes > class.share(self.limits.bytes_max) {
                return refused("bytes");
            }
            if class == CommandClass::New && (state.refuses_new || self.is_stuck(&state, now)) {
                state.overloaded_at = Some(now);
                return refused("delay");
            }
        }
        state.commands += 1;
        state.bytes += bytes;
        state.untouched_since.get_or_insert(now);
        Ok(())
    }

    /// Whether nothing was taken for so long that what waits is late.
    fn is_stuck(&self, state: &State, now: Instant) -> bool {
        state.untouched_since.is_some_and(|since| {
            now.saturating_duration_since(since) > self.limits.delay_target + PATIENCE
        })
    }

    /// Counts commands out. `oldest` is when the first of them was queued.
    pub(crate) fn taken(&self, commands: usize, bytes: usize, oldest: Instant, now: Instant) {
        let mut state = self.state.lock();
        state.commands = state.commands.saturating_sub(commands);
        state.bytes = state.bytes.saturating_sub(bytes);
        state.untouched_since = (state.commands > 0).then_some(now);
        state.measure(commands, now);
        let delay = now.saturating_duration_since(oldest);
        if delay < self.limits.delay_target {
            state.late_since = None;
            state.refuses_new = false;
            return;
        }
        let since = *state.late_since.get_or_insert(now);
        let relapsed = state
            .overloaded_at
            .is_some_and(|at| now.saturating_duration_since(at) < RELAPSE);
        if relapsed || now.saturating_duration_since(since) >= PATIENCE {
            state.refuses_new = true;
        }
    }

    /// Counts out what was admitted and then not queued after all.
    pub(crate) fn withdrawn(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.commands = state.commands.saturating_sub(1);
        state.bytes = state.bytes.saturating_sub(bytes);
    }

    /// Commands that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.state.lock().commands
    }

    /// Whether new work is refused just now because commands wait too long.
    pub(crate) fn refuses_new(&self) -> bool {
        let state = self.state.lock();
        state.refuses_new && state.commands > 0
    }
}

impl State {
    fn measure(&mut self, commands: usize, now: Instant) {
        let began = *self.window_began.get_or_insert(now);
        self.window_commands += commands as u64;
        let length = now.saturating_duration_since(began);
        if length >= RATE_WINDOW {
            self.drained_per_s = self.window_commands as f64 / length.as_secs_f64();
            self.window_began = Some(now);
            self.window_commands = 0;
        }
    }

    /// The time in which what waits will be done.
    fn retry_after_ms(&self) -> u64 {
        if self.drained_per_s < 1.0 {
            return RETRY_AFTER_MS_UNKNOWN;
        }
        let ms = self.commands as f64 * 1_000.0 / self.drained_per_s;
        (ms as u64).clamp(RETRY_AFTER_MS_MIN, RETRY_AFTER_MS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(100);

    fn admission(commands_max: usize, bytes_max: usize) -> Admission {
        Admission::new(AdmissionLimits {
            commands_max,
            bytes_max,
            delay_target: TARGET,
        })
    }

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn commands_and_bytes_are_bounded_and_a_part_is_kept_for_what_drains() {
        let now = Instant::now();
        let queue = admission(8, 1_000);
        for _ in 0..7 {
            queue.admit(CommandClass::New, 10, now).expect("room");
        }
        let refused = queue.admit(CommandClass::New, 10, now).expect_err("full");
        assert_eq!(refused.reason, "queue");
        queue
            .admit(CommandClass::Draining, 10, now)
            .expect("kept for it");
        queue
            .admit(CommandClass::Draining, 10, now)
            .expect_err("full for all");

        let queue = admission(100, 800);
        queue.admit(CommandClass::New, 5_000, now).expect("empty");
        let refused = queue.admit(CommandClass::Draining, 1, now);
        assert_eq!(refused.expect_err("full").reason, "bytes");
        queue.taken(1, 5_000, now, now);
        queue.admit(CommandClass::New, 600, now).expect("room");
        queue.admit(CommandClass::New, 200, now).expect_err("kept");
        queue
            .admit(CommandClass::Draining, 200, now)
            .expect("kept for it");
        queue.withdrawn(200);
        queue
            .admit(CommandClass::Draining, 200, now)
            .expect("it was not queued");
    }

    #[test]
    fn new_work_is_refused_while_commands_wait_too_long() {
        let start = Instant::now();
        let queue = admission(100_000, 1 << 30);
        for _ in 0..10_000 {
            queue.admit(CommandClass::New, 1, start).expect("room");
        }
        // Late, but only for a moment: a burst.
        queue.taken(100, 100, start, start + ms(200));
        queue
            .admit(CommandClass::New, 1, start + ms(200))
            .expect("patience");
        // Still late: an overload.
        queue.taken(100, 100, start, start + ms(700));
        let refused = queue
            .admit(CommandClass::New, 1, start + ms(700))
            .expect_err("late for too long");
        assert_eq!(refused.reason, "delay");
        // 200 were taken in half a second; nearly 9,801 wait.
        assert_eq!(refused.retry_after_ms, RETRY_AFTER_MS_MAX);
        queue
            .admit(CommandClass::Draining, 1, start + ms(700))
            .expect("it drains");
        // What is taken now was queued lately, so the queue is short again.
        queue.taken(9_000, 9_000, start + ms(650), start + ms(700));
        queue
            .admit(CommandClass::New, 1, start + ms(700))
            .expect("short again");
        // Soon afterwards there is no patience...
        queue.taken(1, 1, start + ms(650), start + ms(800));
        queue
            .admit(CommandClass::New, 1, start + ms(800))
            .expect_err("a relapse");
        // ... but later there is.
        queue.taken(1, 1, start + ms(5_000), start + ms(5_000));
        queue.taken(1, 1, start + ms(5_000), start + ms(5_200));
        queue
            .admit(CommandClass::New, 1, start + ms(5_200))
            .expect("patience");
    }

    #[test]
    fn a_queue_from_which_nothing_is_taken_refuses_new_work_and_an_empty_one_nothing() {
        let start = Instant::now();
        let queue = admission(100, 1_000);
        queue.admit(CommandClass::New, 1, start).expect("empty");
        let late = start + TARGET + PATIENCE + ms(1);
        queue.admit(CommandClass::New, 1, late).expect_err("stuck");
        queue
            .admit(CommandClass::Draining, 1, late)
            .expect("it drains");
        queue.taken(2, 2, start, late);
        assert_eq!(queue.waiting(), 0);
        queue.admit(CommandClass::New, 1, late).expect("empty");
    }
}
