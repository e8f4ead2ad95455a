//! `grid restore`: a new grid made from the log that the pump has written to the database.
//!
//! ```text
//!   how far does the database reach? ─► partitions, some at a time: newest state ─► blocks after it
//!   ─► planted for the nodes that will hold it ─► the database goes to the new grid ─► grid.json
//! ```
//!
//! The old grid is locked out of the database in one transaction, which is also the check that its pump has
//! not written meanwhile. What a crash leaves before `grid.json` is no grid, and the restore can be begun
//! again in another directory: the database then says which grid it was given to last.
//!
//! With a time to stop at, the tables hold what happened later, so they cannot go on with the new grid; the
//! database is left to the old one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use data_pump::archive::{
    ArchiveError, ArchiveReach, ArchiveReader, PartitionReach, PartitionReadiness, RestoreRecord,
    TakeOver, Target, rebuild,
};
use grid_core::{PartitionId, Timestamp};
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::context::Context;
use crate::failure::Failure;
use crate::new_grid::NewGrid;

/// Partitions that are restored at a time on a machine with fewer cores.
const AT_A_TIME_MIN: usize = 2;
/// And on one with more: each has a state in memory and a database connection.
const AT_A_TIME_MAX: usize = 8;

/// What to restore, and how.
#[derive(Clone, Debug)]
pub(crate) struct RestoreOrder {
    pub(crate) database_url: String,
    /// Nodes of the new grid.
    pub(crate) nodes: u32,
    /// Its configuration.
    pub(crate) config: Option<PathBuf>,
    /// Nothing that happened later.
    pub(crate) until: Option<jiff::Timestamp>,
    /// Whether what the database lacks may be lost.
    pub(crate) accept_data_loss: bool,
    /// The old grid's key of ticket codes.
    pub(crate) ticket_key: Option<PathBuf>,
    /// Who restores.
    pub(crate) by: String,
}

/// What was made.
#[derive(Debug, Serialize)]
pub(crate) struct Restored {
    /// The new grid.
    pub(crate) grid_id: Uuid,
    /// The one that wrote the database.
    pub(crate) from_grid: Uuid,
    pub(crate) nodes: u32,
    pub(crate) data_dir: PathBuf,
    pub(crate) until: Option<jiff::Timestamp>,
    /// Whether the new grid goes on with the same database.
    pub(crate) continued: bool,
    /// Whether the old grid may have accepted what is not in the database.
    pub(crate) accepted_data_loss: bool,
    /// Entries that its pump knew of and had not written.
    pub(crate) missing_entries: u64,
    pub(crate) took_ms: u64,
    pub(crate) partitions: Vec<RestoredPartition>,
}

/// One partition.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RestoredPartition {
    pub(crate) partition: u32,
    /// Its last entry.
    pub(crate) index: u64,
    /// When that was accepted.
    pub(crate) at: jiff::Timestamp,
    /// The running state hash after it.
    pub(crate) state_hash: String,
    /// The last entry after which the hash was compared with the old grid's, and was the same.
    pub(crate) proven_index: u64,
    /// The archived state that it began from; 0 for the log's beginning.
    pub(crate) base_index: u64,
    /// Entries applied after that.
    pub(crate) entries: u64,
    /// And what they took up in the database.
    pub(crate) block_bytes: u64,
    pub(crate) took_ms: u64,
}

/// What the database lacks, as far as it says so itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lack {
    /// Partitions of a grid that was not stopped in good order.
    partitions: usize,
    /// Entries that the pump knew of.
    known_entries: u64,
    /// Partitions whose pump was paused.
    paused: usize,
    /// The earliest of their last writes.
    written_at_ms: Option<i64>,
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        let hint = match &error {
            ArchiveError::NoArchive => {
                "; a grid of this build writes one, unless pump.archive is off"
            }
            _ => "",
        };
        Self::Database(format!("{error}{hint}"))
    }
}

fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |at| at.to_string())
}

