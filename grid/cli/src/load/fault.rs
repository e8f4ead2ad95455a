//! A node killed in the middle of a run: the one that leads the busiest partition.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use grid::NodeId;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;

use crate::api::Api;
use crate::cluster::ClusterStatus;
use crate::data_dir::DataDir;
use crate::failure::Failure;
use crate::rolling::process;

/// How long it is watched which partition is the busiest.
pub(super) const WATCH: Duration = Duration::from_secs(1);

/// What was killed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Killed {
    node: u64,
    pid: i32,
    /// The busiest partition, which it led.
    partition: u32,
    /// Seconds after the first request.
    at_s: f64,
}

impl Killed {
    /// For people.
    pub(crate) fn text(&self) -> String {
        format!(
            "killed node {} (kill -9 {}), the leader of the busiest partition {}, {:.1} s after the start\n",
            self.node, self.pid, self.partition, self.at_s
        )
    }
}

/// A kill that is to come.
#[derive(Debug)]
pub(crate) struct Fault {
    api: Api,
    data_dir: DataDir,
    after: Duration,
    killed: Mutex<Option<Killed>>,
}

impl Fault {
    /// Kills a process of the grid in `data_dir`, so long after the first request.
    pub(crate) fn new(api: Api, data_dir: DataDir, after: Duration) -> Self {
        Self {
            api,
            data_dir,
            after,
            killed: Mutex::default(),
        }
    }

    /// What was killed.
    pub(crate) fn killed(&self) -> Option<Killed> {
        self.killed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits for its time and strikes. A run in which it could not is worth nothing, so it says so.
    pub(super) async fn strike(&self, start: Instant) -> anyhow::Result<()> {
        let watched_from = start + self.after.saturating_sub(WATCH);
        tokio::time::sleep_until(watched_from.into()).await;
        let (partition, node) = busiest(&self.api, (start + self.after).into()).await?;
        let at_s = start.elapsed().as_secs_f64();
        let pid = kill_node(&self.data_dir, node)?;
        let killed = Killed {
            node,
            pid,
            partition,
            at_s,
        };
        *self.killed.lock().unwrap_or_else(PoisonError::into_inner) = Some(killed);
        Ok(())
    }
}

/// The partition that is written to most between now and `until`, with the node that leads it then.
pub(super) async fn busiest(
    api: &Api,
    until: tokio::time::Instant,
) -> anyhow::Result<(u32, NodeId)> {
    let before: ClusterStatus = api.get("/admin/v1/status").await?;
    tokio::time::sleep_until(until).await;
    let now: ClusterStatus = api.get("/admin/v1/status").await?;
    now.busiest_since(&before)
        .context("no partition has a leader")
}

/// Kills the process of a node on this machine, as by `kill -9`, and returns which it was.
pub(super) fn kill_node(data_dir: &DataDir, node: NodeId) -> anyhow::Result<i32> {
    let pid = process(data_dir, node).ok_or_else(|| {
        Failure::Unreachable(format!(
            "node {node} leads the busiest partition, and no process of it is known: only nodes that \
             `grid up` runs on this machine, in {}, can be killed",
            data_dir.path().display()
        ))
    })?;
    kill(Pid::from_raw(pid), Signal::SIGKILL).context("the node cannot be killed")?;
    Ok(pid)
}
