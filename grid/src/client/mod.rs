//! The routing client: finds the partition's leader, hands the command over, retries under the same
//! key until the deadline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use grid_core::{Cursor, IdempotencyKey, Outcome, PartitionId, SlotLayout, Space, codec};
use tokio::sync::{oneshot, watch};

use crate::admission::CommandClass;
use crate::error::GridError;
use crate::feed::Feed;
use crate::members::{Member, Members, remaining};
use crate::node::NodeId;
use crate::platform;
use crate::proposer::Submission;
use crate::service::{
    DigestReply, ExecuteReply, ExecuteRequest, FeedHeader, Freshness, QueryReply, QueryRequest,
    SERVICE_DIGEST, SERVICE_EXECUTE, SERVICE_FEED, SERVICE_QUERY,
};
use crate::status::ReplicaDigest;
use crate::transport::{Lane, TransportError};

/// One attempt to reach a leader; after it the client looks for the leader again.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(3_000);
/// The pause before trying again when nothing tells that the leader has changed.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// The target of log lines about single requests, off by default: `RUST_LOG=info,request=debug`. A line
/// names a command by its idempotency key.
pub const REQUEST_LOG: &str = "request";
/// What a refused client is told to wait when the way to the leader's node is full.
const FORWARDING_RETRY_AFTER_MS: u64 = 100;

/// A command with what makes it safe to repeat.
#[derive(Clone, Debug)]
pub struct CommandRequest<C> {
    /// Who asks, under which key.
    pub key: IdempotencyKey,
    /// A hash of the client's own words (not of minted ids), to tell a retry from another request.
    pub fingerprint: u64,
    /// What to do.
    pub command: C,
}

/// A command's reply.
#[derive(Clone, Debug)]
pub struct Executed<R> {
    /// What the space said.
    pub reply: R,
    /// Whether it is the remembered reply of an earlier attempt.
    pub replayed: bool,
    /// The log position of this attempt's entry.
    pub position: Cursor,
}

/// A query's answer.
#[derive(Clone, Debug)]
pub struct Answered<A> {
    /// What the space said.
    pub answer: A,
    /// The log position that the answer reflects.
    pub position: Cursor,
}

/// How fresh a query's answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Reflects every write acknowledged before the query began; asked of the leader.
    Linearizable,
    /// Any replica's state, the nearest's; the answer carries its position.
    Stale,
    /// A replica's state at or after this position.
    AtLeast(Cursor),
}

/// Who leads a partition, as this node knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader, if one is known.
    pub leader: Option<NodeId>,
    /// The Raft term.
    pub term: u64,
    /// Whether it is this node.
    pub is_local: bool,
}

/// A handle on the grid, cheap to clone.
pub struct GridClient<S: Space> {
    pub(crate) members: Arc<Members<S>>,
}

impl<S: Space> Clone for GridClient<S> {
    fn clone(&self) -> Self {
        Self {
            members: Arc::clone(&self.members),
        }
    }
}

impl<S: Space> std::fmt::Debug for GridClient<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GridClient(node {})", self.members.node)
    }
}

/// What one attempt came to.
enum Attempt<T> {
    Done(T),
    /// Certainly not carried out there; perhaps this node leads.
    Elsewhere(Option<NodeId>),
    /// It may have been carried out.
    Unknown,
    Failed(GridError),
}

impl<S: Space> GridClient<S> {
    pub(crate) fn new(members: Arc<Members<S>>) -> Self {
        Self { members }
    }

    pub(crate) fn members(&self) -> &Arc<Members<S>> {
        &self.members
    }

    /// Which partition owns which key.
    #[must_use]
    pub fn layout(&self) -> SlotLayout {
        self.members.layout
    }

