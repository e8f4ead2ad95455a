//! The routing client: finds the partition's leader, hands the command over, retries under the same
//! key until the deadline.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use grid_core::{Cursor, IdempotencyKey, PartitionId, SlotLayout, Space};
use tokio::sync::watch;

use crate::error::GridError;
use crate::feed::Feed;
use crate::node::NodeId;
use crate::status::{NodeStatus, ReplicaDigest};

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
    space: PhantomData<Arc<S>>,
}

impl<S: Space> Clone for GridClient<S> {
    fn clone(&self) -> Self {
        Self { space: PhantomData }
    }
}

impl<S: Space> std::fmt::Debug for GridClient<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GridClient")
    }
}

impl<S: Space> GridClient<S> {
    /// Which partition owns which key.
    #[must_use]
    pub fn layout(&self) -> SlotLayout {
        unimplemented!()
    }

    /// The node this client lives on.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        unimplemented!()
    }

    /// Carries a command out exactly once, wherever the partition's leader is, retrying under the
    /// same key until `deadline`.
    ///
    /// # Errors
    /// See [`GridError`].
    pub async fn execute(
        &self,
        _partition: PartitionId,
        _request: CommandRequest<S::Command>,
        _deadline: Instant,
    ) -> Result<Executed<S::Reply>, GridError> {
        unimplemented!()
    }

    /// Answers a query with the freshness asked for.
    ///
    /// # Errors
    /// See [`GridError`].
    pub async fn query(
        &self,
        _partition: PartitionId,
        _query: S::Query,
        _read: Read,
        _deadline: Instant,
    ) -> Result<Answered<S::Answer>, GridError> {
        unimplemented!()
    }

    /// Reads a partition's changes after `from`, or from now on.
    #[must_use]
    pub fn follow(&self, _partition: PartitionId, _from: Option<Cursor>) -> Feed<S> {
        unimplemented!()
    }

    /// Who leads a partition; changes are seen through the receiver.
    ///
    /// # Errors
    /// [`GridError::UnknownPartition`].
    pub fn leadership(
        &self,
        _partition: PartitionId,
    ) -> Result<watch::Receiver<Leadership>, GridError> {
        unimplemented!()
    }

    /// Tells the partition that every change up to `index` is in the database, so that older log may
    /// go. To be called on the leader's node.
    ///
    /// # Errors
    /// See [`GridError`].
    pub async fn record_pumped(
        &self,
        _partition: PartitionId,
        _index: u64,
        _deadline: Instant,
    ) -> Result<(), GridError> {
        unimplemented!()
    }

    /// This node's state.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        unimplemented!()
    }

    /// Every node's state; `None` for one that does not answer before the deadline.
    pub async fn cluster_status(&self, _deadline: Instant) -> Vec<(NodeId, Option<NodeStatus>)> {
        unimplemented!()
    }

    /// The state digests of a partition's replicas; `None` for one that does not answer.
    ///
    /// # Errors
    /// [`GridError::UnknownPartition`].
    pub async fn digests(
        &self,
        _partition: PartitionId,
        _deadline: Instant,
    ) -> Result<Vec<(NodeId, Option<ReplicaDigest>)>, GridError> {
        unimplemented!()
    }
}
