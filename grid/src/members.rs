//! The replicas of one node, and what can be asked of each.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use grid_core::{Cursor, IdempotencyKey, PartitionId, SlotLayout, Space};
use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};

use crate::admission::{Admission, CommandClass};
use crate::client::Leadership;
use crate::disk;
use crate::feed::{Feed, FeedSource};
use crate::node::NodeId;
use crate::platform::{monotonic_now, wall_now};
use crate::proposer::{Decision, Submission};
use crate::raft::{Group, ProposalError, ReadRefusal};
use crate::replica::ReplicaState;
use crate::service::{Freshness, QueryReply};
use crate::snapshot::SnapshotStore;
use crate::status::{NodeStatus, ReplicaStatus, WalStatus};
use crate::transport::Transport;
use crate::wal::Wal;

/// What a refused client is told to wait when the proposer's channel has no room.
const OVERLOAD_RETRY_AFTER_MS: u64 = 100;
/// And when the log has no room for long.
const FULL_DISK_RETRY_AFTER_MS: u64 = 2_000;

/// One replica and everything around it.
pub(crate) struct Member<S: Space> {
    pub(crate) group: Group<S>,
    pub(crate) replica: Arc<ReplicaState<S>>,
    pub(crate) snapshots: SnapshotStore,
    pub(crate) submissions: mpsc::Sender<Submission<S::Reply>>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) replays: Arc<tokio::sync::Semaphore>,
    pub(crate) wal: Arc<Wal>,
}

/// A node's replicas and its place among its peers.
pub(crate) struct Members<S: Space> {
    pub(crate) node: NodeId,
    pub(crate) grid_id: u128,
    pub(crate) started: Instant,
    pub(crate) layout: SlotLayout,
    pub(crate) placement: BTreeMap<PartitionId, Vec<NodeId>>,
    pub(crate) nodes: Vec<NodeId>,
    pub(crate) replicas: BTreeMap<PartitionId, Member<S>>,
    pub(crate) transport: Transport,
    pub(crate) wal: Arc<Wal>,
    /// Where the log is, for the disk's room.
    pub(crate) data_dir: PathBuf,
    pub(crate) lease_ms: u64,
    /// One replica at a time is rebuilt.
    pub(crate) rebuilding: tokio::sync::Semaphore,
    pub(crate) attached: RwLock<BTreeMap<&'static str, Attachment>>,
    /// Set when the node gives its leaderships away and takes no more.
    pub(crate) draining: AtomicBool,
}

/// Says something for the status.
pub(crate) type Attachment = Box<dyn Fn() -> serde_json::Value + Send + Sync>;

/// Which nodes hold a partition: `replicas` neighbours in the ring of nodes, so that both replicas
/// and first leaders are spread evenly.
pub(crate) fn place(partition: PartitionId, nodes: &[NodeId], replicas: usize) -> Vec<NodeId> {
    let first = partition.0 as usize;
    (0..replicas.min(nodes.len()))
        .map(|step| nodes[(first + step) % nodes.len()])
        .collect()
}

impl<S: Space> Members<S> {
    /// This node's replica of a partition.
    pub(crate) fn get(&self, partition: PartitionId) -> Option<&Member<S>> {
        self.replicas.get(&partition)
    }

    /// What this node says of itself.
    pub(crate) fn status(&self) -> NodeStatus {
        let wal = self.wal.stats();
        let room = disk::room(&self.data_dir);
        NodeStatus {
            node_id: self.node,
            grid_id: format!("{:032x}", self.grid_id),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: u64::try_from(
                monotonic_now()
                    .saturating_duration_since(self.started)
                    .as_millis(),
            )
            .unwrap_or(u64::MAX),
            draining: self.draining.load(Ordering::SeqCst),
            wal: WalStatus {
                segments: wal.segments,
                bytes: wal.bytes,
                syncs: wal.syncs,
                last_sync_us: wal.last_sync_us,
                slowest_sync_us: wal.slowest_sync_us,
                pinned_by: self.wal.pinned_by().map(|(_, group)| group),
                writable: self.wal.writable(),
                spare_ready: wal.spare_ready,
                segment_bytes: wal.segment_bytes,
                disk_free_bytes: room.map(|room| room.free_bytes),
                disk_total_bytes: room.map(|room| room.total_bytes),
            },
            clock_ms: wall_now().as_millis(),
            lease_ms: self.lease_ms,
            attached: self
                .attached
                .read()
                .iter()
                .map(|(name, say)| ((*name).to_owned(), say()))
                .collect(),
            replicas: self.replicas.values().map(Member::status).collect(),
            unreachable: self.transport.unreachable(),
            refusals: self
                .nodes
                .iter()
                .filter_map(|node| self.refusal(*node))
                .collect(),
        }
    }
}