    /// The node this client lives on.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.members.node
    }

    /// Carries a command out exactly once, wherever the partition's leader is, retrying under the
    /// same key until `deadline`.
    ///
    /// # Errors
    /// See [`GridError`].
    pub async fn execute(
        &self,
        partition: PartitionId,
        request: CommandRequest<S::Command>,
        deadline: Instant,
    ) -> Result<Executed<S::Reply>, GridError> {
        self.execute_as(CommandClass::New, partition, request, deadline)
            .await
    }

    /// The same for a command of another class.
    ///
    /// # Errors
    /// See [`GridError`].
    pub async fn execute_as(
        &self,
        class: CommandClass,
        partition: PartitionId,
        request: CommandRequest<S::Command>,
        deadline: Instant,
    ) -> Result<Executed<S::Reply>, GridError> {
        let body = codec::encode(&request.command).map_err(|_| GridError::Malformed)?;
        let body = Bytes::from(body);
        let mut unknown = false;
        loop {
            let attempt = match self.leader(partition)? {
                Some(node) if node == self.members.node => {
                    self.execute_here(partition, class, &request, body.clone(), deadline)
                        .await
                }
                Some(node) => {
                    self.execute_there(node, partition, class, &request, &body, deadline)
                        .await
                }
                None => Attempt::Elsewhere(None),
            };
            match attempt {
                Attempt::Done((outcome, index)) => return executed(partition, outcome, index),
                Attempt::Failed(error) => return Err(error),
                Attempt::Unknown => unknown = true,
                Attempt::Elsewhere(leader) => self.hint(partition, leader),
            }
            if remaining(deadline).is_zero() {
                let error = if unknown {
                    GridError::OutcomeUnknown
                } else {
                    GridError::Unavailable
                };
                return Err(error);
            }
            self.pause(partition, deadline).await;
        }
    }

    async fn execute_here(
        &self,
        partition: PartitionId,
        class: CommandClass,
        request: &CommandRequest<S::Command>,
        body: Bytes,
        deadline: Instant,
    ) -> Attempt<(Outcome<S::Reply>, u64)> {
        let Some(member) = self.members.get(partition) else {
            return Attempt::Elsewhere(None);
        };
        let (sender, receiver) = oneshot::channel();
        let submitted = member.submit(
            request.key,
            request.fingerprint,
            class,
            body,
            deadline,
            move |decision| {
                // The caller may have stopped waiting; the decision stands.
                let _ = sender.send(decision);
            },
        );
        if let Err(retry_after_ms) = submitted {
            return Attempt::Failed(GridError::Overloaded { retry_after_ms });
        }
        match tokio::time::timeout_at(deadline.into(), receiver).await {
            Ok(Ok(decision)) => attempt_of(ExecuteReply::from(decision)),
            // The group stopped with the command in hand, or time ran out.
            Ok(Err(_)) | Err(_) => Attempt::Unknown,
        }
    }

    async fn execute_there(
        &self,
        node: NodeId,
        partition: PartitionId,
        class: CommandClass,
        request: &CommandRequest<S::Command>,
        body: &Bytes,
        deadline: Instant,
    ) -> Attempt<(Outcome<S::Reply>, u64)> {
        let timeout = remaining(deadline).min(ATTEMPT_TIMEOUT);
        let message = ExecuteRequest {
            partition,
            key: request.key,
            fingerprint: request.fingerprint,
            class,
            remaining_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            body,
        };
        let Ok(payload) = codec::encode(&message) else {
            return Attempt::Failed(GridError::Malformed);
        };
        match self.ask(node, SERVICE_EXECUTE, payload, timeout).await {
            Ok(reply) => match codec::decode::<ExecuteReply<S::Reply>>(&reply) {
                Ok(reply) => attempt_of(reply),
                Err(_) => Attempt::Unknown,
            },
            Err(TransportError::TooLarge { .. }) => Attempt::Failed(GridError::Malformed),
            // A full queue on the way is as good a reason as one at the end of it.
            Err(TransportError::Overloaded { .. }) => Attempt::Failed(GridError::Overloaded {
                retry_after_ms: FORWARDING_RETRY_AFTER_MS,
            }),
            Err(error) if error.may_have_been_sent() => Attempt::Unknown,
            Err(_) => Attempt::Elsewhere(None),
        }
    }

    pub(crate) async fn ask(
        &self,
        node: NodeId,
        service: u8,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> Result<Bytes, TransportError> {
        self.members
            .transport
            .request(node, Lane::Control, service, payload.into(), timeout)
            .await
    }

    /// Answers a query with the freshness asked for.
    ///
    /// # Errors
    /// See [`GridError`].
    pub async fn query(
        &self,
        partition: PartitionId,
        query: S::Query,
        read: Read,
        deadline: Instant,
    ) -> Result<Answered<S::Answer>, GridError> {
        let freshness = match read {
            Read::Linearizable => Freshness::Linearizable,
            Read::Stale => Freshness::Stale,
            Read::AtLeast(cursor) => Freshness::AtLeast(cursor.index),
        };
        let mut request = QueryRequest {
            partition,
            freshness,
            remaining_ms: 0,
            query,
        };
        loop {
            let target = match read {
                Read::Linearizable => self.leader(partition)?,
                Read::Stale | Read::AtLeast(_) => self.nearest(partition)?,
            };
            let reply = match target {
                Some(node) if node == self.members.node => match self.members.get(partition) {
                    Some(member) => member.answer(&request.query, freshness, deadline).await,
                    None => QueryReply::UnknownPartition,
                },
                Some(node) => {
                    let timeout = remaining(deadline).min(ATTEMPT_TIMEOUT);
                    request.remaining_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                    let payload = codec::encode(&request).map_err(|_| GridError::Malformed)?;
                    let reply = self.ask(node, SERVICE_QUERY, payload, timeout).await;
                    let reply = reply.ok().and_then(|bytes| codec::decode(&bytes).ok());
                    reply.unwrap_or(QueryReply::NotLeader(None))
                }
                None => QueryReply::NotLeader(None),
            };
            match reply {
                QueryReply::Answer { answer, index } => {
                    let position = Cursor::after_entry(partition, index);
                    return Ok(Answered { answer, position });
                }
                // The replica has just moved away from there, or not yet arrived.
                QueryReply::UnknownPartition => self.hint(partition, None),
                QueryReply::NotLeader(leader) => self.hint(partition, leader),
                QueryReply::NotYet => {}
            }
            if remaining(deadline).is_zero() {
                return Err(GridError::Unavailable);
            }
            self.pause(partition, deadline).await;
        }
    }

    /// Reads a partition's changes after `from`, or from now on.
    #[must_use]
    pub fn follow(&self, partition: PartitionId, from: Option<Cursor>) -> Feed<S> {
        // A replica that differs from the others has nothing to tell.
        if let Some(member) = self.members.get(partition)
            && member.is_serving()
            && !member.replica.has_diverged()
        {
            return member.feed(from);
        }
        let node = match self.nearest(partition) {
            Ok(Some(node)) if node != self.members.node => node,
            _ => return Feed::nowhere(partition, from),
        };
        let opened = codec::encode(&FeedHeader { partition, from })
            .ok()
            .and_then(|header| {
                let transport = &self.members.transport;
                transport
                    .open_stream(node, Lane::Bulk, SERVICE_FEED, header.into())
                    .ok()
            });
        match opened {
            Some(stream) => Feed::remote(stream, partition, from),
            None => Feed::nowhere(partition, from),
        }
    }

    /// Who leads a partition; changes are seen through the receiver. Of a partition without a replica
    /// on this node the leader is known a little later, and its term not always.
    ///
    /// # Errors
    /// [`GridError::UnknownPartition`].
    pub fn leadership(
        &self,
        partition: PartitionId,
    ) -> Result<watch::Receiver<Leadership>, GridError> {
        self.members
            .leaderships
            .get(&partition)
            .map(watch::Sender::subscribe)
            .ok_or(GridError::UnknownPartition)
    }

    /// The partitions that have a replica on this node, at this moment.
    pub fn local_partitions(&self) -> impl Iterator<Item = PartitionId> + use<S> {
        let replicas = self.members.replicas();
        replicas.into_iter().map(|(partition, _)| partition)
    }

    /// Tells the partition that every change up to `index` is in the database, so that older log may
    /// go. To be called on the leader's node.
    ///
    /// # Errors
    /// See [`GridError`].
    pub async fn record_pumped(
        &self,
        partition: PartitionId,
        index: u64,
        deadline: Instant,
    ) -> Result<(), GridError> {
        let member = self
            .members
            .get(partition)
            .ok_or(GridError::UnknownPartition)?;
        let (sender, receiver) = oneshot::channel();
        let decided = Box::new(move |result| {
            // The pump may have stopped; the checkpoint stands.
            let _ = sender.send(result);
        });
        let submitted = member
            .submissions
            .try_send(Submission::Pumped { index, decided });
        submitted.map_err(|_| GridError::Overloaded {
            retry_after_ms: 100,
        })?;
        match tokio::time::timeout_at(deadline.into(), receiver).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(_))) => Err(GridError::Unavailable),
            Ok(Err(_)) | Err(_) => Err(GridError::OutcomeUnknown),
        }
    }

    /// Looks at this node's replica of a partition.
    #[cfg(feature = "sim")]
    pub fn inspect<T>(
        &self,
        partition: PartitionId,
        look: impl FnOnce(&grid_core::PartitionState<S>) -> T,
    ) -> Option<T> {
        Some(self.members.get(partition)?.replica.read(look))
    }

    /// How long writes to the partition take just now from proposal to applied, smoothed; zero when
    /// this node does not lead it or nobody writes. Background work steps back by it.
    #[must_use]
    pub fn commit_delay(&self, partition: PartitionId) -> Duration {
        let member = self.members.get(partition);
        member.map_or(Duration::ZERO, |member| {
            member.replica.commit_delay().present()
        })
    }

    /// The state digests of a partition's replicas; `None` for one that does not answer.
    ///
    /// # Errors
    /// [`GridError::UnknownPartition`].
    pub async fn digests(
        &self,
        partition: PartitionId,
        deadline: Instant,
    ) -> Result<Vec<(NodeId, Option<ReplicaDigest>)>, GridError> {
        self.known(partition)?;
        let holders = self.members.holders(partition);
        let payload = codec::encode(&partition).map_err(|_| GridError::Malformed)?;
        let asking = holders.into_iter().map(|node| {
            let payload = payload.clone();
            async move {
                let reply = if node == self.members.node {
                    match self.members.get(partition) {
                        Some(member) => digest_here(&member).await,
                        None => None,
                    }
                } else {
                    let reply = self
                        .ask(node, SERVICE_DIGEST, payload, remaining(deadline))
                        .await;
                    reply
                        .ok()
                        .and_then(|bytes| codec::decode::<DigestReply>(&bytes).ok())
                };
                let digest = reply.map(|reply| ReplicaDigest {
                    node_id: node,
                    applied_index: reply.applied_index,
                    running_hash: reply.running_hash,
                    digest: reply.digest,
                });
                (node, digest)
            }
        });
        Ok(futures_util::future::join_all(asking).await)
    }

    fn known(&self, partition: PartitionId) -> Result<(), GridError> {
        if partition.0 < self.members.layout.partitions() {
            Ok(())
        } else {
            Err(GridError::UnknownPartition)
        }
    }

    /// The partition's leader as far as it is known here.
    fn leader(&self, partition: PartitionId) -> Result<Option<NodeId>, GridError> {
        self.known(partition)?;
        let leader = self.members.leader(partition);
        if leader.is_some() || self.members.is_serving(partition) {
            return Ok(leader);
        }
        Ok(self.first_reachable(&self.members.holders(partition)))
    }

    /// A node that holds the partition and can be reached.
    fn nearest(&self, partition: PartitionId) -> Result<Option<NodeId>, GridError> {
        self.known(partition)?;
        let own = self.members.get(partition);
        if own.is_some_and(|member| member.is_serving() && !member.replica.has_diverged()) {
            return Ok(Some(self.members.node));
        }
        let leader = self.members.leader(partition);
        let leader = leader.filter(|node| self.members.transport.is_reachable(*node));
        Ok(leader.or_else(|| self.first_reachable(&self.members.holders(partition))))
    }

    fn first_reachable(&self, holders: &[NodeId]) -> Option<NodeId> {
        holders
            .iter()
            .copied()
            .find(|node| self.members.transport.is_reachable(*node))
    }

    /// Remembers where a partition without a replica here is led, or forgets a wrong hint.
    fn hint(&self, partition: PartitionId, leader: Option<NodeId>) {
        self.members.note_leader(partition, leader, 0);
    }

    /// Waits a moment, less when the leader changes meanwhile.
    async fn pause(&self, partition: PartitionId, deadline: Instant) {
        let pause = RETRY_PAUSE.min(remaining(deadline));
        if let Some(member) = self.members.get(partition) {
            let mut leadership = member.leadership.clone();
            leadership.borrow_and_update();
            let changed = tokio::time::timeout(pause, leadership.changed()).await;
            // A replica that has ended has no leadership to wait for, and says so at once.
            if let Ok(Err(_)) = changed {
                tokio::time::sleep(pause).await;
            }
        } else {
            tokio::time::sleep(pause).await;
        }
    }
}

