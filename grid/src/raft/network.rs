//! What a group says to its peers, over the node's transport.
//!
//! Requests (votes, heartbeats, leadership transfer) are single messages; appending is a stream, so
//! that entries are on their way while earlier ones are still being synced; a snapshot has its own
//! lane, so that it never delays a heartbeat.
//!
//! openraft sends a heartbeat as a stream of one append. Opening a stream for each would be most of what
//! an idle node does, so whoever sends only heartbeats ([`Errand::Heartbeats`]) asks instead.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use grid_core::codec;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{
    RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential,
};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::storage::Snapshot;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
#[cfg(not(feature = "sim"))]
use tokio::io::AsyncReadExt;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::types::{AppendResult, SnapshotMeta, TypeConfig, Vote};
use crate::platform::AsyncFile;
use crate::snapshot::SnapshotFile;
use crate::transport::{Lane, StreamReceiver, Transport, TransportError};

/// Service: one [`RaftRequest`], one reply.
pub(crate) const SERVICE_RAFT: u8 = 1;
/// Service: a stream of append requests, a reply to each.
pub(crate) const SERVICE_APPEND_STREAM: u8 = 2;
/// Service: a snapshot in chunks, acknowledged one by one.
pub(crate) const SERVICE_SNAPSHOT: u8 = 3;

/// Append requests on their way to one peer and not yet answered.
const APPENDS_IN_FLIGHT_MAX: usize = 64;
/// The size of a snapshot chunk.
const SNAPSHOT_CHUNK_BYTES: usize = 1 << 20;
/// Chunks on their way and not yet acknowledged.
const SNAPSHOT_CHUNKS_IN_FLIGHT_MAX: usize = 8;
/// A peer that acknowledges no chunk for this long has failed.
const SNAPSHOT_STALL: Duration = Duration::from_secs(10);
/// Under load a peer may take a while to sync; an append is given at least this long.
const APPEND_TIMEOUT_MIN: Duration = Duration::from_millis(2_000);

/// A request of one group to the same group on another node.
#[derive(Serialize, Deserialize)]
pub(crate) struct RaftEnvelope {
    pub(crate) group: u32,
    pub(crate) request: RaftRequest,
}

/// What a group may ask.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) enum RaftRequest {
    Append(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<TypeConfig>),
    PreVote(VoteRequest<TypeConfig>),
    TransferLeader(TransferLeaderRequest<TypeConfig>),
}

impl RaftRequest {
    /// Whether the sender wants somebody else to lead.
    pub(crate) fn offers_lead(&self) -> bool {
        matches!(self, Self::TransferLeader(_))
    }
}

/// The first words of a snapshot stream.
#[derive(Serialize, Deserialize)]
pub(crate) struct SnapshotHeader {
    pub(crate) group: u32,
    pub(crate) vote: Vote,
    pub(crate) meta: SnapshotMeta,
    pub(crate) bytes: u64,
}

/// Makes a group's connections to its peers.
#[derive(Clone)]
pub(crate) struct PeerNetwork {
    pub(crate) transport: Transport,
    pub(crate) node: u64,
    pub(crate) group: u32,
}

impl RaftNetworkFactory<TypeConfig> for PeerNetwork {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, (): &()) -> Peer {
        self.peer(target, Errand::Everything)
    }

    async fn new_heartbeat_client(&mut self, target: u64, (): &()) -> Peer {
        self.peer(target, Errand::Heartbeats)
    }
}

impl PeerNetwork {
    fn peer(&self, target: u64, errand: Errand) -> Peer {
        Peer {
            network: self.clone(),
            target,
            errand,
        }
    }
}

/// What a [`Peer`] is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Errand {
    /// Entries, votes, snapshots: many appends are under way at a time.
    Everything,
    /// One append without entries, and its answer, then the next one.
    Heartbeats,
}

/// One group's way to one peer.
pub(crate) struct Peer {
    network: PeerNetwork,
    target: u64,
    errand: Errand,
}

fn rpc_error(error: &TransportError) -> RPCError<TypeConfig> {
    match error {
        TransportError::Unreachable { .. }
        | TransportError::UnknownPeer { .. }
        | TransportError::Overloaded { .. }
        | TransportError::ShutDown => RPCError::Unreachable(Unreachable::new(error)),
        _ => RPCError::Network(NetworkError::new(error)),
    }
}

fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RPCError<TypeConfig>> {
    codec::decode(bytes).map_err(|error| RPCError::Network(NetworkError::new(&error)))
}

fn encoded<T: Serialize>(value: &T) -> Result<Bytes, RPCError<TypeConfig>> {
    let bytes = codec::encode(value);
    bytes
        .map(Bytes::from)
        .map_err(|error| RPCError::Network(NetworkError::new(&error)))
}

impl Peer {
    async fn ask<T: DeserializeOwned>(
        &self,
        request: RaftRequest,
        timeout: Duration,
    ) -> Result<T, RPCError<TypeConfig>> {
        let payload = encoded(&RaftEnvelope {
            group: self.network.group,
            request,
        })?;
        let reply = self
            .network
            .transport
            .request(self.target, Lane::Control, SERVICE_RAFT, payload, timeout)
            .await
            .map_err(|error| rpc_error(&error))?;
        decoded(&reply)
    }

