//! `grid load recovery`: a node with many seats and a long log is restarted, stopped in good order and
//! killed by turns, and is timed until it serves and until it has caught up.
//!
//! ```text
//!   events of so many seats ─► buyers, as fast as answers come, until the log is long enough
//!   ─► nobody asks for anything ─► SIGTERM ─► SIGKILL ─► SIGTERM ─► …
//! ```
//!
//! What counts as *log entries* are those that the node's log holds: from the purge mark to the end, over
//! all partitions, every one of which a start reads. A grid whose pump keeps up lets most of them go, so
//! it takes a database that is away to see ten million; with few connections there is about one command to
//! an entry, with many there are a hundred.
//!
//! A start is timed from the moment at which the kernel began the process. A database that the node
//! writes to is another process, and nothing here waits for it.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use grid::{NodeId, NodeStatus, StartStatus};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};
use serde::Serialize;
use serde_json::{Value, json};

use super::Ending;
use super::onsale::Offer;
use super::recorder::Recorder;
use super::scenario::{Goal, Phase, Scene, Story, phases_text};
use super::venue::{SeatMap, create};
use crate::api::Api;
use crate::cluster::ClusterStatus;
use crate::data_dir::NodeEntry;
use crate::failure::Failure;
use crate::output::{grouped, table};
use crate::rolling::{BACK_WAIT, await_whole, millis, process};

/// The most seats of an event.
const EVENT_SEATS_MAX: u32 = 200_000;
const SECTION_SEATS: u32 = 2_000;
const ROW_SEATS: u32 = 50;
/// What one buyer may have of an event.
const BUYER_SEATS: u32 = 8;
/// A start from the process's first moment until every replica is caught up, in ms.
const START_GOAL_MS: f64 = 5_000.0;
/// How often it is looked how long the log is.
const FILL_LOOK: Duration = Duration::from_secs(1);
/// When the log has not grown for so long, it never will be long enough.
const FILL_PATIENCE: Duration = Duration::from_secs(60);
/// How exactly a start is timed.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// What to do.
#[derive(Clone, Debug)]
pub(crate) struct RecoveryPlan {
    /// Seats to create; none where those that are there will do.
    pub(crate) seats: u32,
    /// In so many events, or more where they are too many for one.
    pub(crate) events: u32,
    /// Entries that the log is to hold; none to take it as it is.
    pub(crate) entries: u64,
    /// The node, instead of the grid's first.
    pub(crate) node: Option<NodeId>,
    /// How often each way.
    pub(crate) rounds: u32,
}

/// How it was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Way {
    Stopped,
    Killed,
}

impl Way {
    fn signal(self) -> Signal {
        match self {
            Self::Stopped => Signal::SIGTERM,
            Self::Killed => Signal::SIGKILL,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Stopped => "SIGTERM",
            Self::Killed => "SIGKILL",
        }
    }
}

/// One restart.
#[derive(Debug, Serialize)]
struct Restart {
    way: Way,
    /// From the signal until the new process began: the stop, and the pause of `grid up`.
    away_ms: u64,
    /// From there until its gateway was ready.
    ready_ms: u64,
    /// From there until all its replicas were caught up and every partition had a leader.
    caught_up_ms: u64,
    /// What the node says of it.
    #[serde(flatten)]
    start: StartStatus,
}

/// What the node had to read.
#[derive(Debug, Serialize)]
struct Holding {
    node: NodeId,
    seats: u64,
    /// Entries that its log holds.
    log_entries: u64,
    /// Entries ever written.
    last_indexes: u64,
    log_bytes: u64,
    remembered_commands: u64,
    snapshot_bytes: u64,
}

/// What was restarted, and how long it took.
#[derive(Debug, Serialize)]
pub(crate) struct Recovery {
    holding: Holding,
    restarts: Vec<Restart>,
    fill: Vec<Phase>,
    goal: Goal,
}

fn event(number: u32, seats: u32) -> Value {
    let now = jiff::Timestamp::now();
    let rows = |seats: u32| -> Vec<Value> {
        (0..seats.div_ceil(ROW_SEATS))
            .map(|row| json!({"name": (row + 1).to_string(), "seats": ROW_SEATS.min(seats - row * ROW_SEATS)}))
            .collect()
    };
    let sections: Vec<Value> = (0..seats.div_ceil(SECTION_SEATS))
        .map(|section| {
            let seats = SECTION_SEATS.min(seats - section * SECTION_SEATS);
            json!({"name": format!("S{}", section + 1), "price": "50.00", "rows": rows(seats)})
        })
        .collect();
    json!({
        "name": format!("Stadium {number}"),
        "artist": "",
        "venue": "",
        "currency": "EUR",
        "starts_at": (now + jiff::SignedDuration::from_hours(24 * 30)).to_string(),
        "on_sale_at": now.to_string(),
        "max_seats_per_buyer": BUYER_SEATS,
        "hold_seconds": 86_400,
        "sections": sections,
    })
}

