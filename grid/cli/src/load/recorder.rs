//! What is counted while the load runs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::wire::{CODES, Code};

/// The longest latency told apart from longer ones, in µs.
const LATENCY_US_MAX: u64 = 120_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;
/// Connections share the histograms in this many groups, so that they rarely wait for each other.
const SHARDS: usize = 4;
/// Seconds after the end in which late answers are still placed.
const TIMELINE_SECONDS_EXTRA: u64 = 120;

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Hold,
    Confirm,
    Release,
    Bid,
}

/// Their names, in the order of the enum.
const KINDS: [&str; 4] = ["hold", "confirm", "release", "bid"];

#[derive(Debug)]
struct Shard {
    latencies: [Histogram<u64>; KINDS.len()],
    /// Of all kinds, since the last window was taken.
    window: Histogram<u64>,
}

/// The time between successes, which is how long buyers feel a failover.
#[derive(Debug, Default)]
struct GapMeter {
    last_us: AtomicU64,
    longest_us: AtomicU64,
    longest_at_us: AtomicU64,
    /// The longest that has ended since the last window was taken.
    window_us: AtomicU64,
}

impl GapMeter {
    fn success(&self, now_us: u64) {
        let last = self.last_us.swap(now_us, Ordering::Relaxed);
        let gap = now_us.saturating_sub(last);
        if gap > self.longest_us.fetch_max(gap, Ordering::Relaxed) {
            self.longest_at_us.store(last, Ordering::Relaxed);
        }
        self.window_us.fetch_max(gap, Ordering::Relaxed);
    }

    /// The longest since it was last taken, with the one that has not ended yet.
    fn take_window(&self, now_us: u64) -> u64 {
        let open_us = now_us.saturating_sub(self.last_us.load(Ordering::Relaxed));
        self.window_us.swap(0, Ordering::Relaxed).max(open_us)
    }
}

/// Counts everything.
#[derive(Debug)]
pub(crate) struct Recorder {
    start: Instant,
    shards: Vec<Mutex<Shard>>,
    succeeded: [AtomicU64; KINDS.len()],
    refusals: [AtomicU64; CODES.len()],
    errors: [AtomicU64; CODES.len()],
    disconnects: AtomicU64,
    unreachable: AtomicU64,
    goodbyes: AtomicU64,
    retries: AtomicU64,
    failed: AtomicU64,
    gave_up: AtomicU64,
    last_answer_us: AtomicU64,
    timeline: Vec<AtomicU32>,
    slowest_us: Vec<AtomicU32>,
    gaps: Vec<GapMeter>,
    marks: Mutex<Marks>,
}

/// Where the counters stood when the last window was taken.
#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    at_us: u64,
    succeeded: u64,
    failed: u64,
    errors: u64,
    goodbyes: u64,
    retries: u64,
}

/// What was counted between two moments of a run.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Window {
    /// Its length.
    pub(crate) seconds: f64,
    /// Positive replies.
    pub(crate) succeeded: u64,
    /// Requests that failed for good.
    pub(crate) failed: u64,
    /// The grid's errors that were followed by another attempt, lost connections included.
    pub(crate) errors: u64,
    /// Connections that a gateway ended in good order.
    pub(crate) goodbyes: u64,
    /// Requests sent again.
    pub(crate) retries: u64,
    /// Of the requests decided in it, from the time when each was due.
    pub(crate) latency: Latency,
    /// The longest time in which nothing succeeded of one sale.
    pub(crate) longest_gap_ms: f64,
}

/// Latencies of one kind, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) mean_ms: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
}

