//! `grid load scale`: a node joins the grid and another is drained and removed while buyers buy.
//!
//! The node that joined stays: it is one of the grid's now, and goes on when this command has ended.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use grid::NodeId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::recorder::Recorder;
use super::scenario::{Goal, Phase, Scene, Story, phases_text};
use crate::api::Api;
use crate::failure::Failure;
use crate::rolling::{BACK_WAIT, WHOLE_WAIT, await_whole};

/// The p99 of every phase stays below this, in ms.
const P99_GOAL_MS: f64 = 200.0;
/// About how long it all takes, for the sale's tempo.
pub(crate) const SCALE_TIME: Duration = Duration::from_secs(30);
/// How long the moves of one step may take.
const MOVES_WAIT: Duration = Duration::from_secs(600);
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// What to do.
#[derive(Clone, Debug)]
pub(crate) struct ScalePlan {
    /// The node to remove; the lowest of those that were there before, otherwise.
    pub(crate) remove: Option<NodeId>,
    /// The configuration of the node that joins.
    pub(crate) config: Option<PathBuf>,
}

/// What was done, and what came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Scaled {
    joined: NodeId,
    /// Of the node that joined.
    pid: i64,
    removed: NodeId,
    phases: Vec<Phase>,
    goal: Goal,
}

/// `GET /admin/v1/members`, as far as it is needed here.
#[derive(Debug, Deserialize)]
struct Members {
    nodes: Vec<Member>,
    moving: Option<Value>,
    moves: Vec<Value>,
}

#[derive(Debug, Deserialize)]
struct Member {
    node_id: NodeId,
    state: String,
    replicas: u64,
}

/// The line that `grid node join` prints.
#[derive(Debug, Deserialize)]
struct Ready {
    node_id: NodeId,
    pid: i64,
}

impl Members {
    fn find(&self, node: NodeId) -> Option<&Member> {
        self.nodes.iter().find(|member| member.node_id == node)
    }
}

/// Adds a node, then removes one.
pub(crate) async fn script(
    scene: Scene<'_>,
    plan: &ScalePlan,
    recorder: &Recorder,
    _start: Instant,
) -> anyhow::Result<Scaled> {
    await_whole(scene.api, WHOLE_WAIT).await?;
    let before = members(scene.api).await?;
    let mut present = before.nodes.iter().filter(|node| node.state == "active");
    let removed = match plan.remove {
        Some(node) => node,
        None => present.next().context("no node is active")?.node_id,
    };
    tokio::time::sleep(scene.calm).await;
    let mut phases = vec![Phase::close(recorder, "before")?];

    let joined = join(scene, plan).await?;
    let node = joined.node_id;
    wait(
        scene.api,
        "the new node does not get its share",
        |members| {
            let rests = members.moving.is_none() && members.moves.is_empty();
            rests && members.find(node).is_some_and(|node| node.replicas > 0)
        },
    )
    .await?;
    await_whole(scene.api, BACK_WAIT).await?;
    phases.push(Phase::close(recorder, format!("node {node} joins"))?);
    tokio::time::sleep(scene.calm).await;
    phases.push(Phase::close(recorder, "between")?);

    let path = format!("/admin/v1/members/{removed}/remove");
    let order = json!({"drain": true, "dry_run": false});
    scene.api.post::<Value>(&path, &order, None).await?;
    wait(scene.api, "the other node is not emptied", |members| {
        members
            .find(removed)
            .is_some_and(|node| node.state == "removed")
    })
    .await?;
    phases.push(Phase::close(recorder, format!("node {removed} goes"))?);
    tokio::time::sleep(scene.calm).await;
    phases.push(Phase::close(recorder, "afterwards")?);

    let p99s = phases.iter().map(|phase| phase.window.latency.p99_ms);
    let worst = p99s.fold(0.0, f64::max);
    Ok(Scaled {
        joined: node,
        pid: joined.pid,
        removed,
        phases,
        goal: Goal::new("p99 of the slowest phase", P99_GOAL_MS, worst),
    })
}

/// Starts one more node, which outlives this command, and waits until it is a member.
async fn join(scene: Scene<'_>, plan: &ScalePlan) -> anyhow::Result<Ready> {
    let log_path = scene.data_dir.path().join("joined.log");
    let log = std::fs::File::create(&log_path)
        .with_context(|| format!("{} cannot be written", log_path.display()))?;
    let program = std::env::current_exe().context("cannot find this program's file")?;
    let mut command = Command::new(program);
    command
        .arg("--json")
        .arg("--data-dir")
        .arg(scene.data_dir.path())
        .args(["node", "join"]);
    if let Some(config) = &plan.config {
        command.arg("--config").arg(config);
    }
    let mut process = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        // Ctrl-C ends this command, not the node.
        .process_group(0)
        .spawn()
        .context("cannot start a node")?;
    let output = process.stdout.take().context("the node has no output")?;
    let mut lines = BufReader::new(output).lines();
    let line = tokio::time::timeout(BACK_WAIT, lines.next_line()).await;
    let ready = line.ok().and_then(Result::ok).flatten();
    ready
        .and_then(|line| serde_json::from_str(&line).ok())
        .ok_or_else(|| {
            let text = format!("the new node did not join; see {}", log_path.display());
            Failure::NodeStopped(text).into()
        })
}

async fn members(api: &Api) -> anyhow::Result<Members> {
    api.get("/admin/v1/members").await
}

async fn wait(
    api: &Api,
    otherwise: &'static str,
    is_done: impl Fn(&Members) -> bool,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + MOVES_WAIT;
    while !is_done(&members(api).await?) {
        if Instant::now() > deadline {
            let text = format!("{otherwise}; see `grid node list`");
            return Err(Failure::NodeStopped(text).into());
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    Ok(())
}

impl Story for Scaled {
    fn text(&self) -> String {
        format!(
            "{}\nnode {} joined and goes on as process {}; node {} was removed\n{}",
            phases_text(&self.phases),
            self.joined,
            self.pid,
            self.removed,
            self.goal.text()
        )
    }
}
