//! How long this leader's entries take from proposal to applied, smoothed: what tells background work,
//! such as the pump, that clients are waiting.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::platform::{monotonic_now, whole_ms};

/// A new entry counts for one part in this many.
const SMOOTHING: u64 = 8;
/// Without an entry for this long, nobody is waiting.
const FORGOTTEN_AFTER_MS: u64 = 1_000;

/// See the module. Racing writers may lose one sample, which a moving average does not notice.
#[derive(Debug)]
pub(crate) struct CommitDelay {
    origin: Instant,
    smoothed_us: AtomicU64,
    noted_ms: AtomicU64,
}

impl Default for CommitDelay {
    fn default() -> Self {
        Self {
            origin: monotonic_now(),
            smoothed_us: AtomicU64::new(0),
            noted_ms: AtomicU64::new(0),
        }
    }
}

impl CommitDelay {
    fn now_ms(&self) -> u64 {
        whole_ms(monotonic_now().saturating_duration_since(self.origin))
    }

    /// Notes what one entry took.
    pub(crate) fn note(&self, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let before_us = self.smoothed_us.load(Ordering::Relaxed);
        let after_us = before_us - before_us / SMOOTHING + took_us / SMOOTHING;
        self.smoothed_us.store(after_us, Ordering::Relaxed);
        self.noted_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// The delay now; zero when nothing was proposed lately.
    pub(crate) fn present(&self) -> Duration {
        let noted_ms = self.noted_ms.load(Ordering::Relaxed);
        if self.now_ms().saturating_sub(noted_ms) > FORGOTTEN_AFTER_MS {
            return Duration::ZERO;
        }
        Duration::from_micros(self.smoothed_us.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_what_is_noted() {
        let delay = CommitDelay::default();
        assert_eq!(delay.present(), Duration::ZERO);
        for _ in 0..100 {
            delay.note(Duration::from_millis(20));
        }
        let busy = delay.present();
        assert!(busy > Duration::from_millis(15) && busy <= Duration::from_millis(20));
        for _ in 0..100 {
            delay.note(Duration::from_millis(1));
        }
        assert!(delay.present() < Duration::from_millis(3));
    }
}
