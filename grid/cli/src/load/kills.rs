//! `grid load faults`: the busiest leader's process is killed, again and again, after it has come back.
//!
//! A kill's *gap* is the longest time from it until the grid was whole again in which no write of one
//! sale succeeded: what buyers felt of it.

use std::time::{Duration, Instant};

use grid::NodeId;
use serde::Serialize;

use super::fault::{WATCH, busiest, kill_node};
use super::recorder::Recorder;
use super::scenario::{Goal, Phase, Scene, Story, not_supervised, phases_text};
use crate::output::table;
use crate::rolling::{BACK_WAIT, await_back, await_whole, millis};

/// Writes succeed again within this time, in ms.
const GAP_GOAL_MS: f64 = 2_000.0;
/// About how long a kill takes with everything around it, for the sale's tempo.
pub(crate) const KILL_TIME: Duration = Duration::from_secs(8);
/// After the grid is whole, the first successes of a slow client are awaited for so long.
const SETTLE: Duration = Duration::from_millis(500);

/// One kill.
#[derive(Debug, Serialize)]
struct Kill {
    node: NodeId,
    pid: i32,
    /// The busiest partition, which it led.
    partition: u32,
    /// Seconds after the first request.
    at_s: f64,
    /// The longest time without a success.
    gap_ms: f64,
    /// Until the node was back and the grid whole.
    whole_in_ms: u64,
    /// Requests that failed for good.
    failed: u64,
    /// Requests sent again.
    retries: u64,
    /// Of requests decided until the grid was whole.
    p99_ms: f64,
}

/// The times without a success over all kills.
#[derive(Debug, Serialize)]
struct Gaps {
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

/// What was killed, and what came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Kills {
    kills: Vec<Kill>,
    gaps: Gaps,
    goal: Goal,
    /// Before the first kill, and between kills.
    calm: Vec<Phase>,
}

/// Kills so many times.
pub(crate) async fn script(
    scene: Scene<'_>,
    kills: u32,
    recorder: &Recorder,
    start: Instant,
) -> anyhow::Result<Kills> {
    let grid = scene.supervised_grid().await?;
    let bar = scene.output.bar(kills.into(), "kills");
    let mut told = Vec::new();
    let mut calm = Vec::new();
    for number in 1..=kills {
        await_whole(scene.api, BACK_WAIT).await?;
        tokio::time::sleep(scene.calm).await;
        let (partition, node) = busiest(scene.api, (Instant::now() + WATCH).into()).await?;
        calm.push(Phase::close(recorder, format!("before kill {number}"))?);
        let entry = grid.nodes.iter().find(|entry| entry.id == node);
        let entry = entry.ok_or_else(|| not_supervised(&[node]))?;
        let (struck, at_s) = (Instant::now(), start.elapsed().as_secs_f64());
        let pid = kill_node(scene.data_dir, node)?;
        await_back(scene.data_dir, scene.api, entry, pid).await?;
        let whole_in_ms = millis(struck.elapsed());
        tokio::time::sleep(SETTLE).await;
        let window = recorder.take_window()?;
        told.push(Kill {
            node,
            pid,
            partition,
            at_s,
            gap_ms: window.longest_gap_ms,
            whole_in_ms,
            failed: window.failed,
            retries: window.retries,
            p99_ms: window.latency.p99_ms,
        });
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mut gaps: Vec<f64> = told.iter().map(|kill| kill.gap_ms).collect();
    gaps.sort_by(f64::total_cmp);
    let gaps = Gaps {
        p50_ms: at_rank(&gaps, 0.5),
        p99_ms: at_rank(&gaps, 0.99),
        max_ms: at_rank(&gaps, 1.0),
    };
    Ok(Kills {
        kills: told,
        goal: Goal::new(
            "time without a success after a kill, p99",
            GAP_GOAL_MS,
            gaps.p99_ms,
        ),
        gaps,
        calm,
    })
}

/// The smallest value that is no less than this part of all, which are in order.
fn at_rank(sorted: &[f64], part: f64) -> f64 {
    let rank = (part * sorted.len() as f64).ceil() as usize;
    let place = rank.clamp(1, sorted.len().max(1)) - 1;
    sorted.get(place).copied().unwrap_or(0.0)
}

impl Story for Kills {
    fn text(&self) -> String {
        let mut rows = table([
            "kill",
            "node",
            "partition",
            "at, s",
            "without a success, ms",
            "whole in, ms",
            "failed",
            "sent again",
            "p99 ms",
        ]);
        for (number, kill) in (1..).zip(&self.kills) {
            rows.add_row([
                format!("{number}"),
                kill.node.to_string(),
                kill.partition.to_string(),
                format!("{:.1}", kill.at_s),
                format!("{:.0}", kill.gap_ms),
                kill.whole_in_ms.to_string(),
                kill.failed.to_string(),
                kill.retries.to_string(),
                format!("{:.1}", kill.p99_ms),
            ]);
        }
        let gaps = &self.gaps;
        format!(
            "{}\n{rows}\n\nwithout a success over {} kills: p50 {:.0} ms, p99 {:.0} ms, max {:.0} ms\n{}",
            phases_text(&self.calm),
            self.kills.len(),
            gaps.p50_ms,
            gaps.p99_ms,
            gaps.max_ms,
            self.goal.text()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_of_values_that_were_measured() {
        let sorted: Vec<f64> = (1..=20).map(f64::from).collect();
        assert!((at_rank(&sorted, 0.5) - 10.0).abs() < f64::EPSILON);
        assert!((at_rank(&sorted, 0.99) - 20.0).abs() < f64::EPSILON);
        assert!((at_rank(&sorted[..1], 0.5) - 1.0).abs() < f64::EPSILON);
        assert!(at_rank(&[], 0.5).abs() < f64::EPSILON);
    }
}
