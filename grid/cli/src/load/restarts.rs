//! `grid load restart`: every node is restarted, one after another, while buyers buy.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::recorder::Recorder;
use super::scenario::{Phase, Scene, Story, phases_text};
use crate::rolling::{self, Restarted};

/// About how long one node takes, for the sale's tempo.
pub(crate) const RESTART_TIME: Duration = Duration::from_secs(6);

/// What was restarted, and what came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Restarts {
    restarted: Vec<Restarted>,
    phases: Vec<Phase>,
}

/// Restarts every node so many times.
pub(crate) async fn script(
    scene: Scene<'_>,
    rounds: u32,
    recorder: &Recorder,
    _start: Instant,
) -> anyhow::Result<Restarts> {
    let grid = scene.supervised_grid().await?;
    let total = u64::from(rounds) * grid.nodes.len() as u64;
    let bar = scene.output.bar(total, "nodes restarted");
    let mut restarted = Vec::new();
    tokio::time::sleep(scene.calm).await;
    let mut phases = vec![Phase::close(recorder, "before")?];
    for _ in 0..rounds {
        for node in &grid.nodes {
            restarted.push(rolling::restart(scene.data_dir, scene.api, node).await?);
            phases.push(Phase::close(
                recorder,
                format!("node {} restarts", node.id),
            )?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    tokio::time::sleep(scene.calm).await;
    phases.push(Phase::close(recorder, "afterwards")?);
    Ok(Restarts { restarted, phases })
}

impl Story for Restarts {
    fn text(&self) -> String {
        let mut text = phases_text(&self.phases);
        for node in &self.restarted {
            text.push_str(&format!(
                "node {}: stopped in {} ms, back in {} ms, process {}\n",
                node.node, node.stopped_in_ms, node.back_in_ms, node.pid
            ));
        }
        text
    }
}
