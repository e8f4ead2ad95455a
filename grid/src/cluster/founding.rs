//! How a node with an empty disk gets its place: it founds the grid, waits until another has, or joins.
//!
//! ```text
//!   ask everyone known ─┬─ someone knows a grid ─┬─ that knows this disk ─► adopt its map
//!                       │                        └─ that does not ─────► ask to join, and wait
//!                       └─ all are first nodes with empty disks ─► the lowest of them founds
//! ```
//!
//! Founding needs every first node, once. So a first node that comes back with an empty disk cannot
//! found the grid again behind the others' backs: either they answer and know of it, or they do not
//! answer and it waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use grid_core::{Space, codec};
use tokio_util::sync::CancellationToken;

use super::map::{ClusterMap, NodeInfo};
use super::messages::{Introduced, Joined, SERVICE_INTRODUCE, SERVICE_JOIN};
use super::plan;
use super::space::Refusal;
use crate::members::Members;
use crate::node::NodeId;
use crate::platform::monotonic_now;
use crate::transport::{RefusalReason, VisitError};

/// The pause between two rounds of questions.
const ROUND_PAUSE: Duration = Duration::from_millis(100);
/// How long a node may take to answer.
const ANSWER_WAIT: Duration = Duration::from_millis(1_000);
/// And to let this one in.
const JOIN_WAIT: Duration = Duration::from_millis(6_000);
/// How long a number may be in use by a process that is on its way out.
const IN_USE_WAIT: Duration = Duration::from_secs(20);

/// What a new node goes by.
pub(crate) struct Founding {
    /// The nodes that found the grid together; this one is among them, or joins.
    pub(crate) first: BTreeMap<NodeId, String>,
    /// Further addresses to ask.
    pub(crate) seeds: Vec<String>,
    pub(crate) partitions: u32,
    pub(crate) replicas: u32,
}

/// What one round came to.
enum Round {
    /// The node has its place.
    Placed(ClusterMap),
    /// Nothing yet.
    Again,
    /// The grid has removed a node of this number.
    Removed,
    /// It will never get one.
    Hopeless(String),
}

impl Founding {
    /// Works until the node has its place, or stopped. Ends the node when it cannot get one.
    pub(crate) async fn run<S: Space>(self, members: Arc<Members<S>>, stop: CancellationToken) {
        let started = monotonic_now();
        loop {
            let round = stop.run_until_cancelled(self.round(&members, started));
            match round.await {
                None => return,
                Some(Round::Placed(map)) => return members.learn_map(map),
                Some(Round::Removed) => return members.note_removed(),
                Some(Round::Hopeless(why)) => {
                    members.opener.failure.send_replace(Some(why));
                    return;
                }
                Some(Round::Again) => {}
            }
            let pause = tokio::time::sleep(ROUND_PAUSE);
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }

    /// The map of a grid that begins with this node alone.
    pub(crate) fn alone(&self, own: &NodeInfo) -> Option<ClusterMap> {
        let is_alone = self.first.len() == 1 && self.first.contains_key(&own.node);
        let is_alone = is_alone && self.seeds.is_empty();
        is_alone.then(|| plan::found(vec![own.clone()], self.partitions, self.replicas))
    }

    fn addresses(&self, own: NodeId) -> Vec<String> {
        let first = self.first.iter().filter(|(node, _)| **node != own);
        let mut addresses: Vec<String> = first.map(|(_, address)| address.clone()).collect();
        addresses.extend(self.seeds.iter().cloned());
        addresses
    }

    async fn round<S: Space>(&self, members: &Arc<Members<S>>, started: Instant) -> Round {
        let own = &members.info;
        let addresses = self.addresses(own.node);
        let asking = addresses.iter().map(|address| async move {
            let asked = members
                .transport
                .visit(address, SERVICE_INTRODUCE, Bytes::new(), ANSWER_WAIT)
                .await;
            (address, asked)
        });
        let mut blank = vec![own.clone()];
        let mut silent = 0;
        for (address, asked) in join_all(asking).await {
            let reply = match asked {
                Ok(reply) => codec::decode::<Introduced>(&reply).ok(),
                Err(VisitError::Refused(refusal)) => {
                    tracing::warn!(address, %refusal, "a node does not let this one in");
                    let is_mistaken = matches!(
                        refusal.reason,
                        RefusalReason::GridId | RefusalReason::Fingerprint | RefusalReason::Version
                    );
                    // A first node waits: the others may be about to be set right.
                    if is_mistaken && !self.first.contains_key(&own.node) {
                        return Round::Hopeless(format!("it cannot join: {refusal}"));
                    }
                    None
                }
                Err(error) => {
                    tracing::debug!(%error, "nobody answers");
                    None
                }
            };
            match reply {
                Some(Introduced::Founded(map)) if map.admits(own.node, own.incarnation) => {
                    return Round::Placed(map);
                }
                Some(Introduced::Founded(map)) => {
                    let is_noted = map
                        .nodes
                        .get(&own.node)
                        .is_some_and(|entry| entry.returning == Some(own.incarnation));
                    return if is_noted {
                        Round::Again
                    } else {
                        join(members, address, started).await
                    };
                }
                Some(Introduced::Blank(info)) => blank.push(info),
                None => silent += 1,
            }
        }
        // Whoever does not answer may know of a grid.
        if silent > 0 {
            return Round::Again;
        }
        self.found(members, blank)
    }

    /// Founds the grid, if all of its first nodes are here and this is the lowest.
    fn found<S: Space>(&self, members: &Members<S>, mut blank: Vec<NodeInfo>) -> Round {
        let own = members.info.node;
        blank.retain(|info| self.first.contains_key(&info.node));
        blank.sort_by_key(|info| info.node);
        blank.dedup_by_key(|info| info.node);
        let is_complete = blank.len() == self.first.len();
        if !is_complete || self.first.keys().next() != Some(&own) {
            return Round::Again;
        }
        let map = plan::found(blank, self.partitions, self.replicas);
        // On disk before anybody hears of it: a founder that forgets would found another grid.
        if let Err(error) = members.directory.store_map(&map) {
            return Round::Hopeless(format!("it cannot keep the cluster map: {error}"));
        }
        tracing::info!(nodes = self.first.len(), "the grid is founded");
        Round::Placed(map)
    }
}

async fn join<S: Space>(members: &Arc<Members<S>>, address: &str, started: Instant) -> Round {
    let Ok(payload) = codec::encode(&members.info) else {
        return Round::Again;
    };
    let asked = members
        .transport
        .visit(address, SERVICE_JOIN, payload.into(), JOIN_WAIT)
        .await;
    let joined = asked
        .ok()
        .and_then(|reply| codec::decode::<Joined>(&reply).ok());
    let own = &members.info;
    match joined {
        Some(Joined::Noted(map)) if map.admits(own.node, own.incarnation) => Round::Placed(map),
        Some(Joined::Noted(_)) => {
            tracing::info!("the grid lets go of this node's old disk before it lets this one in");
            Round::Again
        }
        Some(Joined::Refused(Refusal::InUse { .. } | Refusal::NotFounded))
            if monotonic_now().saturating_duration_since(started) < IN_USE_WAIT =>
        {
            Round::Again
        }
        Some(Joined::Refused(Refusal::Removed { .. })) => Round::Removed,
        Some(Joined::Refused(refusal)) => Round::Hopeless(format!("it cannot join: {refusal}")),
        Some(Joined::NotNow) | None => Round::Again,
    }
}
