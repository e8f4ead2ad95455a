//! Makes a replica anew from its leader, without leaving its group.
//!
//! ```text
//!   leader: a snapshot ──chunks──► file ─► state ─► + own log up to the present ─► swapped in
//! ```
//!
//! The snapshot is the oldest that the leader keeps and the own log reaches back to: from it the replica
//! can tell every change that the pump may still need, once it leads.
//!
//! Only the state and the snapshots are replaced. The log and the vote stay: they are right, other
//! replicas count on what this one has acknowledged, and a voter that forgot them could help to elect a
//! leader that lacks acknowledged writes.
//!
//! Invariants: the swap happens between two entries, at the index the old state stood at; a crash at
//! any point leaves either the old state, still marked as wrong, or the new one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use grid_core::{PartitionId, Space, codec};
use serde::{Deserialize, Serialize};
#[cfg(not(feature = "sim"))]
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::error::OperationError;
use crate::members::{Member, Members};
use crate::node::NodeId;
use crate::platform::{self, AsyncFile, monotonic_now};
use crate::raft::SnapshotPosition;
use crate::replay;
use crate::retention;
use crate::service::SERVICE_FETCH;
use crate::snapshot::discard;
use crate::transport::{Lane, StreamReceiver, StreamSender};

/// The size of a chunk.
const CHUNK_BYTES: usize = 1 << 20;
/// Chunks sent and not yet acknowledged.
const CHUNKS_IN_FLIGHT_MAX: usize = 8;
/// A peer that sends nothing for this long has failed; it may have to take a snapshot first.
const STALL: Duration = Duration::from_secs(70);
/// How long the replica may take to reach the snapshot's index, or its first entry.
const CATCH_UP_WAIT: Duration = Duration::from_secs(30);
/// The last entries are applied while the replica stands still: at most about this many.
const LAST_ENTRIES: u64 = 64;

/// Asks for a snapshot.
#[derive(Serialize, Deserialize)]
pub(crate) struct FetchRequest {
    pub(crate) partition: PartitionId,
    /// What the asking replica's log no longer has.
    purged_index: u64,
}

/// The first words of a fetched snapshot.
#[derive(Serialize, Deserialize)]
struct FetchHeader {
    position: SnapshotPosition,
    bytes: u64,
}

/// How a rebuild went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuilt {
    /// The partition.
    pub partition: PartitionId,
    /// Where the replica is.
    pub node_id: NodeId,
    /// Whose snapshot it was made from.
    pub from_node: NodeId,
    /// The index of that snapshot.
    pub snapshot_index: u64,
    /// The index the replica stood at when it served again.
    pub index: u64,
}

fn failed(error: impl std::fmt::Display) -> OperationError {
    OperationError::Failed(error.to_string())
}

/// Rebuilds this node's replica of a partition.
///
/// # Errors
/// See [`OperationError`]; the replica is as it was then.
pub(crate) async fn rebuild<S: Space>(
    members: &Members<S>,
    partition: PartitionId,
) -> Result<Rebuilt, OperationError> {
    let member = members.get(partition).ok_or(OperationError::NotHeld)?;
    let _only = members
        .rebuilding
        .try_acquire()
        .map_err(|_| OperationError::Busy)?;
    let leader = member.leadership.borrow().leader;
    let from = match leader {
        Some(node) if node == members.node => return Err(OperationError::Leads),
        Some(node) => node,
        None => return Err(OperationError::NoLeader),
    };
    let started = monotonic_now();
    let position = match fetch(members, &member, from).await {
        Ok(position) => position,
        Err(error) => {
            // Where there was no room, half of it must not keep what there is.
            discard(&member.snapshots.fetched().path);
            return Err(error);
        }
    };
    let snapshot_index = position.index();
    let mut applied = member.replica.applied();
    let reached = applied.wait_for(|applied| *applied >= snapshot_index);
    let reached = tokio::time::timeout(CATCH_UP_WAIT, reached).await;
    reached
        .map_err(|_| OperationError::TimedOut)?
        .map_err(failed)?;

    let (snapshots, group) = (member.snapshots.clone(), member.group.clone());
    let replica = Arc::clone(&member.replica);
    let swapped = platform::blocking(move || {
        let file = snapshots.fetched();
        let (mut state, _) = snapshots.read::<S>(&file).map_err(failed)?;
        loop {
            let present = replica.read(grid_core::PartitionState::applied_index);
            if state.applied_index() + LAST_ENTRIES >= present {
                break;
            }
            replay::step(&group, &mut state, present, drop).map_err(failed)?;
        }
        // From here on a restart begins from the fetched snapshot.
        snapshots.adopt(&file, &position).map_err(failed)?;
        let index = replica.replace_at_present(state, |state, present| {
            while state.applied_index() < present {
                replay::step(&group, state, present, drop).map_err(failed)?;
            }
            Ok::<(), OperationError>(())
        })?;
        snapshots.unmark_diverged().map_err(failed)?;
        replica.clear_divergence();
        Ok::<u64, OperationError>(index)
    });
    let index = swapped.await.map_err(failed)??;
    member.group.set_may_lead(true);
    let took = monotonic_now().saturating_duration_since(started);
    metrics::histogram!("grid_rebuild_seconds").record(took.as_secs_f64());
    tracing::info!(%partition, from, snapshot_index, index, "a replica was rebuilt");
    Ok(Rebuilt {
        partition,
        node_id: members.node,
        from_node: from,
        snapshot_index,
        index,
    })
}

