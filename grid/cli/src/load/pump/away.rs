//! `grid load database-away`: the database is gone while buyers buy, then it is back: what the outage
//! costs, and how fast the pump catches up.
//!
//! ```text
//!   buyers at a fixed rate ─ warm-up ─┬─ the database is away ─────────┬ the sale ends
//!                                     └ memory, refusals, p99          └ the database is back ─► caught up
//!                                                                          ─► the machine's bare rate
//! ```
//!
//! *Away* is what it is when a server is stopped: its socket is gone and its sessions have ended. The
//! server itself lives, so that its start is not measured. The pump's rate is told beside the rate at
//! which the same PostgreSQL takes rows and nothing else (see `data_pump::bare_rate`), right afterwards.
//!
//! Memory grows for the first ten minutes of any sale, with what is remembered for clients that ask again:
//! with a warm-up of that length what an outage costs stands alone.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use data_pump::bare_rate::{self, BareRate};
use data_pump::pump::PumpOperator;
use data_pump::verify::Verifier;
use grid::NodeId;
use serde::Serialize;

use super::faults::private_server;
use super::watch::{await_level, await_running};
use crate::api::Api;
use crate::cluster::ClusterStatus;
use crate::failure::Failure;
use crate::load::Ending;
use crate::load::compare::database;
use crate::load::recorder::{Recorder, Window};
use crate::load::report::median;
use crate::load::scenario::{Goal, Scene, Story};
use crate::load::usage::Usage;
use crate::output::{grouped, table};
use crate::rolling::{millis, process};

/// Changes a second at which an outage is to be caught up with.
const RATE_GOAL_PER_S: f64 = 60_000.0;
/// How often memory is looked at.
const MEMORY_PERIOD: Duration = Duration::from_secs(1);
/// Memory before and at the end of the outage is the median of so many looks.
const MEMORY_LOOKS: usize = 60;
/// How often it is looked how far the database is.
const CHECKPOINT_PERIOD: Duration = Duration::from_millis(50);
/// How long the pump may take to run at first.
const RUN_WAIT: Duration = Duration::from_secs(600);
/// How long catching up may take.
const CATCH_UP_WAIT: Duration = Duration::from_secs(1_800);
/// Connections that the bare rate is measured with.
const BARE_CONNECTIONS: [u32; 2] = [1, 2];

/// What to do.
#[derive(Clone, Debug)]
pub(crate) struct AwayPlan {
    /// How long is sold before.
    pub(crate) warm_up: Duration,
    /// How long the database is away.
    pub(crate) away: Duration,
    /// How long each bare rate is measured.
    pub(crate) bare: Duration,
    /// Where it is.
    pub(crate) database_url: String,
}

impl AwayPlan {
    /// How long buyers buy.
    pub(crate) fn expected(&self) -> Duration {
        self.warm_up + self.away
    }
}

/// A node's memory, in MiB.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Memory {
    /// Median of the last looks before the outage.
    before_mib: u64,
    /// Median of the last looks of it.
    end_mib: u64,
    most_mib: u64,
}

/// Memory as it is looked at.
struct Meter<'a> {
    scene: Scene<'a>,
    /// The latest looks at each node.
    latest: BTreeMap<NodeId, VecDeque<u64>>,
    most: BTreeMap<NodeId, u64>,
}

impl<'a> Meter<'a> {
    fn new(scene: Scene<'a>) -> anyhow::Result<Self> {
        let grid = scene.data_dir.read()?;
        let nodes = grid.iter().flat_map(|grid| &grid.nodes);
        Ok(Self {
            scene,
            latest: nodes.map(|node| (node.id, VecDeque::new())).collect(),
            most: BTreeMap::new(),
        })
    }

    fn look(&mut self) {
        for (node, latest) in &mut self.latest {
            let usage = process(self.scene.data_dir, *node).and_then(Usage::read);
            let Some(mib) = usage.map(|usage| usage.resident_kib >> 10) else {
                continue;
            };
            latest.push_back(mib);
            if latest.len() > MEMORY_LOOKS {
                latest.pop_front();
            }
            let most = self.most.entry(*node).or_default();
            *most = mib.max(*most);
        }
    }

    /// Looks until the time is over.
    async fn look_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.look();
            let left = until.saturating_duration_since(Instant::now());
            tokio::time::sleep(MEMORY_PERIOD.min(left)).await;
        }
    }

    fn medians(&self) -> BTreeMap<NodeId, u64> {
        let of = |latest: &VecDeque<u64>| median(latest.iter().map(|mib| *mib as f64)) as u64;
        let nodes = self.latest.iter();
        nodes.map(|(node, latest)| (*node, of(latest))).collect()
    }
}