/// Looks whether every partition can be made anew up to what the tables hold, and what is missing then.
fn assess(reach: &ArchiveReach) -> Result<Lack, Failure> {
    let mut lack = Lack::default();
    for partition in (0..reach.partitions).map(PartitionId) {
        let Some(found) = reach
            .reach
            .iter()
            .find(|found| found.partition == partition)
        else {
            // Its pump has never written, so nobody knows what it had.
            lack.partitions += 1;
            continue;
        };
        match found.readiness() {
            PartitionReadiness::Complete => {}
            PartitionReadiness::Behind { known_entries } => {
                lack.partitions += 1;
                lack.known_entries += known_entries;
                lack.paused += usize::from(found.is_paused);
                let written_at_ms = lack.written_at_ms.unwrap_or(i64::MAX);
                lack.written_at_ms = Some(written_at_ms.min(found.updated_at_ms));
            }
            PartitionReadiness::Broken => {
                let text = format!(
                    "partition {partition} cannot be made anew up to entry {}, which the tables have: \
                     entries are missing in the archive, and no state after them is there yet. While the \
                     grid runs, its pump archives one by itself; otherwise an earlier moment can be \
                     restored with --until",
                    found.applied_index
                );
                return Err(Failure::Database(text));
            }
        }
    }
    Ok(lack)
}

impl Lack {
    fn is_nothing(&self) -> bool {
        self.partitions == 0
    }

    /// Refuses to lose what nobody has agreed to lose.
    fn check(&self, is_accepted: bool) -> Result<(), Failure> {
        if self.is_nothing() || is_accepted {
            return Ok(());
        }
        let known = match self.known_entries {
            0 => "its pump had written all that it knew of".to_owned(),
            entries => format!("its pump knew of {entries} log entries that it had not written"),
        };
        let since = self
            .written_at_ms
            .map(|at| format!(", and what was accepted after {} is not there", time(at)))
            .unwrap_or_default();
        let paused = match self.paused {
            0 => String::new(),
            paused => format!(" (the pump of {paused} partitions is paused)"),
        };
        Err(Failure::Refused {
            code: "data_loss".to_owned(),
            message: format!(
                "the database may be behind what the grid accepted: {} partitions were not stopped in \
                 good order; {known}{since}{paused}. If a node's data directory is left, start that \
                 instead; otherwise add --accept-data-loss",
                self.partitions
            ),
        })
    }
}

/// Refuses a moment that lies before what is archived.
fn check_until(reach: &ArchiveReach, until: jiff::Timestamp) -> Result<(), Failure> {
    let latest = reach
        .reach
        .iter()
        .max_by_key(|partition| partition.earliest_ms);
    match latest.and_then(|partition| partition.earliest_ms) {
        Some(earliest) if earliest > until.as_millisecond() => {
            let is_empty =
                |partition: &PartitionReach| partition.first_index.is_none_or(|first| first <= 1);
            // A log whose beginning is archived had nothing in it before.
            if reach
                .reach
                .iter()
                .filter(|partition| partition.earliest_ms > Some(until.as_millisecond()))
                .all(is_empty)
            {
                return Ok(());
            }
            let text = format!(
                "the earliest moment that can be restored is {}",
                time(earliest)
            );
            Err(Failure::Usage(text))
        }
        _ => Ok(()),
    }
}

