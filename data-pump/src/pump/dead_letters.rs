//! What operators do about parked changes: list, show, retry, drop.
//!
//! Every order takes the partition's checkpoint row first, as each write of the pump does: while it is
//! carried out, the pump of that partition waits, so no change of the entity can pass the parked ones.
//! An entity is retried in its log's order, and stops at the first change that is refused again.

use std::fmt;
use std::str::FromStr;

use grid_core::Timestamp;
use processing_unit::Change;
use serde::Serialize;
use sqlx::{Connection, PgTransaction};
use uuid::Uuid;

use super::control::{OperatorError, PumpOperator};
use super::parking::Parking;
use super::planner::{PlacedChange, plan};
use super::sqlstate::{Verdict, judge, sqlstate};
use super::statements::{self, Route};
use super::writer::{WriteError, Written, log_index, partition_number};

/// Changes that one transaction of a retry writes; the pump of the partition waits for it.
const RETRY_CHANGES_MAX: i64 = 500;

/// Where a change is in its partition's log: `partition:log_index:seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangePlace {
    /// The partition.
    pub partition: u32,
    /// The log index of its entry.
    pub log_index: u64,
    /// Its place among the entry's changes.
    pub seq: u32,
}

impl fmt::Display for ChangePlace {
    /// `partition:log_index:seq`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.partition, self.log_index, self.seq)
    }
}

impl FromStr for ChangePlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let place = (|| {
            let partition = parts.next()?.parse().ok()?;
            let log_index = parts.next()?.parse().ok()?;
            let seq = parts.next()?.parse().ok()?;
            parts.next().is_none().then_some(Self {
                partition,
                log_index,
                seq,
            })
        })();
        place.ok_or_else(|| format!("{text} is no place of a change, such as 3:1201:0"))
    }
}

/// A parked change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
#[expect(
    missing_docs,
    reason = "plain names; times in milliseconds since the Unix epoch"
)]
pub struct ParkedChange {
    pub partition: i32,
    pub log_index: i64,
    pub seq: i32,
    /// When it happened in the grid.
    pub at_ms: i64,
    pub kind: String,
    pub entity: Uuid,
    /// `rejected`, `behind` or `seat_sold_twice`.
    pub reason: String,
    pub sqlstate: Option<String>,
    pub error: String,
    /// How often it was refused.
    pub attempts: i32,
    pub parked_at_ms: i64,
    pub tried_at_ms: i64,
    /// The change, as JSON.
    pub payload: String,
}

/// Which parked changes are meant.
#[derive(Clone, Copy, Debug, Default)]
pub struct ParkedFilter {
    /// Of one partition.
    pub partition: Option<u32>,
    /// Of one entity.
    pub entity: Option<Uuid>,
}

/// An entity with parked changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct ParkedEntity {
    /// Its partition.
    pub partition: i32,
    /// Its id.
    pub entity: Uuid,
    /// How many of its changes are parked.
    pub changes: i64,
}

/// What a retry of an entity came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Retried {
    /// The partition.
    pub partition: i32,
    /// The entity.
    pub entity: Uuid,
    /// Changes that are in their tables now.
    pub written: u64,
    /// Changes that are still parked.
    pub left: u64,
    /// Where it stopped, and why; `None` when nothing is left.
    pub refused: Option<Refused>,
}

/// A change that was refused again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Its place.
    pub place: String,
    /// The database's code, if it sent one.
    pub sqlstate: Option<String>,
    /// What it said.
    pub error: String,
}

/// A row of the queue, read back.
struct Letter {
    log_index: u64,
    seq: u32,
    at: Timestamp,
    change: Result<Change, String>,
}

impl Letter {
    fn placed(&self) -> Option<PlacedChange<'_>> {
        Some(PlacedChange {
            log_index: self.log_index,
            seq: self.seq,
            at: self.at,
            change: self.change.as_ref().ok()?,
        })
    }
}

/// How one transaction of a retry ended.
enum Step {
    /// So many were written, and there may be more.
    Wrote(u64),
    /// So many were written before one was refused.
    Stopped(u64, Refused),
}

