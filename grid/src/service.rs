//! What nodes ask of each other beside consensus, and who answers.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use grid_core::{
    ChangeBatch, Cursor, IdempotencyKey, Outcome, PartitionId, Space, StateHash, codec,
};
use serde::{Deserialize, Serialize};

use crate::admission::CommandClass;
use crate::cluster::{self, META};
use crate::divergence::{self, DivergedOrder, HashesRequest};
use crate::error::OperationError;
use crate::feed::{FeedError, ReplayPace};
use crate::members::Members;
use crate::operator;
use crate::platform;
use crate::proposer::Decision;
use crate::raft::{
    ProposalError, SERVICE_APPEND_STREAM, SERVICE_RAFT, SERVICE_SNAPSHOT, SnapshotHeader,
    open_envelope,
};
use crate::rebuild::{self, FetchRequest};
use crate::transport::{Handler, Replier, StreamReceiver, StreamSender};

/// Service: carry out a command.
pub(crate) const SERVICE_EXECUTE: u8 = 10;
/// Service: answer a query.
pub(crate) const SERVICE_QUERY: u8 = 11;
/// Service: a stream of changes.
pub(crate) const SERVICE_FEED: u8 = 12;
/// Service: the node's status.
pub(crate) const SERVICE_STATUS: u8 = 13;
/// Service: a replica's state digest.
pub(crate) const SERVICE_DIGEST: u8 = 14;

/// Service: running hashes at given indexes.
pub(crate) const SERVICE_HASHES: u8 = 40;
/// Service: tells a replica that it differs from the others.
pub(crate) const SERVICE_DIVERGED: u8 = 41;
/// Service: rebuild a replica.
pub(crate) const SERVICE_REBUILD: u8 = 42;
/// Service: take a snapshot of a replica.
pub(crate) const SERVICE_TAKE_SNAPSHOT: u8 = 43;
/// Service: a stream with a snapshot of a replica.
pub(crate) const SERVICE_FETCH: u8 = 44;

/// Slices of a remote feed sent and not yet acknowledged.
const FEED_SLICES_IN_FLIGHT_MAX: usize = 8;

/// A command on its way to the leader.
#[derive(Serialize, Deserialize)]
pub(crate) struct ExecuteRequest<'a> {
    pub(crate) partition: PartitionId,
    pub(crate) key: IdempotencyKey,
    pub(crate) fingerprint: u64,
    pub(crate) class: CommandClass,
    pub(crate) remaining_ms: u64,
    #[serde(with = "serde_bytes", borrow)]
    pub(crate) body: &'a [u8],
}

/// What a node says to a command.
#[derive(Serialize, Deserialize)]
pub(crate) enum ExecuteReply<R> {
    Decided { outcome: Outcome<R>, index: u64 },
    NotLeader(Option<u64>),
    Unknown,
    Overloaded { retry_after_ms: u64 },
    UnknownPartition,
}

impl<R> From<Decision<R>> for ExecuteReply<R> {
    fn from(decision: Decision<R>) -> Self {
        match decision {
            Ok((outcome, index)) => Self::Decided { outcome, index },
            Err(ProposalError::NotLeader(leader)) => Self::NotLeader(leader),
            Err(ProposalError::Unknown) => Self::Unknown,
            Err(ProposalError::Overloaded { retry_after_ms }) => {
                Self::Overloaded { retry_after_ms }
            }
        }
    }
}

/// How fresh an answer must be, on the wire.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Freshness {
    Linearizable,
    Stale,
    AtLeast(u64),
}

/// A query on its way to a replica.
#[derive(Serialize, Deserialize)]
pub(crate) struct QueryRequest<Q> {
    pub(crate) partition: PartitionId,
    pub(crate) freshness: Freshness,
    pub(crate) remaining_ms: u64,
    pub(crate) query: Q,
}

/// What a node says to a query.
#[derive(Serialize, Deserialize)]
pub(crate) enum QueryReply<A> {
    Answer { answer: A, index: u64 },
    NotLeader(Option<u64>),
    NotYet,
    UnknownPartition,
}

/// The first words of a feed stream.
#[derive(Serialize, Deserialize)]
pub(crate) struct FeedHeader {
    pub(crate) partition: PartitionId,
    /// `None` for from now on; the first slice, without changes, says where that is.
    pub(crate) from: Option<Cursor>,
}

/// One message of a feed stream.
pub(crate) type FeedMessage<C> = Result<(Vec<ChangeBatch<C>>, u64), FeedError>;

/// A digest on the wire.
#[derive(Serialize, Deserialize)]
pub(crate) struct DigestReply {
    pub(crate) applied_index: u64,
    pub(crate) running_hash: StateHash,
    pub(crate) digest: StateHash,
}

