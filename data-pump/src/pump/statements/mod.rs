//! The SQL: one statement a set of rows, columns bound as arrays, so that a batch costs a handful of
//! round trips and prepared plans are reused.
//!
//! Times travel as milliseconds and become `timestamptz` in the statement. Inserts do nothing where
//! the row is there; updates leave rows of a later version alone.

mod auction;
mod box_office;
mod copied;

use sqlx::PgConnection;
use uuid::Uuid;

use super::rows::{ChangeRow, RowSets};

/// Collects one column.
macro_rules! column {
    ($rows:expr, $row:ident => $value:expr) => {
        $rows.iter().map(|$row| $value).collect::<Vec<_>>()
    };
}
use column;

/// The most seats in one statement; an event may bring 200,000.
const SEATS_PER_STATEMENT_MAX: usize = 10_000;

/// How the log of changes is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// As fast as can be; a change that is there already is an error.
    Fast,
    /// A change that is there already is left as it is.
    Tolerant,
}

/// What writing a batch's rows met with.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Applied {
    /// Rows written.
    pub(super) rows: u64,
    /// Updates of rows that are not there: what made them was parked, or the tables were edited.
    pub(super) missing: u64,
    /// Tickets for seats that have another ticket.
    pub(super) conflicts: Vec<TicketConflict>,
}

/// A ticket that was not written.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct TicketConflict {
    pub(super) log_index: i64,
    pub(super) seq: i32,
    pub(super) seat_index: i32,
    pub(super) ticket_id: Uuid,
    pub(super) other_ticket_id: Uuid,
}

/// Writes every set, within the caller's transaction.
pub(super) async fn apply(
    connection: &mut PgConnection,
    partition: i32,
    sets: &RowSets,
    route: Route,
) -> Result<Applied, sqlx::Error> {
    let mut applied = Applied::default();
    let mut inserted = 0;
    inserted += if route == Route::Fast && sets.changes.len() >= copied::COPY_ROWS_MIN {
        copied::changes(connection, partition, &sets.changes).await?
    } else {
        changes(connection, partition, &sets.changes).await?
    };
    inserted += auction::items(connection, &sets.items).await?;
    inserted += auction::auctions(connection, partition, &sets.auctions).await?;
    inserted += auction::bids(connection, &sets.bids).await?;
    inserted += box_office::events(connection, partition, &sets.events).await?;
    for seats_chunk in sets.seats.chunks(SEATS_PER_STATEMENT_MAX) {
        inserted += box_office::seats(connection, seats_chunk).await?;
    }
    inserted += box_office::holds(connection, sets).await?;
    let written = box_office::tickets(connection, &sets.tickets).await?;
    if written < sets.tickets.len() as u64 {
        applied.conflicts = box_office::ticket_conflicts(connection, &sets.tickets).await?;
    }
    let wanted = sets.auction_updates.len()
        + sets.bid_withdrawals.len()
        + sets.seat_updates.len()
        + sets.hold_updates.len();
    let mut updated = 0;
    updated += auction::auction_updates(connection, sets).await?;
    updated += auction::bid_withdrawals(connection, sets).await?;
    updated += box_office::seat_updates(connection, sets).await?;
    updated += box_office::hold_updates(connection, sets).await?;
    applied.rows = inserted + written + updated;
    applied.missing = (wanted as u64).saturating_sub(updated);
    Ok(applied)
}

async fn changes(
    connection: &mut PgConnection,
    partition: i32,
    rows: &[ChangeRow],
) -> Result<u64, sqlx::Error> {
    if rows.is_empty() {
        return Ok(0);
    }
    let done = sqlx::query(
        "INSERT INTO changes (partition, log_index, seq, at, kind, entity, payload)
         SELECT $1, log_index, seq, 'epoch'::timestamptz + at_ms * interval '1 millisecond', kind,
                entity, payload::jsonb
         FROM UNNEST($2::bigint[], $3::integer[], $4::bigint[], $5::text[], $6::uuid[], $7::text[])
              AS u (log_index, seq, at_ms, kind, entity, payload)
         ON CONFLICT DO NOTHING",
    )
    .bind(partition)
    .bind(column!(rows, row => row.log_index))
    .bind(column!(rows, row => row.seq))
    .bind(column!(rows, row => row.at))
    .bind(column!(rows, row => row.kind))
    .bind(column!(rows, row => row.entity))
    .bind(column!(rows, row => row.payload.as_str()))
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
