//! The replicas of one node and its place among its peers; both change while it runs.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use grid_core::{Cursor, IdempotencyKey, PartitionId, Space};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::admission::{Admission, CommandClass};
use crate::backlog::{Backlog, Passage};
use crate::client::Leadership;
use crate::cluster::{Leaving, MapSpace, NodeInfo, Reconciling};
use crate::disk;
use crate::feed::{Feed, FeedSource, ReplayPace, ReplaySlots};
use crate::identity::NodeDirectory;
use crate::node::NodeId;
use crate::opening::Opener;
use crate::outlook::Outlook;
use crate::platform::{monotonic_now, wall_now, whole_ms};
use crate::proposer::{Decision, Submission};
use crate::raft::{Group, ProposalError, ReadRefusal};
use crate::replica::ReplicaState;
use crate::service::{Freshness, QueryReply};
use crate::snapshot::SnapshotStore;
use crate::status::{DiskTrouble, NodeStatus, ReplicaStatus, ScrubStatus, StartStatus, WalStatus};
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
    /// The node's.
    pub(crate) backlog: Arc<Backlog>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) replays: ReplaySlots,
    pub(crate) wal: Arc<Wal>,
    /// Whether it has had a vote: before, its state may be anything from nothing to the present.
    pub(crate) serving: Arc<AtomicBool>,
    /// Ends what works for this replica.
    pub(crate) stop: CancellationToken,
}

/// A node's replicas and its place among its peers.
///
/// Invariant: `replicas` and `meta` are changed by one task, the one that follows the map.
pub(crate) struct Members<S: Space> {
    /// What it knows of the grid, shared with its clients.
    pub(crate) outlook: Arc<Outlook>,
    pub(crate) started: Instant,
    pub(crate) replicas: RwLock<BTreeMap<PartitionId, Arc<Member<S>>>>,
    pub(crate) meta: RwLock<Option<Arc<Member<MapSpace>>>>,
    /// What this node says of itself.
    pub(crate) info: NodeInfo,
    pub(crate) directory: NodeDirectory,
    pub(crate) opener: Opener,
    /// Addresses given on the command line, tried beside those of the map.
    pub(crate) given_addresses: BTreeMap<NodeId, String>,
    pub(crate) reconciling: Mutex<Reconciling>,
    /// The epoch of the last map that this node has acted upon.
    pub(crate) adopted_epoch: AtomicU64,
    /// How far this node is with leaving the grid.
    pub(crate) leaving: Leaving,
    /// Whether the grid has removed this node.
    pub(crate) removed: AtomicBool,
    pub(crate) wal: Arc<Wal>,
    /// What waits for the database.
    pub(crate) backlog: Arc<Backlog>,
    /// One replica at a time is rebuilt.
    pub(crate) rebuilding: tokio::sync::Semaphore,
    pub(crate) attached: RwLock<BTreeMap<&'static str, Attachment>>,
    /// Set when the node gives its leaderships away and takes no more.
    pub(crate) draining: AtomicBool,
    /// Why the disk is not fit to lead, if so.
    pub(crate) disk_trouble: Mutex<Option<DiskTrouble>>,
    /// What reading the stored files again has found.
    pub(crate) scrub: Mutex<ScrubStatus>,
    /// How this node came up.
    pub(crate) start: Mutex<StartStatus>,
}

/// What a node knows of the grid is asked of the node itself.
impl<S: Space> Deref for Members<S> {
    type Target = Outlook;

    fn deref(&self) -> &Outlook {
        &self.outlook
    }
}

/// Says something for the status.
pub(crate) type Attachment = Box<dyn Fn() -> serde_json::Value + Send + Sync>;

impl<S: Space> Members<S> {
    /// This node's replica of a partition.
    pub(crate) fn get(&self, partition: PartitionId) -> Option<Arc<Member<S>>> {
        self.replicas.read().get(&partition).cloned()
    }

    /// This node's replica of the cluster map.
    pub(crate) fn meta(&self) -> Option<Arc<Member<MapSpace>>> {
        self.meta.read().clone()
    }

    /// All replicas of partitions here.
    pub(crate) fn replicas(&self) -> Vec<(PartitionId, Arc<Member<S>>)> {
        let replicas = self.replicas.read();
        replicas
            .iter()
            .map(|(partition, member)| (*partition, Arc::clone(member)))
            .collect()
    }

    /// Whether this node has a replica of a group, whatever its state.
    pub(crate) fn is_open(&self, partition: PartitionId) -> bool {
        self.held(partition).is_some()
    }

    /// Whether this node has had a vote in a group: then what it knows of the leader counts.
    pub(crate) fn is_serving(&self, partition: PartitionId) -> bool {
        self.held(partition).is_some_and(|held| held.is_serving())
    }

    /// Remembers who leads a group that this node has no vote in.
    pub(crate) fn note_leader(&self, partition: PartitionId, leader: Option<NodeId>, term: u64) {
        if !self.is_serving(partition) {
            self.hear_of_leader(partition, leader, term);
        }
    }

    /// Notes that the grid has removed this node, which ends it.
    pub(crate) fn note_removed(&self) {
        self.removed.store(true, Ordering::Relaxed);
        let text = format!("node {} was removed from the grid", self.node);
        self.opener.failure.send_if_modified(|failure| {
            let is_first = failure.is_none();
            failure.get_or_insert(text);
            is_first
        });
    }

