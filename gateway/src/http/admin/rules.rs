//! The end of an upgrade: the grid follows the newest rules that its nodes know.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use super::members::membership_refused;
use crate::failure::Failure;
use crate::http::extract::Known;
use crate::http::ok;
use crate::http::problem::Problem;
use crate::protocol::code::ErrorCode;
use crate::refusals;
use crate::state::Shared;

#[derive(Serialize)]
struct Followed {
    /// What the grid follows now.
    rules: u16,
}

pub(super) async fn follow_newest(
    State(shared): State<Arc<Shared>>,
    known: Known,
) -> Result<Response, Problem> {
    if !known.asker().caller.is_manager {
        let failure = Failure::new(ErrorCode::Forbidden, "only a manager ends an upgrade");
        return Err(failure.into());
    }
    let followed = shared
        .node()?
        .follow_newest_rules(shared.deadline())
        .await
        .map_err(|error| refusals::grid_error(&error))?;
    match followed {
        Ok(rules) => ok(&Followed { rules }),
        Err(refusal) => Err(membership_refused(&refusal).into()),
    }
}
