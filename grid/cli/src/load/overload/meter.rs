//! What is counted in one phase, second by second.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest latency told apart from longer ones, in µs.
const LATENCY_US_MAX: u64 = 60_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

/// One second; answers count when they come, requests when they are due.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Second {
    /// Requests that were sent.
    pub(super) sent: u64,
    /// Requests that were due and for which no seat was free.
    pub(super) unsent: u64,
    /// Requests that were carried out.
    pub(super) ok: u64,
    /// Requests that were refused with `overloaded`.
    pub(super) refused: u64,
    /// Requests that failed otherwise, broken connections included.
    pub(super) errors: u64,
    /// Requests that were answered at all.
    pub(super) decided: u64,
    /// Their latencies together.
    pub(super) latency_us: u64,
}

impl Second {
    /// Of answered requests.
    pub(super) fn mean_ms(&self) -> f64 {
        self.latency_us as f64 / 1e3 / self.decided.max(1) as f64
    }
}

#[derive(Debug)]
struct Counted {
    seconds: Vec<Second>,
    done: Histogram<u64>,
}

/// Counts one phase. The generator has one thread as a rule, so one lock is never waited for long.
#[derive(Debug)]
pub(super) struct Meter(Mutex<Counted>);

/// What a phase came to.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct PhaseFigures {
    pub(super) sent_per_s: f64,
    pub(super) goodput_per_s: f64,
    pub(super) refused_per_s: f64,
    pub(super) unsent_per_s: f64,
    pub(super) errors: u64,
    /// Of requests that were carried out, as all that follow.
    pub(super) mean_ms: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
}

impl Meter {
    pub(super) fn new(duration: Duration) -> anyhow::Result<Self> {
        let seconds = duration.as_secs_f64().ceil().max(1.0) as usize;
        Ok(Self(Mutex::new(Counted {
            seconds: vec![Second::default(); seconds],
            done: Histogram::new_with_bounds(1, LATENCY_US_MAX, SIGNIFICANT_DIGITS)?,
        })))
    }

    /// Counts something that happened so long after the phase's start. What comes later than the phase's
    /// end is of no phase.
    pub(super) fn count(&self, after: Duration, count: impl FnOnce(&mut Second)) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(second) = counted.seconds.get_mut(after.as_secs() as usize) {
            count(second);
        }
    }

    /// Counts a request that was carried out.
    pub(super) fn done(&self, after: Duration, latency: Duration) {
        let latency_us = (latency.as_micros() as u64).max(1);
        self.count(after, |second| {
            second.ok += 1;
            second.decided += 1;
            second.latency_us += latency_us;
        });
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.done.saturating_record(latency_us);
    }

    /// Every second.
    pub(super) fn seconds(&self) -> Vec<Second> {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.seconds.clone()
    }

    /// The whole phase.
    pub(super) fn figures(&self) -> PhaseFigures {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = |of: fn(&Second) -> u64| counted.seconds.iter().map(of).sum::<u64>();
        let per_s = |of| sum(of) as f64 / counted.seconds.len() as f64;
        let at = |quantile| counted.done.value_at_quantile(quantile) as f64 / 1e3;
        PhaseFigures {
            sent_per_s: per_s(|second| second.sent),
            goodput_per_s: per_s(|second| second.ok),
            refused_per_s: per_s(|second| second.refused),
            unsent_per_s: per_s(|second| second.unsent),
            errors: sum(|second| second.errors),
            mean_ms: counted.done.mean() / 1e3,
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            max_ms: counted.done.max() as f64 / 1e3,
        }
    }
}