impl PumpOperator {
    /// Parked changes in log order, at most `limit`.
    ///
    /// # Errors
    /// [`OperatorError::Database`].
    pub async fn parked(
        &mut self,
        filter: ParkedFilter,
        limit: u32,
    ) -> Result<Vec<ParkedChange>, OperatorError> {
        let rows = sqlx::query_as(
            "SELECT partition, log_index, seq, (extract(epoch FROM at) * 1000)::bigint AS at_ms, kind,
                    entity, reason, sqlstate, error, attempts,
                    (extract(epoch FROM parked_at) * 1000)::bigint AS parked_at_ms,
                    (extract(epoch FROM tried_at) * 1000)::bigint AS tried_at_ms, payload
             FROM dead_letter
             WHERE ($1::integer IS NULL OR partition = $1) AND ($2::uuid IS NULL OR entity = $2)
             ORDER BY partition, log_index, seq LIMIT $3",
        )
        .bind(filter.partition.map(partition_number))
        .bind(filter.entity)
        .bind(i64::from(limit))
        .fetch_all(&mut self.connection)
        .await?;
        Ok(rows)
    }

    /// One parked change.
    ///
    /// # Errors
    /// See [`OperatorError`].
    pub async fn parked_at(&mut self, place: ChangePlace) -> Result<ParkedChange, OperatorError> {
        let found = sqlx::query_as(
            "SELECT partition, log_index, seq, (extract(epoch FROM at) * 1000)::bigint AS at_ms, kind,
                    entity, reason, sqlstate, error, attempts,
                    (extract(epoch FROM parked_at) * 1000)::bigint AS parked_at_ms,
                    (extract(epoch FROM tried_at) * 1000)::bigint AS tried_at_ms, payload
             FROM dead_letter WHERE partition = $1 AND log_index = $2 AND seq = $3",
        )
        .bind(partition_number(place.partition))
        .bind(log_index(place.log_index))
        .bind(i64::from(place.seq))
        .fetch_optional(&mut self.connection)
        .await?;
        found.ok_or(OperatorError::NotParked)
    }

    /// The entities that are parked, which a retry can bring back.
    ///
    /// # Errors
    /// [`OperatorError::Database`].
    pub async fn parked_entities(
        &mut self,
        filter: ParkedFilter,
    ) -> Result<Vec<ParkedEntity>, OperatorError> {
        let rows = sqlx::query_as(
            "SELECT partition, entity, count(*) AS changes FROM dead_letter
             WHERE reason IN ('rejected', 'behind')
                   AND ($1::integer IS NULL OR partition = $1) AND ($2::uuid IS NULL OR entity = $2)
             GROUP BY partition, entity ORDER BY partition, min(log_index), entity",
        )
        .bind(filter.partition.map(partition_number))
        .bind(filter.entity)
        .fetch_all(&mut self.connection)
        .await?;
        Ok(rows)
    }