impl<S: Space> Members<S> {
    fn refusal(&self, node: NodeId) -> Option<String> {
        let refusal = self.transport.refusal(node)?;
        Some(format!("node {node}: {}", refusal.detail))
    }
}

impl<S: Space> Member<S> {
    /// Puts a command in the proposer's queue; `decided` is called once, unless the group stops.
    ///
    /// # Errors
    /// How many milliseconds to wait, when there is too much to do; `decided` is then dropped.
    pub(crate) fn submit(
        &self,
        key: IdempotencyKey,
        fingerprint: u64,
        class: CommandClass,
        body: Bytes,
        deadline: Instant,
        decided: impl FnOnce(Decision<S::Reply>) + Send + 'static,
    ) -> Result<(), u64> {
        let mut leadership = *self.leadership.borrow();
        if self.replica.has_diverged() {
            leadership = Leadership::default();
        }
        if !leadership.is_local {
            decided(Err(ProposalError::NotLeader(leadership.leader)));
            return Ok(());
        }
        if !self.wal.writable() {
            metrics::counter!("grid_overloaded_total", "reason" => "disk").increment(1);
            return Err(FULL_DISK_RETRY_AFTER_MS);
        }
        let (bytes, queued) = (body.len(), monotonic_now());
        if let Err(refused) = self.admission.admit(class, bytes, queued) {
            metrics::counter!("grid_overloaded_total", "reason" => refused.reason).increment(1);
            return Err(refused.retry_after_ms);
        }
        let decided = Box::new(decided);
        let submission = Submission::Command {
            key,
            fingerprint,
            body,
            deadline,
            queued,
            decided,
        };
        self.submissions.try_send(submission).map_err(|_| {
            self.admission.withdrawn(bytes);
            metrics::counter!("grid_overloaded_total", "reason" => "queue").increment(1);
            OVERLOAD_RETRY_AFTER_MS
        })
    }

    /// Answers a query from this replica.
    pub(crate) async fn answer(
        &self,
        query: &S::Query,
        freshness: Freshness,
        deadline: Instant,
    ) -> QueryReply<S::Answer> {
        if self.replica.has_diverged() {
            return QueryReply::NotLeader(None);
        }
        match freshness {
            Freshness::Stale => {}
            Freshness::Linearizable => match self.group.await_linearizable().await {
                Ok(()) => {}
                Err(ReadRefusal::NotLeader(leader)) => return QueryReply::NotLeader(leader),
                Err(ReadRefusal::NoQuorum) => return QueryReply::NotYet,
            },
            Freshness::AtLeast(index) => {
                let mut applied = self.replica.applied();
                let caught_up = applied.wait_for(|applied| *applied >= index);
                if tokio::time::timeout_at(deadline.into(), caught_up)
                    .await
                    .is_err()
                {
                    return QueryReply::NotYet;
                }
            }
        }
        let (answer, index) = self
            .replica
            .read(|state| (state.space().query(query), state.applied_index()));
        QueryReply::Answer { answer, index }
    }

    /// Reads this replica's changes.
    pub(crate) fn feed(&self, from: Option<Cursor>) -> Feed<S> {
        let source = FeedSource {
            replica: Arc::clone(&self.replica),
            group: self.group.clone(),
            snapshots: self.snapshots.clone(),
            replays: Arc::clone(&self.replays),
        };
        Feed::local(source, from)
    }

    fn status(&self) -> ReplicaStatus {
        let group = self.group.state();
        let (applied_index, hash, pumped_index, remembered) = self.replica.read(|state| {
            (
                state.applied_index(),
                state.hash(),
                state.pumped_index(),
                state.remembered_commands() as u64,
            )
        });
        ReplicaStatus {
            partition: self.replica.partition(),
            role: group.role,
            term: group.term,
            leader: group.leader,
            last_log_index: group.last_log_index,
            applied_index,
            snapshot_index: self.snapshots.newest_index().unwrap_or(0),
            purged_index: group.purged_index,
            pumped_index,
            state_hash: hash.to_string(),
            remembered_commands: remembered,
            proposal_queue: self.admission.waiting() as u64,
            refuses_new: self.admission.refuses_new(),
            fault: self.replica.fault().or(group.fault),
            voters: group.voters,
            learners: group.learners,
            voters_change: group.voters_change,
            quorum_silent_ms: group.quorum_silent_ms,
            followers: group.followers,
            compared_index: self.replica.compared_index(),
            divergence: self.replica.divergence(),
            snapshots: self.snapshots.list(),
        }
    }
}

/// The time left until a deadline.
pub(crate) fn remaining(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(monotonic_now())
}
