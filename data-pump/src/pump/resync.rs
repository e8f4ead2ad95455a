//! Making an entity's rows anew from its changes, which are all in the database.
//!
//! `changes` says everything that happened; the other tables only say what came of it. So rows that were
//! edited, lost or written wrongly are mended without asking the grid: they are deleted and planned
//! again, change by change, in one transaction that holds the partition's checkpoint. The pump of that
//! partition waits meanwhile, and goes on from the place at which the rows then stand; readers see the
//! old rows or the new ones. What the changes themselves lack cannot be mended here.

use grid_core::Timestamp;
use processing_unit::Change;
use serde::Serialize;
use sqlx::{Connection, PgTransaction};
use uuid::Uuid;

use super::control::{OperatorError, PumpOperator};
use super::planner::{PlacedChange, plan};
use super::statements;

/// Changes that are planned together.
const BATCH_CHANGES_MAX: i64 = 2_000;
/// How long one statement may take; a large log is read through once.
const STATEMENT_TIMEOUT: &str = "SET LOCAL statement_timeout = '600s'";

/// What is made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EntityKind {
    /// An event with its seats, holds and tickets.
    Event,
    /// An auction with its bids.
    Auction,
}

/// What making an entity anew came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Remade {
    /// Changes that were planned again.
    pub changes: u64,
    /// Rows that were written.
    pub rows: u64,
}

impl PumpOperator {
    /// Makes an entity's rows anew from its changes.
    ///
    /// # Errors
    /// [`OperatorError::Database`]; then nothing has changed.
    pub async fn remake(
        &mut self,
        kind: EntityKind,
        entity: Uuid,
    ) -> Result<Remade, OperatorError> {
        let mut transaction = self.connection.begin().await?;
        sqlx::query(STATEMENT_TIMEOUT)
            .execute(&mut *transaction)
            .await?;
        let partitions: Vec<i32> = sqlx::query_scalar(
            "SELECT DISTINCT partition FROM changes WHERE entity = $1 ORDER BY partition",
        )
        .bind(entity)
        .fetch_all(&mut *transaction)
        .await?;
        for partition in &partitions {
            sqlx::query("SELECT FROM pump_checkpoint WHERE partition = $1 FOR UPDATE")
                .bind(partition)
                .execute(&mut *transaction)
                .await?;
        }
        for statement in deletions(kind) {
            sqlx::query(*statement)
                .bind(entity)
                .execute(&mut *transaction)
                .await?;
        }
        if is_cut(&mut transaction, kind, entity).await? {
            return Err(OperatorError::Dropped);
        }
        let mut remade = Remade {
            changes: 0,
            rows: 0,
        };
        for partition in partitions {
            replay(&mut transaction, partition, entity, &mut remade).await?;
        }
        transaction.commit().await?;
        Ok(remade)
    }
}

/// Whether an entity has changes, but for its first: months of them were dropped for their age.
async fn is_cut(
    transaction: &mut PgTransaction<'_>,
    kind: EntityKind,
    entity: Uuid,
) -> Result<bool, sqlx::Error> {
    let first = match kind {
        EntityKind::Event => "event_created",
        EntityKind::Auction => "auction_created",
    };
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM audit_cut)
            AND NOT EXISTS (SELECT FROM changes WHERE entity = $1 AND kind = $2)",
    )
    .bind(entity)
    .bind(first)
    .fetch_one(&mut **transaction)
    .await
}

fn deletions(kind: EntityKind) -> &'static [&'static str] {
    match kind {
        EntityKind::Event => &[
            "DELETE FROM tickets WHERE event_id = $1",
            "DELETE FROM holds WHERE event_id = $1",
            "DELETE FROM seats WHERE event_id = $1",
            "DELETE FROM events WHERE event_id = $1",
        ],
        EntityKind::Auction => &[
            "DELETE FROM bids WHERE auction_id = $1",
            "DELETE FROM auctions WHERE auction_id = $1",
        ],
    }
}

/// Plans an entity's changes again, in the order of their log.
async fn replay(
    transaction: &mut PgTransaction<'_>,
    partition: i32,
    entity: Uuid,
    remade: &mut Remade,
) -> Result<(), OperatorError> {
    let mut after = (-1_i64, -1_i32);
    loop {
        let rows: Vec<(i64, i32, i64, String)> = sqlx::query_as(
            "SELECT log_index, seq, (extract(epoch FROM at) * 1000)::bigint, payload::text
             FROM changes
             WHERE partition = $1 AND entity = $2 AND (log_index, seq) > ($3, $4)
             ORDER BY log_index, seq LIMIT $5",
        )
        .bind(partition)
        .bind(entity)
        .bind(after.0)
        .bind(after.1)
        .bind(BATCH_CHANGES_MAX)
        .fetch_all(&mut **transaction)
        .await?;
        let Some(last) = rows.last() else {
            return Ok(());
        };
        after = (last.0, last.1);
        let mut changes: Vec<(u64, u32, Timestamp, Change)> = Vec::with_capacity(rows.len());
        for (log_index, seq, at_ms, payload) in &rows {
            let change =
                serde_json::from_str(payload).map_err(|error| OperatorError::Unreadable {
                    place: format!("{partition}:{log_index}:{seq}"),
                    source: error,
                })?;
            changes.push((
                u64::try_from(*log_index).unwrap_or(0),
                u32::try_from(*seq).unwrap_or(0),
                Timestamp::from_millis(u64::try_from(*at_ms).unwrap_or(0)),
                change,
            ));
        }
        let placed: Vec<PlacedChange<'_>> = changes
            .iter()
            .map(|(log_index, seq, at, change)| PlacedChange {
                log_index: *log_index,
                seq: *seq,
                at: *at,
                change,
            })
            .collect();
        let mut sets = plan(&placed);
        // They are there, and are what is gone by.
        sets.changes.clear();
        let applied = statements::apply(transaction, partition, &sets).await?;
        remade.changes += placed.len() as u64;
        remade.rows += applied.rows;
    }
}
