//! For supervisors and door staff, who need no token: liveness, readiness, the ticket key.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use grid_core::PartitionId;
use serde::Serialize;

use super::problem::Problem;
use super::{json, ok};
use crate::state::Shared;

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    partitions: u32,
    /// Partitions without a known leader.
    without_leader: Vec<PartitionId>,
    draining: bool,
}

#[derive(Serialize)]
struct TicketKey {
    algorithm: &'static str,
    public_key: String,
}

pub(super) async fn health() -> Result<Response, Problem> {
    ok(&Health { status: "ok" })
}

pub(super) async fn ready(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    // Of a partition without a replica here the leader is looked for when it is needed.
    let has_leader = |partition: PartitionId| {
        shared
            .client
            .leadership(partition)
            .is_ok_and(|leadership| leadership.borrow().leader.is_some())
            || shared.client.applied_index(partition).is_none()
    };
    let without_leader: Vec<_> = shared
        .layout
        .iter()
        .filter(|partition| !has_leader(*partition))
        .collect();
    let draining = shared.leaving.load(Ordering::Relaxed) || shared.stopping.is_cancelled();
    let ready = without_leader.is_empty() && !draining;
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json(
        status,
        &Ready {
            ready,
            partitions: shared.layout.partitions(),
            without_leader,
            draining,
        },
    )
}

pub(super) async fn ticket_key(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    ok(&TicketKey {
        algorithm: "Ed25519",
        public_key: shared.signer.public_key(),
    })
}
