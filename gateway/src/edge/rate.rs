//! A rate that many threads draw on without a lock.
//!
//! Instead of a number of tokens and the time of the last refill, it keeps the one moment at which the
//! bucket is full again. Whoever draws moves that moment on by the price of one; where it would lie further
//! ahead than a burst is worth, there is nothing to draw. So a draw is one compare-and-swap, and a bucket is
//! eight bytes.

use std::sync::atomic::{AtomicU64, Ordering};

/// Nobody who has rested may draw more at once than this many seconds' worth.
const BURST_S: u64 = 5;
const NANOS_PER_S: u64 = 1_000_000_000;

/// How fast a [`Rate`] refills and how much it holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RateLimit {
    price_ns: u64,
    burst_ns: u64,
}

impl RateLimit {
    /// So many a second, and at least one at once.
    pub(crate) fn per_s(count: u64) -> Self {
        let price_ns = (NANOS_PER_S / count.max(1)).max(1);
        Self {
            price_ns,
            burst_ns: price_ns.max(BURST_S * NANOS_PER_S),
        }
    }
}

/// See the module. Starts full.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    full_at_ns: AtomicU64,
}

impl Rate {
    /// Draws one.
    ///
    /// # Errors
    /// The time in ms after which there will be one.
    pub(crate) fn take(&self, limit: RateLimit, now_ns: u64) -> Result<(), u64> {
        let mut full_at_ns = self.full_at_ns.load(Ordering::Relaxed);
        loop {
            let next_ns = full_at_ns.max(now_ns).saturating_add(limit.price_ns);
            let ahead_ns = next_ns.saturating_sub(now_ns);
            if ahead_ns > limit.burst_ns {
                return Err((ahead_ns - limit.burst_ns).div_ceil(1_000_000));
            }
            match self.full_at_ns.compare_exchange_weak(
                full_at_ns,
                next_ns,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(()),
                Err(changed) => full_at_ns = changed,
            }
        }
    }

    /// Whether nothing is missing, so that it is like a new one.
    pub(crate) fn is_full(&self, now_ns: u64) -> bool {
        self.full_at_ns.load(Ordering::Relaxed) <= now_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let (rate, limit) = (Rate::default(), RateLimit::per_s(10));
        let now = NANOS_PER_S;
        let drawn = |now: u64| {
            std::iter::from_fn(|| rate.take(limit, now).ok())
                .take(1_000)
                .count()
        };
        assert_eq!(drawn(now), 50);
        assert_eq!(rate.take(limit, now), Err(100));
        assert_eq!(drawn(now + NANOS_PER_S), 10);
        assert!(!rate.is_full(now + NANOS_PER_S));
        let rested = now + 60 * NANOS_PER_S;
        assert!(rate.is_full(rested));
        assert_eq!(drawn(rested), 50, "a long rest is worth one burst");
    }

    #[test]
    fn slow_and_fast_rates_let_one_through() {
        for count in [0, 1, u64::MAX] {
            let rate = Rate::default();
            assert_eq!(rate.take(RateLimit::per_s(count), 0), Ok(()), "{count}");
        }
    }
}
