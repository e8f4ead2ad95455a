//! One Raft group on this node: the handle that the rest of the grid uses.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use grid_config::ClusterSettings;
use grid_core::{Space, codec};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::RaftMetrics;
use openraft::raft::{AppendEntriesRequest, ReadPolicy};
use openraft::storage::Snapshot;
use openraft::type_config::alias::SerdeInstantOf;
use openraft::{Config, Instant as _, Raft, ServerState, SnapshotPolicy};
#[cfg(not(feature = "sim"))]
use tokio::io::AsyncWriteExt;

use super::leadership::Lease;
use super::log_store::LogStore;
use super::network::{PeerNetwork, RaftEnvelope, RaftRequest, SnapshotHeader};
use super::state_machine::StateMachine;
use super::types::{
    Callback, EntryBytes, LeaderTerm, Outcomes, ProposalError, SnapshotPosition, TypeConfig,
    WriteResult,
};
use crate::client::Leadership;
use crate::error::StartError;
use crate::platform::{self, AsyncFile};
use crate::replica::ReplicaState;
use crate::snapshot::{self, SnapshotFile, SnapshotStore};
use crate::status::{FollowerStatus, ReplicaRole};
use crate::transport::{Replier, StreamReceiver, StreamSender, Transport};
use crate::wal::{RecoveredGroup, Wal};

/// The most log entries that go to a peer in one message.
const APPEND_ENTRIES_MAX: u64 = 256;
/// How long a linearizable read waits for a quorum and for the state to catch up.
const READ_WAIT: Duration = Duration::from_millis(2_000);

/// What a group is made of.
pub(crate) struct GroupOptions<'a, S: Space> {
    pub(crate) group: u32,
    pub(crate) node: u64,
    pub(crate) cluster: &'a ClusterSettings,
    pub(crate) wal: Arc<Wal>,
    pub(crate) recovered: Option<&'a RecoveredGroup>,
    pub(crate) transport: Transport,
    pub(crate) replica: Arc<ReplicaState<S>>,
    pub(crate) snapshots: SnapshotStore,
    pub(crate) restored: Option<SnapshotPosition>,
}

/// What is known of a group here and now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupState {
    pub(crate) role: ReplicaRole,
    pub(crate) term: u64,
    pub(crate) leader: Option<u64>,
    pub(crate) last_log_index: u64,
    pub(crate) applied_index: u64,
    pub(crate) snapshot_index: u64,
    pub(crate) purged_index: u64,
    pub(crate) fault: Option<String>,
    pub(crate) voters: Vec<u64>,
    pub(crate) learners: Vec<u64>,
    pub(crate) voters_change: bool,
    pub(crate) quorum_silent_ms: Option<u64>,
    pub(crate) followers: Vec<FollowerStatus>,
}

/// Why a linearizable read is not possible here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadRefusal {
    /// Ask this node, if one is known.
    NotLeader(Option<u64>),
    /// No quorum just now.
    NoQuorum,
}

/// A running group; clones are handles on the same one.
pub(crate) struct Group<S: Space> {
    pub(super) raft: Raft<TypeConfig, StateMachine<S>>,
    pub(super) lease: Arc<Lease>,
    snapshots: SnapshotStore,
    log: LogStore,
    may_lead: Arc<AtomicBool>,
}

impl<S: Space> Clone for Group<S> {
    fn clone(&self) -> Self {
        Self {
            raft: self.raft.clone(),
            lease: Arc::clone(&self.lease),
            snapshots: self.snapshots.clone(),
            log: self.log.clone(),
            may_lead: Arc::clone(&self.may_lead),
        }
    }
}

