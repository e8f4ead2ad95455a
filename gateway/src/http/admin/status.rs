//! The state of every node, and the state hashes of a partition's replicas.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use grid::health::GridHealth;
use grid::{NodeId, NodeReport, ReplicaDigest};
use grid_core::PartitionId;
use serde::Serialize;

use crate::http::problem::Problem;
use crate::http::{extract, ok};
use crate::refusals;
use crate::state::Shared;

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

pub(super) async fn status(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let node = shared.node()?;
    let nodes = node.cluster_status(shared.deadline()).await;
    ok(&Nodes {
        node_id: node.node_id(),
        health: node.assess(&nodes),
        nodes,
    })
}

pub(super) async fn digests(
    State(shared): State<Arc<Shared>>,
    Path(partition): Path<String>,
) -> Result<Response, Problem> {
    let partition = extract::partition(&partition)?;
    let replicas = shared
        .node()?
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
