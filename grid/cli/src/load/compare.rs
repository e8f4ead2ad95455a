//! The database beside the grid: waits until it has caught up, then compares sale by sale and auction
//! by auction.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use data_pump::verify::Verifier;
use serde::Deserialize;
use uuid::Uuid;

use super::facts::{NONE, auction_in_grid, auction_in_sql};
use super::venue::SeatMap;
use crate::api::{Api, Money};
use crate::cluster::ClusterStatus;
use crate::failure::Failure;
use crate::output::Output;

const RETRY_PAUSE: Duration = Duration::from_millis(300);

/// A database that cannot be read.
pub(crate) fn database(error: &dyn std::fmt::Display) -> Failure {
    Failure::Database(format!("the database cannot be read: {error}"))
}

/// A bid as it is listed.
#[derive(Debug, Deserialize)]
pub(super) struct BidView {
    pub(super) number: u64,
    pub(super) bid_id: Uuid,
    pub(super) amount: Money,
}

/// A ticket as it is listed.
#[derive(Debug, Deserialize)]
pub(super) struct TicketView {
    pub(super) ticket_id: Uuid,
    pub(super) seat_index: u32,
    pub(super) buyer_id: Uuid,
    pub(super) price: Money,
}

/// Every ticket of an event.
pub(super) async fn tickets(api: &Api, event_id: Uuid) -> anyhow::Result<Vec<TicketView>> {
    api.list(&format!("/v1/events/{event_id}/tickets")).await
}

/// Waits until the database has everything that the grid had when it was called.
pub(crate) async fn await_written(
    output: Output,
    api: &Api,
    verifier: &mut Verifier,
    deadline: Instant,
) -> anyhow::Result<()> {
    let cluster: ClusterStatus = api.get("/admin/v1/status").await?;
    let wanted = cluster.applied();
    let mut bar = None;
    loop {
        // A new database has no tables until the first pump has come to it.
        let written = verifier.checkpoints().await.unwrap_or_default();
        let behind: u64 = wanted
            .iter()
            .map(|(partition, applied)| {
                let checkpoint = written
                    .iter()
                    .find(|row| u32::try_from(row.partition) == Ok(*partition))
                    .and_then(|row| u64::try_from(row.applied_index).ok());
                applied.saturating_sub(checkpoint.unwrap_or(0))
            })
            .sum();
        let bar = bar.get_or_insert_with(|| output.bar(behind, "log entries into SQL"));
        bar.set_position(bar.length().unwrap_or(0).saturating_sub(behind));
        if behind == 0 {
            bar.finish_and_clear();
            return Ok(());
        }
        if Instant::now() > deadline {
            let text = format!(
                "the database is {behind} log entries behind and does not catch up; see `grid status`"
            );
            return Err(Failure::Database(text).into());
        }
        verifier.pause().await;
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Compares an event's seats and tickets in the database with those in the grid, until they are equal
/// or time is up. Returns what differs.
pub(crate) async fn compare_event(
    api: &Api,
    verifier: &mut Verifier,
    event_id: Uuid,
    deadline: Instant,
) -> anyhow::Result<Vec<String>> {
    loop {
        let found = event_differences(api, verifier, event_id).await?;
        if found.is_empty() || Instant::now() > deadline {
            return Ok(found);
        }
        verifier.pause().await;
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

async fn event_differences(
    api: &Api,
    verifier: &mut Verifier,
    event_id: Uuid,
) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let map = SeatMap::read(api, event_id).await?;
    let states = verifier
        .seat_states(event_id)
        .await
        .map_err(|error| database(&error))?;
    if states.len() != map.states.len() {
        let (sql, grid) = (states.len(), map.states.len());
        found.push(format!(
            "event {event_id}: {sql} seats in SQL, {grid} in the grid"
        ));
    }
    let different = map
        .states
        .iter()
        .zip(&states)
        .filter(|(grid, sql)| grid != sql)
        .count();
    if different > 0 {
        found.push(format!(
            "event {event_id}: {different} seats in another state in SQL"
        ));
    }
    let grid: BTreeSet<(u32, Uuid, Uuid, i64)> = tickets(api, event_id)
        .await?
        .iter()
        .map(|ticket| {
            let price = ticket.price.minor()?;
            Ok((ticket.seat_index, ticket.ticket_id, ticket.buyer_id, price))
        })
        .collect::<anyhow::Result<_>>()?;
    let sql: BTreeSet<(u32, Uuid, Uuid, i64)> = verifier
        .tickets(event_id)
        .await
        .map_err(|error| database(&error))?
        .iter()
        .map(|ticket| {
            let seat = u32::try_from(ticket.seat_index).unwrap_or(u32::MAX);
            (seat, ticket.ticket_id, ticket.buyer, ticket.price)
        })
        .collect();
    let (only_grid, only_sql) = (grid.difference(&sql).count(), sql.difference(&grid).count());
    if only_grid + only_sql > 0 {
        found.push(format!(
            "event {event_id}: {only_grid} tickets only in the grid, {only_sql} only in SQL"
        ));
    }
    Ok(found)
}

/// As [`compare_event`], for an auction.
pub(crate) async fn compare_auction(
    api: &Api,
    verifier: &mut Verifier,
    auction_id: Uuid,
    deadline: Instant,
) -> anyhow::Result<Vec<String>> {
    loop {
        let found = auction_differences(api, verifier, auction_id).await?;
        if found.is_empty() || Instant::now() > deadline {
            return Ok(found);
        }
        verifier.pause().await;
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

async fn auction_differences(
    api: &Api,
    verifier: &mut Verifier,
    auction_id: Uuid,
) -> anyhow::Result<Vec<String>> {
    let grid = auction_in_grid(api, auction_id).await?;
    let sql = auction_in_sql(verifier, auction_id).await?;
    if sql.is_empty() {
        return Ok(vec![format!("auction {auction_id} is not in SQL")]);
    }
    let found = grid.iter().filter_map(|(what, grid)| {
        let sql = sql.get(what).map_or(NONE, String::as_str);
        (grid != sql)
            .then(|| format!("auction {auction_id}: {what} is {grid} in the grid, {sql} in SQL"))
    });
    Ok(found.collect())
}