/// How long ago.
fn silent_ms(since: SerdeInstantOf<TypeConfig>) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// The other replicas as their leader sees them.
fn followers(metrics: &RaftMetrics<TypeConfig>) -> Vec<FollowerStatus> {
    let Some(replication) = &metrics.replication else {
        return Vec::new();
    };
    replication
        .iter()
        .filter(|(node, _)| **node != metrics.id)
        .map(|(node, matched)| FollowerStatus {
            node_id: *node,
            matched_index: matched.map_or(0, |id| id.index),
            silent_ms: metrics
                .heartbeat
                .as_ref()
                .and_then(|heartbeats| *heartbeats.get(node)?)
                .map(silent_ms),
        })
        .collect()
}

fn role_of(state: ServerState) -> ReplicaRole {
    match state {
        ServerState::Shutdown => ReplicaRole::Stopped,
        ServerState::Leader => ReplicaRole::Leader,
        ServerState::Follower => ReplicaRole::Follower,
        ServerState::Candidate => ReplicaRole::Candidate,
        ServerState::Learner => ReplicaRole::Learner,
    }
}

fn configuration(cluster: &ClusterSettings) -> Config {
    Config {
        cluster_name: "spacegrid".to_owned(),
        heartbeat_interval: cluster.heartbeat_interval_ms,
        election_timeout_min: cluster.election_timeout_min_ms,
        election_timeout_max: cluster.election_timeout_max_ms,
        enable_pre_vote: Some(true),
        max_payload_entries: APPEND_ENTRIES_MAX,
        // Snapshots and purges are decided by `retention`, which knows of the pump.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        install_snapshot_timeout: 60_000,
        // A restarted leader that led on in its old term would answer linearizable reads from the
        // committed index that it happened to remember.
        enable_leader_restore: Some(false),
        ..Config::default()
    }
}

impl<S: Space> Group<S> {
    /// Starts the group from its log.
    ///
    /// # Errors
    /// When the stored positions do not decode or openraft finds them inconsistent.
    pub(crate) async fn start(options: GroupOptions<'_, S>) -> Result<Self, StartError> {
        let damaged = |error: io::Error| StartError::Damaged(error.to_string());
        let log = LogStore::open(options.wal, options.group, options.recovered).map_err(damaged)?;
        let config = configuration(options.cluster)
            .validate()
            .map_err(|error| StartError::Raft(error.to_string()))?;
        let network = PeerNetwork {
            transport: options.transport,
            node: options.node,
            group: options.group,
        };
        let machine =
            StateMachine::new(options.replica, options.snapshots.clone(), options.restored);
        let raft = Raft::new(
            options.node,
            Arc::new(config),
            network,
            log.clone(),
            machine,
        )
        .await
        .map_err(|error| StartError::Raft(error.to_string()))?;
        Ok(Self {
            raft,
            lease: Arc::new(Lease::new(
                options.cluster.election_timeout_max_ms,
                options.recovered.is_some_and(|group| group.vote.is_some()),
            )),
            snapshots: options.snapshots,
            log,
            may_lead: Arc::new(AtomicBool::new(true)),
        })
    }

    /// Whether the group has a log, as far as is known here.
    pub(crate) async fn is_initialized(&self) -> bool {
        self.raft.is_initialized().await.unwrap_or(true)
    }

    /// Makes these nodes the group's voters, unless it has a log already.
    ///
    /// # Errors
    /// When the group has stopped.
    pub(crate) async fn initialize(&self, voters: BTreeSet<u64>) -> Result<(), StartError> {
        let failed = |error: String| StartError::Raft(error);
        let exists = self
            .raft
            .is_initialized()
            .await
            .map_err(|error| failed(error.to_string()))?;
        if exists {
            return Ok(());
        }
        self.raft
            .initialize(voters)
            .await
            .map_err(|error| failed(error.to_string()))
    }

