//! `/v1/auctions`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use processing_unit::{AuctionId, auction};

use super::extract::{self, Anyone, Fresh, Known, Listing};
use super::problem::Problem;
use super::{created, ok, ok_at, scatter};
use crate::convert;
use crate::operations::{self, AuctionStep};
use crate::state::Shared;

pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    known: Known,
    body: Body,
) -> Result<Response, Problem> {
    let (body, canonical) = extract::json_and_text(&shared, body).await?;
    created(&operations::create_auction(&shared, known.asker(), body, &canonical).await?)
}

pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Anyone(viewer): Anyone,
    Listing(list): Listing,
) -> Result<Response, Problem> {
    let viewer = viewer.map(|caller| caller.user);
    let query = auction::Query::Auctions {
        status: list
            .status
            .as_deref()
            .map(convert::status_from)
            .transpose()?,
        after: list.after_id()?.map(AuctionId),
        limit: list.limit(),
        category: list.category.clone(),
        text: list.q.clone(),
    };
    let all = scatter::ask_auctions(&shared, query, |answer| match answer {
        auction::Answer::Auctions(auctions) => Some(auctions),
        _ => None,
    })
    .await?;
    let views = all
        .into_iter()
        .map(|auction| convert::auction(auction, viewer))
        .collect();
    ok(&scatter::merge(views, list.limit(), |auction| {
        auction.auction_id
    }))
}

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Anyone(viewer): Anyone,
    fresh: Fresh,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let id = AuctionId(extract::id(&id)?);
    let read = fresh.of(shared.layout.partition_of(id.0))?;
    let (auction, position) = shared.auction(id, read).await?;
    let view = convert::auction(auction, viewer.map(|caller| caller.user));
    ok_at(&view, position)
}

async fn step(
    shared: &Shared,
    known: &Known,
    id: &str,
    step: AuctionStep,
) -> Result<Response, Problem> {
    let id = extract::id(id)?;
    ok(&operations::step_auction(shared, known.asker(), id, step).await?)
}

pub(super) async fn start(
    State(shared): State<Arc<Shared>>,
    known: Known,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    step(&shared, &known, &id, AuctionStep::Start).await
}

pub(super) async fn close(
    State(shared): State<Arc<Shared>>,
    known: Known,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    step(&shared, &known, &id, AuctionStep::Close).await
}

pub(super) async fn cancel(
    State(shared): State<Arc<Shared>>,
    known: Known,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    step(&shared, &known, &id, AuctionStep::Cancel).await
}