    /// Writes an entity's parked changes in their order, until all are written or one is refused again.
    ///
    /// # Errors
    /// [`OperatorError::Database`] when the database fails or its schema does not fit; what was written
    /// before stays written.
    pub async fn retry(&mut self, entity: &ParkedEntity) -> Result<Retried, OperatorError> {
        let mut written = 0;
        let refused = loop {
            match self.retry_some(entity).await? {
                Step::Wrote(0) => break None,
                Step::Wrote(some) => written += some,
                Step::Stopped(some, refused) => {
                    written += some;
                    break Some(refused);
                }
            }
        };
        let left: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM dead_letter
             WHERE partition = $1 AND entity = $2 AND reason IN ('rejected', 'behind')",
        )
        .bind(entity.partition)
        .bind(entity.entity)
        .fetch_one(&mut self.connection)
        .await?;
        Ok(Retried {
            partition: entity.partition,
            entity: entity.entity,
            written,
            left: u64::try_from(left).unwrap_or(0),
            refused,
        })
    }

    async fn retry_some(&mut self, entity: &ParkedEntity) -> Result<Step, OperatorError> {
        let mut transaction = self.connection.begin().await?;
        let parked = lock(&mut transaction, entity.partition).await?;
        let letters = letters(&mut transaction, entity).await?;
        let all: Option<Vec<PlacedChange<'_>>> = letters.iter().map(Letter::placed).collect();
        let written = match &all {
            Some(all) if !all.is_empty() => {
                write(&mut transaction, entity.partition, parked, all).await?
            }
            _ => Ok(()),
        };
        let step = match (all, written) {
            (Some(all), Ok(())) => Step::Wrote(all.len() as u64),
            _ => one_by_one(&mut transaction, entity.partition, &letters).await?,
        };
        recount(&mut transaction, entity.partition).await?;
        transaction.commit().await?;
        Ok(step)
    }

    /// Gives parked changes up: they move to `dead_letter_dropped` with who and why. Returns how many.
    ///
    /// # Errors
    /// See [`OperatorError`].
    pub async fn drop_parked(
        &mut self,
        what: Dropped,
        by: &str,
        reason: &str,
    ) -> Result<u64, OperatorError> {
        let partitions: Vec<i32> = match what {
            Dropped::Change(place) => vec![partition_number(place.partition)],
            Dropped::Entity(entity) => sqlx::query_scalar(
                "SELECT DISTINCT partition FROM dead_letter WHERE entity = $1 ORDER BY partition",
            )
            .bind(entity)
            .fetch_all(&mut self.connection)
            .await?,
        };
        let mut dropped = 0;
        for partition in partitions {
            let mut transaction = self.connection.begin().await?;
            lock(&mut transaction, partition).await?;
            let (entity, place) = match what {
                Dropped::Change(place) => (None, Some(place)),
                Dropped::Entity(entity) => (Some(entity), None),
            };
            let moved = sqlx::query(
                "WITH gone AS (
                     DELETE FROM dead_letter
                     WHERE partition = $1 AND ($2::uuid IS NULL OR entity = $2)
                           AND ($3::bigint IS NULL OR (log_index = $3 AND seq = $4))
                     RETURNING *)
                 INSERT INTO dead_letter_dropped (partition, log_index, seq, at, kind, entity, reason,
                     sqlstate, error, payload, attempts, parked_at, dropped_by, drop_reason)
                 SELECT partition, log_index, seq, at, kind, entity, reason, sqlstate, error, payload,
                        attempts, parked_at, $5, $6 FROM gone
                 ON CONFLICT DO NOTHING",
            )
            .bind(partition)
            .bind(entity)
            .bind(place.map(|place| log_index(place.log_index)))
            .bind(place.map(|place| i64::from(place.seq)))
            .bind(by)
            .bind(reason)
            .execute(&mut *transaction)
            .await?;
            recount(&mut transaction, partition).await?;
            transaction.commit().await?;
            dropped += moved.rows_affected();
        }
        if dropped == 0 {
            return Err(OperatorError::NotParked);
        }
        Ok(dropped)
    }
}

/// What is given up.
#[derive(Clone, Copy, Debug)]
pub enum Dropped {
    /// One change.
    Change(ChangePlace),
    /// All parked changes of an entity.
    Entity(Uuid),
}

/// Takes the partition's checkpoint row, so that its pump waits. Returns how many changes are parked.
async fn lock(transaction: &mut PgTransaction<'_>, partition: i32) -> Result<u64, sqlx::Error> {
    let parked: Option<i64> =
        sqlx::query_scalar("SELECT parked FROM pump_checkpoint WHERE partition = $1 FOR UPDATE")
            .bind(partition)
            .fetch_optional(&mut **transaction)
            .await?;
    Ok(parked
        .and_then(|parked| u64::try_from(parked).ok())
        .unwrap_or(0))
}

async fn recount(transaction: &mut PgTransaction<'_>, partition: i32) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE pump_checkpoint
         SET parked = (SELECT count(*) FROM dead_letter WHERE partition = $1) WHERE partition = $1",
    )
    .bind(partition)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn letters(
    transaction: &mut PgTransaction<'_>,
    entity: &ParkedEntity,
) -> Result<Vec<Letter>, sqlx::Error> {
    let rows: Vec<(i64, i32, i64, String)> = sqlx::query_as(
        "SELECT log_index, seq, (extract(epoch FROM at) * 1000)::bigint, payload FROM dead_letter
         WHERE partition = $1 AND entity = $2 AND reason IN ('rejected', 'behind')
         ORDER BY log_index, seq LIMIT $3",
    )
    .bind(entity.partition)
    .bind(entity.entity)
    .bind(RETRY_CHANGES_MAX)
    .fetch_all(&mut **transaction)
    .await?;
    let letters = rows
        .into_iter()
        .map(|(log_index, seq, at_ms, payload)| Letter {
            log_index: u64::try_from(log_index).unwrap_or(0),
            seq: u32::try_from(seq).unwrap_or(0),
            at: Timestamp::from_millis(u64::try_from(at_ms).unwrap_or(0)),
            change: serde_json::from_str(&payload)
                .map_err(|error| format!("its JSON cannot be read back: {error}")),
        });
    Ok(letters.collect())
}

