//! Reads everything that happened to one auction or event back from the database.
//!
//! ```text
//!   changes ─────────────┐
//!   dead_letter ─────────┼─► in the log's order ──► whoever reads, one change at a time
//!   dead_letter_dropped ─┘
//! ```
//!
//! A change is in `changes`, or parked, or was parked and dropped; wherever it is, it happened. All is
//! read as it stood at one moment, and nothing is kept: a history may be longer than memory. The part
//! of the partition's log is read in which the auction or event lived, in the order of its key.
//!
//! Invariants: the changes are those of the grid, once each, in order, up to the checkpoint that
//! [`StoredHistory::reach`] names. A NUL character in a text, which the database cannot hold, comes
//! back as U+FFFD; nothing else differs.
//!
//! What it deliberately does not do: tell what a client was told (that is the gateway's to say), or
//! write.

use std::ops::ControlFlow;
use std::str::FromStr;

use futures_util::TryStreamExt;
use grid_core::{PartitionId, Timestamp};
use processing_unit::Change;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};
use uuid::Uuid;

/// All questions see one moment, nothing is written, and compiling a plan would take longer than most.
const SESSION: &str = "SET jit = off; BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";

/// Why a history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The database is away or refuses. Retry, or read what it says.
    #[error("{0}")]
    Database(#[from] sqlx::Error),
    /// The database has no tables of this build's pump. Start a node of this build first.
    #[error("the database has no tables of this build's pump yet; a node of this build makes them")]
    NoSchema,
    /// A change cannot be read back: it was edited, or is of a newer build.
    #[error("the change {place} cannot be read back: {source}")]
    Unreadable {
        /// `partition:log_index:seq`.
        place: String,
        /// Why.
        source: serde_json::Error,
    },
}

impl HistoryError {
    /// Whether trying again later may succeed without anybody's help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Database(_))
    }
}

/// How far the database knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryReach {
    /// The grid that wrote it.
    pub grid_id: Uuid,
    /// Where the auction or event lives.
    pub partition: PartitionId,
    /// Everything up to this log entry is here.
    pub upto_index: u64,
}

/// A change as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredChange {
    /// The log entry.
    pub index: u64,
    /// Its place among the entry's changes.
    pub seq: u32,
    /// The entry's time.
    pub at: Timestamp,
    /// What happened.
    pub change: Change,
}

/// The history of one auction or event, as the database had it when this was opened.
#[derive(Debug)]
pub struct StoredHistory {
    connection: PgConnection,
    entity: Uuid,
    reach: HistoryReach,
    /// The first log entry that may be about it, and the last.
    life: (i64, i64),
}

impl StoredHistory {
    /// Looks the auction or event up; `None` when nothing of it has been written.
    ///
    /// # Errors
    /// See [`HistoryError`].
    pub async fn open(database_url: &str, entity: Uuid) -> Result<Option<Self>, HistoryError> {
        let options = PgConnectOptions::from_str(database_url)?
            .application_name("spacegrid-replay")
            .disable_statement_logging();
        let mut connection = options.connect().await?;
        connection.execute(SESSION).await?;
        let has_schema: bool =
            sqlx::query_scalar("SELECT to_regclass('dead_letter_dropped') IS NOT NULL")
                .fetch_one(&mut connection)
                .await?;
        if !has_schema {
            return Err(HistoryError::NoSchema);
        }
        let found: Option<(Uuid, i32, i64)> = sqlx::query_as(
            "SELECT c.grid_id, c.partition, c.applied_index FROM pump_checkpoint c WHERE c.partition = (
                 SELECT partition FROM auctions WHERE auction_id = $1
                 UNION SELECT partition FROM events WHERE event_id = $1
                 UNION SELECT partition FROM dead_letter WHERE entity = $1
                 UNION SELECT partition FROM dead_letter_dropped WHERE entity = $1
                 LIMIT 1)",
        )
        .bind(entity)
        .fetch_optional(&mut connection)
        .await?;
        let Some((grid_id, partition, applied_index)) = found else {
            return Ok(None);
        };
        // Nothing happens before the creation or after an auction's end; where one of them is parked, the
        // whole log is read. The kinds are those of the index `changes_lives`.
        let (begin, end): (Option<i64>, Option<i64>) = sqlx::query_as(
            "SELECT min(log_index) FILTER (WHERE kind IN ('event_created', 'auction_created')),
                    max(log_index) FILTER (WHERE kind IN ('auction_ended', 'auction_cancelled'))
             FROM changes WHERE entity = $1
             AND kind IN ('event_created', 'auction_created', 'auction_ended', 'auction_cancelled')",
        )
        .bind(entity)
        .fetch_one(&mut connection)
        .await?;
        Ok(Some(Self {
            connection,
            entity,
            reach: HistoryReach {
                grid_id,
                partition: PartitionId(u32::try_from(partition).unwrap_or(0)),
                upto_index: u64::try_from(applied_index).unwrap_or(0),
            },
            life: (begin.unwrap_or(0), end.unwrap_or(i64::MAX)),
        }))
    }

    /// How far the database knows.
    #[must_use]
    pub fn reach(&self) -> HistoryReach {
        self.reach
    }

    /// Hands over every change in the log's order, until `take` has enough.
    ///
    /// # Errors
    /// See [`HistoryError`].
    pub async fn read(
        mut self,
        mut take: impl FnMut(StoredChange) -> ControlFlow<()>,
    ) -> Result<(), HistoryError> {
        // A seat sold twice is in dead_letter as a record; its change is in `changes` as well.
        let mut rows = sqlx::query_as::<_, (i64, i32, i64, String)>(
            "SELECT log_index, seq, (extract(epoch FROM at) * 1000)::bigint, payload FROM (
                 SELECT log_index, seq, at, payload::text AS payload FROM changes
                 WHERE entity = $1 AND partition = $2 AND log_index BETWEEN $3 AND $4
                 UNION ALL SELECT log_index, seq, at, payload FROM dead_letter
                 WHERE entity = $1 AND partition = $2 AND reason <> 'seat_sold_twice'
                 UNION ALL SELECT log_index, seq, at, payload FROM dead_letter_dropped
                 WHERE entity = $1 AND partition = $2 AND reason <> 'seat_sold_twice'
             ) AS of_entity ORDER BY log_index, seq",
        )
        .bind(self.entity)
        .bind(i32::try_from(self.reach.partition.0).unwrap_or(i32::MAX))
        .bind(self.life.0)
        .bind(self.life.1)
        .fetch(&mut self.connection);
        while let Some((log_index, seq, at_ms, payload)) = rows.try_next().await? {
            let change =
                serde_json::from_str(&payload).map_err(|source| HistoryError::Unreadable {
                    place: format!("{}:{log_index}:{seq}", self.reach.partition),
                    source,
                })?;
            let change = StoredChange {
                index: u64::try_from(log_index).unwrap_or(0),
                seq: u32::try_from(seq).unwrap_or(0),
                at: Timestamp::from_millis(u64::try_from(at_ms).unwrap_or(0)),
                change,
            };
            if take(change).is_break() {
                return Ok(());
            }
        }
        drop(rows);
        self.connection.close().await?;
        Ok(())
    }
}