/// What was counted.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    /// From the first request to the last answer.
    pub(crate) seconds: f64,
    /// Decided requests: successes and refusals.
    pub(crate) requests: u64,
    /// The same a second.
    pub(crate) requests_per_s: f64,
    /// Successes by kind.
    pub(crate) succeeded: BTreeMap<&'static str, u64>,
    /// The same a second.
    pub(crate) succeeded_per_s: BTreeMap<&'static str, f64>,
    /// Of all decided requests together.
    pub(crate) latency: Latency,
    /// By kind.
    pub(crate) latency_by_kind: BTreeMap<&'static str, Latency>,
    /// The business said no, by code.
    pub(crate) refusals: BTreeMap<&'static str, u64>,
    /// The grid failed, by code.
    pub(crate) errors: BTreeMap<&'static str, u64>,
    /// Connections that broke without a goodbye.
    pub(crate) disconnects: u64,
    /// Connections that could not be opened: the gateway was away.
    pub(crate) unreachable: u64,
    /// Connections that a gateway ended in good order.
    pub(crate) goodbyes: u64,
    /// Requests sent again.
    pub(crate) retries: u64,
    /// Requests that failed for good: those below, and those whose error says not to ask again.
    pub(crate) failed: u64,
    /// Requests without an answer within their deadline; their outcome is unknown.
    pub(crate) gave_up: u64,
    /// The longest time in which nothing succeeded (of one sale or auction).
    pub(crate) longest_gap_ms: f64,
    /// When it began, in seconds after the start.
    pub(crate) longest_gap_at_s: f64,
    /// Successes in every second.
    pub(crate) timeline: Vec<u32>,
    /// The longest latency of the answers in every second, in milliseconds: whether slow answers came
    /// in one place or everywhere.
    pub(crate) slowest_timeline_ms: Vec<f64>,
}

impl Figures {
    /// Errors of all kinds.
    pub(crate) fn error_count(&self) -> u64 {
        self.errors.values().sum::<u64>() + self.disconnects + self.unreachable
    }
}

