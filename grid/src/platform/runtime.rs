//! tokio as openraft's runtime, with timers that ring together.
//!
//! Every group ticks some thirty times a second, each at moments of its own, so an idle node with many
//! groups wakes up hundreds of times a second for next to nothing. Where a process has asked for it
//! ([`align_timers`]), openraft's sleeps end on a common grid of moments: the groups tick together, and
//! what they send to one peer leaves together. What this crate does now and then ([`pause`]) ends on the
//! same grid. It begins at a moment of the process's own, so nodes do not stand for election together.
//! Everything else is tokio's.
//!
//! What it deliberately does not touch: time limits of requests, and the times that decide how soon a
//! leader is succeeded (see `succession`).

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft::{Instant, OptionalSend};
use openraft_rt_tokio::{TokioInstant, TokioRuntime};

use super::delegated::delegated_to_tokio;

/// The grid's moments lie so many eighteenths of a heartbeat's interval apart. A heartbeat is due an
/// interval after the last one, and leaves at the third moment: 7/6 of the interval, as with openraft's own
/// five ticks an interval, for half the ticks.
const EIGHTEENTHS_OF_A_HEARTBEAT: u32 = 7;

/// Shorter sleeps are not of the kind that bears being longer: openraft waits for microseconds to let
/// completed writes gather.
const ALIGNED_MIN: Duration = Duration::from_millis(1);

/// The moments at which sleeps end.
#[derive(Clone, Copy, Debug)]
struct Grid {
    origin: TokioInstant,
    step_us: u128,
}

/// Sleeps end when they end, where there is none.
static GRID: OnceLock<Grid> = OnceLock::new();

/// Lets the timers of all groups of this process ring together from now on. For a process that is one
/// node, with its heartbeats' interval; not for tests under a clock of their own.
pub fn align_timers(heartbeat: Duration) {
    GRID.get_or_init(|| Grid::new(TokioInstant::now(), heartbeat));
}

impl Grid {
    fn new(origin: TokioInstant, heartbeat: Duration) -> Self {
        let step = heartbeat * EIGHTEENTHS_OF_A_HEARTBEAT / 18;
        Self {
            origin,
            step_us: step.max(ALIGNED_MIN).as_micros(),
        }
    }

    /// The first moment at or after `deadline`.
    fn at_or_after(self, deadline: TokioInstant) -> TokioInstant {
        let since = deadline.saturating_duration_since(self.origin);
        let offset_us = since.as_micros().div_ceil(self.step_us) * self.step_us;
        self.origin + Duration::from_micros(u64::try_from(offset_us).unwrap_or(u64::MAX))
    }
}

/// When a sleep that should end at `deadline` does.
fn aligned(deadline: TokioInstant) -> TokioInstant {
    match GRID.get() {
        Some(grid) if deadline >= TokioInstant::now() + ALIGNED_MIN => grid.at_or_after(deadline),
        _ => deadline,
    }
}

/// Sleeps about so long, for what is done now and then: never less, and a little more, to wake up with
/// others.
pub(crate) async fn pause(about: Duration) {
    TokioRuntime::sleep_until(aligned(TokioInstant::now() + about)).await;
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct GridRuntime(TokioRuntime);

impl AsyncRuntime for GridRuntime {
    delegated_to_tokio!();

    type ThreadLocalRng = <TokioRuntime as AsyncRuntime>::ThreadLocalRng;

    fn sleep_until(deadline: TokioInstant) -> Self::Sleep {
        TokioRuntime::sleep_until(aligned(deadline))
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        TokioRuntime::thread_rng()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARTBEAT: Duration = Duration::from_millis(180);
    const STEP_US: u64 = 70_000;

    #[test]
    fn sleeps_end_together_and_never_early() {
        let origin = TokioInstant::now();
        let grid = Grid::new(origin, HEARTBEAT);
        let at = |micros| origin + Duration::from_micros(micros);
        assert_eq!(grid.at_or_after(at(0)), at(0));
        assert_eq!(grid.at_or_after(at(1)), at(STEP_US));
        assert_eq!(grid.at_or_after(at(STEP_US - 1)), at(STEP_US));
        assert_eq!(grid.at_or_after(at(STEP_US)), at(STEP_US));
        assert_eq!(grid.at_or_after(at(STEP_US + 1)), at(2 * STEP_US));
    }

    #[test]
    fn a_heartbeat_leaves_soon_after_it_is_due() {
        let origin = TokioInstant::now();
        for heartbeat_ms in [1, 50, 150, 1_000] {
            let heartbeat = Duration::from_millis(heartbeat_ms);
            let grid = Grid::new(origin, heartbeat);
            // It is due an interval after the last one was sent, a moment after a moment of the grid.
            let due = origin + heartbeat + Duration::from_micros(20);
            let late = grid.at_or_after(due) - due;
            assert!(
                late <= heartbeat / 6 + ALIGNED_MIN,
                "{heartbeat_ms}: {late:?}"
            );
        }
    }
}
