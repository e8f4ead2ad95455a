//! How long to wait before trying again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Waits that double up to a bound, each shortened by up to half at random, so that lanes that failed
/// together do not come back together.
#[derive(Debug)]
pub(super) struct Backoff {
    min_ms: u64,
    max_ms: u64,
    next_ms: u64,
}

impl Backoff {
    pub(super) fn new(min_ms: u64, max_ms: u64) -> Self {
        let min_ms = min_ms.max(1);
        Self {
            min_ms,
            max_ms: max_ms.max(min_ms),
            next_ms: min_ms,
        }
    }

    pub(super) fn next(&mut self) -> Duration {
        let wait_ms = self.next_ms;
        self.next_ms = wait_ms.saturating_mul(2).min(self.max_ms);
        let random = RandomState::new().hash_one(wait_ms);
        Duration::from_millis(wait_ms - random % (wait_ms / 2 + 1))
    }

    pub(super) fn reset(&mut self) {
        self.next_ms = self.min_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound_and_start_over() {
        let mut backoff = Backoff::new(100, 5_000);
        let bounds = [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000];
        for bound in bounds {
            let wait = backoff.next().as_millis();
            assert!((bound / 2..=bound).contains(&wait), "{wait} of {bound}");
        }
        backoff.reset();
        assert!(backoff.next().as_millis() <= 100);
    }
}
