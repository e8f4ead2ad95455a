//! Giving leaderships away: one of them, or all of a node that is about to stop.
//!
//! ```text
//!   candidates (voters that are caught up, heard from, reachable, not about to stop themselves)
//!       ─► the one that leads least ─► begin ─► wait until another node leads
//! ```
//!
//! Clients notice a pause of some milliseconds: what they ask meanwhile is refused here as certainly not
//! done and asked again of the new leader. A handover that its receiver does not take costs an election,
//! so it is offered only to followers that can take it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use grid_core::{PartitionId, Space};

use crate::client::GridClient;
use crate::members::{Member, Members, remaining};
use crate::node::NodeId;
use crate::platform::{monotonic_now, whole_ms};
use crate::raft::GroupState;

/// A follower that is at most this many entries behind is caught up: it has the rest in milliseconds.
pub(crate) const LAG_ENTRIES_MAX: u64 = 64;
/// A follower that was silent for longer than this may be gone.
const SILENCE_MS_MAX: u64 = 1_000;
/// How long one handover may take, the election after a failed one included.
const HANDOVER_WAIT: Duration = Duration::from_millis(4_000);
/// How long a candidate may take to say whether it is about to stop itself.
const ASK_WAIT: Duration = Duration::from_millis(500);
/// Followers of a busy group catch up in this time.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(50);
/// How often, in all, a node that is about to stop looks again for somebody who can lead its groups.
const LOOKS_MAX: u32 = 40;

/// What became of a node's leaderships.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handover {
    /// Groups that are led by other nodes now.
    pub handed_over: u32,
    /// Groups that this node still leads, or that have no leader yet.
    pub left: u32,
}

/// Whether a replica can take its group's lead as far as its present leader knows.
fn can_lead(lag: u64, silent_ms: Option<u64>) -> bool {
    lag <= LAG_ENTRIES_MAX && silent_ms.is_some_and(|silent| silent <= SILENCE_MS_MAX)
}

/// The followers of a group that this node leads which can take the lead.
pub(crate) fn candidates<S: Space, T: Space>(
    members: &Members<S>,
    member: &Member<T>,
) -> Vec<NodeId> {
    let GroupState {
        last_log_index,
        voters,
        followers,
        ..
    } = member.group.state();
    followers
        .into_iter()
        .filter(|follower| voters.contains(&follower.node_id))
        .filter(|follower| {
            let lag = last_log_index.saturating_sub(follower.matched_index);
            can_lead(lag, follower.silent_ms)
        })
        .map(|follower| follower.node_id)
        .filter(|node| members.transport.is_reachable(*node))
        .collect()
}

/// Hands one group's lead to `to` and waits until another node leads. Whether one does.
pub(crate) async fn hand_to<S: Space>(member: &Member<S>, own: NodeId, to: NodeId) -> bool {
    let partition = member.replica.partition();
    let started = monotonic_now();
    let mut leadership = member.leadership.clone();
    member.group.begin_handover(to).await;
    let elsewhere = leadership.wait_for(|now| now.leader.is_some_and(|leader| leader != own));
    let is_led = matches!(
        tokio::time::timeout(HANDOVER_WAIT, elsewhere).await,
        Ok(Ok(_))
    );
    let took_ms = whole_ms(monotonic_now().saturating_duration_since(started));
    if is_led {
        metrics::counter!("grid_leaderships_handed_over_total").increment(1);
        tracing::info!(%partition, to, took_ms, "a leadership was handed over");
    } else {
        tracing::warn!(%partition, to, took_ms, "a leadership was not taken over");
    }
    is_led
}

/// Gives everything away, see [`crate::GridNode::hand_over`].
pub(crate) async fn drain<S: Space>(
    client: &GridClient<S>,
    members: &Members<S>,
    deadline: Instant,
) -> Handover {
    members.draining.store(true, Ordering::SeqCst);
    for (_, held) in members.all_held() {
        held.leave_elections();
    }
    let mut result = Handover::default();
    let mut stuck = BTreeSet::new();
    let mut looks_left = LOOKS_MAX;
    loop {
        let led = led_here(members);
        result.left = led.len() as u32;
        let next = led
            .into_iter()
            .find(|(partition, _)| !stuck.contains(partition));
        let Some((partition, member)) = next.filter(|_| !remaining(deadline).is_zero()) else {
            break;
        };
        match choose(client, members, &member, &mut looks_left).await {
            Some(to) => {
                if hand_to(&member, members.node, to).await {
                    result.handed_over += 1;
                } else {
                    stuck.insert(partition);
                }
            }
            None => {
                tracing::warn!(%partition, "no other node can lead the partition");
                stuck.insert(partition);
            }
        }
    }
    // Last, so that whatever moves meanwhile moves under one hand. Clients do not wait for it.
    if let Some(meta) = members.meta()
        && let Some(to) = choose(client, members, &meta, &mut looks_left).await
    {
        hand_to(&meta, members.node, to).await;
    }
    result
}

fn led_here<S: Space>(members: &Members<S>) -> Vec<(PartitionId, Arc<Member<S>>)> {
    let replicas = members.replicas().into_iter();
    replicas
        .filter(|(_, member)| member.leadership.borrow().is_local)
        .collect()
}

/// The candidate that leads least and is not about to stop itself; one whose disk is in trouble only if
/// there is no other.
async fn choose<S: Space, T: Space>(
    client: &GridClient<S>,
    members: &Members<S>,
    member: &Member<T>,
    looks_left: &mut u32,
) -> Option<NodeId> {
    loop {
        if !member.leadership.borrow().is_local {
            return None;
        }
        let mut choice = candidates(members, member);
        let leads = leads(members);
        choice.sort_by_key(|node| (leads.get(node).copied().unwrap_or(0), *node));
        let is_anyone_here = !choice.is_empty();
        let mut next_best = None;
        for node in choice {
            let status = client.node_status(node, monotonic_now() + ASK_WAIT).await;
            match status.filter(|status| !status.draining) {
                Some(status) if status.wal.trouble.is_none() => return Some(node),
                Some(_) => next_best = next_best.or(Some(node)),
                None => {}
            }
        }
        if next_best.is_some() {
            return next_best;
        }
        // Where all that could are about to stop, or nobody ever could, waiting would not help.
        let voters = member.group.state().voters;
        let is_alone = voters.iter().all(|voter| *voter == members.node);
        if is_anyone_here || is_alone || *looks_left == 0 {
            return None;
        }
        *looks_left -= 1;
        tokio::time::sleep(CATCH_UP_PAUSE).await;
    }
}

/// How many groups each node leads, as far as this node's replicas know.
pub(crate) fn leads<S: Space>(members: &Members<S>) -> BTreeMap<NodeId, u32> {
    let mut leads = BTreeMap::new();
    for (_, member) in members.replicas() {
        if let Some(leader) = member.leadership.borrow().leader {
            *leads.entry(leader).or_insert(0) += 1;
        }
    }
    leads
}
