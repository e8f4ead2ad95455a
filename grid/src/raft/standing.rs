//! Where a group stands, as this node knows it.

use grid_core::Space;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::RaftMetrics;
use openraft::type_config::alias::SerdeInstantOf;
use openraft::{Instant as _, ServerState};

use super::group::Group;
use super::types::{LogId, TypeConfig};
use crate::client::Leadership;
use crate::platform::whole_ms;
use crate::status::{FollowerStatus, ReplicaRole};

/// What is known of a group here and now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupState {
    pub(crate) role: ReplicaRole,
    pub(crate) term: u64,
    pub(crate) leader: Option<u64>,
    pub(crate) last_log_index: u64,
    pub(crate) applied_index: u64,
    pub(crate) purged_index: u64,
    pub(crate) fault: Option<String>,
    pub(crate) voters: Vec<u64>,
    pub(crate) learners: Vec<u64>,
    pub(crate) voters_change: bool,
    pub(crate) quorum_silent_ms: Option<u64>,
    pub(crate) followers: Vec<FollowerStatus>,
}

/// How long ago.
fn silent_ms(since: SerdeInstantOf<TypeConfig>) -> u64 {
    whole_ms(since.elapsed())
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

impl<S: Space> Group<S> {
    /// Where the group stands.
    pub(crate) fn state(&self) -> GroupState {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let index = |id: &Option<LogId>| id.map_or(0, |id| id.index);
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
            purged_index: index(&metrics.purged),
            fault,
            voters: membership.voter_ids().collect(),
            learners: membership.learner_ids().collect(),
            voters_change: membership.get_joint_config().len() > 1,
            quorum_silent_ms: metrics.last_quorum_acked.map(silent_ms),
            followers: followers(&metrics),
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
}
