//! What can be compared of a sale or an auction, from the grid and from SQL, by name and in words.

use std::collections::BTreeMap;

use data_pump::verify::Verifier;
use serde::Deserialize;
use uuid::Uuid;

use super::compare::{BidView, database, tickets};
use super::venue::SeatMap;
use crate::api::{Api, Money};

/// By name, such as `seat 000012`.
pub(crate) type Facts = BTreeMap<String, String>;

/// What a fact is called that the one side has and the other has not.
pub(crate) const NONE: &str = "none";

#[derive(Debug, Deserialize)]
struct AuctionView {
    status: String,
    current_price: Option<Money>,
    outcome: Option<OutcomeView>,
}

#[derive(Debug, Deserialize)]
struct OutcomeView {
    sold: bool,
    reason: Option<String>,
    amount: Option<Money>,
}

#[derive(Debug, Deserialize)]
struct NewestBid {
    items: Vec<BidView>,
}

fn seats(states: &[u8]) -> Facts {
    let seats = (0..).zip(states);
    seats
        .map(|(index, state): (u32, _)| {
            (format!("seat {index:06}"), char::from(*state).to_string())
        })
        .collect()
}

fn ticket(facts: &mut Facts, seat: u32, ticket_id: Uuid, buyer: Uuid, price: i64) {
    facts.insert(
        format!("ticket of seat {seat:06}"),
        format!("{ticket_id} of {buyer} for {price}"),
    );
}

/// An event's seats and tickets in the grid.
pub(crate) async fn event_in_grid(api: &Api, event_id: Uuid) -> anyhow::Result<Facts> {
    let map = SeatMap::read(api, event_id).await?;
    let mut facts = seats(&map.states);
    for sold in tickets(api, event_id).await? {
        let price = sold.price.minor()?;
        ticket(
            &mut facts,
            sold.seat_index,
            sold.ticket_id,
            sold.buyer_id,
            price,
        );
    }
    Ok(facts)
}

/// An event's seats and tickets in SQL.
pub(crate) async fn event_in_sql(verifier: &mut Verifier, event_id: Uuid) -> anyhow::Result<Facts> {
    let states = verifier
        .seat_states(event_id)
        .await
        .map_err(|error| database(&error))?;
    let mut facts = seats(&states);
    let sold = verifier
        .tickets(event_id)
        .await
        .map_err(|error| database(&error))?;
    for sold in sold {
        let seat = u32::try_from(sold.seat_index).unwrap_or(u32::MAX);
        ticket(&mut facts, seat, sold.ticket_id, sold.buyer, sold.price);
    }
    Ok(facts)
}

fn auction<const N: usize>(values: [(&str, String); N]) -> Facts {
    let values = values.into_iter();
    values
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// An auction in the grid.
pub(crate) async fn auction_in_grid(api: &Api, auction_id: Uuid) -> anyhow::Result<Facts> {
    let path = format!("/v1/auctions/{auction_id}");
    let view: AuctionView = api.get(&path).await?;
    let newest: NewestBid = api.get(&format!("{path}/bids?limit=1")).await?;
    let bids = newest.items.first().map_or(0, |bid| bid.number);
    let minor = |money: &Option<Money>| -> anyhow::Result<String> {
        let minor = money.as_ref().map(Money::minor).transpose()?;
        Ok(minor.map_or(NONE.to_owned(), |minor| minor.to_string()))
    };
    let (outcome, amount) = match &view.outcome {
        Some(outcome) if outcome.sold => ("sold".to_owned(), minor(&outcome.amount)?),
        Some(outcome) => (outcome.reason.clone().unwrap_or_default(), NONE.to_owned()),
        None => (NONE.to_owned(), NONE.to_owned()),
    };
    Ok(auction([
        ("the status", view.status),
        ("the number of bids", bids.to_string()),
        ("the highest bid", minor(&view.current_price)?),
        ("the outcome", outcome),
        ("the winning amount", amount),
    ]))
}

/// An auction in SQL; nothing when it is not there.
pub(crate) async fn auction_in_sql(
    verifier: &mut Verifier,
    auction_id: Uuid,
) -> anyhow::Result<Facts> {
    let written = verifier
        .auction(auction_id)
        .await
        .map_err(|error| database(&error))?;
    let Some(written) = written else {
        return Ok(Facts::new());
    };
    let number = |amount: Option<i64>| amount.map_or(NONE.to_owned(), |amount| amount.to_string());
    Ok(auction([
        ("the status", written.status),
        ("the number of bids", written.bids.to_string()),
        ("the highest bid", number(written.highest)),
        ("the outcome", written.outcome.unwrap_or(NONE.to_owned())),
        ("the winning amount", number(written.winning_amount)),
    ]))
}
