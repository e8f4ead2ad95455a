//! `grid restart`: nodes of a grid on this machine, one after another, while the grid serves.
//!
//! ```text
//!   for each node: the grid is whole ─► SIGTERM ─► hands over, says goodbye, ends
//!                  ─► `grid up` starts it again ─► its gateway is ready, its replicas are caught up
//! ```
//!
//! A node is stopped only while every partition has a leader and all its replicas; so no partition ever
//! lacks more than one.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use grid::balance::View;
use grid::{NodeId, NodeStatus};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::api::Api;
use crate::context::Context;
use crate::data_dir::NodeEntry;
use crate::failure::Failure;
use crate::output::table;

/// How long the grid may take to become whole before a node is stopped.
const WHOLE_WAIT: Duration = Duration::from_secs(60);
/// How long a node may take to end after its signal.
const END_WAIT: Duration = Duration::from_secs(30);
/// How long it may take to be back, with its log read.
const BACK_WAIT: Duration = Duration::from_secs(120);
const LOOK_PAUSE: Duration = Duration::from_millis(50);
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// `grid restart`
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct RestartArgs {
    /// Every node, one after another
    #[arg(long)]
    rolling: bool,
    /// This node only
    #[arg(long, value_name = "N")]
    node: Option<NodeId>,
}

/// One node's restart.
#[derive(Debug, Serialize)]
struct Restarted {
    node: NodeId,
    pid: i32,
    /// From the signal to the end of the old process.
    stopped_in_ms: u64,
    /// From there until its gateway was ready and its replicas were caught up.
    back_in_ms: u64,
}

/// `GET /admin/v1/status`.
#[derive(Debug, Deserialize)]
struct Cluster {
    nodes: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    node_id: NodeId,
    status: Option<NodeStatus>,
}

impl Cluster {
    /// Why a node should not be stopped just now; empty when the grid is whole.
    fn gaps(&self) -> Vec<String> {
        let nodes = self.nodes.iter();
        let view = View::of(nodes.map(|node| (node.node_id, node.status.as_ref())));
        let silent = self
            .nodes
            .iter()
            .filter(|node| node.status.is_none())
            .map(|node| format!("node {} does not answer", node.node_id));
        silent.chain(view.obstacles).collect()
    }
}

/// Restarts what is asked for.
pub(crate) async fn run(context: &Context, args: RestartArgs) -> anyhow::Result<()> {
    let grid = context.grid_file()?;
    let nodes: Vec<&NodeEntry> = match args.node {
        Some(wanted) => {
            let node = grid.nodes.iter().find(|node| node.id == wanted);
            vec![node.ok_or_else(|| Failure::Usage(format!("there is no node {wanted}")))?]
        }
        None => grid.nodes.iter().collect(),
    };
    let api = context.api()?;
    let started = Instant::now();
    let bar = context.output.bar(nodes.len() as u64, "nodes restarted");
    let mut restarted = Vec::new();
    for node in nodes {
        await_whole(&api, WHOLE_WAIT).await.with_context(|| {
            format!(
                "node {} is not restarted, for the grid could lose a partition",
                node.id
            )
        })?;
        restarted.push(restart(context, &api, node).await?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let took_ms = millis(started.elapsed());
    let document = json!({"restarted": restarted, "took_ms": took_ms});
    context
        .output
        .result(&document, || text(&restarted, took_ms))
}

fn text(restarted: &[Restarted], took_ms: u64) -> String {
    let mut rows = table(["node", "process", "stopped in, ms", "back in, ms"]);
    for node in restarted {
        rows.add_row([
            node.node.to_string(),
            node.pid.to_string(),
            node.stopped_in_ms.to_string(),
            node.back_in_ms.to_string(),
        ]);
    }
    format!("{rows}\nall in {:.1} s\n", took_ms as f64 / 1e3)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

async fn restart(context: &Context, api: &Api, node: &NodeEntry) -> anyhow::Result<Restarted> {
    let old = process(context, node.id).ok_or_else(|| {
        Failure::Unreachable(format!(
            "node {} does not run on this machine; start the grid with `grid up`",
            node.id
        ))
    })?;
    let signalled = Instant::now();
    kill(Pid::from_raw(old), Signal::SIGTERM).context("the node cannot be signalled")?;
    wait_for(END_WAIT, "it does not end", async || {
        (process(context, node.id) != Some(old)).then_some(())
    })
    .await
    .with_context(|| format!("node {}", node.id))?;
    let ended = Instant::now();
    let pid = wait_for(BACK_WAIT, "`grid up` does not start it again", async || {
        process(context, node.id)
    })
    .await
    .with_context(|| format!("node {}", node.id))?;
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(ASK_TIMEOUT)
        .build()?;
    let ready = format!("{}/ready", node.gateway_url());
    wait_for(BACK_WAIT, "its gateway does not become ready", async || {
        let response = http.get(&ready).send().await.ok()?;
        response.status().is_success().then_some(())
    })
    .await
    .with_context(|| format!("node {}", node.id))?;
    await_whole(api, BACK_WAIT)
        .await
        .with_context(|| format!("node {} is back, but the grid is not whole", node.id))?;
    Ok(Restarted {
        node: node.id,
        pid,
        stopped_in_ms: millis(ended - signalled),
        back_in_ms: millis(ended.elapsed()),
    })
}

/// Waits until every node answers, every partition has a leader and every replica is caught up.
async fn await_whole(api: &Api, patience: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let cluster: Cluster = api.get("/admin/v1/status").await?;
        let gaps = cluster.gaps();
        if gaps.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let refused = Failure::Refused {
                code: "not_whole".to_owned(),
                message: format!("{}; see `grid status`", gaps.join("; ")),
            };
            return Err(refused.into());
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

async fn wait_for<T>(
    patience: Duration,
    otherwise: &'static str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(Failure::NodeStopped(otherwise.to_owned()).into());
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// The process that runs a node, if it is one: a number in a file may be another's by now.
fn process(context: &Context, node: NodeId) -> Option<i32> {
    let path = context.data_dir.node(node).join("node.pid");
    let pid: i32 = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let wanted = format!("--node-id={node}");
    arguments
        .split(|byte| *byte == 0)
        .any(|argument| argument == wanted.as_bytes())
        .then_some(pid)
}
