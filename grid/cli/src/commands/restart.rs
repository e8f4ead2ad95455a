//! `grid restart`: nodes of a grid on this machine, one after another, while the grid serves.

use std::time::Instant;

use clap::Args;
use grid::NodeId;
use serde_json::json;

use crate::context::Context;
use crate::data_dir::NodeEntry;
use crate::failure::Failure;
use crate::output::table;
use crate::rolling::{self, Restarted, millis};

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
        restarted.push(rolling::restart(&context.data_dir, &api, node).await?);
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
