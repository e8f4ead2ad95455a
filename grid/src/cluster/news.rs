//! Keeps a node up to date: it asks its peers in turn for a later map, for the leaders of groups that it
//! does not hold and for the time, says when its own addresses have changed, and notices that it was
//! removed.
//!
//! The meta leader also pushes each new map; this is what makes up for a push that was lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use grid_core::Space;
use tokio_util::sync::CancellationToken;

use super::map::{GroupEntry, META};
use super::messages::{News, SERVICE_NEWS};
use super::meta::execute_meta;
use super::revocations;
use super::space::MapCommand;
use crate::clock::Electorate;
use crate::members::Members;
use crate::node::NodeId;
use crate::platform::{self, monotonic_now, wall_now};
use crate::transport::RefusalReason;

/// How often one peer is asked.
const PERIOD: Duration = Duration::from_millis(1_000);
/// And while the time or the leader of some group is not known.
const URGENT_PERIOD: Duration = Duration::from_millis(100);
/// How long a peer may take.
const ANSWER_WAIT: Duration = Duration::from_millis(1_000);
/// How long saying where one is may take.
const ANNOUNCE_WAIT: Duration = Duration::from_millis(3_000);

/// Works until stopped.
pub(crate) async fn gather<S: Space>(members: Arc<Members<S>>, stop: CancellationToken) {
    let mut turn = 0;
    look_at_clocks(&members);
    loop {
        let leaderless = members
            .leaderships
            .values()
            .any(|known| known.borrow().leader.is_none());
        let is_urgent = leaderless || members.opener.clock.now().is_none();
        let period = if is_urgent { URGENT_PERIOD } else { PERIOD };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = platform::pause(period) => {}
        }
        let work = async {
            notice_removal(&members);
            ask_one(&members, turn).await;
            revocations::ask_leader(&members, turn).await;
            look_at_clocks(&members);
            announce(&members).await;
        };
        if stop.run_until_cancelled(work).await.is_none() {
            return;
        }
        turn += 1;
    }
}

fn notice_removal<S: Space>(members: &Members<S>) {
    let refused = members.nodes().into_iter().any(|node| {
        let refusal = members.transport.refusal(node);
        refusal.is_some_and(|refusal| refusal.reason == RefusalReason::Removed)
    });
    if refused {
        members.note_removed();
    }
}

async fn ask_one<S: Space>(members: &Members<S>, turn: usize) {
    let peers: Vec<NodeId> = members
        .nodes()
        .into_iter()
        .filter(|node| *node != members.node && members.transport.is_reachable(*node))
        .collect();
    let Some(peer) = peers.get(turn % peers.len().max(1)) else {
        return;
    };
    let asked = monotonic_now();
    let Some(news) = ask(members, *peer).await else {
        return;
    };
    let clock = &members.opener.clock;
    clock.note(*peer, news.clock, asked, monotonic_now());
    if let Some(map) = news.map {
        members.learn_map(map);
    }
    for (group, leader, term) in news.leaders {
        members.note_leader(group, Some(leader), term);
    }
}

/// Takes the clocks that are known for what the time is. Before there is a map it is not known whose
/// clocks count.
fn look_at_clocks<S: Space>(members: &Members<S>) {
    let Some(map) = members.present_map() else {
        return;
    };
    let is_peer = |peer: NodeId| {
        let mut nodes = map.members();
        peer != members.node && nodes.any(|(node, _)| node == peer)
    };
    let own = members.node;
    let shared = map
        .groups
        .values()
        .filter(|group| group.holders().any(|node| node == own));
    let sharers: BTreeSet<NodeId> = shared.flat_map(GroupEntry::holders).collect();
    let electorate = Electorate {
        members: map.members().count(),
        sharers: sharers.len(),
    };
    members
        .opener
        .clock
        .agree(wall_now(), electorate, is_peer, monotonic_now());
}

/// What a peer has that this node has not.
pub(super) async fn ask<S: Space>(members: &Members<S>, peer: NodeId) -> Option<News> {
    let epoch = members.present_map().map_or(0, |map| map.epoch);
    members.ask(peer, SERVICE_NEWS, &epoch, ANSWER_WAIT).await
}

/// Tells the map where this node is, when it says otherwise.
async fn announce<S: Space>(members: &Arc<Members<S>>) {
    let Some(map) = members.present_map() else {
        return;
    };
    let is_in = map.admits(members.node, members.info.incarnation);
    // Before the map is in its group there is nothing to be changed.
    if !is_in || members.info.is_known_to(&map) || members.leader(META).is_none() {
        return;
    }
    let command = MapCommand::Join(members.info.clone());
    match execute_meta(members, &command, monotonic_now() + ANNOUNCE_WAIT).await {
        Ok(Ok(epoch)) => tracing::info!(epoch, "this node has told the grid its addresses"),
        Ok(Err(refusal)) => {
            tracing::error!(%refusal, "the grid does not take this node's addresses")
        }
        Err(error) => tracing::debug!(%error, "the grid could not be told this node's addresses"),
    }
}
