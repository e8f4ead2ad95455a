//! For supervisors and door staff, who need no token: liveness, readiness, metrics, the ticket key.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use grid_core::PartitionId;
use serde::Serialize;

use super::problem::Problem;
use super::{json, ok};
use crate::failure::Failure;
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
    let partitions = shared.layout.iter();
    let without_leader: Vec<_> = partitions
        .filter(|partition| !shared.is_ready_for(*partition))
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

/// Prometheus' text format.
pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let reading = tokio::task::spawn_blocking(move || shared.metrics_text.read());
    let text = reading
        .await
        .ok()
        .flatten()
        .ok_or_else(|| Failure::not_found("this gateway keeps no metrics"))?;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

pub(super) async fn ticket_key(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    ok(&TicketKey {
        algorithm: "Ed25519",
        public_key: shared.signer.public_key(),
    })
}