    /// What this node says of itself.
    pub(crate) fn status(&self) -> NodeStatus {
        let wal = self.wal.stats();
        let room = disk::room(self.directory.path());
        NodeStatus {
            node_id: self.node,
            grid_id: format!("{:032x}", self.grid_id),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            rules_known: S::RULES,
            rules_followed: self.opener.rules.load(Ordering::Relaxed),
            uptime_ms: whole_ms(monotonic_now().saturating_duration_since(self.started)),
            draining: self.draining.load(Ordering::SeqCst),
            start: Some(*self.start.lock()),
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
                disk_reserve_bytes: self.opener.settings.disk_reserve_bytes,
                usual_sync_us: wal.usual_sync_us,
                trouble: *self.disk_trouble.lock(),
                scrub: self.scrub.lock().clone(),
            },
            backlog: self.backlog.status(),
            clock_ms: wall_now().as_millis(),
            lease_ms: self.opener.cluster.election_timeout_max_ms,
            attached: self
                .attached
                .read()
                .iter()
                .map(|(name, say)| ((*name).to_owned(), say()))
                .collect(),
            replicas: self
                .replicas()
                .iter()
                .map(|(_, member)| member.status())
                .collect(),
            unreachable: self.transport.unreachable(),
            encrypted: self.transport.is_encrypted(),
            refused_connections: self.transport.refused_counts(),
            gateways: self.gateways.present(),
            refusals: self
                .nodes()
                .iter()
                .filter_map(|node| self.refusal(*node))
                .collect(),
        }
    }

    fn refusal(&self, node: NodeId) -> Option<String> {
        let refusal = self.transport.refusal(node)?;
        Some(format!("node {node}: {}", refusal.detail))
    }
}

impl<S: Space> Member<S> {
    /// Puts a command in the proposer's queue. `decided` is called once, at once where the command is not
    /// taken, unless the group stops.
    pub(crate) fn submit(
        &self,
        key: IdempotencyKey,
        fingerprint: u64,
        class: CommandClass,
        body: Bytes,
        deadline: Instant,
        decided: impl FnOnce(Decision<S::Reply>) + Send + 'static,
    ) {
        let now = monotonic_now();
        let delay = match self.let_in(class, body.len(), now) {
            Ok(delay) => delay,
            Err(error) => return decided(Err(error)),
        };
        let submission = Submission::Command {
            key,
            fingerprint,
            body,
            deadline,
            queued: now + delay,
            decided: Box::new(decided),
        };
        let (admission, submissions) = (Arc::clone(&self.admission), self.submissions.clone());
        if delay.is_zero() {
            return enqueue(&admission, &submissions, class, submission);
        }
        let turn = self.backlog.delayed();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            drop(turn);
            enqueue(&admission, &submissions, class, submission);
        });
    }

    /// Whether a command may go to the queue here, and after which delay.
    fn let_in(
        &self,
        class: CommandClass,
        bytes: usize,
        now: Instant,
    ) -> Result<Duration, ProposalError> {
        let leadership = *self.leadership.borrow();
        if self.replica.has_diverged() {
            return Err(ProposalError::NotLeader(None));
        }
        if !leadership.is_local {
            return Err(ProposalError::NotLeader(leadership.leader));
        }
        if !self.wal.writable() {
            return Err(overloaded("disk", FULL_DISK_RETRY_AFTER_MS));
        }
        match self.backlog.pass(class, bytes, now) {
            Passage::Now => Ok(Duration::ZERO),
            Passage::After(delay) => Ok(delay),
            Passage::Refused { retry_after_ms } => Err(overloaded("backlog", retry_after_ms)),
        }
    }

    /// Carries a command out on this replica, if it leads.
    pub(crate) async fn execute(
        &self,
        key: IdempotencyKey,
        fingerprint: u64,
        class: CommandClass,
        body: Bytes,
        deadline: Instant,
    ) -> Decision<S::Reply> {
        let (sender, decision) = oneshot::channel();
        self.submit(key, fingerprint, class, body, deadline, move |decided| {
            // The caller may have stopped waiting; the decision stands.
            let _ = sender.send(decided);
        });
        match tokio::time::timeout_at(deadline.into(), decision).await {
            Ok(Ok(decided)) => decided,
            // The group stopped with the command in hand, or time ran out.
            Ok(Err(_)) | Err(_) => Err(ProposalError::Unknown),
        }
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
            Freshness::Stale if !self.is_serving() => return QueryReply::NotYet,
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

    /// Whether what this replica has is worth reading.
    pub(crate) fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Relaxed)
    }

    /// Reads this replica's changes.
    pub(crate) fn feed(&self, from: Option<Cursor>, pace: ReplayPace) -> Feed<S> {
        let source = FeedSource {
            replica: Arc::clone(&self.replica),
            group: self.group.clone(),
            snapshots: self.snapshots.clone(),
            replays: self.replays.clone(),
            pace,
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

/// Queues a command where there is room for it, and refuses it otherwise.
fn enqueue<R>(
    admission: &Admission,
    submissions: &mpsc::Sender<Submission<R>>,
    class: CommandClass,
    submission: Submission<R>,
) {
    let Submission::Command { body, queued, .. } = &submission else {
        return;
    };
    let bytes = body.len();
    let refused = match admission.admit(class, bytes, *queued) {
        Err(refused) => Some((
            submission,
            overloaded(refused.reason, refused.retry_after_ms),
        )),
        Ok(()) => submissions.try_send(submission).err().map(|refused| {
            admission.withdrawn(bytes);
            let error = overloaded("queue", OVERLOAD_RETRY_AFTER_MS);
            (refused.into_inner(), error)
        }),
    };
    if let Some((Submission::Command { decided, .. }, error)) = refused {
        decided(Err(error));
    }
}

fn overloaded(reason: &'static str, retry_after_ms: u64) -> ProposalError {
    metrics::counter!("grid_overloaded_total", "reason" => reason).increment(1);
    ProposalError::Overloaded { retry_after_ms }
}

/// The time left until a deadline.
pub(crate) fn remaining(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(monotonic_now())
}