    /// Hands an entry over; `ended` is called with what `apply` returned, or with why not.
    ///
    /// # Errors
    /// When the group has stopped; `ended` is then dropped uncalled.
    pub(crate) async fn propose(
        &self,
        entry: Bytes,
        ended: impl FnOnce(Result<(u64, Option<Outcomes>), ProposalError>) + Send + 'static,
    ) -> Result<(), ProposalError> {
        let callback = Callback::new(move |result: WriteResult| match result {
            Ok(response) => ended(Ok((response.log_id.index, response.data.outcomes))),
            Err(error) => ended(Err(ProposalError::from_write(&error))),
        });
        self.raft
            .client_write_ff(EntryBytes(entry), Some(callback))
            .await
            .map_err(|_| ProposalError::NotLeader(None))
    }

    /// Returns once this replica's state reflects every write acknowledged before the call.
    ///
    /// # Errors
    /// [`ReadRefusal`].
    pub(crate) async fn await_linearizable(&self) -> Result<(), ReadRefusal> {
        if self.holds_lease() {
            return Ok(());
        }
        let refused = |error: String, leader: Option<u64>| {
            tracing::debug!(error, "a linearizable read is refused");
            ReadRefusal::NotLeader(leader)
        };
        let reading = async {
            let linearizer = self
                .raft
                .get_read_linearizer(ReadPolicy::LeaseRead)
                .await
                .map_err(|error| {
                    let leader = error
                        .forward_to_leader()
                        .and_then(|forward| forward.leader_id);
                    refused(error.to_string(), leader)
                })?;
            let ready = linearizer.await_ready(&self.raft).await;
            ready
                .map(|_| ())
                .map_err(|error| refused(error.to_string(), None))
        };
        tokio::time::timeout(READ_WAIT, reading)
            .await
            .unwrap_or(Err(ReadRefusal::NoQuorum))
    }

    /// Where the group stands.
    pub(crate) fn state(&self) -> GroupState {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let index = |id: &Option<super::types::LogId>| id.map_or(0, |id| id.index);
        let fault = metrics
            .running_state
            .as_ref()
            .err()
            .map(ToString::to_string);
        GroupState {
            role: match fault {
                Some(_) => ReplicaRole::Stopped,
                None => role_of(metrics.state),
            },
            term: metrics.current_term,
            leader: metrics.current_leader,
            last_log_index: metrics.last_log_index.unwrap_or(0),
            applied_index: index(&metrics.last_applied),
            snapshot_index: index(&metrics.snapshot),
            purged_index: index(&metrics.purged),
            fault,
            voters: metrics.membership_config.membership().voter_ids().collect(),
            learners: metrics
                .membership_config
                .membership()
                .learner_ids()
                .collect(),
            voters_change: metrics
                .membership_config
                .membership()
                .get_joint_config()
                .len()
                > 1,
            quorum_silent_ms: metrics.last_quorum_acked.map(silent_ms),
            followers: followers(&metrics),
        }
    }

    /// Lets this replica lead, or not: then it stands for no election and takes no leadership.
    pub(crate) fn set_may_lead(&self, may_lead: bool) {
        self.may_lead.store(may_lead, Ordering::Relaxed);
        self.raft.runtime_config().elect(may_lead);
    }

    /// Gives the leadership, if it is here, to the voter that is nearest to it.
    pub(crate) async fn step_aside(&self) {
        let state = self.state();
        if state.role != ReplicaRole::Leader {
            return;
        }
        let best = state
            .followers
            .iter()
            .filter(|follower| state.voters.contains(&follower.node_id))
            .max_by_key(|follower| follower.matched_index);
        let Some(best) = best else { return };
        tracing::warn!(
            to = best.node_id,
            group = self.log.group(),
            "the leadership is given away"
        );
        if let Err(error) = self.raft.trigger().transfer_leader(best.node_id).await {
            tracing::warn!(%error, "the leadership could not be given away");
        }
    }

