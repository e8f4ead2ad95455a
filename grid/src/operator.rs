//! The client's part for operators: what every node says, and the orders that a node carries out.

use std::time::{Duration, Instant};

use grid_core::{PartitionId, Space, codec};
use serde::de::DeserializeOwned;

use crate::client::GridClient;
use crate::error::{GridError, OperationError};
use crate::gauges;
use crate::health::{self, GridHealth};
use crate::members::{Member, remaining};
use crate::node::NodeId;
use crate::platform::{self, monotonic_now, wall_now, whole_ms};
use crate::rebuild::{self, Rebuilt};
use crate::service::{
    DigestReply, SERVICE_DIGEST, SERVICE_REBUILD, SERVICE_STATUS, SERVICE_TAKE_SNAPSHOT,
};
use crate::status::{NodeReport, NodeStatus, ReplicaDigest};

/// How long a node may take to say how it is. One that takes longer is not well.
const STATUS_WAIT: Duration = Duration::from_millis(2_000);

impl<S: Space> GridClient<S> {
    /// This node's state.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        self.members.status()
    }

    /// Adds what `say` returns to this node's status under `name`, replacing an earlier one. `say`
    /// must return at once, and not ask for the status itself.
    pub fn attach(
        &self,
        name: &'static str,
        say: impl Fn() -> serde_json::Value + Send + Sync + 'static,
    ) {
        self.members.attached.write().insert(name, Box::new(say));
    }

    /// The index of the last entry that this node's replica of a partition has applied.
    #[must_use]
    pub fn applied_index(&self, partition: PartitionId) -> Option<u64> {
        let member = self.members.get(partition)?;
        Some(
            member
                .replica
                .read(grid_core::PartitionState::applied_index),
        )
    }

    /// Up to which index the database has a partition, as far as the grid was told and this node's replica
    /// knows.
    #[must_use]
    pub fn pumped_index(&self, partition: PartitionId) -> Option<u64> {
        let member = self.members.get(partition)?;
        Some(member.replica.read(grid_core::PartitionState::pumped_index))
    }

    /// About how many bytes this node's log of a partition holds after an index.
    #[must_use]
    pub fn log_bytes_after(&self, partition: PartitionId, index: u64) -> u64 {
        self.members.wal.bytes_after(partition.0, index)
    }

    /// Sets this node's gauges to what they are now; to be called before the metrics are read.
    pub fn publish_gauges(&self) {
        gauges::publish(&self.members);
    }

    /// One node's state; `None` if it does not answer before the deadline.
    pub(crate) async fn node_status(&self, node: NodeId, deadline: Instant) -> Option<NodeStatus> {
        let wait = remaining(deadline);
        let reply = self.members.request(node, SERVICE_STATUS, Vec::new(), wait);
        serde_json::from_slice(&reply.await.ok()?).ok()
    }

    /// Every node's state, asked at once; a node has two seconds, or until the deadline.
    pub async fn cluster_status(&self, deadline: Instant) -> Vec<NodeReport> {
        let wait = remaining(deadline).min(STATUS_WAIT);
        let asking = self.members.nodes().into_iter().map(|node_id| async move {
            if node_id == self.members.node {
                return NodeReport {
                    node_id,
                    status: Some(self.status()),
                    round_trip_ms: Some(0),
                    clock_ahead_ms: Some(0),
                };
            }
            let (asked_at, started) = (wall_now().as_millis(), monotonic_now());
            let status = self.node_status(node_id, started + wait).await;
            let round_trip = whole_ms(monotonic_now().saturating_duration_since(started));
            let here_ms = asked_at.saturating_add(round_trip / 2);
            NodeReport {
                node_id,
                round_trip_ms: status.as_ref().map(|_| round_trip),
                clock_ahead_ms: status
                    .as_ref()
                    .filter(|status| status.clock_ms > 0)
                    .map(|status| ahead_ms(status.clock_ms, here_ms)),
                status,
            }
        });
        futures_util::future::join_all(asking).await
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
        let asking = holders.into_iter().map(|node_id| async move {
            let reply = if node_id == self.members.node {
                match self.members.get(partition) {
                    Some(member) => digest_of(&member).await,
                    None => None,
                }
            } else {
                let wait = remaining(deadline);
                let asked = self.members.ask(node_id, SERVICE_DIGEST, &partition, wait);
                asked.await
            };
            let digest = reply.map(|reply| ReplicaDigest {
                node_id,
                applied_index: reply.applied_index,
                running_hash: reply.running_hash,
                digest: reply.digest,
            });
            (node_id, digest)
        });
        Ok(futures_util::future::join_all(asking).await)
    }

    /// How well the grid is, by what its nodes said.
    #[must_use]
    pub fn assess(&self, reports: &[NodeReport]) -> GridHealth {
        health::assess(reports, self.layout().partitions())
    }

    /// The nodes that hold a replica of a partition, or are about to give one up, by the cluster map.
    #[must_use]
    pub fn holders(&self, partition: PartitionId) -> Vec<NodeId> {
        self.members.holders(partition)
    }

    /// Makes a node's replica anew from its leader; its log and its vote stay.
    ///
    /// # Errors
    /// See [`OperationError`].
    pub async fn rebuild(
        &self,
        node: NodeId,
        partition: PartitionId,
        deadline: Instant,
    ) -> Result<Rebuilt, OperationError> {
        if node == self.members.node {
            return rebuild::rebuild(&self.members, partition).await;
        }
        self.order(node, SERVICE_REBUILD, partition, deadline).await
    }

    /// Takes a snapshot of a node's replica at its present position, unless it has one there, and
    /// returns its index.
    ///
    /// # Errors
    /// See [`OperationError`].
    pub async fn take_snapshot(
        &self,
        node: NodeId,
        partition: PartitionId,
        deadline: Instant,
    ) -> Result<u64, OperationError> {
        if node != self.members.node {
            return self
                .order(node, SERVICE_TAKE_SNAPSHOT, partition, deadline)
                .await;
        }
        let member = self.members.get(partition);
        rebuild::take_snapshot(&*member.ok_or(OperationError::NotHeld)?).await
    }

    /// The newest snapshot of this node's own replica: its index and the file. The file may be removed
    /// once a newer one is there, so open it at once.
    #[must_use]
    pub fn newest_snapshot(&self, partition: PartitionId) -> Option<(u64, std::path::PathBuf)> {
        let member = self.members.get(partition)?;
        if member.replica.has_diverged() {
            return None;
        }
        let (position, file) = member.snapshots.newest()?;
        Some((position.index(), file.path))
    }

    async fn order<T: DeserializeOwned>(
        &self,
        node: NodeId,
        service: u8,
        partition: PartitionId,
        deadline: Instant,
    ) -> Result<T, OperationError> {
        if !self.members.nodes().contains(&node) {
            return Err(OperationError::NotHeld);
        }
        let failed = |error: String| OperationError::Failed(error);
        let payload = codec::encode(&partition).map_err(|error| failed(error.to_string()))?;
        let wait = remaining(deadline);
        let reply = self.members.request(node, service, payload, wait).await;
        let reply = reply.map_err(|error| match error.may_have_been_sent() {
            false => OperationError::Unreachable { node },
            true => failed(error.to_string()),
        })?;
        codec::decode::<Result<T, OperationError>>(&reply)
            .map_err(|error| failed(error.to_string()))?
    }
}

/// A replica's whole state in one hash; `None` for a state that cannot be encoded, a bug.
pub(crate) async fn digest_of<S: Space>(member: &Member<S>) -> Option<DigestReply> {
    let view = member.replica.view();
    let digesting = platform::blocking(move || {
        let digest = view.digest();
        digest.map(|digest| DigestReply {
            applied_index: view.applied_index(),
            running_hash: view.hash(),
            digest,
        })
    });
    match digesting.await.ok()? {
        Ok(digest) => Some(digest),
        Err(error) => {
            tracing::error!(%error, "a state could not be digested");
            None
        }
    }
}

fn ahead_ms(there_ms: u64, here_ms: u64) -> i64 {
    let difference = i128::from(there_ms) - i128::from(here_ms);
    i64::try_from(difference).unwrap_or(if difference < 0 { i64::MIN } else { i64::MAX })
}
