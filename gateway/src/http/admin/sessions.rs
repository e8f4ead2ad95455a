//! Takes a user's sessions back, on every gateway.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use processing_unit::UserId;
use serde::Serialize;
use uuid::Uuid;

use crate::failure::Failure;
use crate::http::extract::{self, Known};
use crate::http::ok;
use crate::http::problem::Problem;
use crate::protocol::code::ErrorCode;
use crate::state::Shared;

#[derive(Serialize)]
struct Revoked {
    user_id: Uuid,
}

pub(super) async fn revoke(
    State(shared): State<Arc<Shared>>,
    known: Known,
    Path(user): Path<String>,
) -> Result<Response, Problem> {
    if !known.caller.is_manager {
        let failure = Failure::new(ErrorCode::Forbidden, "only a manager takes sessions back");
        return Err(failure.into());
    }
    let user_id = extract::id(&user)?;
    let (client, deadline) = (&shared.client, shared.deadline());
    shared
        .identity
        .revoke(client, UserId(user_id), 0, deadline)
        .await?;
    if let Some(audit) = shared.identity.audit() {
        audit.revoked(user_id, known.caller.address);
    }
    ok(&Revoked { user_id })
}
