//! What operators ask and order: answered by the meta leader, which alone knows what is under way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use grid_core::{PartitionId, Space};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::map::{ClusterMap, META};
use super::messages::SERVICE_ADMIN;
use super::meta::{execute_meta, meta_leader};
use super::plan::{Conditions, Move, plan};
use super::reconciler::{conditions, disks};
use super::space::{MapCommand, MapSpace, Refusal};
use crate::client::GridClient;
use crate::error::GridError;
use crate::members::{Members, remaining};
use crate::node::NodeId;
use crate::platform::monotonic_now;

/// How long the meta leader may take for an order.
const ORDER_WAIT: Duration = Duration::from_secs(5);
/// One attempt to reach it.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(6_000);
/// The pause before the next.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// An order about one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberAction {
    /// Move its replicas to others.
    Drain {
        /// The node.
        node: NodeId,
        /// Accept that fewer nodes than copies are left.
        fewer_copies: bool,
    },
    /// Let a draining node hold its share again.
    Activate {
        /// The node.
        node: NodeId,
    },
    /// Let it go for good.
    Remove {
        /// The node.
        node: NodeId,
        /// Drain it before, if it holds anything.
        drain: bool,
        /// As for [`Self::Drain`].
        fewer_copies: bool,
    },
    /// Move its replicas to another node and let it go.
    Replace {
        /// The node.
        node: NodeId,
        /// Its successor, a member already.
        with: NodeId,
    },
}

/// An order, or what would become of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberChange {
    /// What is to be done.
    pub action: MemberAction,
    /// Whether only the plan is wanted.
    pub dry_run: bool,
}

/// What follows from an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovePlan {
    /// The map's epoch after it; the present one for a dry run.
    pub epoch: u64,
    /// The moves, in order; they are made one at a time after the order was taken.
    pub moves: Vec<Move>,
}

