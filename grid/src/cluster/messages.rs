//! What nodes ask of each other about the grid itself, and who answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use grid_core::{PartitionId, Space, Timestamp, codec};
use serde::{Deserialize, Serialize};

use super::admin::{AdminReply, AdminRequest, administer};
use super::map::{ClusterMap, META, NodeInfo};
use super::meta::{MetaReply, execute_here, execute_meta};
use super::revocations;
use super::space::{MapCommand, Refusal};
use super::step::GroupView;
use crate::members::Members;
use crate::node::NodeId;
use crate::platform::{monotonic_now, wall_now};
use crate::raft::{MembershipChange, MembershipError};
use crate::service::reply_with;
use crate::transport::Replier;

/// Service, for guests: who are you, and do you know a grid?
pub(super) const SERVICE_INTRODUCE: u8 = 20;
/// Service, for guests: let me in.
pub(super) const SERVICE_JOIN: u8 = 21;
/// Service: what is new.
pub(super) const SERVICE_NEWS: u8 = 22;
/// Service: here is a newer map.
pub(super) const SERVICE_MAP: u8 = 23;
/// Service: a command for the meta group, to its leader.
pub(super) const SERVICE_META: u8 = 24;
/// Service: a group's membership, to its leader.
pub(super) const SERVICE_GROUP: u8 = 25;
/// Service: an operator's question or order, to the meta leader.
pub(super) const SERVICE_ADMIN: u8 = 26;
/// Service: what is revoked since.
pub(super) const SERVICE_REVOCATIONS: u8 = 27;

/// How long a node that is let in may take to be.
const JOIN_WAIT: Duration = Duration::from_secs(5);

/// Whether a request of this service belongs here.
pub(crate) fn is_of_cluster(service: u8) -> bool {
    (SERVICE_INTRODUCE..=SERVICE_REVOCATIONS).contains(&service)
}

/// A node's answer to a guest.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Introduced {
    /// It knows of no grid.
    Blank(NodeInfo),
    /// It knows this one.
    Founded(ClusterMap),
}

/// The answer to a node that wants in.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Joined {
    /// The map knows of it; whether it is let in already the map says.
    Noted(ClusterMap),
    Refused(Refusal),
    /// There is no majority just now.
    NotNow,
}

/// What has changed since.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct News {
    /// A map with a later epoch than the one named.
    pub(crate) map: Option<ClusterMap>,
    /// The epoch of the map that the node has acted upon.
    pub(super) adopted_epoch: u64,
    /// What the node's own clock says.
    pub(super) clock: Timestamp,
    /// Who leads, with the term, as this node's own replicas know it.
    pub(crate) leaders: Vec<(PartitionId, NodeId, u64)>,
}

/// What is asked of a group's leader.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct GroupRequest {
    pub(super) group: PartitionId,
    /// `None` to look only.
    pub(super) change: Option<MembershipChange>,
}

/// What it says: the membership, unless it was to be changed.
pub(super) type GroupReply = Result<Option<GroupView>, MembershipError>;

/// Serves a member's request.
pub(crate) fn serve<S: Space>(
    members: &Arc<Members<S>>,
    service: u8,
    payload: &Bytes,
    reply: Replier,
) {
    let members = Arc::clone(members);
    match service {
        SERVICE_INTRODUCE | SERVICE_JOIN => serve_visit(&members, service, payload, reply),
        SERVICE_NEWS => {
            if let Ok(epoch) = codec::decode::<u64>(payload) {
                reply_with(reply, &news(&members, epoch));
            }
        }
        SERVICE_MAP => {
            if let Ok(map) = codec::decode::<ClusterMap>(payload) {
                members.learn_map(map);
                reply.send(Bytes::new());
            }
        }
        SERVICE_META => {
            let Ok((command, remaining_ms)) = codec::decode::<(MapCommand, u64)>(payload) else {
                return;
            };
            let deadline = monotonic_now() + Duration::from_millis(remaining_ms);
            tokio::spawn(async move {
                let decided: MetaReply = execute_here(&members, &command, deadline).await;
                reply_with(reply, &decided);
            });
        }
        SERVICE_GROUP => {
            if let Ok(request) = codec::decode::<GroupRequest>(payload) {
                tokio::spawn(async move {
                    reply_with(reply, &group_here(&members, request).await);
                });
            }
        }
        SERVICE_ADMIN => {
            if let Ok(request) = codec::decode::<AdminRequest>(payload) {
                tokio::spawn(async move {
                    let answer: AdminReply = administer(&members, request).await;
                    reply_with(reply, &answer);
                });
            }
        }
        SERVICE_REVOCATIONS => {
            if let Ok(serial) = codec::decode::<u64>(payload) {
                reply_with(reply, &revocations::tell(&members, serial));
            }
        }
        _ => {}
    }
}