/// Fetches a snapshot of the leader's into the store's file for it.
async fn fetch<S: Space>(
    members: &Members<S>,
    member: &Member<S>,
    from: NodeId,
) -> Result<SnapshotPosition, OperationError> {
    let request = FetchRequest {
        partition: member.replica.partition(),
        purged_index: member.group.state().purged_index,
    };
    let header = codec::encode(&request).map_err(failed)?;
    let (sender, mut receiver) = members
        .transport
        .open_stream(from, Lane::Bulk, SERVICE_FETCH, header.into())
        .map_err(|_| OperationError::Unreachable { node: from })?;
    let first = next(&mut receiver).await?;
    let header: FetchHeader = codec::decode(&first).map_err(failed)?;
    let file = member.snapshots.fetched();
    let mut out = AsyncFile::create(&file.path).await.map_err(failed)?;
    let mut left = header.bytes;
    while left > 0 {
        let chunk = next(&mut receiver).await?;
        left = left
            .checked_sub(chunk.len() as u64)
            .ok_or_else(|| failed("the leader sent more than it said"))?;
        out.write_all(&chunk).await.map_err(failed)?;
        sender.send(Bytes::new()).await.map_err(failed)?;
    }
    out.sync_all().await.map_err(failed)?;
    Ok(header.position)
}

async fn next(receiver: &mut StreamReceiver) -> Result<Bytes, OperationError> {
    let message = tokio::time::timeout(STALL, receiver.recv()).await;
    match message.map_err(|_| OperationError::TimedOut)? {
        Some(Ok(message)) => Ok(message),
        Some(Err(error)) => Err(failed(error)),
        None => Err(failed("the leader ended the transfer")),
    }
}

/// Takes a snapshot at the present position, unless there is one, and returns its index.
///
/// # Errors
/// See [`OperationError`].
pub(crate) async fn take_snapshot<S: Space>(member: &Member<S>) -> Result<u64, OperationError> {
    if member.replica.has_diverged() {
        return Err(OperationError::Diverged);
    }
    // A group that has just begun has nothing to take a snapshot of before its first leader's entry.
    let mut applied = member.replica.applied();
    let begun = applied.wait_for(|applied| *applied > 0);
    let begun = tokio::time::timeout(CATCH_UP_WAIT, begun).await;
    let applied = *begun
        .map_err(|_| OperationError::TimedOut)?
        .map_err(failed)?;
    let newest = member.snapshots.newest_index().unwrap_or(0);
    if newest < applied && !retention::take(member, newest).await {
        return Err(OperationError::TimedOut);
    }
    member
        .snapshots
        .newest_index()
        .ok_or(OperationError::TimedOut)
}

/// Serves [`fetch`]. An error ends the stream.
pub(crate) async fn serve_fetch<S: Space>(
    member: &Member<S>,
    request: FetchRequest,
    sender: StreamSender,
    mut receiver: StreamReceiver,
) {
    if let Err(error) = send(member, &request, &sender, &mut receiver).await {
        tracing::warn!(%error, partition = %member.replica.partition(), "a snapshot was not sent");
    }
}

async fn send<S: Space>(
    member: &Member<S>,
    request: &FetchRequest,
    sender: &StreamSender,
    receiver: &mut StreamReceiver,
) -> io::Result<()> {
    if member.replica.has_diverged() {
        return Err(io::Error::other(OperationError::Diverged));
    }
    let mut kept = member.snapshots.oldest_from(request.purged_index);
    if kept.is_none() {
        take_snapshot(member).await.map_err(io::Error::other)?;
        kept = member.snapshots.newest();
    }
    let (position, snapshot) = kept.ok_or_else(|| io::Error::other("there is no snapshot"))?;
    // Once open, it may be removed meanwhile.
    let mut file = AsyncFile::open(&snapshot.path).await?;
    let mut left = file.metadata().await?.len();
    let header = FetchHeader {
        position,
        bytes: left,
    };
    let header = codec::encode(&header).map_err(|error| io::Error::other(error.to_string()))?;
    sender.send(header.into()).await.map_err(io::Error::other)?;
    let mut unacknowledged = 0;
    while left > 0 || unacknowledged > 0 {
        while left > 0 && unacknowledged < CHUNKS_IN_FLIGHT_MAX {
            let length = CHUNK_BYTES.min(usize::try_from(left).unwrap_or(CHUNK_BYTES));
            let mut chunk = vec![0; length];
            file.read_exact(&mut chunk).await?;
            left -= chunk.len() as u64;
            unacknowledged += 1;
            sender.send(chunk.into()).await.map_err(io::Error::other)?;
        }
        match tokio::time::timeout(STALL, receiver.recv()).await {
            Ok(Some(Ok(_))) => unacknowledged -= 1,
            _ => return Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
    Ok(())
}
