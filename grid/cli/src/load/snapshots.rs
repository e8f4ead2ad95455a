//! `grid load snapshot`: the largest partition's snapshot is taken again and again while buyers buy.
//!
//! ```text
//!   a snapshot of each partition, for its size ─► the largest
//!   ─► as long without ─► as long with one ─► as long without ─► …          medians are compared
//! ```
//!
//! A span with a snapshot lasts until it is written, and no less than one without. Snapshots that the
//! grid takes by itself meanwhile are looked for: a span without one in which there was one does not
//! count.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::future::try_join_all;
use grid::NodeId;
use serde::Serialize;

use super::recorder::{Recorder, Window};
use super::report::median;
use super::scenario::{Goal, Scene, Story};
use crate::api::Api;
use crate::cluster::ClusterStatus;
use crate::commands::snapshot::take_one;
use crate::output::{grouped, table};
use crate::rolling::{WHOLE_WAIT, await_whole, millis};

/// A snapshot may raise the p99 by this much, in ms.
const P99_RISE_GOAL_MS: f64 = 20.0;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SnapshotPlan {
    /// How often.
    pub(crate) rounds: u32,
    /// The length of a span.
    pub(crate) span: Duration,
    /// How long the sale goes on before the first.
    pub(crate) warm_up: Duration,
    /// The partition, instead of the largest.
    pub(crate) partition: Option<u32>,
    /// Whether all its replicas take theirs at once, instead of the leader's alone.
    pub(crate) all_replicas: bool,
}

impl SnapshotPlan {
    /// About how long it all takes, for the sale's tempo.
    pub(crate) fn expected(&self) -> Duration {
        self.warm_up + self.span * 2 * self.rounds
    }
}

/// A span without a snapshot and one with it.
#[derive(Debug, Serialize)]
struct Round {
    without: Window,
    with: Window,
    /// Whether the grid took one by itself in the span that was to be without.
    disturbed: bool,
    /// Until the last replica's was written.
    snapshot_ms: u64,
    /// Terms that began meanwhile, over all partitions.
    elections: u64,
    /// Leaderships that were elsewhere afterwards.
    moved: u64,
}

/// What was taken, and what came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Snapshots {
    partition: u32,
    nodes: Vec<NodeId>,
    bytes: u64,
    /// Commands that it remembers for retries: most of its bytes.
    remembered_commands: u64,
    rounds: Vec<Round>,
    /// Medians over the rounds.
    p99_without_ms: f64,
    p99_with_ms: f64,
    elections: u64,
    moved: u64,
    goal: Goal,
}

/// What tells whether something happened between two looks.
#[derive(Debug)]
struct Standing {
    /// The highest term of each partition, with its leader.
    terms: BTreeMap<u32, (u64, Option<NodeId>)>,
    /// Where the newest snapshot of each replica stands.
    newest: BTreeMap<(NodeId, u32), u64>,
}

impl Standing {
    async fn look(api: &Api) -> anyhow::Result<Self> {
        let cluster = ClusterStatus::ask(api).await?;
        let mut standing = Self {
            terms: BTreeMap::new(),
            newest: BTreeMap::new(),
        };
        for status in cluster.statuses() {
            for replica in &status.replicas {
                let partition = replica.partition.0;
                let known = standing.terms.entry(partition).or_default();
                *known = (*known).max((replica.term, replica.leader));
                if let Some(newest) = replica.snapshots.last() {
                    standing
                        .newest
                        .insert((status.node_id, partition), newest.index);
                }
            }
        }
        Ok(standing)
    }

    fn elections_since(&self, earlier: &Self) -> u64 {
        let began = self.terms.iter().map(|(partition, (term, _))| {
            let before = earlier.terms.get(partition).map_or(0, |(term, _)| *term);
            term.saturating_sub(before)
        });
        began.sum()
    }

    fn moved_since(&self, earlier: &Self) -> u64 {
        let terms = self.terms.iter();
        let moved = terms.filter(|(partition, (_, leader))| {
            let before = earlier.terms.get(partition).and_then(|(_, leader)| *leader);
            leader.is_some() && before.is_some() && *leader != before
        });
        moved.count() as u64
    }
}

/// What is taken.
#[derive(Debug)]
struct Subject {
    partition: u32,
    /// The leader, or all that hold it.
    nodes: Vec<NodeId>,
    bytes: u64,
    remembered_commands: u64,
}