/// Serves a guest's request.
pub(crate) fn serve_visit<S: Space>(
    members: &Arc<Members<S>>,
    service: u8,
    payload: &Bytes,
    reply: Replier,
) {
    match service {
        SERVICE_INTRODUCE => {
            let introduced = match members.present_map() {
                Some(map) => Introduced::Founded(ClusterMap::clone(&map)),
                None => Introduced::Blank(members.info.clone()),
            };
            reply_with(reply, &introduced);
        }
        SERVICE_JOIN => {
            let Ok(info) = codec::decode::<NodeInfo>(payload) else {
                return;
            };
            let members = Arc::clone(members);
            tokio::spawn(async move { reply_with(reply, &join(&members, info).await) });
        }
        _ => tracing::warn!(service, "a guest asked for what guests do not get"),
    }
}

async fn join<S: Space>(members: &Arc<Members<S>>, info: NodeInfo) -> Joined {
    let deadline = monotonic_now() + JOIN_WAIT;
    let node = info.node;
    let Ok(decided) = execute_meta(members, &MapCommand::Join(info), deadline).await else {
        return Joined::NotNow;
    };
    let epoch = match decided {
        Ok(epoch) => epoch,
        Err(refusal) => return Joined::Refused(refusal),
    };
    tracing::info!(node, epoch, "a node has asked to join");
    let mut map = members.map.subscribe();
    let known = map.wait_for(|map| map.as_ref().is_some_and(|map| map.epoch >= epoch));
    match tokio::time::timeout_at(deadline.into(), known).await {
        Ok(Ok(map)) => match &*map {
            Some(map) => Joined::Noted(ClusterMap::clone(map)),
            None => Joined::NotNow,
        },
        _ => Joined::NotNow,
    }
}

pub(super) fn news<S: Space>(members: &Members<S>, epoch: u64) -> News {
    let newer = members.present_map().filter(|map| map.epoch > epoch);
    let led = members.leaderships.iter().filter_map(|(group, known)| {
        let known = *known.borrow();
        let leader = known.leader.filter(|_| members.is_serving(*group))?;
        Some((*group, leader, known.term))
    });
    News {
        map: newer.map(|map| ClusterMap::clone(&map)),
        adopted_epoch: members.adopted_epoch.load(Ordering::Relaxed),
        clock: wall_now(),
        leaders: led.collect(),
    }
}

/// Looks at, or changes, the membership of a group that this node leads.
pub(super) async fn group_here<S: Space>(
    members: &Members<S>,
    request: GroupRequest,
) -> GroupReply {
    let GroupRequest { group, change } = request;
    if group == META {
        let meta = members.meta().ok_or(MembershipError::NotLeader(None))?;
        return match change {
            None => meta.group.view().await.map(Some),
            Some(change) => meta.group.change_membership(change).await.map(|()| None),
        };
    }
    let member = members.get(group).ok_or(MembershipError::NotLeader(None))?;
    match change {
        None => member.group.view().await.map(Some),
        Some(change) => member.group.change_membership(change).await.map(|()| None),
    }
}