/// What a round saw.
#[derive(Debug, Serialize)]
pub(crate) struct Away {
    /// What clients saw of the outage.
    window: Window,
    /// Requests that were answered with an error, to be sent again, or failed.
    refused: u64,
    memory: BTreeMap<NodeId, Memory>,
    /// Log that the nodes kept for the database at the end of it.
    backlog_mib: BTreeMap<NodeId, u64>,
    /// Changes that were written afterwards.
    changes: i64,
    /// From the database's return until all of them were.
    caught_up_in_ms: u64,
    /// The pump's pause before it tried again, within that.
    first_commit_after_ms: u64,
    /// Changes a second, from the first commit on.
    pub(crate) changes_per_s: f64,
    /// The same PostgreSQL, rows only.
    bare: Vec<Bare>,
    /// The pump's rate over the bare one with the most connections.
    part_of_bare: f64,
    goal_per_s: f64,
    met: bool,
    goal: Goal,
}

#[derive(Debug, Serialize)]
struct Bare {
    connections: u32,
    changes_per_s: f64,
}

impl From<BareRate> for Bare {
    fn from(rate: BareRate) -> Self {
        Self {
            connections: rate.connections,
            changes_per_s: rate.changes_per_s,
        }
    }
}

/// Where the database is, by partition.
type Places = BTreeMap<i32, i64>;

/// Takes the database away, gives it back, and measures.
pub(crate) async fn script(
    scene: Scene<'_>,
    plan: &AwayPlan,
    ending: &Ending,
    recorder: &Recorder,
) -> anyhow::Result<Away> {
    let server = private_server(scene)?;
    // A new database has no tables until the first pump has come to it.
    await_running(scene.api, RUN_WAIT).await?;
    let mut meter = Meter::new(scene)?;
    let bar = scene.output.bar(plan.expected().as_secs(), "seconds");
    meter.look_for(plan.warm_up).await;
    bar.set_position(plan.warm_up.as_secs());
    // Memory that is given back between two looks is no growth.
    let before = meter.medians();
    meter.most.clear();
    let mut operator = PumpOperator::connect(&plan.database_url)
        .await
        .map_err(Failure::from)?;
    recorder.take_window()?;
    let hidden = server
        .hide()
        .map_err(|error| Failure::Database(error.to_string()))?;
    operator.end_pump_sessions().await.map_err(Failure::from)?;
    let rows = operator.partitions().await.map_err(Failure::from)?;
    let left_at: Places = rows
        .iter()
        .map(|row| (row.partition, row.applied_index))
        .collect();
    meter.look_for(plan.away).await;
    let window = recorder.take_window()?;
    ending.end();
    bar.finish_and_clear();
    let (end, most) = (meter.medians(), meter.most.clone());
    let backlog_mib = backlog(scene.api).await?;
    // The last answers are awaited, so that what is caught up with is known.
    tokio::time::sleep(scene.calm).await;
    let wanted: Places = applied(scene.api).await?;

    drop(hidden);
    let caught_up = catch_up(scene, plan, &left_at, &wanted).await?;
    operator.close().await;
    await_level(scene.api, CATCH_UP_WAIT).await?;
    let mut bare = Vec::new();
    for connections in BARE_CONNECTIONS {
        let rate = bare_rate::measure(&plan.database_url, connections, plan.bare).await;
        bare.push(Bare::from(rate.map_err(|error| database(&error))?));
    }
    let most_bare = bare.iter().map(|rate| rate.changes_per_s);
    let most_bare = most_bare.fold(1.0, f64::max);
    let memory = before.iter().map(|(node, before_mib)| {
        let at = |of: &BTreeMap<NodeId, u64>| of.get(node).copied().unwrap_or(0);
        let memory = Memory {
            before_mib: *before_mib,
            end_mib: at(&end),
            most_mib: at(&most),
        };
        (*node, memory)
    });
    let refused = window.errors + window.failed;
    Ok(Away {
        refused,
        memory: memory.collect(),
        backlog_mib,
        changes: caught_up.changes,
        caught_up_in_ms: millis(caught_up.took),
        first_commit_after_ms: millis(caught_up.first_after),
        changes_per_s: caught_up.changes_per_s,
        part_of_bare: caught_up.changes_per_s / most_bare,
        bare,
        goal_per_s: RATE_GOAL_PER_S,
        met: caught_up.changes_per_s >= RATE_GOAL_PER_S,
        goal: Goal::new("requests refused while it was away", 0.0, refused as f64),
        window,
    })
}

async fn applied(api: &Api) -> anyhow::Result<Places> {
    let applied = ClusterStatus::ask(api).await?.applied();
    let place = |(partition, index): (u32, u64)| {
        anyhow::Ok((i32::try_from(partition)?, i64::try_from(index)?))
    };
    applied.into_iter().map(place).collect()
}

