//! `/v1/events/{id}/holds`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;

use super::extract::{self, Known};
use super::problem::Problem;
use super::{created, ok};
use crate::failure::Failure;
use crate::operations;
use crate::protocol::body::{ConfirmBody, HoldBody};
use crate::protocol::message::seat_choice;
use crate::state::Shared;
use crate::waiting;

pub(super) async fn hold(
    State(shared): State<Arc<Shared>>,
    known: Known,
    Path(id): Path<String>,
    body: Body,
) -> Result<Response, Problem> {
    let id = extract::id(&id)?;
    let body = extract::json::<HoldBody>(&shared, body).await?;
    let choice = seat_choice(body.seats, body.section, body.quantity, body.best_available)
        .map_err(Failure::bad_request)?;
    waiting::check_pass(&shared, known.asker(), id, body.pass.as_deref())?;
    created(&operations::hold_seats(&shared, known.asker(), id, choice).await?)
}

pub(super) async fn confirm(
    State(shared): State<Arc<Shared>>,
    known: Known,
    Path((id, hold_id)): Path<(String, String)>,
    body: Body,
) -> Result<Response, Problem> {
    let (id, hold_id) = (extract::id(&id)?, extract::id(&hold_id)?);
    let body = extract::json::<ConfirmBody>(&shared, body).await?;
    let reference = body.payment_reference;
    ok(&operations::confirm_hold(&shared, known.asker(), id, hold_id, reference).await?)
}

pub(super) async fn release(
    State(shared): State<Arc<Shared>>,
    known: Known,
    Path((id, hold_id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let (id, hold_id) = (extract::id(&id)?, extract::id(&hold_id)?);
    ok(&operations::release_hold(&shared, known.asker(), id, hold_id).await?)
}