impl Recorder {
    /// `subjects` is how many sales or auctions are watched for gaps.
    pub(crate) fn new(start: Instant, duration: Duration, subjects: usize) -> anyhow::Result<Self> {
        let histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, SIGNIFICANT_DIGITS)?;
        let shard = || {
            Mutex::new(Shard {
                latencies: std::array::from_fn(|_| histogram.clone()),
                window: histogram.clone(),
            })
        };
        let seconds = duration.as_secs() + TIMELINE_SECONDS_EXTRA;
        Ok(Self {
            start,
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
            succeeded: Default::default(),
            refusals: Default::default(),
            errors: Default::default(),
            disconnects: AtomicU64::default(),
            unreachable: AtomicU64::default(),
            goodbyes: AtomicU64::default(),
            retries: AtomicU64::default(),
            failed: AtomicU64::default(),
            gave_up: AtomicU64::default(),
            last_answer_us: AtomicU64::default(),
            timeline: (0..seconds).map(|_| AtomicU32::default()).collect(),
            slowest_us: (0..seconds).map(|_| AtomicU32::default()).collect(),
            gaps: (0..subjects.max(1)).map(|_| GapMeter::default()).collect(),
            marks: Mutex::default(),
        })
    }

    fn decided(&self, kind: Kind, connection: usize, due: Instant) -> u64 {
        let now = Instant::now();
        let latency_us = now.saturating_duration_since(due).as_micros() as u64;
        if let Ok(mut shard) = self.shards[connection % SHARDS].lock() {
            shard.latencies[kind as usize].saturating_record(latency_us.max(1));
            shard.window.saturating_record(latency_us.max(1));
        }
        let now_us = now.saturating_duration_since(self.start).as_micros() as u64;
        self.last_answer_us.fetch_max(now_us, Ordering::Relaxed);
        if let Some(slowest_us) = self.slowest_us.get((now_us / 1_000_000) as usize) {
            let latency_us = u32::try_from(latency_us).unwrap_or(u32::MAX);
            slowest_us.fetch_max(latency_us, Ordering::Relaxed);
        }
        now_us
    }

    /// A positive reply.
    pub(super) fn succeeded(&self, kind: Kind, connection: usize, due: Instant) {
        let now_us = self.decided(kind, connection, due);
        self.succeeded[kind as usize].fetch_add(1, Ordering::Relaxed);
        if let Some(second) = self.timeline.get((now_us / 1_000_000) as usize) {
            second.fetch_add(1, Ordering::Relaxed);
        }
        self.gaps[connection % self.gaps.len()].success(now_us);
    }

    /// The business said no. A bid that is too low shows a live grid as well as one that is not.
    pub(super) fn refused(&self, kind: Kind, connection: usize, due: Instant, code: Code) {
        self.decided(kind, connection, due);
        self.refusals[code.0].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn error(&self, code: Code) {
        self.errors[code.0].fetch_add(1, Ordering::Relaxed);
    }

    /// A connection broke without a goodbye.
    pub(super) fn disconnected(&self) {
        self.disconnects.fetch_add(1, Ordering::Relaxed);
    }

    /// A gateway could not be connected to.
    pub(super) fn unreachable(&self) {
        self.unreachable.fetch_add(1, Ordering::Relaxed);
    }

    /// A gateway said goodbye.
    pub(super) fn goodbye(&self) {
        self.goodbyes.fetch_add(1, Ordering::Relaxed);
    }

    /// The grid will not answer this request.
    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn gave_up(&self) {
        self.gave_up.fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted since it was last called, or since the start.
    pub(crate) fn take_window(&self) -> anyhow::Result<Window> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let sum = |counters: &[AtomicU64]| counters.iter().map(read).sum::<u64>();
        let mut latencies =
            Histogram::<u64>::new_with_bounds(1, LATENCY_US_MAX, SIGNIFICANT_DIGITS)?;
        for shard in &self.shards {
            if let Ok(mut shard) = shard.lock() {
                latencies.add(&shard.window)?;
                shard.window.reset();
            }
        }
        let now_us = self.start.elapsed().as_micros() as u64;
        let now = Marks {
            at_us: now_us,
            succeeded: sum(&self.succeeded),
            failed: read(&self.failed) + read(&self.gave_up),
            errors: sum(&self.errors) + read(&self.disconnects) + read(&self.unreachable),
            goodbyes: read(&self.goodbyes),
            retries: read(&self.retries),
        };
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *marks, now);
        let longest_us = self.gaps.iter().map(|gap| gap.take_window(now_us)).max();
        Ok(Window {
            seconds: (now_us - before.at_us.min(now_us)) as f64 / 1e6,
            succeeded: now.succeeded - before.succeeded,
            failed: now.failed - before.failed,
            errors: now.errors - before.errors,
            goodbyes: now.goodbyes - before.goodbyes,
            retries: now.retries - before.retries,
            latency: latency(&latencies),
            longest_gap_ms: longest_us.unwrap_or(0) as f64 / 1e3,
        })
    }

    /// Everything so far.
    pub(crate) fn figures(&self) -> anyhow::Result<Figures> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let seconds = (read(&self.last_answer_us) as f64 / 1e6).max(1e-6);
        let mut by_kind = BTreeMap::new();
        let mut all = Histogram::<u64>::new_with_bounds(1, LATENCY_US_MAX, SIGNIFICANT_DIGITS)?;
        for (place, name) in KINDS.iter().enumerate() {
            let mut one = Histogram::<u64>::new_with_bounds(1, LATENCY_US_MAX, SIGNIFICANT_DIGITS)?;
            for shard in &self.shards {
                if let Ok(shard) = shard.lock() {
                    one.add(&shard.latencies[place])?;
                }
            }
            all.add(&one)?;
            if !one.is_empty() {
                by_kind.insert(*name, latency(&one));
            }
        }
        let named = |counters: &[AtomicU64], names: &[&'static str]| -> BTreeMap<_, _> {
            let counted = names.iter().copied().zip(counters.iter().map(read));
            counted.filter(|(_, count)| *count > 0).collect()
        };
        let succeeded = named(&self.succeeded, &KINDS);
        let by_second = |counters: &[AtomicU32]| -> Vec<u32> {
            let counters = counters.iter().take(seconds.ceil() as usize);
            counters
                .map(|second| second.load(Ordering::Relaxed))
                .collect()
        };
        let longest = self.gaps.iter().max_by_key(|gap| read(&gap.longest_us));
        let us = |counter: Option<&AtomicU64>| counter.map_or(0, read) as f64;
        Ok(Figures {
            seconds,
            requests: all.len(),
            requests_per_s: all.len() as f64 / seconds,
            succeeded_per_s: succeeded
                .iter()
                .map(|(name, count)| (*name, *count as f64 / seconds))
                .collect(),
            succeeded,
            latency: latency(&all),
            latency_by_kind: by_kind,
            refusals: named(&self.refusals, &CODES),
            errors: named(&self.errors, &CODES),
            disconnects: read(&self.disconnects),
            unreachable: read(&self.unreachable),
            goodbyes: read(&self.goodbyes),
            retries: read(&self.retries),
            failed: read(&self.failed) + read(&self.gave_up),
            gave_up: read(&self.gave_up),
            longest_gap_ms: us(longest.map(|gap| &gap.longest_us)) / 1e3,
            longest_gap_at_s: us(longest.map(|gap| &gap.longest_at_us)) / 1e6,
            timeline: by_second(&self.timeline),
            slowest_timeline_ms: by_second(&self.slowest_us)
                .into_iter()
                .map(|slowest_us| f64::from(slowest_us) / 1e3)
                .collect(),
        })
    }
}

