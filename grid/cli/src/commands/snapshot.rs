//! `grid snapshot`: snapshots of the running grid's replicas, taken and listed.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use grid::SnapshotStatus;
use serde::{Deserialize, Serialize};

use crate::cluster::ClusterStatus;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{grouped, table};

/// `grid snapshot …`
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Take a snapshot of every replica, or of those named, so that restarts are quick
    Take(TakeArgs),
    /// List the snapshots on the nodes' disks
    List,
}

/// `grid snapshot take`
#[derive(Debug, Args)]
pub(crate) struct TakeArgs {
    /// Of this partition only
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    /// On this node only
    #[arg(long, value_name = "N")]
    node: Option<u64>,
}

/// A snapshot that is there now.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Taken {
    partition: u32,
    node_id: u64,
    /// Where it stands.
    pub(crate) index: u64,
}

#[derive(Debug, Serialize)]
struct TakenList {
    snapshots: Vec<Taken>,
}

#[derive(Debug, Serialize)]
struct Listed {
    snapshots: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    partition: u32,
    node_id: u64,
    #[serde(flatten)]
    snapshot: SnapshotStatus,
}

/// Carries one out.
pub(crate) async fn run(context: &Context, command: SnapshotCommand) -> anyhow::Result<()> {
    match command {
        SnapshotCommand::Take(args) => take(context, &args).await,
        SnapshotCommand::List => list(context).await,
    }
}

/// Takes one and waits for it.
pub(crate) async fn take_one(
    api: &crate::api::Api,
    partition: u32,
    node: u64,
) -> anyhow::Result<Taken> {
    let path = format!("/admin/v1/partitions/{partition}/snapshot");
    api.operate(&path, &serde_json::json!({"node": node})).await
}

async fn take(context: &Context, args: &TakeArgs) -> anyhow::Result<()> {
    let api = context.api()?;
    let cluster = ClusterStatus::ask(&api).await?;
    let mut places: Vec<(u32, u64)> = cluster
        .statuses()
        .flat_map(|status| {
            let replicas = status.replicas.iter();
            replicas.map(|replica| (replica.partition.0, status.node_id))
        })
        .filter(|(partition, node)| {
            args.partition.is_none_or(|only| only == *partition)
                && args.node.is_none_or(|only| only == *node)
        })
        .collect();
    places.sort_unstable();
    if places.is_empty() {
        let text = "no node that answers holds such a replica; see `grid partition list`";
        return Err(Failure::Usage(text.to_owned()).into());
    }
    let bar = context.output.bar(places.len() as u64, "snapshots");
    let mut snapshots = Vec::with_capacity(places.len());
    for (partition, node) in places {
        snapshots.push(take_one(&api, partition, node).await?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let list = TakenList { snapshots };
    context.output.result(&list, || {
        let mut rows = table(["partition", "node", "index"]);
        for taken in &list.snapshots {
            rows.add_row([
                taken.partition.to_string(),
                taken.node_id.to_string(),
                grouped(taken.index),
            ]);
        }
        rows.to_string()
    })
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let cluster = ClusterStatus::ask(&context.api()?).await?;
    let mut snapshots: Vec<Entry> = Vec::new();
    for status in cluster.statuses() {
        for replica in &status.replicas {
            snapshots.extend(replica.snapshots.iter().map(|snapshot| Entry {
                partition: replica.partition.0,
                node_id: status.node_id,
                snapshot: snapshot.clone(),
            }));
        }
    }
    snapshots.sort_by_key(|entry| (entry.partition, entry.node_id, entry.snapshot.index));
    let listed = Listed { snapshots };
    context.output.result(&listed, || text(&listed))
}

fn text(listed: &Listed) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_ms = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    let mut rows = table(["partition", "node", "index", "bytes", "age"]);
    for entry in &listed.snapshots {
        let age_s = now_ms.saturating_sub(entry.snapshot.written_at_ms) / 1_000;
        rows.add_row([
            entry.partition.to_string(),
            entry.node_id.to_string(),
            grouped(entry.snapshot.index),
            grouped(entry.snapshot.bytes),
            format!("{} s", grouped(age_s)),
        ]);
    }
    rows.to_string()
}