async fn digest_here<S: Space>(member: &Member<S>) -> Option<DigestReply> {
    let view = member.replica.view();
    let digesting = platform::blocking(move || {
        Some(DigestReply {
            applied_index: view.applied_index(),
            running_hash: view.hash(),
            digest: view.digest().ok()?,
        })
    });
    digesting.await.ok().flatten()
}

fn attempt_of<R>(reply: ExecuteReply<R>) -> Attempt<(Outcome<R>, u64)> {
    match reply {
        ExecuteReply::Decided { outcome, index } => Attempt::Done((outcome, index)),
        ExecuteReply::NotLeader(leader) => Attempt::Elsewhere(leader),
        ExecuteReply::Unknown => Attempt::Unknown,
        ExecuteReply::Overloaded { retry_after_ms } => {
            Attempt::Failed(GridError::Overloaded { retry_after_ms })
        }
        // The replica has just moved away from there.
        ExecuteReply::UnknownPartition => Attempt::Elsewhere(None),
    }
}

fn executed<R>(
    partition: PartitionId,
    outcome: Outcome<R>,
    index: u64,
) -> Result<Executed<R>, GridError> {
    match outcome {
        Outcome::Reply { reply, replayed } => Ok(Executed {
            reply,
            replayed,
            position: Cursor::after_entry(partition, index),
        }),
        Outcome::IdempotencyConflict => Err(GridError::IdempotencyConflict),
        Outcome::Malformed => Err(GridError::Malformed),
    }
}
