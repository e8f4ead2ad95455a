//! tokio as openraft's runtime, with timers that ring together.
//!
//! Every group ticks some thirty times a second, each at moments of its own, so an idle node with many
//! groups wakes up hundreds of times a second for next to nothing. Where a process has asked for it
//! ([`align_timers`]), openraft's sleeps end on a common grid of [`GRID`]: the groups tick together, and
//! what they send to one peer leaves together. The grid begins at a moment of the process's own, so nodes
//! do not stand for election together. Everything else is tokio's.
//!
//! What it deliberately does not touch: time limits of requests, and whatever is not openraft's.

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft::{Instant, OptionalSend};
use openraft_rt_tokio::{TokioInstant, TokioRuntime};

use super::delegated::delegated_to_tokio;

/// The distance of the moments at which sleeps end: short against a heartbeat's interval, from which
/// every other time of consensus follows.
const GRID: Duration = Duration::from_millis(25);

/// Shorter sleeps are not of the kind that bears being longer: openraft waits for microseconds to let
/// completed writes gather.
const ALIGNED_MIN: Duration = Duration::from_millis(1);

/// The grid's first moment; sleeps end when they end, where there is none.
static ORIGIN: OnceLock<TokioInstant> = OnceLock::new();

/// Lets the timers of all groups of this process ring together from now on. For a process that is one
/// node; not for tests under a clock of their own.
pub fn align_timers() {
    ORIGIN.get_or_init(TokioInstant::now);
}

/// The first moment of the grid at or after `deadline`.
fn on_grid(origin: TokioInstant, deadline: TokioInstant) -> TokioInstant {
    let since = deadline.saturating_duration_since(origin);
    let slots = since.as_micros().div_ceil(GRID.as_micros());
    let offset_us = slots * GRID.as_micros();
    origin + Duration::from_micros(u64::try_from(offset_us).unwrap_or(u64::MAX))
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct GridRuntime(TokioRuntime);

impl AsyncRuntime for GridRuntime {
    delegated_to_tokio!();

    type ThreadLocalRng = <TokioRuntime as AsyncRuntime>::ThreadLocalRng;

    fn sleep_until(deadline: TokioInstant) -> Self::Sleep {
        match ORIGIN.get() {
            Some(origin) if deadline >= TokioInstant::now() + ALIGNED_MIN => {
                TokioRuntime::sleep_until(on_grid(*origin, deadline))
            }
            _ => TokioRuntime::sleep_until(deadline),
        }
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        TokioRuntime::thread_rng()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_end_together_and_never_early() {
        let origin = TokioInstant::now();
        let at = |micros| origin + Duration::from_micros(micros);
        assert_eq!(on_grid(origin, at(0)), at(0));
        assert_eq!(on_grid(origin, at(1)), at(25_000));
        assert_eq!(on_grid(origin, at(24_999)), at(25_000));
        assert_eq!(on_grid(origin, at(25_000)), at(25_000));
        assert_eq!(on_grid(origin, at(25_001)), at(50_000));
    }
}
