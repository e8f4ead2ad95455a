//! What a load run came to, and the medians of several.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::Plan;
use super::check::Check;
use super::fault::Killed;
use super::machine::{Machine, cpu_time};
use super::recorder::{Figures, Latency, Recorder};
use crate::output::{Output, grouped, table};

/// One run.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    /// What was counted.
    pub(crate) figures: Figures,
    /// What the load generator itself cost, in µs of processor time a request.
    pub(crate) own_cpu_us_per_request: f64,
    /// What was killed meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) killed: Option<Killed>,
    /// What was found afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) check: Option<Check>,
}

/// Measures the generator's own cost around a run.
#[derive(Debug)]
pub(crate) struct Stopwatch(Duration);

impl Stopwatch {
    /// Starts.
    pub(crate) fn start() -> Self {
        Self(cpu_time())
    }

    /// Closes a run whose check comes later.
    pub(crate) fn stop(self, recorder: &Recorder, plan: &Plan) -> anyhow::Result<Run> {
        let used = cpu_time().saturating_sub(self.0);
        let figures = recorder.figures()?;
        let own_cpu_us_per_request = used.as_secs_f64() * 1e6 / figures.requests.max(1) as f64;
        Ok(Run {
            figures,
            own_cpu_us_per_request,
            killed: plan.fault.as_ref().and_then(|fault| fault.killed()),
            check: None,
        })
    }
}

/// The value in the middle; of none, nothing.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

/// All runs of a command.
#[derive(Debug)]
pub(crate) struct Report {
    machine: Machine,
    /// What is counted in the headline: holds or bids.
    subject: &'static str,
    /// What the check counts.
    checked: &'static str,
    runs: Vec<Run>,
}

impl Report {
    /// No run yet. `subject` is a kind of request, `checked` what is looked for afterwards.
    pub(crate) fn new(subject: &'static str, checked: &'static str) -> Self {
        Self {
            machine: Machine::read(),
            subject,
            checked,
            runs: Vec::new(),
        }
    }

    /// Adds a run.
    pub(crate) fn add(&mut self, run: Run) {
        self.runs.push(run);
    }

    /// Whether every check came out well.
    pub(crate) fn is_ok(&self) -> bool {
        self.runs
            .iter()
            .all(|run| run.check.as_ref().is_none_or(|check| check.ok))
    }

    fn median(&self, of: impl Fn(&Run) -> f64) -> f64 {
        median(self.runs.iter().map(of))
    }

    fn subject_per_s(&self, run: &Run) -> f64 {
        run.figures
            .succeeded_per_s
            .get(self.subject)
            .copied()
            .unwrap_or(0.0)
    }

    fn medians(&self) -> Value {
        json!({
            "runs": self.runs.len(),
            "requests_per_s": self.median(|run| run.figures.requests_per_s),
            format!("{}s_per_s", self.subject): self.median(|run| self.subject_per_s(run)),
            "p50_ms": self.median(|run| run.figures.latency.p50_ms),
            "p99_ms": self.median(|run| run.figures.latency.p99_ms),
            "p999_ms": self.median(|run| run.figures.latency.p999_ms),
            "max_ms": self.median(|run| run.figures.latency.max_ms),
            "errors": self.median(|run| run.figures.error_count() as f64),
            "failed": self.median(|run| run.figures.failed as f64),
            "longest_gap_ms": self.median(|run| run.figures.longest_gap_ms),
            "own_cpu_us_per_request": self.median(|run| run.own_cpu_us_per_request),
        })
    }

    /// Prints everything.
    pub(crate) fn print(&self, output: Output) -> anyhow::Result<()> {
        let document = json!({
            "ok": self.is_ok(),
            "machine": self.machine,
            "medians": self.medians(),
            "runs": self.runs,
        });
        output.result(&document, || self.text())
    }

    fn text(&self) -> String {
        let mut text = self.machine.text();
        for (place, run) in self.runs.iter().enumerate() {
            if self.runs.len() > 1 {
                text.push_str(&format!("\nrun {} of {}", place + 1, self.runs.len()));
            }
            text.push('\n');
            text.push_str(&self.run_text(run));
        }
        if self.runs.len() > 1 {
            text.push_str(&format!(
                "\nmedians of {} runs: {:.0} requests/s, {:.0} {}s/s, p50 {:.2} ms, p99 {:.2} ms, \
                 p99.9 {:.2} ms\n",
                self.runs.len(),
                self.median(|run| run.figures.requests_per_s),
                self.median(|run| self.subject_per_s(run)),
                self.subject,
                self.median(|run| run.figures.latency.p50_ms),
                self.median(|run| run.figures.latency.p99_ms),
                self.median(|run| run.figures.latency.p999_ms),
            ));
        }
        text
    }

    fn run_text(&self, run: &Run) -> String {
        let figures = &run.figures;
        let mut text = format!(
            "{} requests decided in {:.1} s: {:.0} requests/s, {:.0} {}s/s\n",
            grouped(figures.requests),
            figures.seconds,
            figures.requests_per_s,
            self.subject_per_s(run),
            self.subject
        );
        let mut rows = table(["latency, ms", "count", "p50", "p90", "p99", "p99.9", "max"]);
        let mut row = |name: &str, latency: &Latency| {
            rows.add_row([
                name.to_owned(),
                grouped(latency.count),
                format!("{:.2}", latency.p50_ms),
                format!("{:.2}", latency.p90_ms),
                format!("{:.2}", latency.p99_ms),
                format!("{:.2}", latency.p999_ms),
                format!("{:.2}", latency.max_ms),
            ]);
        };
        for (kind, latency) in &figures.latency_by_kind {
            row(kind, latency);
        }
        row("all", &figures.latency);
        text.push_str(&format!("{rows}\n"));
        let list = |counts: &std::collections::BTreeMap<&'static str, u64>| {
            let parts: Vec<String> = counts
                .iter()
                .map(|(name, count)| format!("{name} {}", grouped(*count)))
                .collect();
            if parts.is_empty() {
                "none".to_owned()
            } else {
                parts.join(", ")
            }
        };
        text.push_str(&format!("succeeded: {}\n", list(&figures.succeeded)));
        text.push_str(&format!(
            "refused by the business: {}\n",
            list(&figures.refusals)
        ));
        text.push_str(&format!(
            "errors: {}; connections lost {}, closed by a gateway {}, gateways not reached {}, \
             requests sent again {}\n",
            list(&figures.errors),
            figures.disconnects,
            figures.goodbyes,
            figures.unreachable,
            figures.retries,
        ));
        text.push_str(&format!(
            "requests that failed: {}, of which {} were not answered in time\n",
            figures.failed, figures.gave_up
        ));
        text.push_str(&format!(
            "longest time without a success: {:.0} ms, {:.1} s after the start\n",
            figures.longest_gap_ms, figures.longest_gap_at_s
        ));
        text.push_str(&format!(
            "the load generator itself: {:.1} µs of processor a request\n",
            run.own_cpu_us_per_request
        ));
        if let Some(killed) = &run.killed {
            text.push_str(&killed.text());
        }
        match &run.check {
            Some(check) => text.push_str(&check.text(self.checked)),
            None => text.push_str("not checked\n"),
        }
        text
    }
}
