//! What the grid does when it is asked for far more than it can: `grid load overload`.
//!
//! ```text
//!   peak (closed loop, finds what is sustainable) ─► base (a quarter of it) ─► overload (ten times it) ─► base
//! ```
//!
//! Every connection has a fixed number of seats of its own, each of which it holds and lets go in turns:
//! half of the requests begin something, half end something, and the run can last for ever. A seat with a
//! request under way cannot be asked for again, so the generator is bounded: what the schedule wants and
//! no seat is free for is counted as *unsent*. A client that is told `overloaded` waits as long as it is
//! told, unless it is impatient.
//!
//! What it judges: the goodput under overload against the peak, the memory of the nodes, and how soon
//! afterwards everything is as before.

mod flood;
mod memory;
mod meter;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;

use super::machine::Machine;
use super::session::Target;
use super::venue::{EventView, SeatMap, create};
use super::{CONNECTING_MAX, START_PAUSE};
use crate::api::Api;
use crate::data_dir::DataDir;
use crate::failure::Failure;
use crate::output::{Output, grouped, table};
use crate::sequence::Sequence;
use flood::{Flood, Schedule};
use memory::Memory;
use meter::{Meter, PhaseFigures, Second};

/// The least part of the peak that must still be done under overload.
const GOODPUT_RATIO_MIN: f64 = 0.8;
/// The time in which everything is as before afterwards, at most, in seconds.
const RECOVERY_S_MAX: usize = 5;
/// The least part of the base rate that counts as normal.
const NORMAL_GOODPUT_RATIO: f64 = 0.9;
/// A mean latency is normal up to so many times what it was before...
const NORMAL_LATENCY_FACTOR: f64 = 2.0;
/// ... or this much more, in ms.
const NORMAL_LATENCY_EXTRA_MS: f64 = 20.0;

/// What to do.
#[derive(Clone, Debug)]
pub(crate) struct OverloadPlan {
    /// The gateways' addresses.
    pub(crate) gateways: Vec<String>,
    /// Connections, spread over the gateways.
    pub(crate) connections: usize,
    /// Requests under way on one connection, at most.
    pub(crate) in_flight_max: usize,
    /// Copies of the event, in different partitions where it can be helped.
    pub(crate) events: usize,
    /// How many times the peak is asked for.
    pub(crate) factor: f64,
    /// The part of the peak that is asked for before and afterwards.
    pub(crate) base: f64,
    /// How long the overload lasts.
    pub(crate) overload: Duration,
    /// How long each of the other phases lasts.
    pub(crate) calm: Duration,
    /// Clients that are told to wait do not.
    pub(crate) impatient: bool,
    /// Makes people differ from run to run.
    pub(crate) seed: u64,
}

/// One phase.
#[derive(Debug, Serialize)]
struct Phase {
    name: &'static str,
    /// Requests a second that the schedule wanted; absent in the closed loop.
    wanted_per_s: Option<f64>,
    figures: PhaseFigures,
    /// The most memory that each node used, in MiB; empty without the grid's data directory.
    rss_mib: Vec<(u64, u64)>,
    seconds: Vec<Second>,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct OverloadReport {
    /// Whether all is as it should be.
    pub(crate) ok: bool,
    machine: Machine,
    phases: Vec<Phase>,
    /// The goodput under overload as a part of the peak.
    goodput_ratio: f64,
    /// Seconds after the overload until everything was as before; absent if it never was.
    recovered_in_s: Option<usize>,
}

/// Opens the connections, each with seats of its own.
async fn open(
    plan: &OverloadPlan,
    api: &Api,
    event: &EventView,
    map: &SeatMap,
) -> anyhow::Result<Vec<Flood>> {
    let mut events = Vec::new();
    for number in 1..=u32::try_from(plan.events).unwrap_or(u32::MAX) {
        events.push(create(api, &event.copy(map, number, false)).await?);
    }
    let labels = map.json_labels();
    let each = plan.in_flight_max;
    let sharing = plan.connections.div_ceil(events.len());
    if sharing * each > labels.len() {
        let text = format!(
            "{} connections with {each} seats each need more seats than {} copies of the event have; \
             use more --events or fewer --connections",
            plan.connections,
            events.len()
        );
        return Err(Failure::Usage(text).into());
    }
    let target = Arc::new(Target::new(&plan.gateways)?);
    let opening = (0..plan.connections).map(|number| {
        let (event, place) = (number % events.len(), number / events.len());
        let seats = labels[place * each..(place + 1) * each].to_vec();
        let user = Sequence::new(plan.seed ^ ((number as u64) << 32)).uuid();
        let mut flood = Flood::new(Arc::clone(&target), number, user, events[event], seats);
        flood.is_impatient = plan.impatient;
        async move { flood.open().await.map(|()| flood) }
    });
    stream::iter(opening)
        .buffered(CONNECTING_MAX)
        .try_collect()
        .await
        .map_err(|error| {
            let text = format!("a connection could not be opened: {error}; is the grid up?");
            Failure::Unreachable(text).into()
        })
}

/// Runs one phase over all connections and gives them back.
async fn phase(
    output: Output,
    floods: Vec<Flood>,
    memory: &Memory,
    name: &'static str,
    rate: Option<f64>,
    duration: Duration,
) -> anyhow::Result<(Vec<Flood>, Phase)> {
    let meter = Arc::new(Meter::new(duration)?);
    let start = Instant::now() + START_PAUSE;
    let connections = floods.len();
    let mut tasks = JoinSet::new();
    for flood in floods {
        let schedule = Schedule {
            start,
            end: start + duration,
            rate_per_s: rate.map(|rate| rate / connections as f64),
            meter: Arc::clone(&meter),
        };
        tasks.spawn(flood.run(schedule));
    }
    let bar = output.bar(duration.as_secs().max(1), name);
    let mut back = Vec::with_capacity(connections);
    let mut rss_mib = Vec::new();
    let mut looks = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            ended = tasks.join_next() => match ended {
                None => break,
                Some(flood) => back.push(flood?),
            },
            _ = looks.tick() => {
                memory.note_most(&mut rss_mib);
                bar.set_position(start.elapsed().as_secs());
            }
        }
    }
    bar.finish_and_clear();
    let phase = Phase {
        name,
        wanted_per_s: rate,
        figures: meter.figures(),
        rss_mib,
        seconds: meter.seconds(),
    };
    Ok((back, phase))
}