/// Makes the grid.
pub(crate) async fn restore(
    context: &mut Context,
    order: &RestoreOrder,
) -> anyhow::Result<Restored> {
    let started = Instant::now();
    let ticket_key = order
        .ticket_key
        .as_deref()
        .map(read_ticket_key)
        .transpose()?;
    let mut reader = connect(&order.database_url).await?;
    let reach = reader.reach().await.map_err(Failure::from)?;
    let lack = match order.until {
        Some(until) => {
            check_until(&reach, until)?;
            Lack::default()
        }
        None => assess(&reach)?,
    };
    lack.check(order.accept_data_loss)?;
    let config = order.config.as_deref();
    let new = Arc::new(NewGrid::begin(
        context,
        reach.partitions,
        order.nodes,
        config,
    )?);
    let partitions = restore_partitions(context, order, &reach, &new).await?;
    let take_over = match order.until {
        Some(_) => TakeOver::Leave,
        None => TakeOver::Continue,
    };
    let record = RestoreRecord {
        by: order.by.clone(),
        from_grid: reach.grid_id,
        to_grid: new.grid_id,
        until: order.until.map(timestamp),
        accepted_data_loss: !lack.is_nothing(),
        missing_entries: lack.known_entries,
        indexes: indexes(&partitions),
    };
    reader
        .record_restore(&record, take_over)
        .await
        .map_err(Failure::from)?;
    reader.close().await;
    if let Some(key) = ticket_key {
        crate::backup::write_synced(&context.data_dir.ticket_key_path(), &key)?;
    }
    let new = Arc::into_inner(new).context("a restore of a partition goes on")?;
    let (grid_id, data_dir) = (new.grid_id, new.path());
    new.finish()?;
    Ok(Restored {
        grid_id,
        from_grid: reach.grid_id,
        nodes: order.nodes,
        data_dir,
        until: order.until,
        continued: take_over == TakeOver::Continue,
        accepted_data_loss: !lack.is_nothing(),
        missing_entries: lack.known_entries,
        took_ms: millis(started),
        partitions,
    })
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn timestamp(at: jiff::Timestamp) -> Timestamp {
    Timestamp::from_millis(u64::try_from(at.as_millisecond()).unwrap_or(0))
}

fn indexes(partitions: &[RestoredPartition]) -> BTreeMap<PartitionId, u64> {
    let partitions = partitions.iter();
    partitions
        .map(|restored| (PartitionId(restored.partition), restored.index))
        .collect()
}

fn read_ticket_key(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path)
        .map_err(|error| Failure::Usage(format!("{} cannot be read: {error}", path.display())))
}

async fn connect(url: &str) -> Result<ArchiveReader, Failure> {
    ArchiveReader::connect(url).await.map_err(Failure::from)
}

/// Brings every partition back, as many at a time as there are cores.
async fn restore_partitions(
    context: &Context,
    order: &RestoreOrder,
    reach: &ArchiveReach,
    new: &Arc<NewGrid>,
) -> anyhow::Result<Vec<RestoredPartition>> {
    let begun: u64 = reach.reach.iter().map(to_apply).sum();
    let bar = context.output.bar(begun, "log entries");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let turns = Arc::new(Semaphore::new(cores.clamp(AT_A_TIME_MIN, AT_A_TIME_MAX)));
    let mut restores = JoinSet::new();
    for found in &reach.reach {
        let target = Target {
            upto_index: found.applied_index,
            until: order.until.map(timestamp),
        };
        let one = One {
            partition: found.partition,
            target,
            database_url: order.database_url.clone(),
            new: Arc::clone(new),
            bar: bar.clone(),
        };
        let turns = Arc::clone(&turns);
        restores.spawn(async move {
            let _turn = turns.acquire_owned().await;
            one.restore().await
        });
    }
    let mut restored = Vec::new();
    while let Some(ended) = restores.join_next().await {
        // The first failure ends the others, whose work would be of no use.
        restored.extend(ended??);
    }
    bar.finish_and_clear();
    restored.sort_by_key(|one: &RestoredPartition| one.partition);
    Ok(restored)
}

/// About how many entries a partition's restore applies.
fn to_apply(found: &PartitionReach) -> u64 {
    let base = found.newest_base_index.unwrap_or(0);
    found.applied_index.saturating_sub(base)
}

/// One partition's restore.
struct One {
    partition: PartitionId,
    target: Target,
    database_url: String,
    new: Arc<NewGrid>,
    bar: ProgressBar,
}

