//! Items, auctions and bids.

use sqlx::PgConnection;
use uuid::Uuid;

use super::super::rows::{AuctionRow, AuctionUpdate, BidRow, ItemRow, RowSets};
use super::column;

pub(super) async fn items(
    connection: &mut PgConnection,
    rows: &[ItemRow],
) -> Result<u64, sqlx::Error> {
    if rows.is_empty() {
        return Ok(0);
    }
    let done = sqlx::query(
        "INSERT INTO items (item_id, owner, name, description, category, images, created_at, version)
         SELECT item_id, owner, name, description, category, images::jsonb,
                'epoch'::timestamptz + created_ms * interval '1 millisecond', version
         FROM UNNEST($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[],
                     $7::bigint[], $8::bigint[])
              AS u (item_id, owner, name, description, category, images, created_ms, version)
         ON CONFLICT DO NOTHING",
    )
    .bind(column!(rows, row => row.item_id))
    .bind(column!(rows, row => row.owner))
    .bind(column!(rows, row => row.name.as_str()))
    .bind(column!(rows, row => row.description.as_str()))
    .bind(column!(rows, row => row.category.as_str()))
    .bind(column!(rows, row => row.images.as_str()))
    .bind(column!(rows, row => row.created_at))
    .bind(column!(rows, row => row.version))
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

pub(super) async fn auctions(
    connection: &mut PgConnection,
    partition: i32,
    rows: &[AuctionRow],
) -> Result<u64, sqlx::Error> {
    if rows.is_empty() {
        return Ok(0);
    }
    let done = sqlx::query(
        "INSERT INTO auctions (partition, auction_id, item_id, host, title, category, currency,
                               minor_digits, starting_price, minimum_next, reserve_price, start_time,
                               end_time, status, created_at, version)
         SELECT $1, auction_id, item_id, host, title, category, currency, minor_digits,
                starting_price, starting_price, reserve_price,
                'epoch'::timestamptz + start_ms * interval '1 millisecond',
                'epoch'::timestamptz + end_ms * interval '1 millisecond', 'scheduled',
                'epoch'::timestamptz + created_ms * interval '1 millisecond', version
         FROM UNNEST($2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[],
                     $8::smallint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[],
                     $13::bigint[], $14::bigint[])
              AS u (auction_id, item_id, host, title, category, currency, minor_digits,
                    starting_price, reserve_price, start_ms, end_ms, created_ms, version)
         ON CONFLICT DO NOTHING",
    )
    .bind(partition)
    .bind(column!(rows, row => row.auction_id))
    .bind(column!(rows, row => row.item_id))
    .bind(column!(rows, row => row.host))
    .bind(column!(rows, row => row.title.as_str()))
    .bind(column!(rows, row => row.category.as_str()))
    .bind(column!(rows, row => row.currency.as_str()))
    .bind(column!(rows, row => row.minor_digits))
    .bind(column!(rows, row => row.starting_price))
    .bind(column!(rows, row => row.reserve_price))
    .bind(column!(rows, row => row.start_time))
    .bind(column!(rows, row => row.end_time))
    .bind(column!(rows, row => row.created_at))
    .bind(column!(rows, row => row.version))
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

pub(super) async fn auction_updates(
    connection: &mut PgConnection,
    sets: &RowSets,
) -> Result<u64, sqlx::Error> {
    let rows: Vec<(&Uuid, &AuctionUpdate)> = sets.auction_updates.iter().collect();
    if rows.is_empty() {
        return Ok(0);
    }
    let won = |update: &AuctionUpdate| update.outcome.and_then(|outcome| outcome.won);
    let done = sqlx::query(
        "UPDATE auctions t
         SET status = coalesce(u.status, t.status),
             start_time = coalesce('epoch'::timestamptz + start_ms * interval '1 millisecond',
                                   t.start_time),
             end_time = coalesce('epoch'::timestamptz + end_ms * interval '1 millisecond', t.end_time),
             extensions = coalesce(u.extensions, t.extensions),
             current_price = CASE WHEN u.bids IS NULL THEN t.current_price ELSE u.current_price END,
             minimum_next = coalesce(u.minimum_next, t.minimum_next),
             bids = coalesce(u.bids, t.bids),
             outcome = coalesce(u.outcome, t.outcome),
             winner = coalesce(u.winner, t.winner),
             winning_bid = coalesce(u.winning_bid, t.winning_bid),
             winning_amount = coalesce(u.winning_amount, t.winning_amount),
             ended_at = coalesce('epoch'::timestamptz + ended_ms * interval '1 millisecond', t.ended_at),
             version = u.version
         FROM UNNEST($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::integer[], $6::bigint[],
                     $7::bigint[], $8::integer[], $9::text[], $10::uuid[], $11::uuid[], $12::bigint[],
                     $13::bigint[], $14::bigint[])
              AS u (auction_id, status, start_ms, end_ms, extensions, current_price, minimum_next, bids,
                    outcome, winner, winning_bid, winning_amount, ended_ms, version)
         WHERE t.auction_id = u.auction_id AND t.version <= u.version",
    )
    .bind(column!(rows, row => *row.0))
    .bind(column!(rows, row => row.1.status))
    .bind(column!(rows, row => row.1.start_time))
    .bind(column!(rows, row => row.1.end_time))
    .bind(column!(rows, row => row.1.extensions))
    .bind(column!(rows, row => row.1.standing.and_then(|standing| standing.current_price)))
    .bind(column!(rows, row => row.1.standing.map(|standing| standing.minimum_next)))
    .bind(column!(rows, row => row.1.standing.map(|standing| standing.bids)))
    .bind(column!(rows, row => row.1.outcome.map(|outcome| outcome.outcome)))
    .bind(column!(rows, row => won(row.1).map(|(winner, _, _)| winner)))
    .bind(column!(rows, row => won(row.1).map(|(_, bid, _)| bid)))
    .bind(column!(rows, row => won(row.1).map(|(_, _, amount)| amount)))
    .bind(column!(rows, row => row.1.ended_at))
    .bind(column!(rows, row => row.1.version))
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

pub(super) async fn bids(
    connection: &mut PgConnection,
    rows: &[BidRow],
) -> Result<u64, sqlx::Error> {
    if rows.is_empty() {
        return Ok(0);
    }
    let done = sqlx::query(
        "INSERT INTO bids (auction_id, bid_id, bidder, alias, amount, at, log_index, seq, version)
         SELECT auction_id, bid_id, bidder, alias, amount,
                'epoch'::timestamptz + at_ms * interval '1 millisecond', log_index, seq, log_index
         FROM UNNEST($1::uuid[], $2::uuid[], $3::uuid[], $4::integer[], $5::bigint[], $6::bigint[],
                     $7::bigint[], $8::integer[])
              AS u (auction_id, bid_id, bidder, alias, amount, at_ms, log_index, seq)
         ON CONFLICT DO NOTHING",
    )
    .bind(column!(rows, row => row.auction_id))
    .bind(column!(rows, row => row.bid_id))
    .bind(column!(rows, row => row.bidder))
    .bind(column!(rows, row => row.alias))
    .bind(column!(rows, row => row.amount))
    .bind(column!(rows, row => row.at))
    .bind(column!(rows, row => row.log_index))
    .bind(column!(rows, row => row.seq))
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

pub(super) async fn bid_withdrawals(
    connection: &mut PgConnection,
    sets: &RowSets,
) -> Result<u64, sqlx::Error> {
    let rows: Vec<_> = sets.bid_withdrawals.iter().collect();
    if rows.is_empty() {
        return Ok(0);
    }
    let done = sqlx::query(
        "UPDATE bids t SET withdrawn = true, version = u.version
         FROM UNNEST($1::uuid[], $2::uuid[], $3::bigint[]) AS u (auction_id, bid_id, version)
         WHERE t.auction_id = u.auction_id AND t.bid_id = u.bid_id AND t.version <= u.version",
    )
    .bind(column!(rows, row => row.0.0))
    .bind(column!(rows, row => row.0.1))
    .bind(column!(rows, row => *row.1))
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