/// Creates the events.
pub(crate) async fn offers(scene: Scene<'_>, plan: &RecoveryPlan) -> anyhow::Result<Vec<Offer>> {
    let events = plan.events.max(plan.seats.div_ceil(EVENT_SEATS_MAX));
    let bar = scene.output.bar(events.into(), "events created");
    let mut offers = Vec::new();
    let mut left = plan.seats;
    for number in 1..=events {
        let seats = left.div_ceil(events - number + 1);
        left -= seats;
        let event_id = create(scene.api, &event(number, seats.max(1))).await?;
        offers.push(Offer {
            event_id,
            limit: BUYER_SEATS,
            map: SeatMap::read(scene.api, event_id).await?,
        });
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(offers)
}

async fn status_of(api: &Api, node: NodeId) -> anyhow::Result<NodeStatus> {
    let cluster = ClusterStatus::ask(api).await?;
    let mut reports = cluster.nodes.into_iter();
    let report = reports.find(|report| report.node_id == node);
    report
        .and_then(|report| report.status)
        .with_context(|| format!("node {node} does not answer"))
}

/// Entries that a node's log holds.
fn held(status: &NodeStatus) -> u64 {
    let replicas = status.replicas.iter();
    replicas
        .map(|replica| replica.last_log_index.saturating_sub(replica.purged_index))
        .sum()
}

/// Waits until the buyers have made the log long enough.
async fn fill(scene: Scene<'_>, node: NodeId, entries: u64) -> anyhow::Result<()> {
    let bar = scene.output.bar(entries, "log entries");
    let (mut longest, mut grew) = (0, Instant::now());
    loop {
        let held = held(&status_of(scene.api, node).await?);
        bar.set_position(held.min(entries));
        if held >= entries {
            bar.finish_and_clear();
            return Ok(());
        }
        if held > longest {
            (longest, grew) = (held, Instant::now());
        }
        if grew.elapsed() > FILL_PATIENCE {
            let text = format!(
                "the log of node {node} holds {} entries and grows no more, since what the database has \
                 is let go; start the grid with a --database-url where nobody answers, or ask for fewer \
                 with --entries",
                grouped(longest)
            );
            return Err(Failure::Usage(text).into());
        }
        tokio::time::sleep(FILL_LOOK).await;
    }
}

/// Fills and restarts.
pub(crate) async fn script(
    scene: Scene<'_>,
    plan: &RecoveryPlan,
    ending: &Ending,
    recorder: &Recorder,
) -> anyhow::Result<Recovery> {
    let grid = scene.data_dir.read()?;
    let grid = grid.context("the grid's data directory is needed to restart its nodes")?;
    let mut nodes = grid.nodes.iter();
    let entry = match plan.node {
        Some(node) => nodes.find(|entry| entry.id == node),
        None => nodes.next(),
    };
    let entry = entry.context("the node was not started by `grid up`")?;
    fill(scene, entry.id, plan.entries).await?;
    ending.end();
    let phases = vec![Phase::close(recorder, "filling the log")?];
    tokio::time::sleep(scene.calm).await;

    await_whole(scene.api, BACK_WAIT).await?;
    let status = status_of(scene.api, entry.id).await?;
    let replicas = || status.replicas.iter();
    let holding = Holding {
        node: entry.id,
        seats: plan.seats.into(),
        log_entries: held(&status),
        last_indexes: replicas().map(|replica| replica.last_log_index).sum(),
        log_bytes: status.wal.bytes,
        remembered_commands: replicas().map(|replica| replica.remembered_commands).sum(),
        snapshot_bytes: replicas()
            .filter_map(|replica| replica.snapshots.last())
            .map(|snapshot| snapshot.bytes)
            .sum(),
    };
    let bar = scene.output.bar(u64::from(plan.rounds) * 2, "restarts");
    let mut restarts = Vec::new();
    for _ in 0..plan.rounds {
        for way in [Way::Stopped, Way::Killed] {
            restarts.push(restart(scene, entry, way).await?);
            bar.inc(1);
            tokio::time::sleep(scene.calm).await;
        }
    }
    bar.finish_and_clear();
    let slowest = restarts.iter().map(|restart| restart.caught_up_ms).max();
    Ok(Recovery {
        holding,
        fill: phases,
        goal: Goal::new(
            "slowest start until caught up",
            START_GOAL_MS,
            slowest.unwrap_or(0) as f64,
        ),
        restarts,
    })
}

async fn restart(scene: Scene<'_>, entry: &NodeEntry, way: Way) -> anyhow::Result<Restart> {
    await_whole(scene.api, BACK_WAIT).await?;
    let node = entry.id;
    let old = process(scene.data_dir, node)
        .with_context(|| format!("node {node} does not run on this machine"))?;
    let signalled = Instant::now();
    kill(Pid::from_raw(old), way.signal()).context("the node cannot be signalled")?;
    let deadline = signalled + BACK_WAIT;
    let late = || Failure::NodeStopped(format!("node {node} does not come back"));
    let pid = loop {
        match process(scene.data_dir, node).filter(|pid| *pid != old) {
            Some(pid) => break pid,
            None if Instant::now() > deadline => return Err(late().into()),
            None => tokio::time::sleep(LOOK_PAUSE).await,
        }
    };
    let began = began(pid).context("the new process's beginning cannot be read")?;
    let http = reqwest::Client::builder().no_proxy().build()?;
    let ready = format!("{}/ready", entry.gateway_url());
    while !matches!(http.get(&ready).send().await, Ok(answer) if answer.status().is_success()) {
        if Instant::now() > deadline {
            return Err(late().into());
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    let ready_ms = millis(began.elapsed());
    await_whole(scene.api, BACK_WAIT).await?;
    let caught_up_ms = millis(began.elapsed());
    let status = status_of(scene.api, node).await?;
    Ok(Restart {
        way,
        away_ms: millis(began.saturating_duration_since(signalled)),
        ready_ms,
        caught_up_ms,
        start: status.start.unwrap_or_default(),
    })
}

/// When the kernel began a process, to a hundredth of a second.
fn began(pid: i32) -> Option<Instant> {
    let ticks_per_s = sysconf(SysconfVar::CLK_TCK).ok()??;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let age = age(&stat, &uptime, ticks_per_s as f64)?;
    Instant::now().checked_sub(age)
}

/// How old a process is, by `/proc/PID/stat` and `/proc/uptime`.
fn age(stat: &str, uptime: &str, ticks_per_s: f64) -> Option<Duration> {
    // The second field is the program's name in brackets, in which anything may stand.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: f64 = fields.split_whitespace().nth(19)?.parse().ok()?;
    let uptime_s: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64((uptime_s - ticks / ticks_per_s).max(0.0)).ok()
}

impl Story for Recovery {
    fn text(&self) -> String {
        let holding = &self.holding;
        let mut rows = table([
            "ended by",
            "away, ms",
            "ready, ms",
            "caught up, ms",
            "of that: log, ms",
            "replicas, ms",
            "entries applied again",
        ]);
        for restart in &self.restarts {
            rows.add_row([
                restart.way.name().to_owned(),
                restart.away_ms.to_string(),
                restart.ready_ms.to_string(),
                restart.caught_up_ms.to_string(),
                restart.start.log_ms.to_string(),
                restart.start.replicas_ms.to_string(),
                grouped(restart.start.replayed_entries),
            ]);
        }
        format!(
            "{}\nnode {}: {} seats; its log holds {} entries in {} MiB ({} ever written); {} commands \
             remembered, newest snapshots {} MiB\n{rows}\n\nfrom the process's first moment; \"away\" is \
             before it\n{}",
            phases_text(&self.fill),
            holding.node,
            grouped(holding.seats),
            grouped(holding.log_entries),
            grouped(holding.log_bytes >> 20),
            grouped(holding.last_indexes),
            grouped(holding.remembered_commands),
            grouped(holding.snapshot_bytes >> 20),
            self.goal.text()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_as_many_seats_as_it_should() {
        for seats in [1, 49, 50, 51, 2_000, 2_001, 62_500, 200_000] {
            let event = event(1, seats);
            let sections = event["sections"].as_array().expect("sections");
            let rows = sections
                .iter()
                .flat_map(|section| section["rows"].as_array().expect("rows"));
            let all: u64 = rows
                .map(|row| row["seats"].as_u64().expect("a number"))
                .sum();
            assert_eq!(all, u64::from(seats));
        }
    }

    #[test]
    fn a_processs_age_is_read_behind_whatever_its_name_is() {
        let stat = "77 (a ) b) S 1 77 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 12345 1 2 3";
        let age = age(stat, "200.25 399.00", 100.0);
        assert_eq!(age, Some(Duration::from_millis(76_800)));
        assert_eq!(super::age("77", "200.25", 100.0), None);
    }
}
