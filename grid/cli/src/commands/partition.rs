//! `grid partition`: what each partition is like, and a replica made anew.

use clap::{Args, Subcommand};
use grid::health::PartitionHealth;
use grid::{Rebuilt, ReplicaStatus};
use serde::Serialize;

use super::status::state_cell;
use crate::cluster::ClusterStatus;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{grouped, table};

/// `grid partition …`
#[derive(Debug, Subcommand)]
pub(crate) enum PartitionCommand {
    /// List the partitions
    List,
    /// Show a partition and its replicas
    Show(ShowArgs),
    /// Make a replica's state anew from its leader; its log and its vote stay
    Rebuild(RebuildArgs),
}

/// `grid partition show`
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The partition
    partition: u32,
}

/// `grid partition rebuild`
#[derive(Debug, Args)]
pub(crate) struct RebuildArgs {
    /// The partition
    #[arg(long, value_name = "N")]
    partition: u32,
    /// The node whose replica is rebuilt; not its leader
    #[arg(long, value_name = "N")]
    node: u64,
}

#[derive(Debug, Serialize)]
struct List<'a> {
    partitions: &'a [PartitionHealth],
}

#[derive(Debug, Serialize)]
struct Show<'a> {
    #[serde(flatten)]
    health: &'a PartitionHealth,
    replicas: Vec<ReplicaEntry<'a>>,
}

#[derive(Debug, Serialize)]
struct ReplicaEntry<'a> {
    node_id: u64,
    #[serde(flatten)]
    status: &'a ReplicaStatus,
}

/// Carries one out.
pub(crate) async fn run(context: &Context, command: PartitionCommand) -> anyhow::Result<()> {
    match command {
        PartitionCommand::List => {
            let cluster = ClusterStatus::ask(&context.api()?).await?;
            let list = List {
                partitions: &cluster.health.partitions,
            };
            context.output.result(&list, || list_text(list.partitions))
        }
        PartitionCommand::Show(args) => show(context, args.partition).await,
        PartitionCommand::Rebuild(args) => rebuild(context, &args).await,
    }
}

async fn show(context: &Context, partition: u32) -> anyhow::Result<()> {
    let cluster = ClusterStatus::ask(&context.api()?).await?;
    let found = cluster
        .health
        .partitions
        .iter()
        .find(|health| health.partition.0 == partition);
    let health = found.ok_or_else(|| {
        let last = cluster.health.partitions.len().saturating_sub(1);
        Failure::Usage(format!(
            "there is no partition {partition}; they are 0 to {last}"
        ))
    })?;
    let replicas = cluster
        .statuses()
        .filter_map(|status| {
            let mut replicas = status.replicas.iter();
            let replica = replicas.find(|replica| replica.partition.0 == partition)?;
            Some(ReplicaEntry {
                node_id: status.node_id,
                status: replica,
            })
        })
        .collect();
    let show = Show { health, replicas };
    context.output.result(&show, || show_text(&show))
}

async fn rebuild(context: &Context, args: &RebuildArgs) -> anyhow::Result<()> {
    let path = format!("/admin/v1/partitions/{}/rebuild", args.partition);
    let body = serde_json::json!({"node": args.node});
    let rebuilt: Rebuilt = context.api()?.operate(&path, &body).await?;
    context.output.result(&rebuilt, || {
        format!(
            "partition {} on node {} was rebuilt from node {} (snapshot at {}) and serves at {}",
            rebuilt.partition,
            rebuilt.node_id,
            rebuilt.from_node,
            grouped(rebuilt.snapshot_index),
            grouped(rebuilt.index)
        )
    })
}

fn nodes(nodes: &[u64]) -> String {
    let nodes: Vec<String> = nodes.iter().map(u64::to_string).collect();
    nodes.join(", ")
}

fn list_text(partitions: &[PartitionHealth]) -> String {
    let mut rows = table([
        "partition",
        "state",
        "leader",
        "term",
        "voters",
        "lag",
        "why",
    ]);
    for health in partitions {
        let lag = health.lag_entries.values().max();
        let mut row = vec![
            health.partition.to_string().into(),
            state_cell(health.state),
        ];
        row.extend(
            [
                health
                    .leader
                    .map_or("-".to_owned(), |node| format!("node {node}")),
                health.term.to_string(),
                nodes(&health.voters),
                lag.map_or("-".to_owned(), |lag| grouped(*lag)),
                health.reasons.join("; "),
            ]
            .map(Into::into),
        );
        rows.add_row(row);
    }
    rows.to_string()
}

fn show_text(show: &Show<'_>) -> String {
    let mut rows = table([
        "node",
        "role",
        "log",
        "applied",
        "state hash",
        "snapshot",
        "log from",
        "remembered",
        "fault",
    ]);
    for ReplicaEntry { node_id, status } in &show.replicas {
        let fault = match (&status.divergence, &status.fault) {
            (Some(found), _) => format!("differs from index {} on", found.index),
            (None, Some(fault)) => fault.clone(),
            (None, None) => String::new(),
        };
        rows.add_row([
            node_id.to_string(),
            format!("{:?}", status.role).to_lowercase(),
            grouped(status.last_log_index),
            grouped(status.applied_index),
            status.state_hash.chars().take(16).collect(),
            grouped(status.snapshot_index),
            grouped(status.purged_index + 1),
            grouped(status.remembered_commands),
            fault,
        ]);
    }
    let health = show.health;
    let leader = health
        .leader
        .map_or("no leader".to_owned(), |node| format!("led by node {node}"));
    let mut text = format!(
        "partition {} is {}, {leader} in term {}, voters {}\n\n{rows}\n",
        health.partition,
        health.state,
        health.term,
        nodes(&health.voters)
    );
    for reason in &health.reasons {
        text.push_str(&format!("{reason}\n"));
    }
    text
}
