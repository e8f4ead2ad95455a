//! Nodes of a grid on this machine, restarted one at a time while the grid serves; the processes that
//! run them.
//!
//! ```text
//!   the grid is whole ─► SIGTERM ─► hands over, says goodbye, ends
//!                     ─► `grid up` starts it again ─► its gateway is ready, its replicas are caught up
//! ```
//!
//! A node is stopped only while every partition has a leader and all its replicas; so no partition ever
//! lacks more than one.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use grid::balance::View;
use grid::{NodeId, NodeStatus};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::api::Api;
use crate::data_dir::{DataDir, NodeEntry};
use crate::failure::Failure;

/// How long the grid may take to become whole before a node is stopped.
pub(crate) const WHOLE_WAIT: Duration = Duration::from_secs(60);
/// How long a node may take to end after its signal.
const END_WAIT: Duration = Duration::from_secs(30);
/// How long it may take to be back, with its log read.
pub(crate) const BACK_WAIT: Duration = Duration::from_secs(120);
const LOOK_PAUSE: Duration = Duration::from_millis(50);
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// One node's restart.
#[derive(Debug, Serialize)]
pub(crate) struct Restarted {
    pub(crate) node: NodeId,
    /// The new process.
    pub(crate) pid: i32,
    /// From the signal to the end of the old process.
    pub(crate) stopped_in_ms: u64,
    /// From there until its gateway was ready and its replicas were caught up.
    pub(crate) back_in_ms: u64,
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

/// A duration in whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Restarts one node, once the grid is whole, and waits until it is whole again.
pub(crate) async fn restart(
    data_dir: &DataDir,
    api: &Api,
    node: &NodeEntry,
) -> anyhow::Result<Restarted> {
    await_whole(api, WHOLE_WAIT).await.with_context(|| {
        format!(
            "node {} is not restarted, for the grid could lose a partition",
            node.id
        )
    })?;
    let old = process(data_dir, node.id).ok_or_else(|| {
        Failure::Unreachable(format!(
            "node {} does not run on this machine; start the grid with `grid up`",
            node.id
        ))
    })?;
    let signalled = Instant::now();
    kill(Pid::from_raw(old), Signal::SIGTERM).context("the node cannot be signalled")?;
    wait_for(END_WAIT, "it does not end", async || {
        (process(data_dir, node.id) != Some(old)).then_some(())
    })
    .await
    .with_context(|| format!("node {}", node.id))?;
    let ended = Instant::now();
    let pid = await_back(data_dir, api, node, old).await?;
    Ok(Restarted {
        node: node.id,
        pid,
        stopped_in_ms: millis(ended - signalled),
        back_in_ms: millis(ended.elapsed()),
    })
}

/// Waits until `grid up` has started a node again whose process `old` has ended, its gateway is ready
/// and the grid is whole. Its new process.
pub(crate) async fn await_back(
    data_dir: &DataDir,
    api: &Api,
    node: &NodeEntry,
    old: i32,
) -> anyhow::Result<i32> {
    let pid = wait_for(BACK_WAIT, "`grid up` does not start it again", async || {
        process(data_dir, node.id).filter(|pid| *pid != old)
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
    Ok(pid)
}

/// Waits until every node answers, every partition has a leader and every replica is caught up.
pub(crate) async fn await_whole(api: &Api, patience: Duration) -> anyhow::Result<()> {
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

/// The process that runs a node of a data directory, if it is one: a number in a file may be another's
/// by now.
pub(crate) fn process(data_dir: &DataDir, node: NodeId) -> Option<i32> {
    let path = data_dir.node(node).join("node.pid");
    let pid: i32 = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let wanted = format!("--node-id={node}");
    arguments
        .split(|byte| *byte == 0)
        .any(|argument| argument == wanted.as_bytes())
        .then_some(pid)
}