/// Serves the peers. The members are set once they exist; until then nothing is answered.
pub(crate) struct Services<S: Space> {
    members: OnceLock<Arc<Members<S>>>,
}

impl<S: Space> Default for Services<S> {
    fn default() -> Self {
        Self {
            members: OnceLock::new(),
        }
    }
}

impl<S: Space> Services<S> {
    /// Opens for business.
    pub(crate) fn open(&self, members: Arc<Members<S>>) {
        // Called once by the node; a second set of members would be a bug, and the first one stays.
        let _ = self.members.set(members);
    }
}

/// Does something with this node's member of a group, whatever the group replicates.
macro_rules! with_group {
    ($members:expr, $group:expr, $member:ident => $body:block) => {
        if $group == META.0 {
            if let Some($member) = $members.meta() $body
        } else if let Some($member) = $members.get(PartitionId($group)) $body
    };
}

/// Answers with a value. One that cannot be encoded, a bug, is no answer, which the peer sees.
pub(crate) fn reply_with<T: Serialize>(reply: Replier, value: &T) {
    match codec::encode(value) {
        Ok(bytes) => reply.send(bytes.into()),
        Err(error) => tracing::error!(%error, "a reply could not be encoded"),
    }
}

impl<S: Space> Handler for Services<S> {
    fn on_request(&self, from: u64, service: u8, payload: Bytes, reply: Replier) {
        // A dropped replier tells the peer that there is no answer here.
        let Some(members) = self.members.get() else {
            return;
        };
        match service {
            SERVICE_EXECUTE => execute(members, &payload, reply),
            SERVICE_RAFT => {
                let Some((group, request)) = open_envelope(&payload) else {
                    return;
                };
                // Whoever offers a lead to a node that is about to stop keeps it, or asks another.
                if request.offers_lead() && members.draining.load(Ordering::SeqCst) {
                    return;
                }
                with_group!(members, group, member => {
                    let group = member.group.clone();
                    tokio::spawn(async move { group.serve(request, reply).await });
                });
            }
            SERVICE_QUERY => {
                let members = Arc::clone(members);
                tokio::spawn(async move { query(&members, &payload, reply).await });
            }
            SERVICE_STATUS => match serde_json::to_vec(&members.status()) {
                Ok(bytes) => reply.send(bytes.into()),
                Err(error) => tracing::error!(%error, "a status could not be encoded"),
            },
            SERVICE_HASHES => {
                if let Ok(request) = codec::decode::<HashesRequest>(&payload) {
                    reply_with(reply, &divergence::answer(members, &request));
                }
            }
            SERVICE_DIVERGED => {
                let Ok(order) = codec::decode::<DivergedOrder>(&payload) else {
                    return;
                };
                let members = Arc::clone(members);
                tokio::spawn(async move {
                    if let Some(member) = members.get(order.partition) {
                        divergence::obey(&member, order).await;
                    }
                    reply_with(reply, &());
                });
            }
            SERVICE_REBUILD => {
                let Ok(partition) = codec::decode::<PartitionId>(&payload) else {
                    return;
                };
                let members = Arc::clone(members);
                tokio::spawn(async move {
                    reply_with(reply, &rebuild::rebuild(&members, partition).await);
                });
            }
            SERVICE_TAKE_SNAPSHOT => {
                let Ok(partition) = codec::decode::<PartitionId>(&payload) else {
                    return;
                };
                let members = Arc::clone(members);
                tokio::spawn(async move {
                    let taken = match members.get(partition) {
                        Some(member) => rebuild::take_snapshot(&member).await,
                        None => Err(OperationError::NotHeld),
                    };
                    reply_with(reply, &taken);
                });
            }
            SERVICE_DIGEST => {
                let Ok(partition) = codec::decode::<PartitionId>(&payload) else {
                    return;
                };
                let members = Arc::clone(members);
                tokio::spawn(async move {
                    if let Some(member) = members.get(partition)
                        && let Some(digest) = operator::digest_of(&member).await
                    {
                        reply_with(reply, &digest);
                    }
                });
            }
            service if cluster::is_of_cluster(service) => {
                cluster::serve(members, service, &payload, reply);
            }
            service if cluster::is_of_gateways(service) => {
                cluster::serve_gateway(members, from, service, &payload, reply);
            }
            _ => tracing::warn!(service, "a peer asked for an unknown service"),
        }
    }

    fn may_gateway_ask(&self, service: u8) -> bool {
        cluster::may_ask(service)
    }

    fn may_gateway_follow(&self, service: u8) -> bool {
        cluster::may_follow(service)
    }