/// The members and what is being done about them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipStatus {
    /// The cluster map.
    pub map: ClusterMap,
    /// What is still to be moved, the move under way left out.
    pub moves: Vec<Move>,
    /// The group that is being moved.
    pub moving: Option<PartitionId>,
    /// What is done just now, or waited for, in words.
    pub activity: Option<String>,
    /// Members that the meta leader cannot reach.
    pub down: Vec<NodeId>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum AdminRequest {
    Status,
    Change(MemberChange),
    FollowNewest,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum AdminReply {
    Status(Box<MembershipStatus>),
    Changed(Result<MovePlan, Refusal>),
    /// The rules that the grid follows now.
    Followed(Result<u16, Refusal>),
    NotLeader(Option<NodeId>),
}

/// The command that an order comes to, with the moves that follow from it.
///
/// # Errors
/// See [`Refusal`].
pub(super) fn prepare(
    map: &ClusterMap,
    action: &MemberAction,
    conditions: &Conditions,
) -> Result<(MapCommand, Vec<Move>), Refusal> {
    let (node, command) = match *action {
        MemberAction::Drain { node, fewer_copies } => (
            node,
            MapCommand::Drain {
                node,
                fewer_copies,
                remove: false,
                replaced_by: None,
            },
        ),
        MemberAction::Activate { node } => (node, MapCommand::Activate { node }),
        MemberAction::Remove {
            node, drain: false, ..
        } if map.holds_anything(node) => (node, MapCommand::Remove { node }),
        // One that holds nothing lets its clients go before it is removed.
        MemberAction::Remove {
            node, fewer_copies, ..
        } => (
            node,
            MapCommand::Drain {
                node,
                fewer_copies,
                remove: true,
                replaced_by: None,
            },
        ),
        MemberAction::Replace { node, with } => (
            node,
            MapCommand::Drain {
                node,
                fewer_copies: false,
                remove: true,
                replaced_by: Some(with),
            },
        ),
    };
    let mut after = MapSpace::default();
    after.carry_out(MapCommand::Found(map.clone()))?;
    after.carry_out(command.clone())?;
    let Some(after) = after.map() else {
        return Err(Refusal::NotFounded);
    };
    let moves = plan(after, conditions);
    let is_leaving = !after.eligible().contains(&node);
    let stuck: Vec<PartitionId> = after
        .groups
        .iter()
        .filter(|(_, group)| is_leaving && group.replicas.contains(&node))
        .map(|(partition, _)| *partition)
        .filter(|partition| {
            !moves
                .iter()
                .any(|made| made.partition == *partition && made.from == Some(node))
        })
        .collect();
    if !stuck.is_empty() {
        let Conditions { down, disks } = conditions;
        let mut why = format!("nodes {down:?} do not answer");
        if !disks.is_empty() {
            why.push_str(&format!("; disks are in trouble: {disks:?}"));
        }
        return Err(Refusal::NoQuorum {
            partitions: stuck,
            why,
        });
    }
    Ok((command, moves))
}

/// Answers on the meta leader.
pub(super) async fn administer<S: Space>(
    members: &Arc<Members<S>>,
    request: AdminRequest,
) -> AdminReply {
    let Some(meta) = members.meta() else {
        return AdminReply::NotLeader(members.leader(META));
    };
    if meta.group.await_linearizable().await.is_err() {
        let leader = members.leader(META).filter(|node| *node != members.node);
        return AdminReply::NotLeader(leader);
    }
    let map = meta.replica.read(|state| state.space().map().cloned());
    let Some(map) = map else {
        return AdminReply::NotLeader(None);
    };
    match request {
        AdminRequest::Status => {
            let conditions = conditions(members, &map).await;
            AdminReply::Status(Box::new(MembershipStatus {
                moves: plan(&map, &conditions),
                moving: map.moving().map(|(partition, _)| partition),
                activity: members.reconciling.lock().activity.clone(),
                down: conditions.down.into_iter().collect(),
                map,
            }))
        }
        AdminRequest::FollowNewest => {
            let rules = map.newest_rules();
            let command = MapCommand::Follow { rules };
            match execute_meta(members, &command, monotonic_now() + ORDER_WAIT).await {
                Ok(decided) => AdminReply::Followed(decided.map(|_| rules)),
                Err(_) => AdminReply::NotLeader(None),
            }
        }
        AdminRequest::Change(change) => {
            let conditions = Conditions {
                down: down(members, &map),
                disks: disks(members, &map).await,
            };
            let prepared = prepare(&map, &change.action, &conditions);
            let (command, moves) = match prepared {
                Ok(prepared) => prepared,
                Err(refusal) => return AdminReply::Changed(Err(refusal)),
            };
            if change.dry_run {
                let epoch = map.epoch;
                return AdminReply::Changed(Ok(MovePlan { epoch, moves }));
            }
            match execute_meta(members, &command, monotonic_now() + ORDER_WAIT).await {
                Ok(decided) => AdminReply::Changed(decided.map(|epoch| MovePlan { epoch, moves })),
                Err(_) => AdminReply::NotLeader(None),
            }
        }
    }
}

/// The members that this node cannot reach.
pub(super) fn down<S: Space>(members: &Members<S>, map: &ClusterMap) -> BTreeSet<NodeId> {
    map.members()
        .map(|(node, _)| node)
        .filter(|node| *node != members.node && !members.transport.is_reachable(*node))
        .collect()
}

impl<S: Space> GridClient<S> {
    /// The cluster map as this node knows it, as it changes; `None` before the grid is founded.
    #[must_use]
    pub fn cluster_map(&self) -> watch::Receiver<Option<Arc<ClusterMap>>> {
        self.members.map.subscribe()
    }

    /// The members and what is being done about them, from the meta leader.
    ///
    /// # Errors
    /// [`GridError::Unavailable`] when no majority of the map's holders answers in time.
    pub async fn membership(&self, deadline: Instant) -> Result<MembershipStatus, GridError> {
        match ask(&self.members, AdminRequest::Status, deadline).await? {
            AdminReply::Status(status) => Ok(*status),
            _ => Err(GridError::Unavailable),
        }
    }

    /// The node that leads the map's group.
    ///
    /// # Errors
    /// [`GridError::Unavailable`] when there is none before the deadline.
    pub async fn leader_of_map(&self, deadline: Instant) -> Result<NodeId, GridError> {
        let known = self.members.leaderships.get(&META);
        let mut known = known.ok_or(GridError::Unavailable)?.subscribe();
        let led = known.wait_for(|leadership| leadership.leader.is_some());
        match tokio::time::timeout_at(deadline.into(), led).await {
            Ok(Ok(leadership)) => leadership.leader.ok_or(GridError::Unavailable),
            _ => Err(GridError::Unavailable),
        }
    }

    /// Gives an order about a node, or asks what would follow from it. The moves are made in the
    /// background: see [`Self::membership`].
    ///
    /// # Errors
    /// [`GridError::Unavailable`] when no majority of the map's holders answers in time; the order may
    /// have been taken, and bears repeating. Inside it, the grid's [`Refusal`].
    pub async fn change_members(
        &self,
        change: MemberChange,
        deadline: Instant,
    ) -> Result<Result<MovePlan, Refusal>, GridError> {
        match ask(&self.members, AdminRequest::Change(change), deadline).await? {
            AdminReply::Changed(changed) => Ok(changed),
            _ => Err(GridError::Unavailable),
        }
    }

    /// Ends an upgrade: from now on the grid follows the newest rules that its nodes know, and returns
    /// them. Until then every node can be started with the older build again; afterwards none can.
    ///
    /// # Errors
    /// [`GridError::Unavailable`] when no majority of the map's holders answers in time; the order may
    /// have been taken, and bears repeating. Inside it [`Refusal::OlderNodes`].
    pub async fn follow_newest_rules(
        &self,
        deadline: Instant,
    ) -> Result<Result<u16, Refusal>, GridError> {
        match ask(&self.members, AdminRequest::FollowNewest, deadline).await? {
            AdminReply::Followed(followed) => Ok(followed),
            _ => Err(GridError::Unavailable),
        }
    }
}

async fn ask<S: Space>(
    members: &Arc<Members<S>>,
    request: AdminRequest,
    deadline: Instant,
) -> Result<AdminReply, GridError> {
    let mut attempt = 0;
    loop {
        let reply = match meta_leader(members, attempt) {
            Some(node) if node == members.node => Some(administer(members, request.clone()).await),
            Some(node) => {
                let timeout = remaining(deadline).min(ATTEMPT_TIMEOUT);
                members.ask(node, SERVICE_ADMIN, &request, timeout).await
            }
            None => None,
        };
        match reply {
            Some(AdminReply::NotLeader(leader)) => members.note_leader(META, leader, 0),
            Some(reply) => return Ok(reply),
            None => members.note_leader(META, None, 0),
        }
        if remaining(deadline).is_zero() {
            return Err(GridError::Unavailable);
        }
        attempt += 1;
        tokio::time::sleep(RETRY_PAUSE.min(remaining(deadline))).await;
    }
}
