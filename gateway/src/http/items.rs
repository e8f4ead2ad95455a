//! `/v1/items`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use grid::Read;
use processing_unit::{ItemId, auction};

use super::extract::{self, Known};
use super::problem::Problem;
use super::{created, ok};
use crate::convert;
use crate::failure::Failure;
use crate::operations;
use crate::state::Shared;

pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    known: Known,
    body: Body,
) -> Result<Response, Problem> {
    let (body, canonical) = extract::json_and_text(&shared, body).await?;
    created(&operations::create_item(&shared, known.asker(), body, &canonical).await?)
}

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let id = extract::id(&id)?;
    let partition = shared.layout.partition_of(id);
    let query = auction::Query::Item {
        item_id: ItemId(id),
    };
    let (answer, _) = shared
        .ask_auctions(partition, query, Read::Linearizable)
        .await?;
    match answer {
        auction::Answer::Item(Some(item)) => ok(&convert::item(item)),
        auction::Answer::Item(None) => Err(Failure::not_found("there is no such item").into()),
        _ => Err(Failure::unexpected("an item was asked for").into()),
    }
}