    fn on_stream(
        &self,
        _from: u64,
        service: u8,
        header: Bytes,
        sender: StreamSender,
        receiver: StreamReceiver,
    ) {
        let Some(members) = self.members.get() else {
            return;
        };
        match service {
            SERVICE_APPEND_STREAM => {
                let Ok(group) = codec::decode::<u32>(&header) else {
                    return;
                };
                with_group!(members, group, member => {
                    let group = member.group.clone();
                    tokio::spawn(async move { group.serve_appends(sender, receiver).await });
                });
            }
            SERVICE_SNAPSHOT => {
                let Ok(header) = codec::decode::<SnapshotHeader>(&header) else {
                    return;
                };
                with_group!(members, header.group, member => {
                    let group = member.group.clone();
                    tokio::spawn(async move { group.serve_snapshot(header, sender, receiver).await });
                });
            }
            SERVICE_FETCH => {
                let Ok(request) = codec::decode::<FetchRequest>(&header) else {
                    return;
                };
                let members = Arc::clone(members);
                tokio::spawn(async move {
                    if let Some(member) = members.get(request.partition) {
                        rebuild::serve_fetch(&member, request, sender, receiver).await;
                    }
                });
            }
            SERVICE_FEED => {
                let Ok(header) = codec::decode::<FeedHeader>(&header) else {
                    return;
                };
                let members = Arc::clone(members);
                tokio::spawn(async move { feed(&members, header, sender, receiver).await });
            }
            _ => tracing::warn!(service, "a peer opened a stream to an unknown service"),
        }
    }

    fn on_visit(&self, _from: u64, service: u8, payload: Bytes, reply: Replier) {
        if let Some(members) = self.members.get() {
            cluster::serve_visit(members, service, &payload, reply);
        }
    }
}

fn execute<S: Space>(members: &Arc<Members<S>>, payload: &Bytes, reply: Replier) {
    let Ok(request) = codec::decode_borrowed::<ExecuteRequest<'_>>(payload) else {
        return;
    };
    let Some(member) = members.get(request.partition) else {
        return reply_with(reply, &ExecuteReply::<S::Reply>::UnknownPartition);
    };
    let body = payload.slice_ref(request.body);
    let deadline = platform::monotonic_now() + Duration::from_millis(request.remaining_ms);
    member.submit(
        request.key,
        request.fingerprint,
        request.class,
        body,
        deadline,
        move |decision| reply_with(reply, &ExecuteReply::from(decision)),
    );
}

async fn query<S: Space>(members: &Arc<Members<S>>, payload: &Bytes, reply: Replier) {
    let Ok(request) = codec::decode::<QueryRequest<S::Query>>(payload) else {
        return;
    };
    let answer = match members.get(request.partition) {
        None => QueryReply::UnknownPartition,
        Some(member) => {
            let deadline = platform::monotonic_now() + Duration::from_millis(request.remaining_ms);
            member
                .answer(&request.query, request.freshness, deadline)
                .await
        }
    };
    reply_with(reply, &answer);
}

async fn feed<S: Space>(
    members: &Arc<Members<S>>,
    header: FeedHeader,
    sender: StreamSender,
    mut receiver: StreamReceiver,
) {
    let member = members.get(header.partition);
    let Some(member) = member.filter(|member| member.is_serving()) else {
        return;
    };
    let mut feed = member.feed(header.from, ReplayPace::Usual);
    let mut in_flight = 0;
    if header.from.is_none() {
        let place: FeedMessage<S::Change> = Ok((Vec::new(), feed.cursor().index));
        let Ok(bytes) = codec::encode(&place) else {
            return;
        };
        if sender.send(bytes.into()).await.is_err() {
            return;
        }
        in_flight += 1;
    }
    loop {
        while in_flight >= FEED_SLICES_IN_FLIGHT_MAX {
            match receiver.recv().await {
                Some(Ok(_)) => in_flight -= 1,
                _ => return,
            }
        }
        let slice = {
            let next = feed.next();
            futures_util::pin_mut!(next);
            loop {
                tokio::select! {
                    biased;
                    slice = &mut next => break slice,
                    acknowledged = receiver.recv() => match acknowledged {
                        Some(Ok(_)) => in_flight -= 1,
                        _ => return,
                    },
                }
            }
        };
        let ended = slice.is_err();
        let message: FeedMessage<S::Change> = slice.map(|slice| {
            let batches = slice
                .batches
                .iter()
                .map(|batch| ChangeBatch::clone(batch))
                .collect();
            (batches, slice.upto_index)
        });
        let Ok(bytes) = codec::encode(&message) else {
            return;
        };
        if sender.send(bytes.into()).await.is_err() || ended {
            return;
        }
        in_flight += 1;
    }
}