    /// Calls `seen` with the leadership and the role, now and whenever one of them changes, until the
    /// group ends.
    pub(crate) async fn watch_leadership(
        &self,
        mut seen: impl FnMut(Leadership, ReplicaRole) + Send,
    ) {
        // Not `metrics()`, which changes with every entry; and what is seen is read from here too,
        // since `metrics()` is published after it and would still hold what was before.
        let mut metrics = self.raft.server_metrics();
        loop {
            let (leadership, role) = {
                let metrics = metrics.borrow_and_update();
                let leader = metrics.current_leader;
                let leadership = Leadership {
                    leader,
                    term: metrics.vote.leader_id.term,
                    is_local: metrics.state == ServerState::Leader && leader == Some(metrics.id),
                };
                (leadership, role_of(metrics.state))
            };
            seen(leadership, role);
            if metrics.changed().await.is_err() {
                return;
            }
        }
    }

    /// Committed entries for a replay, see [`LogStore::read_for_replay`].
    ///
    /// # Errors
    /// When the log does not reach back to `first` or cannot be read.
    pub(crate) fn read_log(
        &self,
        first: u64,
        last: u64,
        bytes_max: usize,
    ) -> Result<Vec<(u64, Option<Bytes>)>, io::Error> {
        self.log.read_for_replay(first, last, bytes_max)
    }

    /// Asks for a snapshot at the present position; it is written in the background.
    pub(crate) async fn take_snapshot(&self) {
        if let Err(error) = self.raft.trigger().snapshot().await {
            tracing::warn!(%error, "a snapshot could not be asked for");
        }
    }

    /// Lets the log up to and including `index` go; a snapshot must cover it.
    pub(crate) async fn purge_log(&self, index: u64) {
        if let Err(error) = self.raft.trigger().purge_log(index).await {
            tracing::warn!(%error, "the log could not be purged");
        }
    }