/// Runs all phases.
pub(crate) async fn run(
    output: Output,
    plan: &OverloadPlan,
    api: &Api,
    data_dir: &DataDir,
    event: &EventView,
    map: &SeatMap,
) -> anyhow::Result<OverloadReport> {
    let memory = Memory::new(data_dir);
    let floods = open(plan, api, event, map).await?;
    let (floods, peak) = phase(output, floods, &memory, "peak", None, plan.calm).await?;
    let sustainable = peak.figures.goodput_per_s.max(1.0);
    let base_rate = Some(sustainable * plan.base);
    let (floods, before) = phase(output, floods, &memory, "base", base_rate, plan.calm).await?;
    let rate = Some(sustainable * plan.factor);
    let (floods, overload) =
        phase(output, floods, &memory, "overload", rate, plan.overload).await?;
    let (_, after) = phase(output, floods, &memory, "base again", base_rate, plan.calm).await?;
    let goodput_ratio = overload.figures.goodput_per_s / sustainable;
    let recovered_in_s = recovered_in_s(&before, &after);
    Ok(OverloadReport {
        ok: goodput_ratio >= GOODPUT_RATIO_MIN
            && recovered_in_s.is_some_and(|seconds| seconds <= RECOVERY_S_MAX),
        machine: Machine::read(),
        phases: vec![peak, before, overload, after],
        goodput_ratio,
        recovered_in_s,
    })
}

/// The second from which on everything was as before the overload.
fn recovered_in_s(before: &Phase, after: &Phase) -> Option<usize> {
    let goodput = before.figures.goodput_per_s * NORMAL_GOODPUT_RATIO;
    let usual_ms = before.figures.mean_ms;
    let slow_ms = (usual_ms * NORMAL_LATENCY_FACTOR).max(usual_ms + NORMAL_LATENCY_EXTRA_MS);
    let is_normal = |second: &Second| second.ok as f64 >= goodput && second.mean_ms() <= slow_ms;
    let odd = after.seconds.iter().rposition(|second| !is_normal(second));
    let first_normal = odd.map_or(0, |second| second + 1);
    (first_normal < after.seconds.len()).then_some(first_normal)
}

impl OverloadReport {
    /// Prints everything.
    pub(crate) fn print(&self, output: Output) -> anyhow::Result<()> {
        output.result(&json!(self), || self.text())
    }

    fn text(&self) -> String {
        let mut rows = table([
            "phase",
            "wanted/s",
            "sent/s",
            "done/s",
            "refused/s",
            "unsent/s",
            "errors",
            "p50 ms",
            "p99 ms",
            "max ms",
            "node memory, MiB",
        ]);
        let rate = |rate: f64| grouped(rate.round() as u64);
        for phase in &self.phases {
            let figures = &phase.figures;
            let memory: Vec<String> = phase
                .rss_mib
                .iter()
                .map(|(_, mib)| mib.to_string())
                .collect();
            rows.add_row([
                phase.name.to_owned(),
                phase.wanted_per_s.map_or_else(|| "-".to_owned(), rate),
                rate(figures.sent_per_s),
                rate(figures.goodput_per_s),
                rate(figures.refused_per_s),
                rate(figures.unsent_per_s),
                grouped(figures.errors),
                format!("{:.1}", figures.p50_ms),
                format!("{:.1}", figures.p99_ms),
                format!("{:.1}", figures.max_ms),
                memory.join(" "),
            ]);
        }
        let recovered = match self.recovered_in_s {
            Some(seconds) => format!("as before after {seconds} s"),
            None => "never as before".to_owned(),
        };
        format!(
            "{}\n{rows}\n\ndone under overload: {:.0} % of the peak (at least {:.0} % wanted)\n\
             afterwards: {recovered} (at most {RECOVERY_S_MAX} s wanted)\n{}\n",
            self.machine.text(),
            self.goodput_ratio * 100.0,
            GOODPUT_RATIO_MIN * 100.0,
            if self.ok { "OK" } else { "NOT OK" }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase_of(seconds: &[(u64, u64)]) -> Phase {
        let seconds: Vec<Second> = seconds
            .iter()
            .map(|(ok, mean_us)| Second {
                ok: *ok,
                decided: *ok,
                latency_us: ok * mean_us,
                ..Second::default()
            })
            .collect();
        Phase {
            name: "base",
            wanted_per_s: None,
            figures: PhaseFigures {
                goodput_per_s: 100.0,
                mean_ms: 10.0,
                ..PhaseFigures::default()
            },
            rss_mib: Vec::new(),
            seconds,
        }
    }

    #[test]
    fn recovery_is_over_when_all_further_seconds_are_normal() {
        let before = phase_of(&[(100, 10_000)]);
        let normal = (95, 12_000);
        let after = phase_of(&[(20, 10_000), normal, (100, 900_000), normal, normal]);
        assert_eq!(recovered_in_s(&before, &after), Some(3));
        assert_eq!(recovered_in_s(&before, &phase_of(&[normal])), Some(0));
        assert_eq!(recovered_in_s(&before, &phase_of(&[normal, (1, 1)])), None);
    }
}
