//! Parking: which entities have a change in `dead_letter`, and the putting there of more.
//!
//! An entity's changes are written in their order or not at all: once one is parked, those that follow
//! are parked behind it. Everything happens inside the writer's transaction, with the checkpoint.
//!
//! Invariants: a change is in `changes` or parked (or was dropped), never both, never neither; the
//! checkpoint's `parked` is the number of the partition's rows in `dead_letter`; there are never more
//! than the bound.

use std::collections::BTreeSet;

use sqlx::{PgConnection, PgTransaction};
use uuid::Uuid;

use super::planner::{PlacedChange, change_row, entity};
use super::sqlstate::sqlstate;
use super::statements::Applied;
use super::writer::{WriteError, Written, log_index, partition_number};

/// Why a change is set aside.
pub(super) struct Why<'a> {
    /// As in the table's comment.
    pub(super) reason: &'static str,
    /// What the database said.
    pub(super) sqlstate: Option<&'a str>,
    pub(super) error: &'a str,
}

/// A transaction's view of a partition's parked entities.
pub(super) struct Parking {
    partition: u32,
    entities: BTreeSet<Uuid>,
    /// Rows in `dead_letter` before this transaction, and those that it added.
    before: u64,
    added: u64,
    max: u64,
}

impl Parking {
    /// Reads which of these changes' entities are parked; asks nothing where nothing is.
    pub(super) async fn open(
        transaction: &mut PgTransaction<'_>,
        partition: u32,
        parked: u64,
        max: u64,
        changes: &[PlacedChange<'_>],
    ) -> Result<Self, sqlx::Error> {
        let mut entities = BTreeSet::new();
        if parked > 0 && !changes.is_empty() {
            let wanted: BTreeSet<Uuid> =
                changes.iter().map(|placed| entity(placed.change)).collect();
            let wanted: Vec<Uuid> = wanted.into_iter().collect();
            let found: Vec<Uuid> = sqlx::query_scalar(
                "SELECT DISTINCT entity FROM dead_letter
                 WHERE partition = $1 AND entity = ANY($2) AND reason IN ('rejected', 'behind')",
            )
            .bind(partition_number(partition))
            .bind(wanted)
            .fetch_all(&mut **transaction)
            .await?;
            entities.extend(found);
        }
        Ok(Self {
            partition,
            entities,
            before: parked,
            added: 0,
            max,
        })
    }

    /// What may be written, and what must wait behind a parked change, both in order.
    pub(super) fn split<'a>(
        &self,
        changes: &[PlacedChange<'a>],
    ) -> (Vec<PlacedChange<'a>>, Vec<PlacedChange<'a>>) {
        if self.entities.is_empty() {
            return (changes.to_vec(), Vec::new());
        }
        changes
            .iter()
            .copied()
            .partition(|placed| !self.entities.contains(&entity(placed.change)))
    }

    /// Sets a change aside that the database refused, and its entity with it.
    pub(super) async fn reject(
        &mut self,
        connection: &mut PgConnection,
        change: &PlacedChange<'_>,
        error: &sqlx::Error,
    ) -> Result<(), WriteError> {
        let (code, text) = (sqlstate(error), error.to_string());
        let why = Why {
            reason: "rejected",
            sqlstate: code.as_deref(),
            error: &text,
        };
        self.park(connection, change, &why).await?;
        self.entities.insert(entity(change.change));
        Ok(())
    }

    /// Sets changes aside whose entity is parked.
    pub(super) async fn follow(
        &mut self,
        connection: &mut PgConnection,
        changes: &[PlacedChange<'_>],
    ) -> Result<(), WriteError> {
        let why = Why {
            reason: "behind",
            sqlstate: None,
            error: "an earlier change of the same entity is parked",
        };
        for change in changes {
            self.park(connection, change, &why).await?;
        }
        Ok(())
    }

    /// Records what was written, and tickets for seats that had one.
    pub(super) async fn note(
        &mut self,
        connection: &mut PgConnection,
        changes: &[PlacedChange<'_>],
        applied: Applied,
        written: &mut Written,
    ) -> Result<(), WriteError> {
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
                (log_index(change.log_index), i64::from(change.seq))
                    == (place.0, i64::from(place.1))
            });
            if let Some(change) = change {
                let why = Why {
                    reason: "seat_sold_twice",
                    sqlstate: None,
                    error: &text,
                };
                self.park(connection, change, &why).await?;
            }
        }
        Ok(())
    }

    async fn park(
        &mut self,
        connection: &mut PgConnection,
        change: &PlacedChange<'_>,
        why: &Why<'_>,
    ) -> Result<(), WriteError> {
        if self.before + self.added >= self.max {
            return Err(WriteError::TooManyParked {
                partition: self.partition,
                max: self.max,
                error: why.error.to_owned(),
            });
        }
        let row = change_row(change);
        if why.reason != "behind" {
            tracing::error!(
                partition = self.partition,
                log_index = row.log_index,
                seq = row.seq,
                kind = row.kind,
                entity = %row.entity,
                sqlstate = why.sqlstate,
                error = why.error,
                "a change is parked in dead_letter"
            );
        }
        let parked = sqlx::query(
            "INSERT INTO dead_letter (partition, log_index, seq, at, kind, entity, reason, sqlstate,
                                      error, payload, attempts)
             VALUES ($1, $2, $3, 'epoch'::timestamptz + $4::bigint * interval '1 millisecond', $5, $6,
                     $7, $8, $9, $10, CASE WHEN $7 = 'behind' THEN 0 ELSE 1 END)
             ON CONFLICT DO NOTHING",
        )
        .bind(partition_number(self.partition))
        .bind(row.log_index)
        .bind(row.seq)
        .bind(row.at)
        .bind(row.kind)
        .bind(row.entity)
        .bind(why.reason)
        .bind(why.sqlstate)
        .bind(why.error.replace('\0', "\u{fffd}"))
        .bind(row.payload)
        .execute(connection)
        .await?;
        self.added += parked.rows_affected();
        Ok(())
    }

    /// Brings the checkpoint's count up to date, and tells how many were added and how many there are.
    pub(super) async fn close(
        self,
        connection: &mut PgConnection,
    ) -> Result<(u64, u64), sqlx::Error> {
        if self.added > 0 {
            sqlx::query("UPDATE pump_checkpoint SET parked = parked + $1 WHERE partition = $2")
                .bind(log_index(self.added))
                .bind(partition_number(self.partition))
                .execute(connection)
                .await?;
        }
        Ok((self.added, self.before + self.added))
    }
}
