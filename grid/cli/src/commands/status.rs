//! `grid status`: nodes, partitions, and how far the database is.

use std::collections::BTreeMap;

use data_pump::verify::{DeadLetter, Verifier, WrittenCheckpoint};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::context::Context;
use crate::output::{grouped, table};

/// The most parked changes that are counted one by one.
const DEAD_LETTERS_MAX: u32 = 1_000;

/// `GET /admin/v1/status`, as far as it is needed here; the whole of it goes to `--json`.
#[derive(Debug, Deserialize)]
pub(crate) struct ClusterStatus {
    /// Every node.
    pub(crate) nodes: Vec<NodeEntry>,
}

/// A node.
#[derive(Debug, Deserialize)]
pub(crate) struct NodeEntry {
    node_id: u64,
    status: Option<NodeStatus>,
}

#[derive(Debug, Deserialize)]
struct NodeStatus {
    version: String,
    uptime_ms: u64,
    wal: Wal,
    replicas: Vec<Replica>,
    unreachable: Vec<u64>,
    refusals: Vec<String>,
    encrypted: bool,
    refused_connections: BTreeMap<String, u64>,
}

#[derive(Debug, Deserialize)]
struct Wal {
    bytes: u64,
    last_sync_us: u64,
}

#[derive(Debug, Deserialize)]
struct Replica {
    partition: u32,
    role: String,
    term: u64,
    applied_index: u64,
    pumped_index: u64,
    proposal_queue: u64,
    fault: Option<String>,
}

impl ClusterStatus {
    /// How far each partition's leader has applied its log, by partition. A partition that has no
    /// leader just now is left out.
    pub(crate) fn applied(&self) -> BTreeMap<u32, u64> {
        self.leaders()
            .map(|(_, replica)| (replica.partition, replica.applied_index))
            .collect()
    }

    /// The partition whose leader's log grew most since, with that leader.
    pub(crate) fn busiest_since(&self, earlier: &Self) -> Option<(u32, u64)> {
        let before = earlier.applied();
        let grown = |replica: &Replica| {
            replica.applied_index
                - before
                    .get(&replica.partition)
                    .unwrap_or(&0)
                    .min(&replica.applied_index)
        };
        let (node, replica) = self.leaders().max_by_key(|(_, replica)| grown(replica))?;
        Some((replica.partition, node))
    }

    /// Every partition that some node holds.
    pub(crate) fn partitions(&self) -> Vec<u32> {
        let replicas = self.nodes.iter().flat_map(|node| &node.status);
        let all: std::collections::BTreeSet<u32> = replicas
            .flat_map(|status| status.replicas.iter().map(|replica| replica.partition))
            .collect();
        all.into_iter().collect()
    }

    fn leaders(&self) -> impl Iterator<Item = (u64, &Replica)> {
        self.nodes.iter().flat_map(|node| {
            let replicas = node.status.iter().flat_map(|status| &status.replicas);
            replicas
                .filter(|replica| replica.role == "leader")
                .map(move |replica| (node.node_id, replica))
        })
    }
}

/// What the database says of itself.
#[derive(Debug, Serialize)]
struct Written {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    checkpoints: Vec<WrittenCheckpoint>,
    dead_letters: Vec<DeadLetter>,
}

impl Written {
    fn absent(state: &'static str, error: Option<String>) -> Self {
        Self {
            state,
            error,
            checkpoints: Vec::new(),
            dead_letters: Vec::new(),
        }
    }

    async fn read(url: Option<&str>) -> Self {
        let Some(url) = url else {
            return Self::absent("none", None);
        };
        match Self::ask(url).await {
            Ok(written) => written,
            Err(error) => Self::absent("unreachable", Some(error.to_string())),
        }
    }

    async fn ask(url: &str) -> anyhow::Result<Self> {
        let mut verifier = Verifier::connect(url).await?;
        let checkpoints = verifier.checkpoints().await?;
        let dead_letters = verifier.dead_letters(DEAD_LETTERS_MAX).await?;
        verifier.pause().await;
        Ok(Self {
            state: "running",
            error: None,
            checkpoints,
            dead_letters,
        })
    }

