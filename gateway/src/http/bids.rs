//! `/v1/auctions/{id}/bids`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use processing_unit::{AuctionId, auction};

use super::extract::{self, Anyone, Fresh, Known, Listing};
use super::problem::Problem;
use super::{created, ok, ok_at};
use crate::convert;
use crate::failure::Failure;
use crate::operations;
use crate::protocol::amount::AmountText;
use crate::protocol::body::BidBody;
use crate::protocol::view::Page;
use crate::state::Shared;

/// Newest first; `after` is the number of the last bid seen.
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Anyone(viewer): Anyone,
    Path(id): Path<String>,
    fresh: Fresh,
    Listing(list): Listing,
) -> Result<Response, Problem> {
    let auction_id = AuctionId(extract::id(&id)?);
    let query = auction::Query::Bids {
        auction_id,
        before: list.after_number()?,
        limit: list.limit(),
    };
    let currency = shared.auction_currency(auction_id).await?;
    let partition = shared.layout.partition_of(auction_id.0);
    let read = fresh.of(partition)?;
    let (answer, position) = shared.ask_auctions(partition, query, read).await?;
    let bids = match answer {
        auction::Answer::Bids(Some(bids)) => bids,
        auction::Answer::Bids(None) => {
            return Err(Failure::not_found("there is no such auction").into());
        }
        _ => return Err(Failure::unexpected("bids were asked for").into()),
    };
    let viewer = viewer.map(|caller| caller.user);
    let views = bids
        .iter()
        .map(|bid| convert::bid(bid, currency, viewer))
        .collect();
    ok_at(&Page::of(views, list.limit(), |bid| bid.number), position)
}

pub(super) async fn place(
    State(shared): State<Arc<Shared>>,
    known: Known,
    Path(id): Path<String>,
    body: Body,
) -> Result<Response, Problem> {
    let id = extract::id(&id)?;
    let body = extract::json::<BidBody>(&shared, body).await?;
    let amount =
        AmountText::read(&body.amount).map_err(|error| Failure::bad_request(error.to_string()))?;
    created(&operations::place_bid(&shared, known.asker(), id, &amount).await?)
}

pub(super) async fn withdraw(
    State(shared): State<Arc<Shared>>,
    known: Known,
    Path((id, bid_id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let (id, bid_id) = (extract::id(&id)?, extract::id(&bid_id)?);
    ok(&operations::withdraw_bid(&shared, known.asker(), id, bid_id).await?)
}