    /// Stops the group. Other groups go on.
    pub(crate) async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "a group ended badly");
        }
    }

    /// Serves a request of the same group on another node.
    pub(crate) async fn serve(&self, request: RaftRequest, reply: Replier) {
        let bytes = match request {
            RaftRequest::Append(request)
                if !request.entries.is_empty() && !self.log.wait_for_room().await =>
            {
                None
            }
            RaftRequest::Append(request) => self
                .raft
                .append_entries(request)
                .await
                .ok()
                .map(|reply| codec::encode(&reply)),
            RaftRequest::Vote(request) => {
                self.lease.until_free().await;
                let reply = self.raft.vote(request).await;
                reply.ok().map(|reply| codec::encode(&reply))
            }
            RaftRequest::PreVote(request) => self
                .raft
                .pre_vote(request)
                .await
                .ok()
                .map(|reply| codec::encode(&reply)),
            RaftRequest::TransferLeader(_) if !self.may_lead.load(Ordering::Relaxed) => None,
            RaftRequest::TransferLeader(request) => self
                .raft
                .handle_transfer_leader(request)
                .await
                .ok()
                .map(|reply| codec::encode(&reply)),
        };
        // Without an answer the replier is dropped, which the peer sees as a failure.
        if let Some(Ok(bytes)) = bytes {
            reply.send(bytes.into());
        }
    }

    /// Serves a stream of append requests. While the disk has no room, entries are not taken: the stream
    /// ends, and the leader, whose heartbeats are still answered, offers them again.
    pub(crate) async fn serve_appends(&self, sender: StreamSender, receiver: StreamReceiver) {
        let log = self.log.clone();
        let requests =
            futures_util::stream::unfold((receiver, log), |(mut receiver, log)| async move {
                let bytes = receiver.recv().await?.ok()?;
                let request: AppendEntriesRequest<TypeConfig> = codec::decode(&bytes).ok()?;
                if !request.entries.is_empty() && !log.wait_for_room().await {
                    return None;
                }
                Some((request, (receiver, log)))
            });
        #[cfg(feature = "planted-bugs")]
        if platform::simulated::is_planted("reply-before-commit") {
            return self.serve_appends_too_early(sender, requests).await;
        }
        let replies = self.raft.stream_append(requests);
        futures_util::pin_mut!(replies);
        while let Some(Ok(result)) = replies.next().await {
            let Ok(bytes) = codec::encode(&result) else {
                return;
            };
            if sender.send(bytes.into()).await.is_err() {
                return;
            }
        }
    }

    /// The planted bug: says yes to entries that were received, before they are checked and synced.
    #[cfg(feature = "planted-bugs")]
    async fn serve_appends_too_early(
        &self,
        sender: StreamSender,
        requests: impl futures_util::Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + 'static,
    ) {
        use super::types::AppendResult;
        let (forward, received) = tokio::sync::mpsc::channel(64);
        let received = futures_util::stream::unfold(received, |mut received| async move {
            Some((received.recv().await?, received))
        });
        let raft = self.raft.clone();
        tokio::spawn(async move {
            let replies = raft.stream_append(received);
            futures_util::pin_mut!(replies);
            while replies.next().await.is_some() {}
        });
        futures_util::pin_mut!(requests);
        while let Some(request) = requests.next().await {
            let last = request.entries.last().map(|entry| entry.log_id);
            let early: AppendResult = Ok(last.or(request.prev_log_id));
            if forward.send(request).await.is_err() {
                return;
            }
            let Ok(bytes) = codec::encode(&early) else {
                return;
            };
            if sender.send(bytes.into()).await.is_err() {
                return;
            }
        }
    }

    /// Receives a snapshot and installs it.
    pub(crate) async fn serve_snapshot(
        &self,
        header: SnapshotHeader,
        sender: StreamSender,
        mut receiver: StreamReceiver,
    ) {
        let received = self.receive_snapshot(&header, &sender, &mut receiver).await;
        let snapshot = match received {
            Ok(snapshot) => snapshot,
            Err(error) => {
                tracing::warn!(%error, "a snapshot from a peer was not received");
                return;
            }
        };
        let snapshot: Snapshot<LeaderTerm, u64, (), SnapshotFile> = Snapshot {
            meta: header.meta,
            snapshot,
        };
        match self.raft.install_full_snapshot(header.vote, snapshot).await {
            Ok(response) => {
                if let Ok(bytes) = codec::encode(&response) {
                    // If the peer is gone it will ask again.
                    let _ = sender.send(bytes.into()).await;
                }
            }
            Err(error) => tracing::warn!(%error, "a snapshot was not installed"),
        }
    }

    /// Receives a snapshot into a file and checks it: one that is damaged must not be installed.
    async fn receive_snapshot(
        &self,
        header: &SnapshotHeader,
        sender: &StreamSender,
        receiver: &mut StreamReceiver,
    ) -> io::Result<SnapshotFile> {
        let file = self
            .snapshots
            .incoming(&SnapshotPosition(header.meta.clone()));
        let received = async {
            self.snapshots.check_room(header.bytes)?;
            let mut out = AsyncFile::create(&file.path).await?;
            let mut left = header.bytes;
            while left > 0 {
                let chunk = receiver.recv().await.ok_or(io::ErrorKind::UnexpectedEof)?;
                let chunk = chunk.map_err(io::Error::other)?;
                left = left
                    .checked_sub(chunk.len() as u64)
                    .ok_or(io::ErrorKind::InvalidData)?;
                out.write_all(&chunk).await?;
                sender.send(Bytes::new()).await.map_err(io::Error::other)?;
            }
            out.sync_all().await?;
            let (snapshots, checked) = (self.snapshots.clone(), file.clone());
            let checking = platform::blocking(move || snapshots.check(&checked));
            checking.await.map_err(io::Error::other)?
        };
        match received.await {
            Ok(()) => Ok(file),
            Err(error) => {
                snapshot::discard(&file.path);
                Err(error)
            }
        }
    }
}

/// Reads the envelope of a request from a peer.
pub(crate) fn open_envelope(payload: &[u8]) -> Option<(u32, RaftRequest)> {
    let envelope: RaftEnvelope = codec::decode(payload).ok()?;
    Some((envelope.group, envelope.request))
}
