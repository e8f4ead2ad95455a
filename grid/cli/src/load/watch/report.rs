//! What watching has shown.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::WatchPlan;
use super::watchers::Seen;
use crate::load::machine::Machine;
use crate::output::{Output, grouped, table};

/// What the grid is to serve: so many watchers ...
const WANTED_WATCHERS: f64 = 100_000.0;
/// ... of so many updates a second.
const WANTED_RATE: f64 = 5.0;
/// A gateway is to deliver this part of what a bare loop does.
const BARE_SHARE_GOAL: f64 = 0.8;
/// And to need at most so many bytes a connection.
const RESIDENT_BYTES_GOAL: f64 = 16_384.0;

/// A part of the run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Phase {
    updates: u64,
    delivered: u64,
    seconds: f64,
    delivered_per_s: f64,
    bytes_a_message: f64,
    missed: u64,
    doubled: u64,
    lost: u64,
}

impl Phase {
    pub(super) fn new(seen: &Seen, updates: u64, took: Duration) -> Self {
        let seconds = took.as_secs_f64();
        Self {
            updates,
            delivered: seen.delivered,
            seconds,
            delivered_per_s: seen.delivered as f64 / seconds.max(1e-6),
            bytes_a_message: seen.bytes as f64 / seen.delivered.max(1) as f64,
            missed: seen.missed,
            doubled: seen.doubled,
            lost: seen.lost,
        }
    }

    fn is_whole(&self, watchers: usize) -> bool {
        let expected = self.updates * watchers as u64;
        self.delivered == expected && self.missed == 0 && self.doubled == 0 && self.lost == 0
    }
}

/// What messages have cost those who wrote them.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Cost {
    cpu_us_a_message: f64,
}

impl Cost {
    pub(super) fn new(cpu: Duration, messages: u64) -> Self {
        Self {
            cpu_us_a_message: cpu.as_secs_f64() * 1e6 / messages.max(1) as f64,
        }
    }
}

/// The median, the 99th percentile and the most, in ms.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Latency {
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

/// From latencies in µs with how often each, in any order.
pub(super) fn latency_ms(latencies: &[(u64, u64)]) -> Latency {
    let mut sorted = latencies.to_vec();
    sorted.sort_unstable();
    let total: u64 = sorted.iter().map(|(_, count)| count).sum();
    let at = |share: f64| {
        let rank = (total as f64 * share).ceil() as u64;
        let mut passed = 0;
        let found = sorted.iter().find(|(_, count)| {
            passed += count;
            passed >= rank
        });
        found.map_or(0.0, |(value, _)| *value as f64 / 1e3)
    };
    Latency {
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        max_ms: at(1.0),
    }
}

/// The bare loop beside it.
#[derive(Debug, Serialize)]
struct Bare {
    #[serde(flatten)]
    phase: Phase,
    #[serde(flatten)]
    cost: Cost,
    /// What the gateways deliver in a burst, of what the loop does.
    share: Option<f64>,
    share_goal: f64,
}

/// Everything.
#[derive(Debug, Serialize)]
pub(crate) struct Watched {
    machine: Machine,
    watchers: usize,
    connected: usize,
    connect_seconds: f64,
    gateways: usize,
    rate: f64,
    offered: Phase,
    latency: Latency,
    #[serde(flatten)]
    cost: Cost,
    burst: Option<Phase>,
    burst_cost: Option<Cost>,
    bare: Option<Bare>,
    resident_bytes_a_connection: f64,
    resident_bytes_goal: f64,
    /// Cores for 100,000 watchers of 5 updates a second, by what a message has cost here.
    cores_for_100000_at_5: f64,
    /// Everybody got in, and got every event once.
    pub(crate) ok: bool,
}

