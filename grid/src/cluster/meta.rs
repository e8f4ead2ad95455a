//! Commands to the meta group, from any node.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use grid_core::{IdempotencyKey, Outcome, Space, codec};
use serde::{Deserialize, Serialize};

use super::map::META;
use super::messages::SERVICE_META;
use super::space::{MapCommand, MapReply, Refusal};
use crate::admission::CommandClass;
use crate::error::GridError;
use crate::members::{Members, remaining};
use crate::node::NodeId;
use crate::platform::{monotonic_now, whole_ms};
use crate::raft::ProposalError;
use crate::transport::TransportError;

/// One attempt to reach the meta leader.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(2_000);
/// The pause before the next.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// What a node says to a command for the meta group.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum MetaReply {
    Decided(MapReply),
    NotLeader(Option<NodeId>),
    /// It may have been carried out.
    Unknown,
}

/// Carries a command out on this node, if it leads the meta group.
pub(super) async fn execute_here<S: Space>(
    members: &Members<S>,
    command: &MapCommand,
    deadline: Instant,
) -> MetaReply {
    let Some(meta) = members.meta() else {
        return MetaReply::NotLeader(members.leader(META));
    };
    if let MapCommand::Join(info) = command
        && let Some(map) = members.present_map()
        && let Some(entry) = map.nodes.get(&info.node)
        && entry.incarnation != info.incarnation
        && (info.node == members.node || members.transport.is_reachable(info.node))
    {
        return MetaReply::Decided(Err(Refusal::InUse {
            node: info.node,
            address: entry.peer_address.clone(),
        }));
    }
    // The commands bear repeating, so any fresh key will do.
    let (Ok(key), Ok(body)) = (crate::platform::random::u64(), codec::encode(command)) else {
        return MetaReply::NotLeader(None);
    };
    let (key, body) = (IdempotencyKey(u128::from(key)), Bytes::from(body));
    let executing = meta.execute(key, 0, CommandClass::Draining, body, deadline);
    match executing.await {
        Ok((Outcome::Reply { reply, .. }, _)) => MetaReply::Decided(reply),
        Err(ProposalError::NotLeader(leader)) => MetaReply::NotLeader(leader),
        // Whoever asks tries again.
        Err(ProposalError::Overloaded { .. }) => MetaReply::NotLeader(None),
        Ok(_) | Err(ProposalError::Unknown) => MetaReply::Unknown,
    }
}

/// Carries a command out, wherever the meta leader is. Commands to the map bear repeating.
///
/// # Errors
/// [`GridError::Unavailable`], [`GridError::OutcomeUnknown`].
pub(super) async fn execute_meta<S: Space>(
    members: &Arc<Members<S>>,
    command: &MapCommand,
    deadline: Instant,
) -> Result<MapReply, GridError> {
    let mut unknown = false;
    let mut attempt = 0;
    loop {
        let timeout = remaining(deadline).min(ATTEMPT_TIMEOUT);
        let node = meta_leader(members, attempt);
        let reply = if node == Some(members.node) {
            Some(execute_here(members, command, monotonic_now() + timeout).await)
        } else if let Some(node) = node {
            let remaining_ms = whole_ms(timeout);
            let payload =
                codec::encode(&(command, remaining_ms)).map_err(|_| GridError::Malformed)?;
            let asked = members.request(node, SERVICE_META, payload, timeout).await;
            unknown |= asked
                .as_ref()
                .is_err_and(TransportError::may_have_been_sent);
            asked.ok().and_then(|bytes| codec::decode(&bytes).ok())
        } else {
            None
        };
        match reply {
            Some(MetaReply::Decided(reply)) => return Ok(reply),
            Some(MetaReply::NotLeader(leader)) => members.note_leader(META, leader, 0),
            Some(MetaReply::Unknown) => unknown = true,
            None => members.note_leader(META, None, 0),
        }
        if remaining(deadline).is_zero() {
            return Err(if unknown {
                GridError::OutcomeUnknown
            } else {
                GridError::Unavailable
            });
        }
        attempt += 1;
        tokio::time::sleep(RETRY_PAUSE.min(remaining(deadline))).await;
    }
}

/// Whom to ask: the leader if it is known, else the holders in turn.
pub(super) fn meta_leader<S: Space>(members: &Members<S>, attempt: usize) -> Option<NodeId> {
    if let Some(leader) = members.leader(META) {
        return Some(leader);
    }
    let holders: Vec<NodeId> = members
        .holders(META)
        .into_iter()
        .filter(|node| *node != members.node && members.transport.is_reachable(*node))
        .collect();
    holders.get(attempt % holders.len().max(1)).copied()
}
