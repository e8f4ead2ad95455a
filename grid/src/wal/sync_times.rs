//! How long the log's syncs take: the slowest of late, for people to see, and what is usual, by which a
//! disk is called slow.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long the slowest sync is remembered, at least.
const SLOWEST_WINDOW: Duration = Duration::from_secs(10);
/// Older syncs say nothing about the disk as it is now.
const USUAL_WINDOW: Duration = Duration::from_secs(10);
/// The newest syncs that are looked at.
const RECENT_MAX: usize = 64;
/// Fewer say nothing.
const RECENT_MIN: usize = 3;
/// A sync that has lasted longer than this counts although it has not ended.
const HANGING: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct SyncTimes {
    window_began: Instant,
    /// Of this window and of the one before.
    slowest_us: (u64, u64),
    recent: VecDeque<(Instant, u64)>,
    /// When the sync that is under way began.
    began: Option<Instant>,
    pub(super) count: u64,
    pub(super) last_us: u64,
}

impl SyncTimes {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            window_began: now,
            slowest_us: (0, 0),
            recent: VecDeque::new(),
            began: None,
            count: 0,
            last_us: 0,
        }
    }

    /// A sync begins.
    pub(super) fn begin(&mut self, now: Instant) {
        self.began.get_or_insert(now);
    }

    /// It has ended; returns how long it took.
    pub(super) fn end(&mut self, now: Instant) -> Duration {
        let began = self.began.take().unwrap_or(now);
        let took = now.saturating_duration_since(began);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.roll(now);
        self.slowest_us.0 = self.slowest_us.0.max(us);
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((now, us));
        self.count += 1;
        self.last_us = us;
        took
    }

    /// There was nothing to sync after all.
    pub(super) fn cancel(&mut self) {
        self.began = None;
    }

    fn roll(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.window_began);
        if age >= SLOWEST_WINDOW {
            let is_adjacent = age < SLOWEST_WINDOW * 2;
            self.slowest_us = (0, if is_adjacent { self.slowest_us.0 } else { 0 });
            self.window_began = now;
        }
    }

    /// The slowest of the last ten to twenty seconds.
    pub(super) fn slowest_us(&mut self, now: Instant) -> u64 {
        self.roll(now);
        self.slowest_us.0.max(self.slowest_us.1)
    }

    /// What half of the latest syncs took at most; `None` while there were too few. One that hangs counts
    /// for as long as it has hung.
    pub(super) fn usual_us(&self, now: Instant) -> Option<u64> {
        let hanging = self.began.map(|began| now.saturating_duration_since(began));
        let hanging = hanging.filter(|age| *age >= HANGING);
        let hanging_us = hanging.map(|age| u64::try_from(age.as_micros()).unwrap_or(u64::MAX));
        let mut recent: Vec<u64> = self
            .recent
            .iter()
            .filter(|(at, _)| now.saturating_duration_since(*at) <= USUAL_WINDOW)
            .map(|(_, us)| *us)
            .collect();
        if recent.len() < RECENT_MIN {
            return hanging_us;
        }
        recent.sort_unstable();
        recent.get(recent.len() / 2).copied().max(hanging_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    fn sync(times: &mut SyncTimes, at: Instant, took: Duration) {
        times.begin(at);
        times.end(at + took);
    }

    #[test]
    fn one_slow_sync_among_many_is_the_slowest_and_not_usual() {
        let start = Instant::now();
        let mut times = SyncTimes::new(start);
        assert_eq!(times.usual_us(start), None);
        for number in 0..20 {
            let took = if number == 10 { ms(800) } else { ms(2) };
            sync(&mut times, start + ms(number * 10), took);
        }
        assert_eq!(times.usual_us(start + ms(1_000)), Some(2_000));
        assert_eq!(times.slowest_us(start + ms(1_000)), 800_000);
        assert_eq!((times.count, times.last_us), (20, 2_000));
    }

    #[test]
    fn slow_syncs_become_usual_and_are_forgotten() {
        let start = Instant::now();
        let mut times = SyncTimes::new(start);
        for number in 0..5 {
            sync(&mut times, start + ms(number * 600), ms(500));
        }
        assert_eq!(times.usual_us(start + ms(3_000)), Some(500_000));
        assert_eq!(times.usual_us(start + ms(30_000)), None);
        assert_eq!(times.slowest_us(start + ms(60_000)), 0);
    }

    #[test]
    fn a_sync_that_hangs_counts_before_it_ends() {
        let start = Instant::now();
        let mut times = SyncTimes::new(start);
        times.begin(start);
        assert_eq!(times.usual_us(start + ms(900)), None);
        assert_eq!(times.usual_us(start + ms(5_000)), Some(5_000_000));
        times.cancel();
        assert_eq!(times.usual_us(start + ms(5_000)), None);
    }
}
