//! `grid pump status`.

use clap::Args;
use data_pump::archive::{ArchiveReader, PartitionReach, PartitionReadiness};
use data_pump::pump::{FenceOutcomes, LaneState, LaneStatus, LaneTrouble, PartitionControl};
use serde::Serialize;

use super::operator;
use crate::cluster::{self, ClusterStatus};
use crate::commands::database::DatabaseArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{grouped, table};

/// `grid pump status`
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    database: DatabaseArgs,
}

/// One partition's pump: what its leader says, and what the database says.
#[derive(Debug, Serialize)]
struct Entry {
    partition: u32,
    /// The node whose pump it is; `None` when no node says that it leads.
    node_id: Option<u64>,
    state: LaneState,
    checkpoint_index: Option<u64>,
    behind_entries: Option<u64>,
    /// About how many bytes of the log.
    behind_bytes: Option<u64>,
    behind_ms: u64,
    parked_changes: u64,
    /// `None` when the database was not asked.
    parked_entities: Option<u64>,
    paused: bool,
    paused_by: Option<String>,
    pause_reason: Option<String>,
    fence: FenceOutcomes,
    /// `None` when the database was not asked, or archives nothing.
    archive: Option<Archive>,
    trouble: Option<LaneTrouble>,
    last_error: Option<String>,
}

/// From when, and how completely, the partition can be restored from the database.
#[derive(Debug, Serialize)]
struct Archive {
    readiness: PartitionReadiness,
    earliest: Option<jiff::Timestamp>,
    last_index: Option<u64>,
    states: u64,
    newest_state_index: Option<u64>,
    log_bytes: u64,
}

impl From<&PartitionReach> for Archive {
    fn from(reach: &PartitionReach) -> Self {
        Self {
            readiness: reach.readiness(),
            earliest: reach
                .earliest_ms
                .and_then(|at| jiff::Timestamp::from_millisecond(at).ok()),
            last_index: reach.last_index,
            states: reach.bases,
            newest_state_index: reach.newest_base_index,
            log_bytes: reach.block_bytes,
        }
    }
}

#[derive(Debug, Serialize)]
struct Document {
    partitions: Vec<Entry>,
    /// Why the database could not be asked, if so.
    database_error: Option<String>,
}

/// Asks the nodes and the database; a database that is away is part of the answer.
pub(crate) async fn run(context: &Context, args: &StatusArgs) -> anyhow::Result<()> {
    let cluster = ClusterStatus::ask(&context.api()?).await?;
    let (rows, reach, database_error) = match read_database(context, args).await {
        Ok((rows, reach)) => (rows, reach, None),
        Err(error) => (Vec::new(), Vec::new(), Some(format!("{error:#}"))),
    };
    let lanes: Vec<(u64, LaneStatus)> = cluster
        .statuses()
        .flat_map(|status| {
            let lanes = cluster::pump(status).map(|pump| pump.lanes);
            let node = status.node_id;
            lanes.into_iter().flatten().map(move |lane| (node, lane))
        })
        .filter(|(_, lane)| lane.active)
        .collect();
    let partitions = cluster
        .partitions()
        .into_iter()
        .map(|partition| entry(partition, &lanes, &rows, &reach))
        .collect();
    let document = Document {
        partitions,
        database_error,
    };
    context.output.result(&document, || text(&document))
}

async fn read_database(
    context: &Context,
    args: &StatusArgs,
) -> anyhow::Result<(Vec<PartitionControl>, Vec<PartitionReach>)> {
    let mut operator = operator(&args.database, context).await?;
    let rows = operator.partitions().await.map_err(Failure::from)?;
    operator.close().await;
    Ok((rows, read_archive(&args.database.url(context)?).await))
}

/// How far the archive reaches; nothing where there is none.
async fn read_archive(url: &str) -> Vec<PartitionReach> {
    let Ok(mut reader) = ArchiveReader::connect(url).await else {
        return Vec::new();
    };
    let reach = reader.reach().await;
    reader.close().await;
    reach.map_or_else(|_| Vec::new(), |reach| reach.reach)
}