impl Watched {
    pub(super) fn new(
        plan: &WatchPlan,
        resident: &f64,
        (connected, connect_seconds): (usize, f64),
        (offered, cost): (Phase, Cost),
        burst: Option<(Phase, Cost)>,
        bare: Option<(Phase, Cost)>,
    ) -> Self {
        let ok = connected == plan.watchers
            && offered.is_whole(connected)
            && burst
                .as_ref()
                .is_none_or(|(phase, _)| phase.is_whole(connected));
        let bare = bare.map(|(phase, cost)| Bare {
            share: burst
                .as_ref()
                .map(|(burst, _)| burst.delivered_per_s / phase.delivered_per_s),
            share_goal: BARE_SHARE_GOAL,
            phase,
            cost,
        });
        let (burst, burst_cost) = burst.unzip();
        // A burst shows what a message costs where nobody waits for the next.
        let cpu_us = burst_cost.map_or(cost.cpu_us_a_message, |cost: Cost| cost.cpu_us_a_message);
        Self {
            machine: Machine::read(),
            watchers: plan.watchers,
            connected,
            connect_seconds,
            gateways: plan.gateways.len(),
            rate: plan.rate,
            offered,
            latency: Latency::default(),
            cost,
            burst,
            burst_cost,
            bare,
            resident_bytes_a_connection: *resident,
            resident_bytes_goal: RESIDENT_BYTES_GOAL,
            cores_for_100000_at_5: WANTED_WATCHERS * WANTED_RATE * cpu_us / 1e6,
            ok,
        }
    }

    pub(super) fn with_latencies(mut self, latency: &Latency) -> Self {
        self.latency = *latency;
        self
    }

    /// Prints it.
    pub(crate) fn print(&self, output: Output) -> anyhow::Result<()> {
        output.result(&json!(self), || self.text())
    }

    fn text(&self) -> String {
        let mut rows = table([
            "phase",
            "updates",
            "delivered",
            "a second",
            "µs CPU each",
            "bytes",
        ]);
        let mut row = |name: &str, phase: &Phase, cost: Cost| {
            rows.add_row([
                name.to_owned(),
                grouped(phase.updates),
                grouped(phase.delivered),
                grouped(phase.delivered_per_s as u64),
                format!("{:.2}", cost.cpu_us_a_message),
                format!("{:.0}", phase.bytes_a_message),
            ]);
        };
        row("offered", &self.offered, self.cost);
        if let (Some(burst), Some(cost)) = (&self.burst, self.burst_cost) {
            row("burst", burst, cost);
        }
        if let Some(bare) = &self.bare {
            row("bare loop", &bare.phase, bare.cost);
        }
        let share = self.bare.as_ref().and_then(|bare| bare.share);
        let share = share.map_or(String::new(), |share| {
            format!(
                "of the bare loop's rate: {:.0} % (wanted: {:.0} %)\n",
                share * 100.0,
                BARE_SHARE_GOAL * 100.0
            )
        });
        format!(
            "{}\n{} of {} watchers at {} gateways, connected in {:.1} s\n\n{rows}\n\n\
             delivery: p50 {:.1} ms, p99 {:.1} ms, at most {:.1} ms at {} updates/s\n{share}\
             {:.0} bytes resident a connection (wanted: at most {:.0})\n\
             cores for 100,000 watchers of 5 updates/s: {:.1}\n{}\n",
            self.machine.text(),
            grouped(self.connected as u64),
            grouped(self.watchers as u64),
            self.gateways,
            self.connect_seconds,
            self.latency.p50_ms,
            self.latency.p99_ms,
            self.latency.max_ms,
            self.rate,
            self.resident_bytes_a_connection,
            RESIDENT_BYTES_GOAL,
            self.cores_for_100000_at_5,
            if self.ok {
                "everybody got every update once"
            } else {
                "NOT EVERYBODY GOT EVERY UPDATE ONCE"
            }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_all_processes_together() {
        let latency = latency_ms(&[(5_000, 50), (1_000, 49), (90_000, 1)]);
        assert_eq!(
            (latency.p50_ms, latency.p99_ms, latency.max_ms),
            (5.0, 5.0, 90.0)
        );
        assert_eq!(latency_ms(&[]).p99_ms, 0.0);
    }

    #[test]
    fn a_phase_is_whole_when_everybody_got_everything_once() {
        let seen = Seen {
            delivered: 20,
            ..Seen::default()
        };
        let whole = |seen: &Seen| Phase::new(seen, 2, Duration::from_secs(1)).is_whole(10);
        assert!(whole(&seen));
        assert!(!whole(&Seen {
            delivered: 19,
            ..seen.clone()
        }));
        assert!(!whole(&Seen {
            doubled: 1,
            ..seen.clone()
        }));
        assert!(!whole(&Seen { missed: 1, ..seen }));
    }
}