/// Takes one of each partition to see how large they are.
async fn subject(scene: Scene<'_>, plan: &SnapshotPlan) -> anyhow::Result<Subject> {
    let cluster = ClusterStatus::ask(scene.api).await?;
    let wanted = |partition: u32| plan.partition.is_none_or(|only| only == partition);
    let leaders: Vec<(u32, NodeId)> = cluster
        .leaders()
        .map(|(node, replica)| (replica.partition.0, node))
        .filter(|(partition, _)| wanted(*partition))
        .collect();
    let bar = scene.output.bar(leaders.len() as u64, "sizes");
    for (partition, node) in &leaders {
        take_one(scene.api, *partition, *node).await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let cluster = ClusterStatus::ask(scene.api).await?;
    let sized = cluster.leaders().filter_map(|(node, replica)| {
        let newest = replica.snapshots.last()?;
        wanted(replica.partition.0).then_some((newest.bytes, node, replica))
    });
    let (bytes, leader, replica) = sized
        .max_by_key(|(bytes, ..)| *bytes)
        .context("no partition has a leader and a snapshot")?;
    let partition = replica.partition;
    let holds = |status: &&grid::NodeStatus| {
        let mut replicas = status.replicas.iter();
        replicas.any(|replica| replica.partition == partition)
    };
    let holders = cluster
        .statuses()
        .filter(holds)
        .map(|status| status.node_id);
    Ok(Subject {
        partition: partition.0,
        nodes: if plan.all_replicas {
            holders.collect()
        } else {
            vec![leader]
        },
        bytes,
        remembered_commands: replica.remembered_commands,
    })
}

/// Takes them.
pub(crate) async fn script(
    scene: Scene<'_>,
    plan: &SnapshotPlan,
    recorder: &Recorder,
    _start: Instant,
) -> anyhow::Result<Snapshots> {
    await_whole(scene.api, WHOLE_WAIT).await?;
    tokio::time::sleep(plan.warm_up).await;
    let subject = subject(scene, plan).await?;
    tokio::time::sleep(scene.calm).await;
    let bar = scene.output.bar(plan.rounds.into(), "rounds");
    let mut rounds = Vec::new();
    for _ in 0..plan.rounds {
        rounds.push(round(scene, plan, &subject, recorder).await?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let calm = rounds.iter().filter(|round| !round.disturbed);
    let p99_without_ms = median(calm.map(|round| round.without.latency.p99_ms));
    let p99_with_ms = median(rounds.iter().map(|round| round.with.latency.p99_ms));
    Ok(Snapshots {
        partition: subject.partition,
        nodes: subject.nodes,
        bytes: subject.bytes,
        remembered_commands: subject.remembered_commands,
        p99_without_ms,
        p99_with_ms,
        elections: rounds.iter().map(|round| round.elections).sum(),
        moved: rounds.iter().map(|round| round.moved).sum(),
        rounds,
        goal: Goal::new(
            "p99 with a snapshot above p99 without, medians",
            P99_RISE_GOAL_MS,
            (p99_with_ms - p99_without_ms).max(0.0),
        ),
    })
}

async fn round(
    scene: Scene<'_>,
    plan: &SnapshotPlan,
    subject: &Subject,
    recorder: &Recorder,
) -> anyhow::Result<Round> {
    let before = Standing::look(scene.api).await?;
    recorder.take_window()?;
    tokio::time::sleep(plan.span).await;
    let without = recorder.take_window()?;
    let between = Standing::look(scene.api).await?;

    recorder.take_window()?;
    let started = Instant::now();
    let taking = subject
        .nodes
        .iter()
        .map(|node| take_one(scene.api, subject.partition, *node));
    try_join_all(taking).await?;
    let snapshot_ms = millis(started.elapsed());
    tokio::time::sleep(plan.span.saturating_sub(started.elapsed())).await;
    let with = recorder.take_window()?;
    let afterwards = Standing::look(scene.api).await?;
    Ok(Round {
        disturbed: before.newest != between.newest,
        without,
        with,
        snapshot_ms,
        elections: afterwards.elections_since(&before),
        moved: afterwards.moved_since(&before),
    })
}

impl Story for Snapshots {
    fn text(&self) -> String {
        let mut rows = table([
            "round",
            "p99 without, ms",
            "p99 with, ms",
            "max without, ms",
            "max with, ms",
            "done/s without",
            "done/s with",
            "snapshot, ms",
            "elections",
        ]);
        let per_s = |window: &Window| {
            let seconds = window.seconds.max(1e-3);
            grouped((window.latency.count as f64 / seconds).round() as u64)
        };
        for (number, round) in (1..).zip(&self.rounds) {
            let mark = if round.disturbed {
                " (not counted)"
            } else {
                ""
            };
            rows.add_row([
                format!("{number}"),
                format!("{:.1}{mark}", round.without.latency.p99_ms),
                format!("{:.1}", round.with.latency.p99_ms),
                format!("{:.1}", round.without.latency.max_ms),
                format!("{:.1}", round.with.latency.max_ms),
                per_s(&round.without),
                per_s(&round.with),
                round.snapshot_ms.to_string(),
                round.elections.to_string(),
            ]);
        }
        let nodes: Vec<String> = self.nodes.iter().map(NodeId::to_string).collect();
        format!(
            "snapshots of partition {} on node {}: {} bytes, {} commands remembered\n{rows}\n\n\
             p99 without {:.1} ms, with {:.1} ms\n{}elections: {}, leaderships moved: {} (none wanted)\n",
            self.partition,
            nodes.join(", "),
            grouped(self.bytes),
            grouped(self.remembered_commands),
            self.p99_without_ms,
            self.p99_with_ms,
            self.goal.text(),
            self.elections,
            self.moved,
        )
    }
}
