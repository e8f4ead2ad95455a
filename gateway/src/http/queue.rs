//! `/v1/events/{id}/queue`, a person's place, and `/v1/events/{id}/waiting-room`, the room itself.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use serde::Deserialize;

use super::extract::{self, Fresh, Known, Listing};
use super::problem::Problem;
use super::{created, ok, ok_at};
use crate::failure::Failure;
use crate::state::Shared;
use crate::waiting::{self, RoomStep};

/// `POST …/waiting-room/open`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct OpenBody {
    secret: Option<String>,
}

/// `POST …/waiting-room/rate`.
#[derive(Debug, Deserialize)]
pub(super) struct RateBody {
    rate_per_minute: u32,
}

pub(super) async fn join(
    State(shared): State<Arc<Shared>>,
    known: Known,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    ok(&waiting::join(&shared, known.asker(), extract::id(&id)?).await?)
}

pub(super) async fn place(
    State(shared): State<Arc<Shared>>,
    known: Known,
    fresh: Fresh,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let id = extract::id(&id)?;
    let read = fresh.of(shared.layout.partition_of(id))?;
    let (view, position) = waiting::place(&shared, known.asker(), id, read).await?;
    ok_at(&view, position)
}

pub(super) async fn leave(
    State(shared): State<Arc<Shared>>,
    known: Known,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    ok(&waiting::leave(&shared, known.asker(), extract::id(&id)?).await?)
}

pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    known: Known,
    Path(id): Path<String>,
    body: Body,
) -> Result<Response, Problem> {
    let id = extract::id(&id)?;
    let (body, canonical) = extract::json_and_text(&shared, body).await?;
    created(&waiting::create(&shared, known.asker(), id, body, &canonical).await?)
}

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    fresh: Fresh,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let id = extract::id(&id)?;
    let read = fresh.of(shared.layout.partition_of(id))?;
    let (view, position) = waiting::marker(&shared, id, read).await?;
    ok_at(&view, position)
}

pub(super) async fn order(
    State(shared): State<Arc<Shared>>,
    fresh: Fresh,
    Path(id): Path<String>,
    Listing(list): Listing,
) -> Result<Response, Problem> {
    let id = extract::id(&id)?;
    let read = fresh.of(shared.layout.partition_of(id))?;
    let after = list.after_number()?;
    let (page, position) = waiting::order(&shared, id, after, list.limit(), read).await?;
    ok_at(&page, position)
}

/// `open`, `pause`, `resume` or `rate`.
pub(super) async fn step(
    State(shared): State<Arc<Shared>>,
    known: Known,
    Path((id, step)): Path<(String, String)>,
    body: Body,
) -> Result<Response, Problem> {
    let id = extract::id(&id)?;
    let step = match step.as_str() {
        "open" => RoomStep::Open {
            secret: extract::json::<OpenBody>(&shared, body).await?.secret,
        },
        "pause" => RoomStep::Pause,
        "resume" => RoomStep::Resume,
        "rate" => RoomStep::Rate(
            extract::json::<RateBody>(&shared, body)
                .await?
                .rate_per_minute,
        ),
        _ => return Err(Failure::not_found("there is no such address").into()),
    };
    ok(&waiting::step(&shared, known.asker(), id, step).await?)
}