async fn backlog(api: &Api) -> anyhow::Result<BTreeMap<NodeId, u64>> {
    let cluster = ClusterStatus::ask(api).await?;
    let nodes = cluster.statuses();
    Ok(nodes
        .map(|status| (status.node_id, status.backlog.bytes >> 20))
        .collect())
}

struct CaughtUp {
    took: Duration,
    first_after: Duration,
    changes: i64,
    changes_per_s: f64,
}

/// Waits until the database has everything up to `wanted`.
async fn catch_up(
    scene: Scene<'_>,
    plan: &AwayPlan,
    left_at: &Places,
    wanted: &Places,
) -> anyhow::Result<CaughtUp> {
    let back = Instant::now();
    let mut verifier = Verifier::connect(&plan.database_url)
        .await
        .map_err(|error| database(&error))?;
    let missing = |places: &Places| -> i64 {
        let each = wanted.iter().map(|(partition, wanted)| {
            let place = places.get(partition).copied().unwrap_or(0);
            (wanted - place).max(0)
        });
        each.sum()
    };
    let entries = missing(left_at);
    let bar = scene
        .output
        .bar(u64::try_from(entries)?, "log entries into SQL");
    let mut first_after = None;
    // Where it was when; the checkpoint also moves over entries that have no changes, at its leisure.
    let mut history: Vec<(Duration, Places)> = Vec::new();
    loop {
        let rows = verifier.checkpoints().await;
        let rows = rows.map_err(|error| database(&error))?;
        let places: Places = rows
            .iter()
            .map(|row| (row.partition, row.applied_index))
            .collect();
        let left = missing(&places);
        if history.last().is_none_or(|(_, known)| *known != places) {
            history.push((back.elapsed(), places));
        }
        bar.set_position(u64::try_from(entries - left).unwrap_or(0));
        if left < entries && first_after.is_none() {
            // The first commit came since the look before.
            first_after = Some(back.elapsed().saturating_sub(CHECKPOINT_PERIOD));
        }
        if left == 0 {
            break;
        }
        if back.elapsed() > CATCH_UP_WAIT {
            let text =
                format!("the database is still {left} log entries behind; see `grid pump status`");
            return Err(Failure::Database(text).into());
        }
        tokio::time::sleep(CHECKPOINT_PERIOD).await;
    }
    bar.finish_and_clear();
    let last = verifier.last_changes().await;
    let last = last.map_err(|error| database(&error))?;
    let has_all = |(_, places): &&(Duration, Places)| {
        let mut last = last.iter();
        last.all(|(partition, index)| places.get(partition).is_some_and(|place| place >= index))
    };
    let took = history.iter().find(has_all).map(|(at, _)| *at);
    let took = took.unwrap_or_else(|| back.elapsed());
    let first_after = first_after.unwrap_or(took);
    let from: Vec<(i32, i64)> = left_at.iter().map(|(key, value)| (*key, *value)).collect();
    let changes = verifier.changes_after(&from).await;
    let changes = changes.map_err(|error| database(&error))?;
    verifier.pause().await;
    let seconds = took.saturating_sub(first_after).as_secs_f64();
    Ok(CaughtUp {
        took,
        first_after,
        changes,
        changes_per_s: changes as f64 / seconds.max(1e-3),
    })
}

impl Story for Away {
    fn text(&self) -> String {
        let mut rows = table([
            "node",
            "memory before, MiB",
            "at the end, MiB",
            "most, MiB",
            "log kept, MiB",
        ]);
        for (node, memory) in &self.memory {
            rows.add_row([
                node.to_string(),
                memory.before_mib.to_string(),
                memory.end_mib.to_string(),
                memory.most_mib.to_string(),
                self.backlog_mib.get(node).copied().unwrap_or(0).to_string(),
            ]);
        }
        let window = &self.window;
        let bare = self.bare.iter().map(|rate| {
            format!(
                "{} changes/s over {} connection(s)",
                grouped(rate.changes_per_s as u64),
                rate.connections
            )
        });
        let bare: Vec<String> = bare.collect();
        format!(
            "the database was away for {:.0} s: {} done/s, p99 {:.1} ms, errors {}, failed {}\n{rows}\n\n\
             caught up with {} changes in {:.1} s, the first after {:.1} s: {} changes/s ({} wanted: {})\n\
             bare rows, measured right after it: {}; the pump's part of it: {:.2}\n",
            window.seconds,
            grouped((window.succeeded as f64 / window.seconds.max(1e-3)) as u64),
            window.latency.p99_ms,
            window.errors,
            window.failed,
            grouped(u64::try_from(self.changes).unwrap_or(0)),
            self.caught_up_in_ms as f64 / 1e3,
            self.first_commit_after_ms as f64 / 1e3,
            grouped(self.changes_per_s as u64),
            grouped(self.goal_per_s as u64),
            if self.met { "reached" } else { "MISSED" },
            bare.join(", "),
            self.part_of_bare,
        )
    }
}
