//! Events, seats, holds and tickets.

use sqlx::PgConnection;
use uuid::Uuid;

use super::super::rows::{EventRow, HoldEnd, HoldRow, RowSets, SeatRow, SeatUpdate, TicketRow};
use super::{TicketConflict, column};

pub(super) async fn events(
    connection: &mut PgConnection,
    partition: i32,
    rows: &[EventRow],
) -> Result<u64, sqlx::Error> {
    if rows.is_empty() {
        return Ok(0);
    }
    let done = sqlx::query(
        "INSERT INTO events (partition, event_id, host, name, artist, venue, starts_at, on_sale_at,
                             currency, minor_digits, max_seats_per_buyer, hold_ms, seats, created_at,
                             version)
         SELECT $1, event_id, host, name, artist, venue,
                'epoch'::timestamptz + starts_ms * interval '1 millisecond',
                'epoch'::timestamptz + on_sale_ms * interval '1 millisecond', currency, minor_digits,
                max_seats_per_buyer, hold_ms, seats,
                'epoch'::timestamptz + created_ms * interval '1 millisecond', version
         FROM UNNEST($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::bigint[],
                     $8::bigint[], $9::text[], $10::smallint[], $11::integer[], $12::bigint[],
                     $13::integer[], $14::bigint[], $15::bigint[])
              AS u (event_id, host, name, artist, venue, starts_ms, on_sale_ms, currency, minor_digits,
                    max_seats_per_buyer, hold_ms, seats, created_ms, version)
         ON CONFLICT DO NOTHING",
    )
    .bind(partition)
    .bind(column!(rows, row => row.event_id))
    .bind(column!(rows, row => row.host))
    .bind(column!(rows, row => row.name.as_str()))
    .bind(column!(rows, row => row.artist.as_str()))
    .bind(column!(rows, row => row.venue.as_str()))
    .bind(column!(rows, row => row.starts_at))
    .bind(column!(rows, row => row.on_sale_at))
    .bind(column!(rows, row => row.currency.as_str()))
    .bind(column!(rows, row => row.minor_digits))
    .bind(column!(rows, row => row.max_seats_per_buyer))
    .bind(column!(rows, row => row.hold_ms))
    .bind(column!(rows, row => row.seats))
    .bind(column!(rows, row => row.created_at))
    .bind(column!(rows, row => row.version))
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

pub(super) async fn seats(
    connection: &mut PgConnection,
    rows: &[SeatRow],
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "INSERT INTO seats (event_id, seat_index, section, row_name, label, price, state, version)
         SELECT event_id, seat_index, section, row_name, label, price, 'available', version
         FROM UNNEST($1::uuid[], $2::integer[], $3::text[], $4::text[], $5::text[], $6::bigint[],
                     $7::bigint[])
              AS u (event_id, seat_index, section, row_name, label, price, version)
         ON CONFLICT DO NOTHING",
    )
    .bind(column!(rows, row => row.event_id))
    .bind(column!(rows, row => row.seat_index))
    .bind(column!(rows, row => row.section.as_str()))
    .bind(column!(rows, row => row.row_name.as_str()))
    .bind(column!(rows, row => row.label.as_str()))
    .bind(column!(rows, row => row.price))
    .bind(column!(rows, row => row.version))
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

