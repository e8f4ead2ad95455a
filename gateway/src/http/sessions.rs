//! The caller's session: tickets for WebSockets, and its end.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::extract::Known;
use super::problem::Problem;
use super::{created, ok};
use crate::protocol::view::ReplyData;
use crate::state::Shared;

/// A ticket with which the caller opens one WebSocket at this gateway.
pub(super) async fn ticket(
    State(shared): State<Arc<Shared>>,
    known: Known,
) -> Result<Response, Problem> {
    created(&shared.identity.issue_ticket(&known.caller)?)
}

/// Ends the caller's session everywhere: the tokens of up to now count no more, and the sockets close.
pub(super) async fn logout(
    State(shared): State<Arc<Shared>>,
    known: Known,
) -> Result<Response, Problem> {
    let caller = known.caller;
    let (client, deadline) = (&shared.client, shared.deadline());
    let revoking = shared
        .identity
        .revoke(client, caller.user, caller.issued_at_s, deadline);
    revoking.await?;
    if let Some(audit) = shared.identity.audit() {
        audit.logged_out(&caller);
    }
    ok(&ReplyData::Empty {})
}
