//! This node's own state, and the orders that rebuild a replica, take a snapshot or fetch one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use grid::{NodeId, NodeStatus, OperationError};
use grid_core::PartitionId;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;

use crate::failure::Failure;
use crate::http::problem::Problem;
use crate::http::{extract, ok};
use crate::limits::{OPERATION_TIMEOUT_MS, SNAPSHOT_CHUNK_BYTES};
use crate::protocol::code::ErrorCode;
use crate::state::Shared;

const SNAPSHOT_INDEX: &str = "x-snapshot-index";

#[derive(Serialize)]
struct OwnNode {
    node_id: NodeId,
    status: NodeStatus,
}

/// Whose replica is meant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Target {
    node: NodeId,
}

#[derive(Serialize)]
struct Taken {
    partition: PartitionId,
    node_id: NodeId,
    index: u64,
}

fn refused(error: &OperationError) -> Failure {
    let code = match error {
        OperationError::NotHeld => ErrorCode::NotFound,
        OperationError::Leads | OperationError::Diverged => ErrorCode::BadRequest,
        OperationError::Failed(_) => ErrorCode::Internal,
        OperationError::NoLeader
        | OperationError::Busy
        | OperationError::Unreachable { .. }
        | OperationError::TimedOut => ErrorCode::Unavailable,
    };
    Failure::new(code, error.to_string())
}

/// The replica that an order is about: the partition's in the address, on the node of the body.
async fn replica(
    shared: &Shared,
    partition: &str,
    body: Body,
) -> Result<(PartitionId, NodeId), Failure> {
    let partition = extract::partition(partition)?;
    let Target { node } = extract::json(shared, body).await?;
    Ok((partition, node))
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_millis(OPERATION_TIMEOUT_MS)
}

/// What this node says of itself; asks nobody else, so it answers also when the node is cut off.
pub(super) async fn node(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let node = shared.node()?;
    ok(&OwnNode {
        node_id: node.node_id(),
        status: node.status(),
    })
}

/// Makes a replica anew from its leader.
pub(super) async fn rebuild(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Response, Problem> {
    let (partition, node) = replica(&shared, &id, body).await?;
    let rebuilt = shared
        .node()?
        .rebuild(node, partition, deadline())
        .await
        .map_err(|error| refused(&error))?;
    ok(&rebuilt)
}

/// Takes a snapshot of a replica, unless there is one at its present position.
pub(super) async fn take_snapshot(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Response, Problem> {
    let (partition, node) = replica(&shared, &id, body).await?;
    let index = shared
        .node()?
        .take_snapshot(node, partition, deadline())
        .await
        .map_err(|error| refused(&error))?;
    ok(&Taken {
        partition,
        node_id: node,
        index,
    })
}

/// The newest snapshot of this node's own replica, as it lies on its disk.
pub(super) async fn fetch_snapshot(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let partition = extract::partition(&id)?;
    let newest = shared.node()?.newest_snapshot(partition);
    let (index, path) =
        newest.ok_or_else(|| Failure::not_found("this node has no snapshot of the partition"))?;
    let unreadable = |error: std::io::Error| {
        Failure::new(
            ErrorCode::Internal,
            format!("the snapshot cannot be read: {error}"),
        )
    };
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let bytes = file.metadata().await.map_err(unreadable)?.len();
    let mut response = (StatusCode::OK, Body::from_stream(chunks(file))).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    headers.insert(SNAPSHOT_INDEX, HeaderValue::from(index));
    Ok(response)
}

/// A file in pieces, read as they are sent.
fn chunks(
    file: tokio::fs::File,
) -> impl futures_util::Stream<Item = std::io::Result<bytes::Bytes>> + Send {
    futures_util::stream::try_unfold(file, |mut file| async move {
        let mut chunk = vec![0; SNAPSHOT_CHUNK_BYTES];
        let read = file.read(&mut chunk).await?;
        chunk.truncate(read);
        Ok((read > 0).then(|| (chunk.into(), file)))
    })
}