fn entry(
    partition: u32,
    lanes: &[(u64, LaneStatus)],
    rows: &[PartitionControl],
    reach: &[PartitionReach],
) -> Entry {
    let lane = lanes.iter().find(|(_, lane)| lane.partition.0 == partition);
    let row = rows
        .iter()
        .find(|row| u32::try_from(row.partition) == Ok(partition));
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    let status = lane.map(|(_, lane)| lane);
    let paused = row.map_or(status.is_some_and(|lane| lane.paused), |row| {
        row.paused_at_ms.is_some()
    });
    let state = match status.map(LaneStatus::state) {
        // The lane looks once a second.
        Some(LaneState::Running | LaneState::Resting) if paused => LaneState::Paused,
        Some(state) => state,
        None => LaneState::NotLeading,
    };
    Entry {
        partition,
        node_id: lane.map(|(node, _)| *node),
        state,
        checkpoint_index: row
            .map(|row| count(row.applied_index))
            .or(status.and_then(|lane| lane.checkpoint_index)),
        behind_entries: status.and_then(|lane| lane.behind_entries),
        behind_bytes: status.and_then(|lane| lane.behind_bytes),
        behind_ms: status.map_or(0, |lane| lane.behind_ms),
        parked_changes: row.map_or(status.map_or(0, |lane| lane.parked_in_all), |row| {
            count(row.parked_changes)
        }),
        parked_entities: row.map(|row| count(row.parked_entities)),
        paused,
        paused_by: row.and_then(|row| row.paused_by.clone()),
        pause_reason: row.and_then(|row| row.pause_reason.clone()),
        archive: reach
            .iter()
            .find(|reach| reach.partition.0 == partition)
            .map(Archive::from),
        fence: status.map_or_else(FenceOutcomes::default, |lane| lane.fence),
        trouble: status.and_then(|lane| lane.trouble),
        last_error: status.and_then(|lane| lane.last_error.clone()),
    }
}

fn text(document: &Document) -> String {
    let mut rows = table([
        "partition",
        "node",
        "state",
        "written to",
        "entries behind",
        "bytes",
        "oldest waits",
        "parked",
        "database found there/ahead/behind",
        "restorable from",
        "note",
    ]);
    for entry in &document.partitions {
        let parked = match entry.parked_entities {
            Some(0) | None => grouped(entry.parked_changes),
            Some(entities) => {
                format!("{} of {entities} entities", grouped(entry.parked_changes))
            }
        };
        let note = entry.last_error.clone().or_else(|| {
            let reason = entry.pause_reason.clone().filter(|_| entry.paused)?;
            let by = entry.paused_by.as_deref().unwrap_or("somebody");
            Some(format!("paused by {by}: {reason}"))
        });
        let number = |number: Option<u64>| number.map_or("-".to_owned(), grouped);
        rows.add_row([
            entry.partition.to_string(),
            entry
                .node_id
                .map_or("-".to_owned(), |node| node.to_string()),
            entry.state.to_string(),
            number(entry.checkpoint_index),
            number(entry.behind_entries),
            number(entry.behind_bytes),
            format!("{:.1} s", entry.behind_ms as f64 / 1_000.0),
            parked,
            format!(
                "{}/{}/{}",
                entry.fence.equal, entry.fence.ahead, entry.fence.behind
            ),
            restorable(entry.archive.as_ref()),
            note.unwrap_or_default(),
        ]);
    }
    let mut text = rows.to_string();
    if let Some(error) = &document.database_error {
        text.push_str(&format!(
            "\n{error}; pauses and parked entities are not shown"
        ));
    }
    text
}

fn restorable(archive: Option<&Archive>) -> String {
    match archive {
        None => "-".to_owned(),
        Some(Archive {
            readiness: PartitionReadiness::Broken,
            ..
        }) => "not now: a state is to be archived".to_owned(),
        Some(archive) => archive
            .earliest
            .map_or("-".to_owned(), |earliest| format!("{earliest:.0}")),
    }
}