impl One {
    /// `None` for a partition in which nothing had happened.
    async fn restore(self) -> anyhow::Result<Option<RestoredPartition>> {
        let started = Instant::now();
        let mut reader = connect(&self.database_url).await?;
        let mut told = 0;
        let rebuilding = rebuild(&mut reader, self.partition, self.target, |progress| {
            self.bar.inc(progress.entries - told);
            told = progress.entries;
        });
        let rebuilt = rebuilding.await.map_err(Failure::from)?;
        reader.close().await;
        if rebuilt.state.applied_index() == 0 {
            return Ok(None);
        }
        let restored = RestoredPartition {
            partition: self.partition.0,
            index: rebuilt.state.applied_index(),
            at: at(rebuilt.state.clock()),
            state_hash: rebuilt.state.hash().to_string(),
            proven_index: rebuilt.proven_index,
            base_index: rebuilt.base_index,
            entries: rebuilt.progress.entries,
            block_bytes: rebuilt.progress.block_bytes,
            took_ms: 0,
        };
        let new = Arc::clone(&self.new);
        let planting = tokio::task::spawn_blocking(move || new.plant_state(&rebuilt.state));
        planting.await??;
        Ok(Some(RestoredPartition {
            took_ms: millis(started),
            ..restored
        }))
    }
}

fn at(clock: Timestamp) -> jiff::Timestamp {
    let ms = i64::try_from(clock.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(partition: u32, applied_index: u64, is_drained: bool) -> PartitionReach {
        PartitionReach {
            partition: PartitionId(partition),
            applied_index,
            first_index: Some(0),
            last_index: Some(applied_index),
            known_index: applied_index + 7,
            is_drained,
            is_paused: false,
            updated_at_ms: 1_760_000_000_000 + i64::from(partition),
            bases: 0,
            newest_base_index: None,
            earliest_ms: Some(1_750_000_000_000),
            block_bytes: 100,
        }
    }

    fn reach(partitions: u32, reach: Vec<PartitionReach>) -> ArchiveReach {
        ArchiveReach {
            grid_id: Uuid::nil(),
            partitions,
            reach,
        }
    }

    #[test]
    fn what_was_stopped_in_good_order_lacks_nothing() {
        let all = reach(2, vec![partition(0, 9, true), partition(1, 30, true)]);
        let lack = assess(&all).expect("whole");
        assert!(lack.is_nothing());
        lack.check(false).expect("nothing to accept");
    }

    #[test]
    fn what_may_be_lost_must_be_accepted() {
        let behind = reach(3, vec![partition(0, 9, true), partition(1, 30, false)]);
        let lack = assess(&behind).expect("usable");
        assert_eq!((lack.partitions, lack.known_entries), (2, 7));
        let refusal = lack.check(false).expect_err("refused").to_string();
        for part in [
            "2 partitions",
            "7 log entries",
            "2025-10-09T08:53:20",
            "--accept-data-loss",
        ] {
            assert!(refusal.contains(part), "{part}: {refusal}");
        }
        lack.check(true).expect("accepted");
    }

    #[test]
    fn a_gap_is_not_a_matter_of_acceptance() {
        let gap = PartitionReach {
            first_index: Some(20),
            ..partition(0, 30, true)
        };
        let refused = assess(&reach(1, vec![gap.clone()])).expect_err("refused");
        assert!(matches!(refused, Failure::Database(_)), "{refused}");
        let bridged = PartitionReach {
            newest_base_index: Some(22),
            ..gap
        };
        assess(&reach(1, vec![bridged])).expect("a state after the gap");
    }

    #[test]
    fn a_moment_before_the_archive_is_refused_unless_there_was_nothing() {
        let early = jiff::Timestamp::from_millisecond(1_749_999_999_999).expect("a time");
        let late = jiff::Timestamp::from_millisecond(1_750_000_000_000).expect("a time");
        let whole = reach(1, vec![partition(0, 30, true)]);
        check_until(&whole, early).expect("nothing had happened");
        let pruned = PartitionReach {
            first_index: Some(20),
            ..partition(0, 30, true)
        };
        let pruned = reach(1, vec![pruned]);
        check_until(&pruned, late).expect("just there");
        let refused = check_until(&pruned, early).expect_err("too early");
        assert!(
            refused.to_string().contains("2025-06-15T15:06:40Z"),
            "{refused}"
        );
    }
}
