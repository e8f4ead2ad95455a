//! `/v1/me`: what belongs to the caller, over all partitions. At most `limit` entries of each partition
//! are read; these lists have no further pages.

use std::cmp::Reverse;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use processing_unit::{auction, box_office};

use super::extract::{Known, Listing};
use super::problem::Problem;
use super::{ok, scatter};
use crate::convert;
use crate::protocol::view::Page;
use crate::state::Shared;

pub(super) async fn holds(
    State(shared): State<Arc<Shared>>,
    known: Known,
    Listing(list): Listing,
) -> Result<Response, Problem> {
    let query = box_office::Query::HoldsOf {
        buyer: known.caller.user,
        limit: list.limit(),
    };
    let mut holds = scatter::ask_box_office(&shared, query, |answer| match answer {
        box_office::Answer::HoldsOf(holds) => Some(holds),
        _ => None,
    })
    .await?;
    holds.sort_by_key(|hold| (hold.expires_at, hold.hold_id));
    holds.truncate(list.limit());
    ok(&Page {
        items: holds.into_iter().map(convert::hold).collect(),
        next: None,
    })
}

pub(super) async fn tickets(
    State(shared): State<Arc<Shared>>,
    known: Known,
    Listing(list): Listing,
) -> Result<Response, Problem> {
    let query = box_office::Query::TicketsOf {
        buyer: known.caller.user,
        limit: list.limit(),
    };
    let mut tickets = scatter::ask_box_office(&shared, query, |answer| match answer {
        box_office::Answer::TicketsOf(tickets) => Some(tickets),
        _ => None,
    })
    .await?;
    tickets.sort_by_key(|own| (own.event_id, own.ticket.ticket_id));
    tickets.truncate(list.limit());
    ok(&Page {
        items: tickets
            .into_iter()
            .map(|own| convert::own_ticket(own, &shared.signer))
            .collect(),
        next: None,
    })
}

/// Newest first.
pub(super) async fn bids(
    State(shared): State<Arc<Shared>>,
    known: Known,
    Listing(list): Listing,
) -> Result<Response, Problem> {
    let query = auction::Query::BidsOf {
        bidder: known.caller.user,
        limit: list.limit(),
    };
    let mut bids = scatter::ask_auctions(&shared, query, |answer| match answer {
        auction::Answer::BidsOf(bids) => Some(bids),
        _ => None,
    })
    .await?;
    bids.sort_by_key(|own| (Reverse(own.bid.at), own.auction_id, Reverse(own.bid.number)));
    bids.truncate(list.limit());
    ok(&Page {
        items: bids.iter().map(convert::own_bid).collect(),
        next: None,
    })
}
