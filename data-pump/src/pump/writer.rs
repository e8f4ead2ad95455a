//! The writer: one transaction a batch, guarded by the checkpoint.
//!
//! ```text
//!   open     take the partition's row over for this term, read the index it stands at
//!   write    BEGIN; move the checkpoint, if term and index are still ours; rows; COMMIT
//! ```
//!
//! A change that the database refuses is found by trying halves, and halves of those, and its entity is
//! parked (see `parking`); what kind of error means that, `sqlstate` says.
//!
//! Whatever a write ends with other than a clean commit, the caller opens anew and goes on from where
//! the database then stands. That is right in all three cases: the database is where we left it (the
//! write failed), ahead (the commit's answer was lost, or another pump wrote), or behind (it was
//! restored from a backup).

use std::time::Duration;

use grid_core::PartitionId;
use sqlx::{Connection, PgConnection, PgTransaction};
use uuid::Uuid;

use super::parking::Parking;
use super::planner::{PlacedChange, plan};
use super::sqlstate::{Verdict, judge, sqlstate};
use super::statements::{self, Route};
use super::trail::{Link, StoredTrail, Trail};
use crate::archive::Passage;

/// Parked changes of one partition unless somebody says otherwise.
pub(super) const PARKED_CHANGES_MAX: u64 = 100_000;

/// Why a partition's rows could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The database is away, overloaded or refused. Open anew after a pause.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// No connection was to be had: the database is away, or busy with others. Open anew after a
    /// pause.
    #[error("no database connection within {} s: it is away or overloaded", .wait.as_secs())]
    NoConnection {
        /// How long was waited.
        wait: Duration,
    },
    /// The checkpoint is not where it was left: another pump wrote, or the database was restored.
    /// Open anew.
    #[error("the checkpoint of partition {partition} has moved")]
    CheckpointMoved {
        /// The partition.
        partition: u32,
    },
    /// A newer leader's pump owns the partition. Wait until this node leads again.
    #[error("partition {partition} is written by the leader of term {epoch}")]
    Deposed {
        /// The partition.
        partition: u32,
        /// The owner's term.
        epoch: i64,
    },
    /// The database holds another grid's data. Somebody must choose another database.
    #[error("the database belongs to grid {found}, this is grid {expected}")]
    ForeignGrid {
        /// Whose it is.
        found: Uuid,
        /// Who asked.
        expected: Uuid,
    },
    /// Tables, columns or rights are not as the pump made them, so that every change would be refused.
    /// Nothing is parked. Put the schema right; the pump goes on by itself.
    #[error(
        "the tables are not as the pump made them: {source} (SQLSTATE {sqlstate}); nothing was set \
         aside, and the pump goes on by itself once that is put right"
    )]
    Schema {
        /// The database's code.
        sqlstate: String,
        /// What it said.
        source: sqlx::Error,
    },
    /// As many changes are parked as may be. Put right what they met and retry or drop them; the pump
    /// goes on by itself.
    #[error(
        "{max} changes of partition {partition} are parked, which is the most (pump.parked_changes_max); \
         the last was refused with: {error}; see `grid pump dlq list`"
    )]
    TooManyParked {
        /// The partition.
        partition: u32,
        /// The bound.
        max: u64,
        /// What would have been parked next met this.
        error: String,
    },
    /// Somebody has paused the partition's pump. Wait until it is resumed.
    #[error("the pump of partition {partition} is paused")]
    Paused {
        /// The partition.
        partition: u32,
    },
}

impl WriteError {
    /// Whether opening anew later may succeed without anybody's help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        !matches!(
            self,
            Self::ForeignGrid { .. } | Self::Schema { .. } | Self::TooManyParked { .. }
        )
    }

    /// An error of a statement that writes rows.
    fn of(error: sqlx::Error) -> Self {
        match judge(&error) {
            Verdict::Stop => Self::Schema {
                sqlstate: sqlstate(&error).unwrap_or_default(),
                source: error,
            },
            Verdict::Retry | Verdict::Park => Self::Database(error),
        }
    }
}

