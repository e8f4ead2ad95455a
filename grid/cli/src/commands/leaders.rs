//! `grid leaders`: which node leads which partition.

use clap::Args;
use serde::Serialize;

use crate::cluster::ClusterStatus;
use crate::context::Context;
use crate::output::table;

/// `grid leaders`
#[derive(Debug, Args)]
pub(crate) struct LeadersArgs {}

#[derive(Debug, Serialize)]
struct Leaders {
    nodes: Vec<NodeLeads>,
    /// Partitions without a leader.
    without: Vec<u32>,
}

#[derive(Debug, Serialize)]
struct NodeLeads {
    node_id: u64,
    partitions: Vec<u32>,
}

/// Lists them.
pub(crate) async fn run(context: &Context, LeadersArgs {}: LeadersArgs) -> anyhow::Result<()> {
    let cluster = ClusterStatus::ask(&context.api()?).await?;
    let partitions = &cluster.health.partitions;
    let led_by = |leader: Option<u64>| -> Vec<u32> {
        let led = partitions
            .iter()
            .filter(|partition| partition.leader == leader);
        led.map(|partition| partition.partition.0).collect()
    };
    let leaders = Leaders {
        nodes: cluster
            .nodes
            .iter()
            .map(|node| NodeLeads {
                node_id: node.node_id,
                partitions: led_by(Some(node.node_id)),
            })
            .collect(),
        without: led_by(None),
    };
    context.output.result(&leaders, || text(&leaders))
}

fn list(partitions: &[u32]) -> String {
    let partitions: Vec<String> = partitions.iter().map(u32::to_string).collect();
    partitions.join(", ")
}

fn text(leaders: &Leaders) -> String {
    let mut rows = table(["node", "leads", "partitions"]);
    for node in &leaders.nodes {
        rows.add_row([
            node.node_id.to_string(),
            node.partitions.len().to_string(),
            list(&node.partitions),
        ]);
    }
    let mut text = rows.to_string();
    if !leaders.without.is_empty() {
        text.push_str(&format!("\nwithout a leader: {}", list(&leaders.without)));
    }
    text
}