    fn index_of(&self, partition: u32) -> Option<u64> {
        self.checkpoints
            .iter()
            .find(|row| u32::try_from(row.partition) == Ok(partition))
            .and_then(|row| u64::try_from(row.applied_index).ok())
    }
}

/// Asks one gateway, which asks every node.
pub(crate) async fn run(context: &Context) -> anyhow::Result<()> {
    let api = context.api()?;
    let mut document: Value = api.get("/admin/v1/status").await?;
    let cluster: ClusterStatus = serde_json::from_value(document.clone())?;
    let written = Written::read(context.database_url(None)?.as_deref()).await;
    document["database"] = serde_json::to_value(&written)?;
    context
        .output
        .result(&document, || text(&cluster, &written))
}

fn text(cluster: &ClusterStatus, written: &Written) -> String {
    let mut nodes = table(["node", "version", "up", "log", "last sync", "cannot reach"]);
    for node in &cluster.nodes {
        let Some(status) = &node.status else {
            nodes.add_row([node.node_id.to_string(), "does not answer".to_owned()]);
            continue;
        };
        let unreachable: Vec<String> = status.unreachable.iter().map(u64::to_string).collect();
        nodes.add_row([
            node.node_id.to_string(),
            status.version.clone(),
            format!("{} s", status.uptime_ms / 1_000),
            format!("{} MiB", status.wal.bytes >> 20),
            format!("{} µs", status.wal.last_sync_us),
            unreachable.join(", "),
        ]);
    }
    let mut partitions = table([
        "partition",
        "leader",
        "term",
        "applied",
        "in SQL",
        "behind",
        "kept from",
        "queue",
    ]);
    let mut leaders: Vec<_> = cluster.leaders().collect();
    leaders.sort_by_key(|(_, replica)| replica.partition);
    for (node, replica) in &leaders {
        let in_sql = written.index_of(replica.partition);
        let behind = in_sql.map(|index| replica.applied_index.saturating_sub(index));
        partitions.add_row([
            replica.partition.to_string(),
            format!("node {node}"),
            replica.term.to_string(),
            grouped(replica.applied_index),
            in_sql.map_or_else(|| "-".to_owned(), grouped),
            behind.map_or_else(|| "-".to_owned(), grouped),
            grouped(replica.pumped_index),
            replica.proposal_queue.to_string(),
        ]);
    }
    let mut text = format!("{nodes}\n\n{partitions}\n\n");
    for node in &cluster.nodes {
        for replica in node.status.iter().flat_map(|status| &status.replicas) {
            if let Some(fault) = &replica.fault {
                let (node, partition) = (node.node_id, replica.partition);
                text.push_str(&format!(
                    "node {node}, partition {partition} stopped: {fault}\n"
                ));
            }
        }
    }
    text.push_str(&refusals(cluster));
    text.push_str(&match (written.state, &written.error) {
        ("running", _) => {
            format!(
                "database: running, {} changes parked\n",
                written.dead_letters.len()
            )
        }
        (state, Some(error)) => format!("database: {state} ({error})\n"),
        (state, None) => format!("database: {state}\n"),
    });
    text
}

/// Who refuses whom between the nodes, and what knocked that was no node.
fn refusals(cluster: &ClusterStatus) -> String {
    let mut text = String::new();
    for node in &cluster.nodes {
        let Some(status) = &node.status else {
            continue;
        };
        for refusal in &status.refusals {
            text.push_str(&format!(
                "node {} has no connection to {refusal}\n",
                node.node_id
            ));
        }
        if !status.refused_connections.is_empty() {
            let counts: Vec<String> = status
                .refused_connections
                .iter()
                .map(|(reason, count)| format!("{count} × {reason}"))
                .collect();
            text.push_str(&format!(
                "node {} refused or dropped connections: {}\n",
                node.node_id,
                counts.join(", ")
            ));
        }
    }
    let answering = cluster.nodes.iter().flat_map(|node| &node.status);
    text.push_str(match answering.clone().all(|status| status.encrypted) {
        true => "between nodes: mutual TLS\n",
        false => "between nodes: plain text\n",
    });
    text
}