/// Who writes a partition, and how far it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) grid_id: Uuid,
    pub(super) partition: u32,
    pub(super) epoch: i64,
    pub(crate) applied_index: u64,
    /// Whether somebody has paused it; nothing can be written then.
    pub(super) is_paused: bool,
    /// The most changes that may be parked.
    pub(super) parked_max: u64,
    /// Where its audit trail stands.
    pub(crate) trail: Trail,
}

/// The row, taken over.
#[derive(Debug, sqlx::FromRow)]
struct Opened {
    applied_index: i64,
    is_paused: bool,
    #[sqlx(flatten)]
    trail: StoredTrail,
}

/// What a write did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(super) rows: u64,
    /// Changes parked in `dead_letter`, seats sold twice included.
    pub(super) parked: u64,
    /// Updates of rows that are not there.
    pub(super) missing: u64,
    /// Changes of the partition that are parked now.
    pub(super) parked_in_all: u64,
}

impl Place {
    /// Takes the partition over for the leader of `epoch` and reads where the database stands.
    pub(super) async fn open(
        connection: &mut PgConnection,
        grid_id: Uuid,
        partition: u32,
        epoch: i64,
    ) -> Result<Self, WriteError> {
        let taken: Option<Opened> = sqlx::query_as(
            "INSERT INTO pump_checkpoint AS t (partition, grid_id, epoch, applied_index)
             VALUES ($1, $2, $3, 0)
             ON CONFLICT (partition) DO UPDATE SET epoch = EXCLUDED.epoch
             WHERE t.epoch <= EXCLUDED.epoch AND t.grid_id = EXCLUDED.grid_id
             RETURNING applied_index, paused_at IS NOT NULL AS is_paused, audit_base, audit_blocks,
                       audit_leaves, audit_chain",
        )
        .bind(partition_number(partition))
        .bind(grid_id)
        .bind(epoch)
        .fetch_optional(&mut *connection)
        .await?;
        if let Some(opened) = taken {
            return Ok(Self {
                grid_id,
                partition,
                epoch,
                applied_index: u64::try_from(opened.applied_index).unwrap_or(0),
                is_paused: opened.is_paused,
                parked_max: PARKED_CHANGES_MAX,
                trail: Trail::open(grid_id, partition_number(partition), &opened.trail),
            });
        }
        let (owner, owner_epoch): (Uuid, i64) =
            sqlx::query_as("SELECT grid_id, epoch FROM pump_checkpoint WHERE partition = $1")
                .bind(partition_number(partition))
                .fetch_one(connection)
                .await?;
        if owner == grid_id {
            Err(WriteError::Deposed {
                partition,
                epoch: owner_epoch,
            })
        } else {
            Err(WriteError::ForeignGrid {
                found: owner,
                expected: grid_id,
            })
        }
    }

