//! `grid status`: how well the grid is, its nodes, its partitions, and how far the database is.

use std::time::Duration;

use clap::Args;
use comfy_table::{Cell, Color};
use data_pump::verify::{DeadLetter, Verifier, WrittenCheckpoint};
use grid::health::{HealthState, NodeHealth, PartitionHealth};
use grid::{GatewayEntry, NodeReport, NodeStatus};
use grid_core::PartitionId;
use serde::Serialize;

use crate::api::Api;
use crate::cluster::{self, ClusterStatus};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{clear_screen, grouped, table};

/// The most parked changes that are counted one by one.
const DEAD_LETTERS_MAX: u32 = 1_000;
/// Reasons that the text shows; the JSON has all.
const REASONS_MAX: usize = 12;

/// `grid status`
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Show it again and again, every two seconds or as given
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch: Option<u64>,
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

/// The whole document.
#[derive(Debug, Serialize)]
struct Document {
    state: HealthState,
    #[serde(flatten)]
    cluster: ClusterStatus,
    /// The gateways that are processes of their own.
    gateways: Vec<GatewayEntry>,
    database: Written,
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
        // A database that no pump has written to yet has no tables.
        let (checkpoints, dead_letters) = match verifier.has_schema().await? {
            true => (
                verifier.checkpoints().await?,
                verifier.dead_letters(DEAD_LETTERS_MAX).await?,
            ),
            false => (Vec::new(), Vec::new()),
        };
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
pub(crate) async fn run(context: &Context, args: StatusArgs) -> anyhow::Result<()> {
    let api = context.api()?;
    let Some(seconds) = args.watch else {
        let document = read(context, &api).await?;
        return context.output.result(&document, || text(&document));
    };
    let mut ticks = tokio::time::interval(Duration::from_secs(seconds));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match read(context, &api).await {
            Ok(document) => context.output.result(&document, || {
                format!("{}{}", clear_screen(), text(&document))
            })?,
            // Whoever watches wants to see it come back.
            Err(error) if matches!(error.downcast_ref(), Some(Failure::Unreachable(_))) => {
                context
                    .output
                    .say(&format!("{}{error:#}", clear_screen()))?;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn read(context: &Context, api: &Api) -> anyhow::Result<Document> {
    let cluster = ClusterStatus::ask(api).await?;
    let database = Written::read(context.database_url(None)?.as_deref()).await;
    Ok(Document {
        state: cluster.health.state,
        gateways: cluster.gateways(),
        cluster,
        database,
    })
}

/// A state, coloured on a terminal.
pub(crate) fn state_cell(state: HealthState) -> Cell {
    Cell::new(state).fg(match state {
        HealthState::Healthy => Color::Green,
        HealthState::Degraded => Color::Yellow,
        HealthState::ReadOnly | HealthState::Unavailable => Color::Red,
    })
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", grouped(bytes >> 20))
}

fn dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

fn text(document: &Document) -> String {
    let Document {
        cluster, database, ..
    } = document;
    let mut nodes = table([
        "node",
        "state",
        "version",
        "up",
        "leads",
        "log",
        "disk free",
        "slowest sync",
        "clock",
    ]);
    for report in &cluster.nodes {
        let health = cluster
            .health
            .nodes
            .iter()
            .find(|node| node.node_id == report.node_id);
        if let Some(health) = health {
            nodes.add_row(node_row(report, health));
        }
    }
    let mut partitions = table([
        "partition",
        "state",
        "leader",
        "term",
        "applied",
        "lag",
        "in SQL",
        "behind",
        "queue",
        "moving",
    ]);
    for health in &cluster.health.partitions {
        partitions.add_row(partition_row(cluster, database, health));
    }
    let mut text = format!(
        "the grid is {}\n\n{nodes}\n\n{partitions}\n\n",
        document.state
    );
    text.push_str(&reasons(cluster));
    text.push_str(&gateways(&document.gateways));
    text.push_str(&refusals(cluster));
    text.push_str(&pump_text(cluster, database));
    text
}

fn node_row(report: &NodeReport, health: &NodeHealth) -> Vec<Cell> {
    let mut row = vec![Cell::new(report.node_id), state_cell(health.state)];
    let Some(status) = &report.status else {
        return row;
    };
    let wal = &status.wal;
    row.extend([
        Cell::new(&status.version),
        Cell::new(duration(status.uptime_ms)),
        Cell::new(health.leads),
        Cell::new(mebibytes(wal.bytes)),
        Cell::new(dash(wal.disk_free_bytes.map(mebibytes))),
        Cell::new(format!("{:.1} ms", wal.slowest_sync_us as f64 / 1_000.0)),
        Cell::new(dash(report.clock_ahead_ms.map(|ms| format!("{ms:+} ms")))),
    ]);
    row
}

fn duration(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn partition_row(
    cluster: &ClusterStatus,
    database: &Written,
    health: &PartitionHealth,
) -> Vec<Cell> {
    let PartitionId(partition) = health.partition;
    let leading = cluster
        .leaders()
        .find(|(node, replica)| Some(*node) == health.leader && replica.partition.0 == partition)
        .map(|(_, replica)| replica);
    let applied = leading.map(|replica| replica.applied_index);
    let in_sql = database.index_of(partition);
    let behind = applied
        .zip(in_sql)
        .map(|(applied, in_sql)| grouped(applied.saturating_sub(in_sql)));
    let lag = health.lag_entries.values().max().copied();
    let moving = health.moving.as_ref().map(|moving| {
        let joining: Vec<String> = moving.joining.iter().map(u64::to_string).collect();
        match joining.is_empty() {
            true => "voters change".to_owned(),
            false => format!("to node {}", joining.join(", ")),
        }
    });
    vec![
        Cell::new(partition),
        state_cell(health.state),
        Cell::new(dash(health.leader.map(|node| format!("node {node}")))),
        Cell::new(health.term),
        Cell::new(dash(applied.map(grouped))),
        Cell::new(dash(lag.map(grouped))),
        Cell::new(dash(in_sql.map(grouped))),
        Cell::new(dash(behind)),
        Cell::new(dash(
            leading.map(|replica| replica.proposal_queue.to_string()),
        )),
        Cell::new(moving.unwrap_or_default()),
    ]
}

fn reasons(cluster: &ClusterStatus) -> String {
    let health = &cluster.health;
    let nodes = health.nodes.iter().flat_map(|node| {
        let id = node.node_id;
        node.reasons
            .iter()
            .map(move |reason| format!("node {id}: {reason}"))
    });
    let partitions = health.partitions.iter().flat_map(|partition| {
        let id = partition.partition;
        let reasons = partition.reasons.iter();
        reasons.map(move |reason| format!("partition {id}: {reason}"))
    });
    let all: Vec<String> = nodes.chain(partitions).collect();
    if all.is_empty() {
        return String::new();
    }
    let mut text = String::new();
    for reason in all.iter().take(REASONS_MAX) {
        text.push_str(&format!("{reason}\n"));
    }
    if all.len() > REASONS_MAX {
        text.push_str(&format!("... and {} more\n", all.len() - REASONS_MAX));
    }
    text.push_str("`grid doctor` says what to do.\n\n");
    text
}

fn gateways(gateways: &[GatewayEntry]) -> String {
    let line = |gateway: &GatewayEntry| {
        let (url, version) = (&gateway.url, &gateway.version);
        format!("gateway in a process of its own: {url}, version {version}\n")
    };
    gateways.iter().map(line).collect()
}

/// What the pumps of all nodes say.
fn pump_text(cluster: &ClusterStatus, database: &Written) -> String {
    let lanes: Vec<(u64, data_pump::pump::LaneStatus)> = cluster
        .statuses()
        .flat_map(|status: &NodeStatus| {
            let lanes = cluster::pump(status).map(|pump| pump.lanes);
            let node = status.node_id;
            lanes.into_iter().flatten().map(move |lane| (node, lane))
        })
        .filter(|(_, lane)| lane.active)
        .collect();
    let mut text = match (database.state, &database.error) {
        ("running", _) => format!(
            "database: running, {} changes parked\n",
            database.dead_letters.len()
        ),
        (state, Some(error)) => format!("database: {state} ({error})\n"),
        (state, None) => format!("database: {state}\n"),
    };
    if !lanes.is_empty() {
        let entries: u64 = lanes
            .iter()
            .filter_map(|(_, lane)| lane.behind_entries)
            .sum();
        let oldest = lanes.iter().map(|(_, lane)| lane.behind_ms).max();
        let oldest_ms = oldest.unwrap_or(0);
        text.push_str(&format!(
            "pump: {} lanes write, {} entries behind, the oldest change waits {oldest_ms} ms\n",
            lanes.len(),
            grouped(entries),
        ));
    }
    for (node, lane) in &lanes {
        if let Some(error) = &lane.last_error {
            let (partition, stuck) = (lane.partition, if lane.stuck { ", STUCK" } else { "" });
            text.push_str(&format!(
                "pump of partition {partition} on node {node}{stuck}: {error}\n"
            ));
        }
    }
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
    text.push_str(match cluster.statuses().all(|status| status.encrypted) {
        true => "between nodes: mutual TLS\n",
        false => "between nodes: plain text\n",
    });
    text
}