    fn timed_out(&self, timeout: Duration) -> RPCError<TypeConfig> {
        RPCError::Timeout(Timeout {
            action: RPCTypes::AppendEntries,
            id: self.network.node,
            target: self.target,
            timeout,
        })
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        meta: SnapshotMeta,
        snapshot: &SnapshotFile,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let io = |error: std::io::Error| StreamingError::from(NetworkError::new(&error));
        let lost = |error: TransportError| StreamingError::from(rpc_error(&error));
        let mut file = AsyncFile::open(&snapshot.path).await.map_err(io)?;
        let bytes = file.metadata().await.map_err(io)?.len();
        let header = SnapshotHeader {
            group: self.network.group,
            vote,
            meta,
            bytes,
        };
        let (sender, mut receiver) = self
            .network
            .transport
            .open_stream(self.target, Lane::Bulk, SERVICE_SNAPSHOT, encoded(&header)?)
            .map_err(lost)?;
        let mut unacknowledged = 0;
        let mut left = bytes;
        loop {
            while left > 0 && unacknowledged < SNAPSHOT_CHUNKS_IN_FLIGHT_MAX {
                let mut chunk = vec![0; SNAPSHOT_CHUNK_BYTES.min(left as usize)];
                file.read_exact(&mut chunk).await.map_err(io)?;
                left -= chunk.len() as u64;
                unacknowledged += 1;
                sender.send(chunk.into()).await.map_err(lost)?;
            }
            let reply = tokio::time::timeout(SNAPSHOT_STALL, receiver.recv())
                .await
                .map_err(|_| StreamingError::from(self.timed_out(SNAPSHOT_STALL)))?
                .ok_or_else(|| lost(TransportError::StreamClosed))?
                .map_err(lost)?;
            // An empty message acknowledges a chunk; the last one is the group's answer.
            if reply.is_empty() {
                unacknowledged = unacknowledged.saturating_sub(1);
            } else {
                return Ok(decoded(&reply)?);
            }
        }
    }
}

/// Ends the sending half of an append stream when the receiving half is dropped.
struct AppendReplies {
    receiver: StreamReceiver,
    in_flight: Arc<AtomicUsize>,
    window: Arc<Semaphore>,
    timeout: Duration,
    /// There will be no further request; the replies end with the last one owed.
    input_ended: CancellationToken,
    stop: CancellationToken,
}

impl Drop for AppendReplies {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl AppendReplies {
    /// The next reply; `None` when the stream has ended. Time counts only while one is owed.
    async fn next(&mut self) -> Option<Result<AppendResult, Option<TransportError>>> {
        loop {
            let ended = self.input_ended.is_cancelled();
            if ended && self.in_flight.load(Ordering::Acquire) == 0 {
                return None;
            }
            let received = tokio::select! {
                biased;
                received = tokio::time::timeout(self.timeout, self.receiver.recv()) => received,
                () = self.input_ended.cancelled(), if !ended => continue,
            };
            match received {
                Ok(None) => return None,
                Ok(Some(Err(error))) => return Some(Err(Some(error))),
                Ok(Some(Ok(bytes))) => {
                    self.in_flight.fetch_sub(1, Ordering::AcqRel);
                    self.window.add_permits(1);
                    return Some(codec::decode(&bytes).map_err(|_| None));
                }
                Err(_) if self.in_flight.load(Ordering::Acquire) == 0 => {}
                Err(_) => return Some(Err(None)),
            }
        }
    }
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask(RaftRequest::Append(rpc), option.hard_ttl()).await
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<AppendResult, RPCError<TypeConfig>>>, RPCError<TypeConfig>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        if self.errand == Errand::Heartbeats {
            return stream_append_sequential(self, input, option);
        }
        Box::pin(async move {
            // openraft waits between attempts to reach a peer that is away, but it does so when it is
            // asked for a request: an attempt that failed before that would be repeated at once.
            let Some(first) = input.next().await else {
                let nothing: BoxStream<'s, _> = Box::pin(stream::empty());
                return Ok(nothing);
            };
            let header = encoded(&self.network.group)?;
            let (sender, receiver) = self
                .network
                .transport
                .open_stream(self.target, Lane::Control, SERVICE_APPEND_STREAM, header)
                .map_err(|error| rpc_error(&error))?;
            let replies = AppendReplies {
                receiver,
                in_flight: Arc::new(AtomicUsize::new(0)),
                window: Arc::new(Semaphore::new(APPENDS_IN_FLIGHT_MAX)),
                timeout: option.hard_ttl().max(APPEND_TIMEOUT_MIN),
                input_ended: CancellationToken::new(),
                stop: CancellationToken::new(),
            };
            let (in_flight, window) = (Arc::clone(&replies.in_flight), Arc::clone(&replies.window));
            let (stop, input_ended) = (replies.stop.clone(), replies.input_ended.clone());
            tokio::spawn(stop.run_until_cancelled_owned(async move {
                let mut input = stream::iter([first]).chain(input);
                while let Some(request) = input.next().await {
                    let Ok(permit) = window.acquire().await else {
                        return;
                    };
                    permit.forget();
                    in_flight.fetch_add(1, Ordering::AcqRel);
                    let Ok(bytes) = encoded(&request) else { return };
                    if sender.send(bytes).await.is_err() {
                        return;
                    }
                }
                input_ended.cancel();
                // Dropping the sender would end the stream before the replies owed are read.
                std::future::pending::<()>().await;
            }));
            let replies = stream::unfold(Some(replies), move |state| async move {
                let mut replies = state?;
                match replies.next().await? {
                    Ok(result) => {
                        let goes_on = result.is_ok();
                        Some((Ok(result), goes_on.then_some(replies)))
                    }
                    Err(error) => {
                        let error = error.unwrap_or(TransportError::StreamClosed);
                        Some((Err(rpc_error(&error)), None))
                    }
                }
            });
            let replies: BoxStream<'s, _> = Box::pin(replies);
            Ok(replies)
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask(RaftRequest::Vote(rpc), option.hard_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask(RaftRequest::PreVote(rpc), option.hard_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<super::types::LeaderTerm, u64, (), SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, snapshot.meta, &snapshot.snapshot) => sent,
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask(RaftRequest::TransferLeader(request), option.hard_ttl())
            .await
    }
}
