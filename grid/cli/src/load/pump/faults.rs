//! `grid load pump-faults`: nodes that pump and the database are killed (kill -9), one or both, at moments
//! that nobody chose, while buyers buy.
//!
//! A kill meets a pump wherever it happens to be: before a transaction, among its rows, after the commit
//! and before its answer. The check afterwards is the point: the database says what the grid says, each
//! fact is there once, in its order, and nothing is missing between two others.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use data_pump::database::PrivateServer;
use data_pump::pump::FenceOutcomes;
use grid::NodeId;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;

use super::watch::{Lanes, await_running};
use crate::cluster::ClusterStatus;
use crate::data_dir::NodeEntry;
use crate::failure::Failure;
use crate::load::fault::kill_node;
use crate::load::recorder::Recorder;
use crate::load::scenario::{Phase, Scene, Story, not_supervised};
use crate::output::table;
use crate::rolling::{BACK_WAIT, await_back, await_whole, millis};
use crate::sequence::Sequence;

/// About how long a kill takes with everything around it, for the sale's tempo.
pub(crate) const FAULT_TIME: Duration = Duration::from_secs(10);
/// How long the pump may take to write again.
const RUN_WAIT: Duration = Duration::from_secs(600);

/// What to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FaultsPlan {
    /// Kills of nodes that pump; the database is killed beside some of them.
    pub(crate) kills: u32,
    /// Chooses whom, and when.
    pub(crate) seed: u64,
}

/// Whom a kill struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Struck {
    Node,
    DatabaseThenNode,
    NodeThenDatabase,
}

impl Struck {
    fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::DatabaseThenNode => "database, node",
            Self::NodeThenDatabase => "node, database",
        }
    }
}

/// One kill.
#[derive(Debug, Serialize)]
struct Kill {
    struck: Struck,
    node: NodeId,
    /// Seconds after the first request.
    at_s: f64,
    /// How far the pump was behind just before.
    behind_entries: u64,
    /// Until the grid was whole.
    whole_in_ms: u64,
    /// Until every partition's pump wrote again.
    pumping_in_ms: u64,
}

/// What was killed, and what came of it.
#[derive(Debug, Serialize)]
pub(crate) struct PumpFaults {
    kills: Vec<Kill>,
    /// Kills of the database among them.
    database_kills: usize,
    /// What the lanes that were alive at the end had found on opening.
    fence: FenceOutcomes,
    phase: Phase,
}

/// Kills the private database's server; its supervisor starts it again.
fn kill_database(server: &PrivateServer) -> anyhow::Result<()> {
    let pid = server.pid().context("the database does not run")?;
    kill(Pid::from_raw(pid), Signal::SIGKILL).context("the database cannot be killed")
}

/// The database that `grid up` runs here.
pub(super) fn private_server(scene: Scene<'_>) -> anyhow::Result<PrivateServer> {
    let server = PrivateServer::of(scene.data_dir.path())
        .map_err(|error| Failure::Database(error.to_string()))?;
    let server = server.filter(|server| server.pid().is_some());
    server.ok_or_else(|| {
        let text = "this takes a grid with a database of its own (`grid up` on a machine with \
                    PostgreSQL): one that was given with --database-url is not touched";
        Failure::Usage(text.to_owned()).into()
    })
}

/// Kills so many times.
pub(crate) async fn script(
    scene: Scene<'_>,
    plan: FaultsPlan,
    recorder: &Recorder,
    start: Instant,
) -> anyhow::Result<PumpFaults> {
    let grid = scene.supervised_grid().await?;
    let server = private_server(scene)?;
    let mut sequence = Sequence::new(plan.seed);
    let bar = scene.output.bar(plan.kills.into(), "kills");
    let mut kills = Vec::new();
    for _ in 0..plan.kills {
        await_whole(scene.api, BACK_WAIT).await?;
        await_running(scene.api, RUN_WAIT).await?;
        let calm_ms = u64::try_from(scene.calm.as_millis())?.max(1);
        tokio::time::sleep(Duration::from_millis(sequence.below(calm_ms))).await;
        // A node that leads a partition that somebody writes to pumps it.
        let leaders: Vec<NodeId> = {
            let cluster = ClusterStatus::ask(scene.api).await?;
            cluster.leaders().map(|(node, _)| node).collect()
        };
        if leaders.is_empty() {
            continue;
        }
        let node = *sequence.pick(&leaders);
        let entry = grid.nodes.iter().find(|entry| entry.id == node);
        let entry = entry.ok_or_else(|| not_supervised(&[node]))?;
        let struck = *sequence.pick(&[
            Struck::Node,
            Struck::Node,
            Struck::DatabaseThenNode,
            Struck::NodeThenDatabase,
        ]);
        let behind_entries = Lanes::look(scene.api).await?.behind_entries;
        let between = Duration::from_millis(sequence.below(200));
        kills.push(Kill {
            behind_entries,
            ..strike(scene, entry, &server, struck, between, start).await?
        });
        bar.inc(1);
    }
    bar.finish_and_clear();
    await_running(scene.api, RUN_WAIT).await?;
    let database = |kill: &&Kill| kill.struck != Struck::Node;
    Ok(PumpFaults {
        database_kills: kills.iter().filter(database).count(),
        kills,
        fence: Lanes::look(scene.api).await?.fence,
        phase: Phase::close(recorder, "all kills")?,
    })
}

async fn strike(
    scene: Scene<'_>,
    entry: &NodeEntry,
    server: &PrivateServer,
    struck: Struck,
    between: Duration,
    start: Instant,
) -> anyhow::Result<Kill> {
    let (struck_at, at_s) = (Instant::now(), start.elapsed().as_secs_f64());
    let pid = match struck {
        Struck::Node => kill_node(scene.data_dir, entry.id)?,
        Struck::DatabaseThenNode => {
            kill_database(server)?;
            tokio::time::sleep(between).await;
            kill_node(scene.data_dir, entry.id)?
        }
        Struck::NodeThenDatabase => {
            let pid = kill_node(scene.data_dir, entry.id)?;
            tokio::time::sleep(between).await;
            kill_database(server)?;
            pid
        }
    };
    await_back(scene.data_dir, scene.api, entry, pid).await?;
    let whole_in_ms = millis(struck_at.elapsed());
    await_running(scene.api, RUN_WAIT).await?;
    Ok(Kill {
        struck,
        node: entry.id,
        at_s,
        behind_entries: 0,
        whole_in_ms,
        pumping_in_ms: millis(struck_at.elapsed()),
    })
}

impl Story for PumpFaults {
    fn text(&self) -> String {
        let mut rows = table([
            "kill",
            "of",
            "node",
            "at, s",
            "entries behind",
            "whole in, ms",
            "pumping in, ms",
        ]);
        for (number, kill) in (1..).zip(&self.kills) {
            rows.add_row([
                format!("{number}"),
                kill.struck.name().to_owned(),
                kill.node.to_string(),
                format!("{:.1}", kill.at_s),
                kill.behind_entries.to_string(),
                kill.whole_in_ms.to_string(),
                kill.pumping_in_ms.to_string(),
            ]);
        }
        format!(
            "{rows}\n\n{} kills of nodes, {} of the database; lanes found the database there {}, ahead {}, \
             behind {} times (those that still run)\n",
            self.kills.len(),
            self.database_kills,
            self.fence.equal,
            self.fence.ahead,
            self.fence.behind,
        )
    }
}
