//! What operators do to the pump, over a database connection of their own: look, pause, resume.
//!
//! A pause is a mark in the row that every write of a partition moves. So it holds for the whole grid
//! and for whoever leads next, and when [`PumpOperator::pause`] has returned, no pump commits anything
//! more until the partition is resumed. What a database does not hold it cannot mark: a partition that
//! no pump has opened yet is not paused, and a database restored from a backup has that time's pauses.

use std::str::FromStr;

use serde::Serialize;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};

use super::connections::SESSION;
use super::writer::partition_number;

/// Why an operator's order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The database is away or refuses. Retry, or read what it says.
    #[error("{0}")]
    Database(#[from] sqlx::Error),
    /// The database has no tables of this build's pump. Start a node of this build first.
    #[error("the database has no tables of this build's pump yet; a node of this build makes them")]
    NoSchema,
    /// No such change is parked.
    #[error("no such change is parked; `grid pump dlq list` shows those there are")]
    NotParked,
    /// The first changes were dropped for their age, so the rest cannot be made anew from them. Nothing
    /// has changed.
    #[error(
        "its first changes were dropped for their age (pump.retention_changes_days), so its rows cannot be \
         made anew from them; nothing was changed"
    )]
    Dropped,
    /// A change in the database cannot be read back: it was edited, or is of a newer build.
    #[error("the change {place} cannot be read back: {source}")]
    Unreadable {
        /// `partition:log_index:seq`.
        place: String,
        /// Why.
        source: serde_json::Error,
    },
}

impl OperatorError {
    /// Whether the same order may succeed later without anybody's help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Database(_))
    }
}

/// A partition's pump, by what the database says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
#[expect(
    missing_docs,
    reason = "plain names; times in milliseconds since the Unix epoch"
)]
pub struct PartitionControl {
    pub partition: i32,
    /// Every change up to this log index is written or parked.
    pub applied_index: i64,
    /// The term of the leader whose pump wrote last.
    pub epoch: i64,
    pub parked_changes: i64,
    /// Entities whose later changes park too.
    pub parked_entities: i64,
    pub paused_at_ms: Option<i64>,
    pub paused_by: Option<String>,
    pub pause_reason: Option<String>,
}

/// An operator's connection.
#[derive(Debug)]
pub struct PumpOperator {
    pub(super) connection: PgConnection,
}

impl PumpOperator {
    /// Connects.
    ///
    /// # Errors
    /// See [`OperatorError`].
    pub async fn connect(database_url: &str) -> Result<Self, OperatorError> {
        let options = PgConnectOptions::from_str(database_url)?
            .application_name("spacegrid-operator")
            .disable_statement_logging();
        let mut connection = PgConnection::connect_with(&options).await?;
        connection.execute(SESSION).await?;
        let has_schema: bool =
            sqlx::query_scalar("SELECT to_regclass('dead_letter_dropped') IS NOT NULL")
                .fetch_one(&mut connection)
                .await?;
        if !has_schema {
            return Err(OperatorError::NoSchema);
        }
        Ok(Self { connection })
    }

    /// Lets others at a database that answers one connection at a time.
    pub async fn close(self) {
        if let Err(error) = self.connection.close().await {
            tracing::debug!(%error, "the database had gone already");
        }
    }

    /// Every partition that a pump has opened.
    ///
    /// # Errors
    /// [`OperatorError::Database`]; so for all that follow.
    pub async fn partitions(&mut self) -> Result<Vec<PartitionControl>, OperatorError> {
        let rows = sqlx::query_as(
            "SELECT c.partition, c.applied_index, c.epoch, c.parked AS parked_changes,
                    (SELECT count(DISTINCT d.entity) FROM dead_letter d
                     WHERE d.partition = c.partition AND d.reason IN ('rejected', 'behind'))
                        AS parked_entities,
                    (extract(epoch FROM c.paused_at) * 1000)::bigint AS paused_at_ms,
                    c.paused_by, c.pause_reason
             FROM pump_checkpoint c ORDER BY c.partition",
        )
        .fetch_all(&mut self.connection)
        .await?;
        Ok(rows)
    }

    /// Pauses a partition's pump, or all. Returns the partitions that are paused because of this; what
    /// was paused already stays as it was.
    ///
    /// # Errors
    /// See [`Self::partitions`].
    pub async fn pause(
        &mut self,
        partition: Option<u32>,
        by: &str,
        reason: &str,
    ) -> Result<Vec<i32>, OperatorError> {
        let mut paused: Vec<i32> = sqlx::query_scalar(
            "UPDATE pump_checkpoint SET paused_at = now(), paused_by = $2, pause_reason = $3
             WHERE ($1::integer IS NULL OR partition = $1) AND paused_at IS NULL
             RETURNING partition",
        )
        .bind(partition.map(partition_number))
        .bind(by)
        .bind(reason)
        .fetch_all(&mut self.connection)
        .await?;
        paused.sort_unstable();
        Ok(paused)
    }

    /// Lets a partition's pump go on, or all. Returns the partitions that were paused.
    ///
    /// # Errors
    /// See [`Self::partitions`].
    pub async fn resume(&mut self, partition: Option<u32>) -> Result<Vec<i32>, OperatorError> {
        let mut resumed: Vec<i32> = sqlx::query_scalar(
            "UPDATE pump_checkpoint SET paused_at = NULL, paused_by = NULL, pause_reason = NULL
             WHERE ($1::integer IS NULL OR partition = $1) AND paused_at IS NOT NULL
             RETURNING partition",
        )
        .bind(partition.map(partition_number))
        .fetch_all(&mut self.connection)
        .await?;
        resumed.sort_unstable();
        Ok(resumed)
    }
}
