//! `grid load idle`: what each node of a grid that nobody uses costs its machine.
//!
//! A share of a core is processor time by wall time. A *wake-up* is a thread that has waited and goes on:
//! most of what an idle process costs. What is written to the log meanwhile is reported too: a grid that
//! somebody used was not idle.

use std::time::{Duration, Instant};

use grid::NodeId;
use serde::Serialize;
use serde_json::json;

use super::machine::Machine;
use super::usage::Usage;
use crate::api::Api;
use crate::cluster::ClusterStatus;
use crate::data_dir::DataDir;
use crate::failure::Failure;
use crate::output::{Output, grouped, table};
use crate::rolling::{WHOLE_WAIT, await_whole, process};

/// A node uses at most this much of a core, in percent.
const CORE_PERCENT_GOAL: f64 = 2.0;
/// And has at most so much in memory.
const RESIDENT_MB_GOAL: f64 = 150.0;
/// Before it is measured, what asking the grid has begun may come to rest.
const SETTLE: Duration = Duration::from_secs(2);
const BAR_PAUSE: Duration = Duration::from_millis(250);

/// What one node used.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct NodeCost {
    node: NodeId,
    pid: i32,
    /// Of one core.
    core_percent: f64,
    /// Megabytes (10^6 bytes) in memory at the end.
    resident_mb: f64,
    wakeups_per_s: f64,
}

/// What all of them used.
#[derive(Debug, Serialize)]
pub(crate) struct Idle {
    machine: Machine,
    seconds: f64,
    partitions: u32,
    /// Log entries that the partitions' leaders applied meanwhile: none while nobody uses the grid.
    entries: u64,
    nodes: Vec<NodeCost>,
    core_percent_goal: f64,
    resident_mb_goal: f64,
    /// Whether the node that used most stayed within both. Missing them is told, and is no failure.
    met: bool,
}

/// Measures for so long.
pub(crate) async fn run(
    output: Output,
    api: &Api,
    data_dir: &DataDir,
    nodes: &[NodeId],
    partitions: u32,
    duration: Duration,
) -> anyhow::Result<Idle> {
    await_whole(api, WHOLE_WAIT).await?;
    let applied = ClusterStatus::ask(api).await?.applied();
    tokio::time::sleep(SETTLE).await;
    let before = readings(data_dir, nodes)?;
    let start = Instant::now();
    let bar = output.bar(duration.as_secs().max(1), "left alone");
    while start.elapsed() < duration {
        let left = duration.saturating_sub(start.elapsed());
        tokio::time::sleep(left.min(BAR_PAUSE)).await;
        bar.set_position(start.elapsed().as_secs());
    }
    bar.finish_and_clear();
    let after = readings(data_dir, nodes)?;
    let seconds = start.elapsed().as_secs_f64();
    let now = ClusterStatus::ask(api).await?.applied();
    let grown = now.iter().map(|(partition, index)| {
        index.saturating_sub(applied.get(partition).copied().unwrap_or(*index))
    });
    let costs = before.into_iter().zip(after).map(|(before, after)| {
        if before.pid != after.pid {
            let text = format!("node {} was started anew meanwhile", before.node);
            return Err(Failure::NodeStopped(text));
        }
        Ok(cost(&before, &after, seconds))
    });
    let costs: Vec<NodeCost> = costs.collect::<Result<_, _>>()?;
    Ok(Idle {
        machine: Machine::read(),
        seconds,
        partitions,
        entries: grown.sum(),
        met: costs.iter().all(is_within),
        nodes: costs,
        core_percent_goal: CORE_PERCENT_GOAL,
        resident_mb_goal: RESIDENT_MB_GOAL,
    })
}

/// What a node's process had used at some moment.
struct Reading {
    node: NodeId,
    pid: i32,
    usage: Usage,
}

fn readings(data_dir: &DataDir, nodes: &[NodeId]) -> Result<Vec<Reading>, Failure> {
    let read = |node: NodeId| {
        let pid = process(data_dir, node)?;
        let usage = Usage::read(pid)?;
        Some(Reading { node, pid, usage })
    };
    let readings = nodes.iter().map(|node| {
        read(*node).ok_or_else(|| {
            Failure::Unreachable(format!(
                "node {node} does not run on this machine; start the grid with `grid up`"
            ))
        })
    });
    readings.collect()
}

fn cost(before: &Reading, after: &Reading, seconds: f64) -> NodeCost {
    let cpu = after.usage.cpu.saturating_sub(before.usage.cpu);
    NodeCost {
        node: after.node,
        pid: after.pid,
        core_percent: cpu.as_secs_f64() / seconds * 100.0,
        resident_mb: after.usage.resident_kib as f64 * 1_024.0 / 1e6,
        wakeups_per_s: after.usage.wakeups_since(&before.usage) as f64 / seconds,
    }
}

fn is_within(cost: &NodeCost) -> bool {
    cost.core_percent <= CORE_PERCENT_GOAL && cost.resident_mb <= RESIDENT_MB_GOAL
}

impl Idle {
    /// Prints everything.
    pub(crate) fn print(&self, output: Output) -> anyhow::Result<()> {
        output.result(&json!(self), || self.text())
    }

    fn text(&self) -> String {
        let mut rows = table([
            "node",
            "process",
            "% of a core",
            "MB in memory",
            "wake-ups/s",
        ]);
        for cost in &self.nodes {
            rows.add_row([
                cost.node.to_string(),
                cost.pid.to_string(),
                format!("{:.2}", cost.core_percent),
                format!("{:.0}", cost.resident_mb),
                format!("{:.0}", cost.wakeups_per_s),
            ]);
        }
        let used = match self.entries {
            0 => String::new(),
            entries => format!(
                "the grid was not idle: {} log entries were written meanwhile\n",
                grouped(entries)
            ),
        };
        format!(
            "{}\n{} nodes, {} partitions, left alone for {:.1} s\n\n{rows}\n\n{used}at most {:.0} % of a \
             core and {:.0} MB wanted: {}\n",
            self.machine.text(),
            self.nodes.len(),
            self.partitions,
            self.seconds,
            self.core_percent_goal,
            self.resident_mb_goal,
            if self.met { "reached" } else { "MISSED" }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_must_stay_within_both_bounds() {
        let node = |core_percent, resident_mb| NodeCost {
            node: 1,
            pid: 1,
            core_percent,
            resident_mb,
            wakeups_per_s: 100.0,
        };
        assert!(is_within(&node(1.9, 149.0)));
        assert!(!is_within(&node(2.1, 149.0)));
        assert!(!is_within(&node(1.9, 151.0)));
    }
}
