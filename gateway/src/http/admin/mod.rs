//! What operators ask and order: everything under [`PREFIX`], for holders of the admin token only.
//!
//! A new verb is a file here and a line in [`router`]. [`guard`] stands before every address that begins
//! with [`GUARDED`], whoever serves it, so a verb cannot be added without it.
//!
//! What it deliberately does not do: know who the operator is. The token proves that the holder may
//! read the node's data directory or was given the token by someone who may.

mod guard;
mod history;
mod members;
mod operate;
mod rules;
mod sessions;
mod status;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use crate::state::Shared;

pub(crate) use guard::AdminGate;
pub(super) use guard::guard;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) use {members::Order, operate::Target};

/// Where the verbs are.
pub(super) const PREFIX: &str = "/admin/v1";
/// Addresses that begin so need the token.
const GUARDED: &str = "/admin/";

/// The verbs, without their prefix.
pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/status", get(status::status))
        .route("/digests/{partition}", get(status::digests))
        .route("/node", get(operate::node))
        .route("/partitions/{partition}/rebuild", post(operate::rebuild))
        .route(
            "/partitions/{partition}/snapshot",
            post(operate::take_snapshot).get(operate::fetch_snapshot),
        )
        .route("/history/{id}", get(history::history))
        .route("/members", get(members::list))
        .route("/members/{id}/{action}", post(members::change))
        .route("/rules/follow-newest", post(rules::follow_newest))
        .route("/sessions/{user}/revoke", post(sessions::revoke))
}
