//! Succession: what a node does when its way to a leader is lost.
//!
//! ```text
//!   connection lost ─► the lease of the leader ends ─► the voters stand, one after the other
//! ```
//!
//! A process that is killed takes its connections with it at once. Its followers must still wait until
//! the lease has ended that they granted it; but after that nothing is to be waited for, and the time by
//! chance that keeps followers from standing together is saved: they stand in an order known to all of
//! them, another one for each group. Without this writes would come back half an election later.
//!
//! Invariants: a replica only *asks* whether it would be elected. Whoever hears the leader says no, and
//! no term changes; so a connection that is lost while its leader lives disturbs nobody.
//!
//! What it deliberately does not do: decide that a leader is dead, or shorten a lease.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use grid_core::{PartitionId, Space};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::Leadership;
use crate::held::Held;
use crate::members::Members;
use crate::node::NodeId;

/// Between two voters of a group that stand: about as long as an election takes.
const STAND_APART: Duration = Duration::from_millis(100);
/// How often they stand in turns; after that the usual timeouts decide.
const TURNS_MAX: u32 = 4;

/// Works until stopped. Costs nothing while no connection is lost.
pub(crate) async fn run<S: Space>(members: Arc<Members<S>>, stop: CancellationToken) {
    let _ = stop.run_until_cancelled(succeed(&members)).await;
}

/// A leader to which the way was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Loss {
    leader: NodeId,
    term: u64,
    /// This node's place in the order in which the group's other voters stand.
    place: usize,
    /// When the lease has ended that the leader may have had then.
    due: Instant,
}

async fn succeed<S: Space>(members: &Members<S>) {
    let lease = Duration::from_millis(members.opener.cluster.election_timeout_max_ms);
    let mut losses = members.transport.losses();
    // At most one a group.
    let mut lost: BTreeMap<PartitionId, Loss> = BTreeMap::new();
    loop {
        let due = lost.values().map(|loss| loss.due).min();
        tokio::select! {
            changed = losses.changed() => {
                if changed.is_err() {
                    return;
                }
                for (partition, loss) in orphans(members, Instant::now() + lease) {
                    lost.entry(partition).or_insert(loss);
                }
            }
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                let now = Instant::now();
                let (ended, waiting) = lost.into_iter().partition(|(_, loss)| loss.due <= now);
                lost = waiting;
                stand_in_turns(members, ended).await;
            }
        }
    }
}

/// Stands for the groups that still have no other leader. Whether the lost one can be reached again
/// does not matter: a process that was killed may have been started anew, and leads nothing.
async fn stand_in_turns<S: Space>(members: &Members<S>, mut lost: BTreeMap<PartitionId, Loss>) {
    for _ in 0..TURNS_MAX {
        lost.retain(|partition, loss| is_unsucceeded(members, *partition, loss));
        let Some(last) = lost.values().map(|loss| loss.place).max() else {
            return;
        };
        for place in 0..=last {
            // Another one may have been elected meanwhile.
            lost.retain(|partition, loss| is_unsucceeded(members, *partition, loss));
            for (partition, _) in lost.iter().filter(|(_, loss)| loss.place == place) {
                stand(members, *partition).await;
            }
            tokio::time::sleep(STAND_APART).await;
        }
    }
}

fn is_unsucceeded<S: Space>(members: &Members<S>, partition: PartitionId, loss: &Loss) -> bool {
    let leadership = members.held(partition).map(|held| held.leadership());
    leadership
        .is_some_and(|now| now.leader.is_none_or(|now| now == loss.leader) && now.term == loss.term)
}

/// The groups whose leader cannot be reached.
fn orphans<S: Space>(members: &Members<S>, due: Instant) -> BTreeMap<PartitionId, Loss> {
    if members.draining.load(Ordering::SeqCst) {
        return BTreeMap::new();
    }
    let held = members.all_held().into_iter();
    held.filter_map(|(partition, held)| Some((partition, loss(members, partition, &held, due)?)))
        .collect()
}

/// What a group has lost; `None` when it has its leader, as far as this node can tell, or when this node
/// has no vote.
fn loss<S: Space>(
    members: &Members<S>,
    partition: PartitionId,
    held: &Held<S>,
    due: Instant,
) -> Option<Loss> {
    let Leadership { leader, term, .. } = held.leadership();
    let leader = leader?;
    if leader == members.node || members.transport.is_reachable(leader) {
        return None;
    }
    let voters = held.state().voters;
    let place = order(partition, voters, leader)
        .into_iter()
        .position(|node| node == members.node)?;
    Some(Loss {
        leader,
        term,
        place,
        due,
    })
}

/// The order in which the voters beside the leader stand: each begins with some groups.
fn order(
    partition: PartitionId,
    voters: impl IntoIterator<Item = NodeId>,
    leader: NodeId,
) -> Vec<NodeId> {
    let mut others: Vec<NodeId> = voters.into_iter().filter(|node| *node != leader).collect();
    others.sort_unstable();
    if !others.is_empty() {
        let first = partition.0 as usize % others.len();
        others.rotate_left(first);
    }
    others
}

async fn stand<S: Space>(members: &Members<S>, partition: PartitionId) {
    tracing::debug!(%partition, "the leader is out of reach; this replica would lead");
    if let Some(held) = members.held(partition) {
        held.stand_if_wanted().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_voters_stand_in_turns_and_each_begins_somewhere() {
        let voters = [1, 2, 3, 4, 5];
        assert_eq!(order(PartitionId(0), voters, 2), [1, 3, 4, 5]);
        assert_eq!(order(PartitionId(1), voters, 2), [3, 4, 5, 1]);
        assert_eq!(order(PartitionId(6), voters, 2), [4, 5, 1, 3]);
        assert!(order(PartitionId(7), [2], 2).is_empty());
    }
}