    /// Writes the changes of whole entries, archives the entries, and moves the checkpoint to `new_index`,
    /// in one transaction. The place moves only when the database has confirmed it.
    pub(super) async fn write(
        &mut self,
        connection: &mut PgConnection,
        changes: &[PlacedChange<'_>],
        new_index: u64,
        passage: &Passage<'_>,
    ) -> Result<Written, WriteError> {
        let mut written = Written::default();
        let mut rows = plan(changes);
        let link = self
            .trail
            .next(partition_number(self.partition), &rows.changes);
        let mut transaction = connection.begin().await?;
        let mut parking = self
            .fence(&mut transaction, changes, new_index, &link, passage)
            .await?;
        let (free, behind) = parking.split(changes);
        if !behind.is_empty() {
            rows = plan(&free);
        }
        let partition = partition_number(self.partition);
        match statements::apply(&mut transaction, partition, &rows, Route::Fast).await {
            Ok(applied) => {
                parking
                    .note(&mut transaction, &free, applied, &mut written)
                    .await?;
                parking.follow(&mut transaction, &behind).await?;
                (written.parked, written.parked_in_all) = parking.close(&mut transaction).await?;
                transaction.commit().await?;
            }
            Err(error) if judge(&error) == Verdict::Park => {
                transaction.rollback().await?;
                written = self
                    .write_carefully(connection, changes, new_index, &link, passage)
                    .await?;
            }
            Err(error) => return Err(WriteError::of(error)),
        }
        self.applied_index = new_index;
        self.trail.follow(&link);
        Ok(written)
    }

    /// The same for a batch that holds something the database refuses: halves are tried, and halves
    /// of those, until what is refused stands alone and is parked with what follows of its entity.
    async fn write_carefully(
        &self,
        connection: &mut PgConnection,
        changes: &[PlacedChange<'_>],
        new_index: u64,
        link: &Link,
        passage: &Passage<'_>,
    ) -> Result<Written, WriteError> {
        let partition = partition_number(self.partition);
        let mut written = Written::default();
        let mut transaction = connection.begin().await?;
        let mut parking = self
            .fence(&mut transaction, changes, new_index, link, passage)
            .await?;
        let mut parts = vec![changes.to_vec()];
        while let Some(part) = parts.pop() {
            // Parts come in log order, so whatever was parked so far is earlier than this one.
            let (mut free, behind) = parking.split(&part);
            parking.follow(&mut transaction, &behind).await?;
            if free.is_empty() {
                continue;
            }
            let mut attempt = transaction.begin().await?;
            let rows = plan(&free);
            match statements::apply(&mut attempt, partition, &rows, Route::Tolerant).await {
                Ok(applied) => {
                    parking
                        .note(&mut attempt, &free, applied, &mut written)
                        .await?;
                    attempt.commit().await?;
                }
                Err(error) if judge(&error) == Verdict::Park => {
                    attempt.rollback().await?;
                    if let [change] = free.as_slice() {
                        parking.reject(&mut transaction, change, &error).await?;
                    } else {
                        let second = free.split_off(free.len() / 2);
                        parts.extend([second, free]);
                    }
                }
                Err(error) => return Err(WriteError::of(error)),
            }
        }
        (written.parked, written.parked_in_all) = parking.close(&mut transaction).await?;
        transaction.commit().await?;
        Ok(written)
    }

    /// Moves the checkpoint, archives the entries that it passes, and reads which of the changes must be
    /// parked.
    async fn fence(
        &self,
        transaction: &mut PgTransaction<'_>,
        changes: &[PlacedChange<'_>],
        new_index: u64,
        link: &Link,
        passage: &Passage<'_>,
    ) -> Result<Parking, WriteError> {
        let parked = self.move_checkpoint(transaction, new_index, link).await?;
        let partition = PartitionId(self.partition);
        passage
            .archive(transaction, partition, self.applied_index, new_index)
            .await
            .map_err(WriteError::of)?;
        let parking = Parking::open(
            transaction,
            self.partition,
            parked,
            self.parked_max,
            changes,
        )
        .await?;
        Ok(parking)
    }

    /// The fence: moves the checkpoint if it is still this pump's, where this pump left it, and not
    /// paused. Returns how many changes are parked.
    async fn move_checkpoint(
        &self,
        connection: &mut PgConnection,
        new_index: u64,
        link: &Link,
    ) -> Result<u64, WriteError> {
        let query = sqlx::query_scalar(link.fence_statement())
            .bind(log_index(new_index))
            .bind(partition_number(self.partition))
            .bind(self.grid_id)
            .bind(self.epoch)
            .bind(log_index(self.applied_index));
        let moved: Option<i64> = link
            .bind(query, &self.trail)
            .fetch_optional(&mut *connection)
            .await
            .map_err(WriteError::of)?;
        if let Some(parked) = moved {
            return Ok(u64::try_from(parked).unwrap_or(0));
        }
        let partition = self.partition;
        if is_paused(connection, partition).await? {
            return Err(WriteError::Paused { partition });
        }
        Err(WriteError::CheckpointMoved { partition })
    }
}

/// Whether somebody has paused a partition's pump.
pub(super) async fn is_paused(
    connection: &mut PgConnection,
    partition: u32,
) -> Result<bool, sqlx::Error> {
    let paused: Option<bool> = sqlx::query_scalar(
        "SELECT paused_at IS NOT NULL FROM pump_checkpoint WHERE partition = $1",
    )
    .bind(partition_number(partition))
    .fetch_optional(connection)
    .await?;
    Ok(paused.unwrap_or(false))
}

pub(crate) fn partition_number(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

pub(super) fn log_index(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}
