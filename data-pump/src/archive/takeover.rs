//! Gives a database to the grid that was made from it.
//!
//! From then on the old grid's pumps are refused, whatever their term, as those of a foreign grid; the new
//! one's go on where the tables stand, since its log does. All partitions change hands in one transaction,
//! and only if none has moved since they were read.

use std::collections::BTreeMap;

use grid_core::{PartitionId, Timestamp};
use sqlx::Connection;
use uuid::Uuid;

use super::reader::ArchiveReader;
use super::{ArchiveError, index_of, sql_index, sql_partition};

/// What is written down about a restore, for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreRecord {
    /// Who restored.
    pub by: String,
    /// The grid that wrote the database.
    pub from_grid: Uuid,
    /// The grid that was made.
    pub to_grid: Uuid,
    /// The time asked for, if one was.
    pub until: Option<Timestamp>,
    /// Whether the old grid may have accepted what is not in the database.
    pub accepted_data_loss: bool,
    /// Entries that its pump knew of and had not written.
    pub missing_entries: u64,
    /// How far each partition was restored.
    pub indexes: BTreeMap<PartitionId, u64>,
}

/// What becomes of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeOver {
    /// The new grid goes on with it.
    Continue,
    /// It stays the old grid's; the restore is only written down.
    Leave,
}

impl ArchiveReader {
    /// Writes a restore down and, where the new grid goes on with the database, gives it to that grid.
    ///
    /// # Errors
    /// [`ArchiveError::Moved`] when a pump has written since; then nothing has changed.
    pub async fn record_restore(
        &mut self,
        record: &RestoreRecord,
        take_over: TakeOver,
    ) -> Result<(), ArchiveError> {
        let mut transaction = self.connection.begin().await?;
        if take_over == TakeOver::Continue {
            for (partition, index) in &record.indexes {
                let moved = sqlx::query(
                    "UPDATE pump_checkpoint SET grid_id = $2, epoch = 0, updated_at = now()
                     WHERE partition = $1 AND grid_id = $3 AND applied_index = $4",
                )
                .bind(sql_partition(*partition))
                .bind(record.to_grid)
                .bind(record.from_grid)
                .bind(sql_index(*index))
                .execute(&mut *transaction)
                .await?;
                if moved.rows_affected() != 1 {
                    return Err(ArchiveError::Moved(*partition));
                }
            }
            let others: i64 =
                sqlx::query_scalar("SELECT count(*) FROM pump_checkpoint WHERE grid_id <> $1")
                    .bind(record.to_grid)
                    .fetch_one(&mut *transaction)
                    .await?;
            if index_of(others) > 0 {
                return Err(ArchiveError::TwoGrids(record.from_grid, record.to_grid));
            }
        }
        let indexes: BTreeMap<String, u64> = record
            .indexes
            .iter()
            .map(|(partition, index)| (partition.to_string(), *index))
            .collect();
        sqlx::query(
            "INSERT INTO grid_restores (restored_by, from_grid, to_grid, until, continued,
                                        accepted_data_loss, missing_entries, indexes)
             VALUES ($1, $2, $3, 'epoch'::timestamptz + $4::bigint * interval '1 millisecond', $5, $6,
                     $7, $8)",
        )
        .bind(&record.by)
        .bind(record.from_grid)
        .bind(record.to_grid)
        .bind(record.until.map(|until| sql_index(until.as_millis())))
        .bind(take_over == TakeOver::Continue)
        .bind(record.accepted_data_loss)
        .bind(sql_index(record.missing_entries))
        .bind(sqlx::types::Json(indexes))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }
}