fn latency(histogram: &Histogram<u64>) -> Latency {
    let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
    Latency {
        count: histogram.len(),
        mean_ms: histogram.mean() / 1e3,
        p50_ms: at(0.5),
        p90_ms: at(0.9),
        p99_ms: at(0.99),
        p999_ms: at(0.999),
        max_ms: histogram.max() as f64 / 1e3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_counted_once() {
        let start = Instant::now() - Duration::from_secs(1);
        let recorder = Recorder::new(start, Duration::from_secs(2), 1).expect("bounds");
        for connection in 0..10 {
            recorder.succeeded(Kind::Hold, connection, start);
        }
        recorder.refused(Kind::Hold, 3, start, Code(8));
        recorder.error(Code(17));
        recorder.disconnected();
        recorder.unreachable();
        let figures = recorder.figures().expect("bounds");
        assert_eq!((figures.requests, figures.succeeded["hold"]), (11, 10));
        assert_eq!(figures.refusals["seat_taken"], 1);
        assert_eq!(
            (figures.errors["unavailable"], figures.error_count()),
            (1, 3)
        );
        assert_eq!(figures.timeline.iter().sum::<u32>(), 10);
        let slowest_ms = figures.slowest_timeline_ms.iter().copied();
        assert!(slowest_ms.fold(0.0, f64::max) >= 1_000.0);
        assert!(figures.latency.p50_ms >= 1_000.0, "{figures:?}");
        assert!(figures.longest_gap_ms >= 1_000.0, "{figures:?}");
    }

    #[test]
    fn a_window_has_only_what_came_since_the_last_one() {
        let start = Instant::now() - Duration::from_secs(1);
        let recorder = Recorder::new(start, Duration::from_secs(2), 2).expect("bounds");
        for connection in 0..4 {
            recorder.succeeded(Kind::Hold, connection, start);
        }
        recorder.failed();
        let first = recorder.take_window().expect("bounds");
        assert_eq!(
            (first.succeeded, first.failed, first.latency.count),
            (4, 1, 4)
        );
        assert!(first.longest_gap_ms >= 1_000.0, "{first:?}");
        recorder.succeeded(Kind::Hold, 0, Instant::now());
        let second = recorder.take_window().expect("bounds");
        assert_eq!(
            (second.succeeded, second.failed, second.latency.count),
            (1, 0, 1)
        );
        assert!(second.longest_gap_ms < first.longest_gap_ms, "{second:?}");
        assert_eq!(recorder.figures().expect("bounds").requests, 5);
    }
}
