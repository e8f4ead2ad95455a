//! One Raft group on this node: the handle that the rest of the grid uses. What is known of it, what it
//! serves to its peers, who leads it and who its members are have files of their own.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use grid_config::ClusterSettings;
use grid_core::Space;
use openraft::raft::ReadPolicy;
use openraft::{Config, Raft, SnapshotPolicy};
use tokio::sync::watch;

use super::group_store::GroupStore;
use super::leadership::{Lease, Past};
use super::log_store::LogStore;
use super::network::PeerNetwork;
use super::state_machine::StateMachine;
use super::types::{Callback, EntryBytes, Outcomes, ProposalError, TypeConfig, WriteResult};
use crate::error::StartError;
use crate::snapshot::SnapshotStore;
use crate::status::ReplicaRole;
use crate::transport::Transport;
use crate::wal::RecoveredGroup;

/// The most log entries that go to a peer in one message.
const APPEND_ENTRIES_MAX: u64 = 256;
/// How long a linearizable read waits for a quorum and for the state to catch up.
const READ_WAIT: Duration = Duration::from_millis(2_000);

/// What a group is made of.
pub(crate) struct GroupOptions<'a, S: Space> {
    pub(crate) node: u64,
    pub(crate) cluster: &'a ClusterSettings,
    pub(crate) transport: Transport,
    pub(crate) store: GroupStore<S>,
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
    pub(super) snapshots: SnapshotStore,
    pub(super) log: LogStore,
    snapshots_ended: watch::Receiver<u64>,
}

impl<S: Space> Clone for Group<S> {
    fn clone(&self) -> Self {
        Self {
            raft: self.raft.clone(),
            lease: Arc::clone(&self.lease),
            snapshots: self.snapshots.clone(),
            log: self.log.clone(),
            snapshots_ended: self.snapshots_ended.clone(),
        }
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
        // A leader that speaks and hears nothing would keep its followers from electing another one:
        // without its majority it falls silent for their lease and an election, again and again.
        quorum_loss_probe_interval: Some(2 * cluster.election_timeout_max_ms),
        ..Config::default()
    }
}

impl<S: Space> Group<S> {
    /// Starts the group from its log.
    ///
    /// # Errors
    /// When openraft finds log and state inconsistent.
    pub(crate) async fn start(options: GroupOptions<'_, S>) -> Result<Self, StartError> {
        let GroupStore {
            log,
            machine,
            snapshots,
        } = options.store;
        let config = configuration(options.cluster)
            .validate()
            .map_err(|error| StartError::Raft(error.to_string()))?;
        let network = PeerNetwork {
            transport: options.transport,
            node: options.node,
            group: log.group(),
        };
        let snapshots_ended = machine.snapshots_ended();
        let raft = Raft::new(
            options.node,
            Arc::new(config),
            network,
            log.clone(),
            machine,
        )
        .await
        .map_err(|error| StartError::Raft(error.to_string()))?;
        let voters = raft.with_raft_state(|state| {
            let membership = state.membership_state.effective();
            membership.voter_ids().collect::<Vec<_>>()
        });
        let voters = voters
            .await
            .map_err(|error| StartError::Raft(error.to_string()))?;
        let voted_for = log.voted_for();
        let past = Past::new(options.node, &voters, voted_for, log.is_below_floor());
        let group = Self {
            raft,
            lease: Arc::new(Lease::new(options.cluster.election_timeout_max_ms, past)),
            snapshots,
            log,
            snapshots_ended,
        };
        group.begin_elections();
        Ok(group)
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
        self.begin_handover(best.node_id).await;
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

    /// Changes whenever a snapshot was written, installed, or could not be written.
    pub(crate) fn snapshots_ended(&self) -> watch::Receiver<u64> {
        self.snapshots_ended.clone()
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

    /// Frees what [`Self::purge_log`] let go of some time ago; call it now and then.
    pub(crate) fn free_purged(&self) {
        self.log.free_purged();
    }

    /// Whether a part of the log that was let go of is still to be freed.
    pub(crate) fn is_freeing(&self) -> bool {
        self.log.is_freeing()
    }

    /// Lets the group's part of the log go, see [`LogStore::leave`]. The group must have been shut down.
    ///
    /// # Errors
    /// When the log cannot be read or written.
    pub(crate) async fn leave_log(&self) -> io::Result<RecoveredGroup> {
        self.log.leave().await
    }

    /// Stops the group. Other groups go on.
    pub(crate) async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "a group ended badly");
        }
    }
}