pub(super) async fn seat_updates(
    connection: &mut PgConnection,
    sets: &RowSets,
) -> Result<u64, sqlx::Error> {
    let rows: Vec<(&(Uuid, i32), &SeatUpdate)> = sets.seat_updates.iter().collect();
    if rows.is_empty() {
        return Ok(0);
    }
    let done = sqlx::query(
        "UPDATE seats t
         SET state = u.state, buyer = u.buyer, hold_id = u.hold_id, ticket_id = u.ticket_id,
             version = u.version
         FROM UNNEST($1::uuid[], $2::integer[], $3::text[], $4::uuid[], $5::uuid[], $6::uuid[],
                     $7::bigint[])
              AS u (event_id, seat_index, state, buyer, hold_id, ticket_id, version)
         WHERE t.event_id = u.event_id AND t.seat_index = u.seat_index AND t.version <= u.version",
    )
    .bind(column!(rows, row => row.0.0))
    .bind(column!(rows, row => row.0.1))
    .bind(column!(rows, row => row.1.state))
    .bind(column!(rows, row => row.1.buyer))
    .bind(column!(rows, row => row.1.hold_id))
    .bind(column!(rows, row => row.1.ticket_id))
    .bind(column!(rows, row => row.1.version))
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

pub(super) async fn holds(
    connection: &mut PgConnection,
    sets: &RowSets,
) -> Result<u64, sqlx::Error> {
    let rows: Vec<(&(Uuid, Uuid), &HoldRow)> = sets.holds.iter().collect();
    if rows.is_empty() {
        return Ok(0);
    }
    let done = sqlx::query(
        "INSERT INTO holds (event_id, hold_id, buyer, seats, state, expires_at, created_at, closed_at,
                            payment_reference, version)
         SELECT event_id, hold_id, buyer, seats, coalesce(state, 'held'),
                'epoch'::timestamptz + expires_ms * interval '1 millisecond',
                'epoch'::timestamptz + created_ms * interval '1 millisecond',
                'epoch'::timestamptz + closed_ms * interval '1 millisecond', payment_reference, version
         FROM UNNEST($1::uuid[], $2::uuid[], $3::uuid[], $4::integer[], $5::text[], $6::bigint[],
                     $7::bigint[], $8::bigint[], $9::text[], $10::bigint[])
              AS u (event_id, hold_id, buyer, seats, state, expires_ms, created_ms, closed_ms,
                    payment_reference, version)
         ON CONFLICT DO NOTHING",
    )
    .bind(column!(rows, row => row.0.0))
    .bind(column!(rows, row => row.0.1))
    .bind(column!(rows, row => row.1.buyer))
    .bind(column!(rows, row => row.1.seats))
    .bind(column!(rows, row => row.1.end.as_ref().map(|end| end.state)))
    .bind(column!(rows, row => row.1.expires_at))
    .bind(column!(rows, row => row.1.created_at))
    .bind(column!(rows, row => row.1.end.as_ref().map(|end| end.closed_at)))
    .bind(column!(rows, row => row.1.end.as_ref().and_then(|end| end.payment_reference.as_deref())))
    .bind(column!(rows, row => row.1.end.as_ref().map_or(row.1.version, |end| end.version)))
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

pub(super) async fn hold_updates(
    connection: &mut PgConnection,
    sets: &RowSets,
) -> Result<u64, sqlx::Error> {
    let rows: Vec<(&(Uuid, Uuid), &HoldEnd)> = sets.hold_updates.iter().collect();
    if rows.is_empty() {
        return Ok(0);
    }
    let done = sqlx::query(
        "UPDATE holds t
         SET state = u.state, payment_reference = u.payment_reference,
             closed_at = 'epoch'::timestamptz + closed_ms * interval '1 millisecond',
             version = u.version
         FROM UNNEST($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::bigint[])
              AS u (event_id, hold_id, state, payment_reference, closed_ms, version)
         WHERE t.event_id = u.event_id AND t.hold_id = u.hold_id AND t.version <= u.version",
    )
    .bind(column!(rows, row => row.0.0))
    .bind(column!(rows, row => row.0.1))
    .bind(column!(rows, row => row.1.state))
    .bind(column!(rows, row => row.1.payment_reference.as_deref()))
    .bind(column!(rows, row => row.1.closed_at))
    .bind(column!(rows, row => row.1.version))
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

pub(super) async fn tickets(
    connection: &mut PgConnection,
    rows: &[TicketRow],
) -> Result<u64, sqlx::Error> {
    if rows.is_empty() {
        return Ok(0);
    }
    let done = sqlx::query(
        "INSERT INTO tickets (event_id, seat_index, ticket_id, hold_id, buyer, price,
                              payment_reference, sold_at, log_index, seq)
         SELECT event_id, seat_index, ticket_id, hold_id, buyer, price, payment_reference,
                'epoch'::timestamptz + sold_ms * interval '1 millisecond', log_index, seq
         FROM UNNEST($1::uuid[], $2::integer[], $3::uuid[], $4::uuid[], $5::uuid[], $6::bigint[],
                     $7::text[], $8::bigint[], $9::bigint[], $10::integer[])
              AS u (event_id, seat_index, ticket_id, hold_id, buyer, price, payment_reference, sold_ms,
                    log_index, seq)
         ON CONFLICT DO NOTHING",
    )
    .bind(column!(rows, row => row.event_id))
    .bind(column!(rows, row => row.seat_index))
    .bind(column!(rows, row => row.ticket_id))
    .bind(column!(rows, row => row.hold_id))
    .bind(column!(rows, row => row.buyer))
    .bind(column!(rows, row => row.price))
    .bind(column!(rows, row => row.payment_reference.as_str()))
    .bind(column!(rows, row => row.sold_at))
    .bind(column!(rows, row => row.log_index))
    .bind(column!(rows, row => row.seq))
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

pub(super) async fn ticket_conflicts(
    connection: &mut PgConnection,
    rows: &[TicketRow],
) -> Result<Vec<TicketConflict>, sqlx::Error> {
    sqlx::query_as(
        "SELECT u.log_index, u.seq, u.seat_index, u.ticket_id, t.ticket_id AS other_ticket_id
         FROM UNNEST($1::uuid[], $2::integer[], $3::uuid[], $4::bigint[], $5::integer[])
              AS u (event_id, seat_index, ticket_id, log_index, seq)
         JOIN tickets t ON t.event_id = u.event_id AND t.seat_index = u.seat_index
         WHERE t.ticket_id <> u.ticket_id
         ORDER BY u.log_index, u.seq, u.seat_index",
    )
    .bind(column!(rows, row => row.event_id))
    .bind(column!(rows, row => row.seat_index))
    .bind(column!(rows, row => row.ticket_id))
    .bind(column!(rows, row => row.log_index))
    .bind(column!(rows, row => row.seq))
    .fetch_all(connection)
    .await
}