/// Takes changes out of the queue and writes them, or does neither and says why.
async fn write(
    transaction: &mut PgTransaction<'_>,
    partition: i32,
    parked: u64,
    changes: &[PlacedChange<'_>],
) -> Result<Result<(), sqlx::Error>, OperatorError> {
    let number = u32::try_from(partition).unwrap_or(u32::MAX);
    let mut attempt = transaction.begin().await?;
    let indexes: Vec<i64> = changes.iter().map(|c| log_index(c.log_index)).collect();
    let seqs: Vec<i64> = changes.iter().map(|c| i64::from(c.seq)).collect();
    sqlx::query(
        "DELETE FROM dead_letter d USING UNNEST($2::bigint[], $3::bigint[]) AS u (log_index, seq)
         WHERE d.partition = $1 AND d.log_index = u.log_index AND d.seq = u.seq",
    )
    .bind(partition)
    .bind(indexes)
    .bind(seqs)
    .execute(&mut *attempt)
    .await?;
    match statements::apply(&mut attempt, partition, &plan(changes), Route::Tolerant).await {
        Ok(applied) => {
            // A seat sold twice is noted as it would have been in its turn.
            let mut parking = Parking::open(&mut attempt, number, parked, u64::MAX, &[]).await?;
            let noted = parking
                .note(&mut attempt, changes, applied, &mut Written::default())
                .await;
            match noted {
                Ok(()) => {}
                Err(WriteError::Database(error)) => return Err(error.into()),
                // The bound is none here, and nothing else is asked of the checkpoint.
                Err(other) => return Err(sqlx::Error::Protocol(other.to_string()).into()),
            }
            attempt.commit().await?;
            Ok(Ok(()))
        }
        Err(error) if judge(&error) == Verdict::Park => {
            attempt.rollback().await?;
            Ok(Err(error))
        }
        Err(error) => Err(error.into()),
    }
}

/// Writes letters until one is refused, whose refusal is noted.
async fn one_by_one(
    transaction: &mut PgTransaction<'_>,
    partition: i32,
    letters: &[Letter],
) -> Result<Step, OperatorError> {
    let mut written = 0;
    for letter in letters {
        let (code, error) = match (&letter.change, letter.placed()) {
            (Ok(_), Some(placed)) => {
                match write(transaction, partition, 0, std::slice::from_ref(&placed)).await? {
                    Ok(()) => {
                        written += 1;
                        continue;
                    }
                    Err(error) => (sqlstate(&error), error.to_string()),
                }
            }
            (Err(error), _) => (None, error.clone()),
            (Ok(_), None) => continue,
        };
        sqlx::query(
            "UPDATE dead_letter
             SET reason = 'rejected', sqlstate = $4, error = $5, attempts = attempts + 1,
                 tried_at = now()
             WHERE partition = $1 AND log_index = $2 AND seq = $3",
        )
        .bind(partition)
        .bind(log_index(letter.log_index))
        .bind(i64::from(letter.seq))
        .bind(&code)
        .bind(error.replace('\0', "\u{fffd}"))
        .execute(&mut **transaction)
        .await?;
        let place = ChangePlace {
            partition: u32::try_from(partition).unwrap_or(u32::MAX),
            log_index: letter.log_index,
            seq: letter.seq,
        };
        let refused = Refused {
            place: place.to_string(),
            sqlstate: code,
            error,
        };
        return Ok(Step::Stopped(written, refused));
    }
    Ok(Step::Wrote(written))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_written() {
        let place = ChangePlace {
            partition: 3,
            log_index: 1_201,
            seq: 0,
        };
        assert_eq!("3:1201:0".parse(), Ok(place));
        assert_eq!(place.to_string(), "3:1201:0");
        for wrong in ["", "3", "3:1", "3:1:0:0", "a:1:0", "3:-1:0"] {
            assert!(wrong.parse::<ChangePlace>().is_err(), "{wrong}");
        }
    }
}
