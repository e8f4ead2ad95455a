//! What watching has shown.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::watchers::Seen;
use super::{Room, WatchPlan};
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
    /// Why connections ended, as far as anybody said so.
    ends: BTreeMap<String, u64>,
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
            ends: seen.ends.clone(),
        }
    }

    /// From the first of the events to the last.
    pub(super) fn of_span(seen: &Seen, updates: u64) -> Self {
        let took_us = seen.last_us.saturating_sub(seen.first_us.unwrap_or(0));
        Self::new(seen, updates, Duration::from_micros(took_us))
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

/// The same several times.
#[derive(Debug, Serialize)]
pub(crate) struct Rounds {
    /// The one whose rate is the median.
    #[serde(flatten)]
    phase: Phase,
    #[serde(flatten)]
    cost: Cost,
    /// Of every round, as they came.
    rates_per_s: Vec<f64>,
    #[serde(skip)]
    all: Vec<Phase>,
}

impl Rounds {
    /// `None` of none.
    pub(super) fn new(rounds: Vec<(Phase, Cost)>) -> Option<Self> {
        let mut by_rate = rounds.clone();
        by_rate.sort_by(|(a, _), (b, _)| a.delivered_per_s.total_cmp(&b.delivered_per_s));
        let (phase, cost) = by_rate.get(by_rate.len() / 2)?.clone();
        let all: Vec<Phase> = rounds.into_iter().map(|(phase, _)| phase).collect();
        Some(Self {
            phase,
            cost,
            rates_per_s: all.iter().map(|phase| phase.delivered_per_s).collect(),
            all,
        })
    }

    /// The median.
    pub(super) fn rate_per_s(&self) -> f64 {
        self.phase.delivered_per_s
    }

    fn is_whole(&self, watchers: usize) -> bool {
        self.all.iter().all(|phase| phase.is_whole(watchers))
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
    rounds: Rounds,
    /// What the gateways deliver in a burst, of what the loop does.
    share: Option<f64>,
    share_goal: f64,
}

/// Somebody who was given one update at a time, in turn with others.
#[derive(Debug, Serialize)]
pub(crate) struct Side {
    name: String,
    #[serde(flatten)]
    rounds: Rounds,
    latency: Latency,
    /// The gateways' rate as a part of this one's.
    ratio: Option<f64>,
    /// Everybody got everything once.
    ok: bool,
}

impl Side {
    pub(super) fn new(
        name: &str,
        sockets: usize,
        (rounds, latency): (Rounds, Latency),
        ratio: Option<f64>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            ok: rounds.is_whole(sockets),
            rounds,
            latency,
            ratio,
        }
    }
}

fn sides_text(sides: &[Side]) -> String {
    if sides.is_empty() {
        return String::new();
    }
    let mut rows = table([
        "one update at a time",
        "a second",
        "µs CPU each",
        "p50 ms",
        "p99 ms",
        "gateway is",
    ]);
    for side in sides {
        let ratio = side.ratio.map(|ratio| format!("{ratio:.2} times it"));
        rows.add_row([
            format!("{}{}", side.name, if side.ok { "" } else { " (NOT WHOLE)" }),
            grouped(side.rounds.rate_per_s() as u64),
            format!("{:.2}", side.rounds.cost.cpu_us_a_message),
            format!("{:.1}", side.latency.p50_ms),
            format!("{:.1}", side.latency.p99_ms),
            ratio.unwrap_or_default(),
        ]);
    }
    format!("{rows}\n\n")
}

/// Everything.
#[derive(Debug, Serialize)]
pub(crate) struct Watched {
    machine: Machine,
    watchers: usize,
    connected: usize,
    /// Why others did not get in, with how many each.
    failures: BTreeMap<String, u64>,
    connect_seconds: f64,
    gateways: usize,
    rate: f64,
    offered: Phase,
    latency: Latency,
    #[serde(flatten)]
    cost: Cost,
    burst: Option<Rounds>,
    bare: Option<Bare>,
    sides: Vec<Side>,
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
        room: &Room,
        (offered, cost): (Phase, Cost),
        burst: Option<Rounds>,
        bare: Option<Rounds>,
    ) -> Self {
        let connected = room.connected;
        let ok = connected == plan.watchers
            && offered.is_whole(connected)
            && burst.as_ref().is_none_or(|burst| burst.is_whole(connected));
        let bare = bare.map(|rounds| Bare {
            share: burst
                .as_ref()
                .map(|burst| burst.phase.delivered_per_s / rounds.phase.delivered_per_s),
            share_goal: BARE_SHARE_GOAL,
            rounds,
        });
        // A burst shows what a message costs where nobody waits for the next.
        let cpu_us = burst.as_ref().map_or(cost, |burst| burst.cost);
        let cpu_us = cpu_us.cpu_us_a_message;
        Self {
            machine: Machine::read(),
            watchers: plan.watchers,
            connected,
            failures: room.failures.clone(),
            connect_seconds: room.connect_s,
            gateways: plan.gateways.len(),
            rate: plan.rate,
            offered,
            latency: Latency::default(),
            cost,
            burst,
            bare,
            sides: Vec::new(),
            resident_bytes_a_connection: room.resident_bytes_a_connection(),
            resident_bytes_goal: RESIDENT_BYTES_GOAL,
            cores_for_100000_at_5: WANTED_WATCHERS * WANTED_RATE * cpu_us / 1e6,
            ok,
        }
    }

    pub(super) fn with_sides(mut self, sides: Vec<Side>) -> Self {
        self.ok &= sides.iter().all(|side| side.ok);
        self.sides = sides;
        self
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
        if let Some(burst) = &self.burst {
            row("burst", &burst.phase, burst.cost);
        }
        if let Some(Bare { rounds, .. }) = &self.bare {
            row("bare loop", &rounds.phase, rounds.cost);
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
            "{}\n{} of {} watchers at {} gateways, connected in {:.1} s\n\n{rows}\n\n{}\
             delivery: p50 {:.1} ms, p99 {:.1} ms, at most {:.1} ms at {} updates/s\n{share}\
             {:.0} bytes resident a connection (wanted: at most {:.0})\n\
             cores for 100,000 watchers of 5 updates/s: {:.1}\n{}\n",
            self.machine.text(),
            grouped(self.connected as u64),
            grouped(self.watchers as u64),
            self.gateways,
            self.connect_seconds,
            sides_text(&self.sides),
            self.latency.p50_ms,
            self.latency.p99_ms,
            self.latency.max_ms,
            self.rate,
            self.resident_bytes_a_connection,
            RESIDENT_BYTES_GOAL,
            self.cores_for_100000_at_5,
            if self.ok {
                "everybody got every update once".to_owned()
            } else {
                self.shortfall()
            }
        )
    }

    /// What went wrong.
    fn shortfall(&self) -> String {
        let mut lines = vec!["NOT EVERYBODY GOT EVERY UPDATE ONCE".to_owned()];
        let failures = self.failures.iter();
        lines.extend(failures.map(|(why, count)| format!("{count} did not get in: {why}")));
        let bursts = self.burst.iter().flat_map(|burst| &burst.all);
        for (name, phase) in std::iter::once(("offered", &self.offered))
            .chain(bursts.map(|phase| ("burst", phase)))
            .filter(|(_, phase)| !phase.is_whole(self.connected))
        {
            lines.push(format!(
                "{name}: {} of {} delivered, {} missed, {} twice, {} connections ended {:?}",
                grouped(phase.delivered),
                grouped(phase.updates * self.connected as u64),
                phase.missed,
                phase.doubled,
                phase.lost,
                phase.ends
            ));
        }
        lines.join("\n")
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
