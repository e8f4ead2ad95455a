//! The writer: one transaction a batch, guarded by the checkpoint.
//!
//! ```text
//!   open     take the partition's row over for this term, read the index it stands at
//!   write    BEGIN; move the checkpoint, if term and index are still ours; rows; COMMIT
//! ```
//!
//! Whatever a write ends with other than a clean commit, the caller opens anew and goes on from where
//! the database then stands. That is right in all three cases: the database is where we left it (the
//! write failed), ahead (the commit's answer was lost, or another pump wrote), or behind (it was
//! restored from a backup).

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::planner::{PlacedChange, change_row, plan};
use super::statements::{self, Applied};

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
}

impl WriteError {
    /// Whether opening anew later may succeed without anybody's help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::ForeignGrid { .. })
    }
}

/// Who writes a partition, and how far it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) grid_id: Uuid,
    pub(super) partition: u32,
    pub(super) epoch: i64,
    pub(super) applied_index: u64,
}

/// What a write did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) rows: u64,
    /// Changes parked in `dead_letter`, seats sold twice included.
    pub(super) parked: u64,
    /// Updates of rows that are not there.
    pub(super) missing: u64,
}

impl Place {
    /// Takes the partition over for the leader of `epoch` and reads where the database stands.
    pub(super) async fn open(
        connection: &mut PgConnection,
        grid_id: Uuid,
        partition: u32,
        epoch: i64,
    ) -> Result<Self, WriteError> {
        let taken: Option<i64> = sqlx::query_scalar(
            "INSERT INTO pump_checkpoint AS t (partition, grid_id, epoch, applied_index)
             VALUES ($1, $2, $3, 0)
             ON CONFLICT (partition) DO UPDATE SET epoch = EXCLUDED.epoch
             WHERE t.epoch <= EXCLUDED.epoch AND t.grid_id = EXCLUDED.grid_id
             RETURNING applied_index",
        )
        .bind(partition_number(partition))
        .bind(grid_id)
        .bind(epoch)
        .fetch_optional(&mut *connection)
        .await?;
        if let Some(applied_index) = taken {
            return Ok(Self {
                grid_id,
                partition,
                epoch,
                applied_index: u64::try_from(applied_index).unwrap_or(0),
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

    /// Writes the changes of whole entries and moves the checkpoint to `new_index`, in one
    /// transaction. The place moves only when the database has confirmed it.
    pub(super) async fn write(
        &mut self,
        connection: &mut PgConnection,
        changes: &[PlacedChange<'_>],
        new_index: u64,
    ) -> Result<Written, WriteError> {
        let sets = plan(changes);
        let mut transaction = connection.begin().await?;
        self.move_checkpoint(&mut transaction, new_index).await?;
        let partition = partition_number(self.partition);
        let written = match statements::apply(&mut transaction, partition, &sets).await {
            Ok(applied) => {
                let mut written = Written::default();
                note(&mut transaction, partition, changes, applied, &mut written).await?;
                transaction.commit().await?;
                written
            }
            Err(error) if is_rejection(&error) => {
                transaction.rollback().await?;
                self.write_carefully(connection, changes, new_index).await?
            }
            Err(error) => return Err(error.into()),
        };
        self.applied_index = new_index;
        Ok(written)
    }

    /// The same for a batch that holds something the database refuses: halves are tried, and halves
    /// of those, until what is refused stands alone and is parked.
    async fn write_carefully(
        &self,
        connection: &mut PgConnection,
        changes: &[PlacedChange<'_>],
        new_index: u64,
    ) -> Result<Written, WriteError> {
        let partition = partition_number(self.partition);
        let mut written = Written::default();
        let mut transaction = connection.begin().await?;
        self.move_checkpoint(&mut transaction, new_index).await?;
        let mut parts = vec![changes];
        while let Some(part) = parts.pop() {
            let mut attempt = transaction.begin().await?;
            match statements::apply(&mut attempt, partition, &plan(part)).await {
                Ok(applied) => {
                    note(&mut attempt, partition, part, applied, &mut written).await?;
                    attempt.commit().await?;
                }
                Err(error) if is_rejection(&error) => {
                    attempt.rollback().await?;
                    if let [change] = part {
                        let text = error.to_string();
                        park(&mut transaction, partition, change, "rejected", &text).await?;
                        written.parked += 1;
                    } else {
                        let (first, second) = part.split_at(part.len() / 2);
                        parts.extend([second, first]);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        transaction.commit().await?;
        Ok(written)
    }

    /// The fence: moves the checkpoint if it is still this pump's and where this pump left it.
    async fn move_checkpoint(
        &self,
        connection: &mut PgConnection,
        new_index: u64,
    ) -> Result<(), WriteError> {
        let moved = sqlx::query(
            "UPDATE pump_checkpoint SET applied_index = $1, updated_at = now()
             WHERE partition = $2 AND grid_id = $3 AND epoch = $4 AND applied_index = $5",
        )
        .bind(log_index(new_index))
        .bind(partition_number(self.partition))
        .bind(self.grid_id)
        .bind(self.epoch)
        .bind(log_index(self.applied_index))
        .execute(connection)
        .await?;
        if moved.rows_affected() == 1 {
            Ok(())
        } else {
            Err(WriteError::CheckpointMoved {
                partition: self.partition,
            })
        }
    }
}

/// Records what was written, and parks tickets for seats that had one.
async fn note(
    connection: &mut PgConnection,
    partition: i32,
    changes: &[PlacedChange<'_>],
    applied: Applied,
    written: &mut Written,
) -> Result<(), sqlx::Error> {
    written.rows += applied.rows;
    written.missing += applied.missing;
    let mut conflicts = applied.conflicts.iter().peekable();
    while let Some(first) = conflicts.next() {
        let place = (first.log_index, first.seq);
        let mut text = format!(
            "seat {} has ticket {}, not {}",
            first.seat_index, first.other_ticket_id, first.ticket_id
        );
        while let Some(next) = conflicts.next_if(|next| (next.log_index, next.seq) == place) {
            text.push_str(&format!(
                "; seat {} has ticket {}, not {}",
                next.seat_index, next.other_ticket_id, next.ticket_id
            ));
        }
        let change = changes.iter().find(|change| {
            (log_index(change.log_index), i64::from(change.seq)) == (place.0, i64::from(place.1))
        });
        if let Some(change) = change {
            park(connection, partition, change, "seat_sold_twice", &text).await?;
            written.parked += 1;
        }
    }
    Ok(())
}

async fn park(
    connection: &mut PgConnection,
    partition: i32,
    change: &PlacedChange<'_>,
    reason: &str,
    error: &str,
) -> Result<(), sqlx::Error> {
    let row = change_row(change);
    tracing::error!(
        partition,
        log_index = row.log_index,
        seq = row.seq,
        kind = row.kind,
        error,
        "a change is parked in dead_letter"
    );
    sqlx::query(
        "INSERT INTO dead_letter (partition, log_index, seq, at, kind, entity, reason, error, payload)
         VALUES ($1, $2, $3, 'epoch'::timestamptz + $4::bigint * interval '1 millisecond', $5, $6, $7,
                 $8, $9)
         ON CONFLICT DO NOTHING",
    )
    .bind(partition)
    .bind(row.log_index)
    .bind(row.seq)
    .bind(row.at)
    .bind(row.kind)
    .bind(row.entity)
    .bind(reason)
    .bind(error.replace('\0', "\u{fffd}"))
    .bind(row.payload)
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether the database refuses the data itself, now and for ever: SQLSTATE classes 22 (data), 23
/// (constraints) and 54 (sizes). Anything else may pass.
fn is_rejection(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            ["22", "23", "54"]
                .iter()
                .any(|class| code.starts_with(class))
        }),
        sqlx::Error::Encode(_) => true,
        _ => false,
    }
}

fn partition_number(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

fn log_index(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}
