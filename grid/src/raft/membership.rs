//! A group's own membership: who votes, who learns, who leads; seen and changed by its leader.

use std::collections::BTreeSet;
use std::time::Duration;

use grid_core::Space;
use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;
use serde::{Deserialize, Serialize};

use super::group::{Group, ReadRefusal};
use crate::cluster::GroupView;

/// How long a change of voters may take before it is given up here; it may still be carried out.
const CHANGE_TIMEOUT: Duration = Duration::from_millis(5_000);

/// A change of a group's membership, to be made by its leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MembershipChange {
    /// Replicate to this node, without a vote.
    AddLearner(u64),
    /// Give a learner a vote.
    Promote(u64),
    /// Make these the only voters; whoever else voted is out.
    SetVoters(BTreeSet<u64>),
    /// Stop replicating to this node.
    DropLearner(u64),
    /// Finish a change of voters that was left half done.
    Flatten,
    /// Hand the leadership to this voter.
    TransferLeader(u64),
}

/// Why a group's leader does not do as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum MembershipError {
    /// Ask this node, if one is known.
    #[error("not the leader")]
    NotLeader(Option<u64>),
    /// An earlier change is not yet committed. Look again later.
    #[error("an earlier change is under way")]
    InProgress,
    /// It did not end in time, or openraft says no. Look at the membership before trying again.
    #[error("{0}")]
    Failed(String),
}

impl<S: Space> Group<S> {
    /// The group's committed membership, as of now.
    ///
    /// # Errors
    /// See [`MembershipError`].
    pub(crate) async fn view(&self) -> Result<GroupView, MembershipError> {
        self.await_linearizable()
            .await
            .map_err(|refusal| match refusal {
                ReadRefusal::NotLeader(leader) => MembershipError::NotLeader(leader),
                ReadRefusal::NoQuorum => MembershipError::NotLeader(None),
            })?;
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let Some(replication) = &metrics.replication else {
            return Err(MembershipError::NotLeader(metrics.current_leader));
        };
        if metrics.membership_config.log_id() != metrics.committed_membership_config.log_id() {
            return Err(MembershipError::InProgress);
        }
        let membership = metrics.membership_config.membership();
        Ok(GroupView {
            leader: metrics.id,
            voters: membership.voter_ids().collect(),
            learners: membership.learner_ids().collect(),
            is_joint: membership.get_joint_config().len() > 1,
            last_index: metrics.last_log_index.unwrap_or(0),
            matched: replication
                .iter()
                .map(|(node, matched)| (*node, matched.map_or(0, |id| id.index)))
                .collect(),
        })
    }

    /// Makes a change. When it returns without an error the change is committed; a transfer of the
    /// leadership has only begun.
    ///
    /// # Errors
    /// See [`MembershipError`].
    pub(crate) async fn change_membership(
        &self,
        change: MembershipChange,
    ) -> Result<(), MembershipError> {
        if !self.raft.is_leader() {
            return Err(MembershipError::NotLeader(self.state().leader));
        }
        let members = match change {
            MembershipChange::TransferLeader(to) => {
                self.begin_handover(to).await;
                return Ok(());
            }
            MembershipChange::AddLearner(node) => ChangeMembers::AddNodes([(node, ())].into()),
            MembershipChange::Promote(node) => ChangeMembers::AddVoterIds([node].into()),
            MembershipChange::SetVoters(voters) => ChangeMembers::ReplaceAllVoters(voters),
            MembershipChange::DropLearner(node) => ChangeMembers::RemoveNodes([node].into()),
            // A change of nothing ends in a uniform membership of the later set.
            MembershipChange::Flatten => ChangeMembers::AddVoterIds(BTreeSet::new()),
        };
        let changing = self.raft.change_membership(members, false);
        match tokio::time::timeout(CHANGE_TIMEOUT, changing).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(match error.forward_to_leader() {
                Some(forward) => MembershipError::NotLeader(forward.leader_id),
                None => MembershipError::Failed(error.to_string()),
            }),
            Err(_) => Err(MembershipError::Failed(
                "the change was not committed in time".to_owned(),
            )),
        }
    }
}
