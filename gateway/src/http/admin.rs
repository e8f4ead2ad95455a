//! For operators and door staff: liveness, readiness, the grid's state, the ticket key.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use grid::health::GridHealth;
use grid::{NodeId, NodeReport, ReplicaDigest};
use grid_core::PartitionId;
use serde::Serialize;

use super::problem::Problem;
use super::{json, ok};
use crate::failure::Failure;
use crate::refusals;
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
struct Nodes {
    /// Who answers.
    node_id: NodeId,
    health: GridHealth,
    nodes: Vec<NodeReport>,
}

#[derive(Serialize)]
struct Digests {
    partition: PartitionId,
    /// Whether all replicas that answered at the same index have the same state.
    agree: bool,
    replicas: Vec<DigestEntry>,
}

#[derive(Serialize)]
struct DigestEntry {
    node_id: NodeId,
    applied_index: Option<u64>,
    running_hash: Option<String>,
    digest: Option<String>,
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

pub(super) async fn status(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let nodes = shared.client.cluster_status(shared.deadline()).await;
    ok(&Nodes {
        node_id: shared.client.node_id(),
        health: shared.client.assess(&nodes),
        nodes,
    })
}

pub(super) async fn digests(
    State(shared): State<Arc<Shared>>,
    Path(partition): Path<String>,
) -> Result<Response, Problem> {
    let partition = partition
        .parse()
        .map(PartitionId)
        .map_err(|_| Failure::bad_request("a partition is a number"))?;
    let replicas = shared
        .client
        .digests(partition, shared.deadline())
        .await
        .map_err(|error| refusals::grid_error(&error))?;
    ok(&Digests {
        partition,
        agree: agree(&replicas),
        replicas: replicas
            .into_iter()
            .map(|(node_id, digest)| DigestEntry {
                node_id,
                applied_index: digest.as_ref().map(|digest| digest.applied_index),
                running_hash: digest
                    .as_ref()
                    .map(|digest| digest.running_hash.to_string()),
                digest: digest.as_ref().map(|digest| digest.digest.to_string()),
            })
            .collect(),
    })
}

/// Whether no two replicas at the same index differ.
fn agree(replicas: &[(NodeId, Option<ReplicaDigest>)]) -> bool {
    let known: Vec<_> = replicas
        .iter()
        .filter_map(|(_, digest)| digest.as_ref())
        .collect();
    known.iter().enumerate().all(|(place, one)| {
        known[place + 1..].iter().all(|other| {
            one.applied_index != other.applied_index
                || (one.running_hash == other.running_hash && one.digest == other.digest)
        })
    })
}

pub(super) async fn ticket_key(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    ok(&TicketKey {
        algorithm: "Ed25519",
        public_key: shared.signer.public_key(),
    })
}
