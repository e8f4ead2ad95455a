//! The log in the database: committed entries and states, from which the grid can be made anew when none
//! of its nodes is left.
//!
//! ```text
//!   lane ──► its transaction: checkpoint, rows, and the entries they came from, as blocks ([`block`])
//!   keeper ─► now and then a whole state, off the lanes' way; then what is too old goes ([`bases`])
//!   reader ─► state at or before a place, blocks after it ─► [`rebuild`] ─► the state at that place
//! ```
//!
//! Invariants: the blocks of a partition reach exactly as far as its rows do, because they commit together;
//! entries are archived as they stand in the log, so that applying them gives the same state and the same
//! running hash, which every block is checked against; a gap in the blocks (a database of an older build, a
//! checkpoint that was moved by hand) is never passed over: a state after it is archived soon, and whoever
//! reads across it is told.
//!
//! What it deliberately does not do: keep a grid from accepting what the database does not have yet. How
//! far the grid was ahead, as far as its pump knew, is written with each transaction.

pub(crate) mod bases;
mod block;
mod drained;
mod passage;
mod reader;
mod rebuild;
mod takeover;

#[cfg(test)]
mod tests;

use grid_core::PartitionId;
use uuid::Uuid;

pub use block::BlockError;
pub(crate) use drained::{DrainedPlaces, unmark_drained};
pub(crate) use passage::Passage;
pub use reader::{
    ArchiveReach, ArchiveReader, ArchivedBase, ArchivedBlock, PartitionReach, PartitionReadiness,
};
pub use rebuild::{Progress, RebuiltPartition, Target, rebuild};
pub use takeover::{RestoreRecord, TakeOver};

/// Why the archive cannot be used as asked.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The database is away or refuses. Retry, or read what it says.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// The database has no tables of this build's pump. It was written by an older build, or by none.
    #[error("the database has no archive of a grid's log")]
    NoArchive,
    /// The rows of the checkpoint name more than one grid. Somebody must say what happened there.
    #[error("the database holds partitions of different grids: {0} and {1}")]
    TwoGrids(Uuid, Uuid),
    /// There is nothing to begin from at or before the place asked for. Ask for a later one.
    #[error(
        "partition {partition} has no archived state at or before {wanted}, and its log does not begin there; {earliest}"
    )]
    TooEarly {
        /// The partition.
        partition: PartitionId,
        /// What was asked for.
        wanted: String,
        /// From when on there is one.
        earliest: String,
    },
    /// Entries are missing. Only an earlier place, or one after the next archived state, can be reached.
    #[error(
        "partition {partition}: the entries from {first_missing} to {last_missing} are not in the archive"
    )]
    Gap {
        /// The partition.
        partition: PartitionId,
        /// The first of them.
        first_missing: u64,
        /// The last of them.
        last_missing: u64,
    },
    /// A row is damaged or of a newer build. Restore the database from its own backup.
    #[error(
        "partition {partition}: the block of entries {first_index} to {last_index} cannot be used: {source}"
    )]
    Block {
        /// The partition.
        partition: PartitionId,
        /// The block's first entry.
        first_index: u64,
        /// Its last.
        last_index: u64,
        /// What is wrong.
        source: BlockError,
    },
    /// An archived state is damaged or of a newer build. As for a block.
    #[error("partition {partition}: the state archived at entry {index} cannot be used: {what}")]
    Base {
        /// The partition.
        partition: PartitionId,
        /// Where it stands.
        index: u64,
        /// What is wrong.
        what: String,
    },
    /// The entries do not lead to the state that they led to in the grid: they were altered, or this build
    /// has other rules. Use the build that wrote them.
    #[error(
        "partition {partition}: applying entry {index} gives another state than it gave in the grid"
    )]
    Differs {
        /// The partition.
        partition: PartitionId,
        /// Where it was noticed.
        index: u64,
    },
    /// An entry cannot be applied. As for a difference.
    #[error("partition {partition}: {source}")]
    Apply {
        /// The partition.
        partition: PartitionId,
        /// What is wrong.
        source: grid_core::ApplyError,
    },
    /// The state breaks a rule of its domain.
    #[error("partition {partition}: the state breaks a rule: {what}")]
    Broken {
        /// The partition.
        partition: PartitionId,
        /// The rule.
        what: String,
    },
    /// A pump has written to the database meanwhile. Stop the old grid, and try again.
    #[error(
        "the checkpoint of partition {0} has moved meanwhile: the old grid still runs; stop it"
    )]
    Moved(PartitionId),
    /// The thread that applied entries has ended: a bug.
    #[error("the restore of partition {0} has ended by itself")]
    Ended(PartitionId),
}

impl ArchiveError {
    /// Whether the same call may succeed later without anybody's help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Database(_))
    }
}

fn sql_partition(partition: PartitionId) -> i32 {
    i32::try_from(partition.0).unwrap_or(i32::MAX)
}

fn sql_index(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

fn index_of(sql: i64) -> u64 {
    u64::try_from(sql).unwrap_or(0)
}
