//! Which leaderships should move so that every node has its share: a plan, computed and nothing else.
//!
//! The leader of a group does most of its work, so nodes that lead equally many groups are about
//! equally busy. The plan has hysteresis: nothing moves unless one node leads at least two groups more
//! than another, so that it never swings. It plans nothing while the grid recovers: when a group has no
//! leader or a live replica is behind, [`View::obstacles`] says so.
//!
//! What it deliberately does not do: carry the plan out, look at loads or zones.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use grid_core::PartitionId;
use serde::{Deserialize, Serialize};

use crate::handover::LAG_ENTRIES_MAX;
use crate::node::NodeId;
use crate::status::{NodeStatus, ReplicaRole, ReplicaStatus};

/// The least difference in leaderships between two nodes for one to move.
const DIFFERENCE_MIN: u32 = 2;

/// A leadership that should move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The group.
    pub partition: PartitionId,
    /// Who leads it.
    pub from: NodeId,
    /// Who should.
    pub to: NodeId,
}

/// A group with those who could lead it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Led {
    /// The group.
    pub partition: PartitionId,
    /// Who leads it.
    pub leader: NodeId,
    /// Other nodes with a replica that is caught up.
    pub candidates: BTreeSet<NodeId>,
}

/// What a plan is made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Nodes that answer, are not about to stop, and have a disk fit to lead.
    pub nodes: BTreeSet<NodeId>,
    /// Every group that has a leader.
    pub led: Vec<Led>,
    /// Why nothing may move just now, in words.
    pub obstacles: Vec<String>,
}

impl View {
    /// The grid as its nodes describe it; `None` for a node that does not answer.
    #[must_use]
    pub fn of<'a>(nodes: impl IntoIterator<Item = (NodeId, Option<&'a NodeStatus>)>) -> Self {
        let mut view = Self::default();
        let mut groups: BTreeMap<PartitionId, Vec<(NodeId, bool, &ReplicaStatus)>> =
            BTreeMap::new();
        for (node, status) in nodes {
            let Some(status) = status else {
                continue;
            };
            let takes_none = status.draining || status.wal.trouble.is_some();
            if !takes_none {
                view.nodes.insert(node);
            }
            for replica in &status.replicas {
                let group = groups.entry(replica.partition).or_default();
                group.push((node, takes_none, replica));
            }
        }
        for (partition, replicas) in groups {
            // Of two that say they lead, the one of the later term is right.
            let leader = replicas
                .iter()
                .filter(|(_, _, replica)| replica.role == ReplicaRole::Leader)
                .max_by_key(|(_, _, replica)| replica.term);
            let Some((leader, _, led)) = leader else {
                let text = format!("partition {partition} has no leader");
                view.obstacles.push(text);
                continue;
            };
            let mut candidates = BTreeSet::new();
            for (node, takes_none, replica) in &replicas {
                if node == leader {
                    continue;
                }
                let lag = led.last_log_index.saturating_sub(replica.last_log_index);
                if replica.role != ReplicaRole::Follower || lag > LAG_ENTRIES_MAX {
                    let text =
                        format!("node {node} is {lag} entries behind in partition {partition}");
                    view.obstacles.push(text);
                } else if !takes_none {
                    candidates.insert(*node);
                }
            }
            view.led.push(Led {
                partition,
                leader: *leader,
                candidates,
            });
        }
        view
    }

    /// How many groups each node leads.
    #[must_use]
    pub fn leads(&self) -> BTreeMap<NodeId, u32> {
        let mut leads: BTreeMap<NodeId, u32> = self.nodes.iter().map(|node| (*node, 0)).collect();
        for group in &self.led {
            *leads.entry(group.leader).or_insert(0) += 1;
        }
        leads
    }
}

/// The moves after which no node leads two groups more than another that could take one, in the order
/// in which they are to be made. Empty while there are obstacles.
#[must_use]
pub fn plan(view: &View) -> Vec<Move> {
    if !view.obstacles.is_empty() {
        return Vec::new();
    }
    let mut led = view.led.clone();
    let mut leads = view.leads();
    let mut moves = Vec::new();
    // Every chain brings two nodes closer together, so there cannot be more of them than groups.
    for _ in 0..led.len() {
        let Some(chain) = chain(&view.nodes, &led, &leads) else {
            break;
        };
        for step in chain {
            let Some(group) = led
                .iter_mut()
                .find(|group| group.partition == step.partition)
            else {
                continue;
            };
            group.candidates.insert(step.from);
            group.candidates.remove(&step.to);
            group.leader = step.to;
            *leads.entry(step.from).or_insert(1) -= 1;
            *leads.entry(step.to).or_insert(0) += 1;
            moves.push(step);
        }
    }
    moves
}

/// The shortest chain of moves from the node that leads most to one that leads at least two groups
/// less: where their groups have no replica in common, a node between them takes one and gives one.
fn chain(
    nodes: &BTreeSet<NodeId>,
    led: &[Led],
    leads: &BTreeMap<NodeId, u32>,
) -> Option<Vec<Move>> {
    let mut busiest: Vec<(NodeId, u32)> =
        leads.iter().map(|(node, leads)| (*node, *leads)).collect();
    busiest.sort_by_key(|(node, leads)| (std::cmp::Reverse(*leads), *node));
    busiest
        .iter()
        .find_map(|(node, most)| chain_from(*node, *most, nodes, led, leads))
}

fn chain_from(
    start: NodeId,
    most: u32,
    nodes: &BTreeSet<NodeId>,
    led: &[Led],
    leads: &BTreeMap<NodeId, u32>,
) -> Option<Vec<Move>> {
    let mut reached: BTreeMap<NodeId, Option<Move>> = BTreeMap::from([(start, None)]);
    let mut waiting = VecDeque::from([start]);
    while let Some(node) = waiting.pop_front() {
        // The nodes one move away, those that lead least first.
        let mut next: Vec<Move> = led
            .iter()
            .filter(|group| group.leader == node)
            .flat_map(|group| {
                group.candidates.intersection(nodes).map(|to| Move {
                    partition: group.partition,
                    from: node,
                    to: *to,
                })
            })
            .collect();
        next.sort_by_key(|step| (leads.get(&step.to).copied(), step.to, step.partition));
        for step in next {
            if reached.contains_key(&step.to) {
                continue;
            }
            reached.insert(step.to, Some(step));
            waiting.push_back(step.to);
            let less = leads.get(&step.to).copied().unwrap_or(0);
            if less + DIFFERENCE_MIN <= most {
                let mut chain = Vec::new();
                let mut at = step.to;
                while let Some(Some(step)) = reached.get(&at) {
                    chain.push(*step);
                    at = step.from;
                }
                // From the far end on, so that nobody ever leads more than at the beginning.
                return Some(chain);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn led(partition: u32, leader: NodeId, others: &[NodeId]) -> Led {
        Led {
            partition: PartitionId(partition),
            leader,
            candidates: others.iter().copied().collect(),
        }
    }

    fn carried_out(view: &View, moves: &[Move]) -> View {
        let mut view = view.clone();
        for step in moves {
            let group = view
                .led
                .iter_mut()
                .find(|group| group.partition == step.partition)
                .expect("a group of the view");
            assert_eq!(group.leader, step.from);
            assert!(group.candidates.remove(&step.to), "{step:?}");
            group.candidates.insert(step.from);
            group.leader = step.to;
        }
        view
    }

    #[test]
    fn a_node_that_comes_back_gets_its_share() {
        let view = View {
            nodes: BTreeSet::from([1, 2, 3]),
            led: (0..16)
                .map(|partition| {
                    let leader = 1 + u64::from(partition % 2);
                    led(partition, leader, &[3 - leader, 3])
                })
                .collect(),
            obstacles: Vec::new(),
        };
        let moves = plan(&view);
        assert_eq!(moves.len(), 5);
        let after = carried_out(&view, &moves).leads();
        assert!(
            after.values().all(|leads| (5..=6).contains(leads)),
            "{after:?}"
        );
        // One node less or more leads is no reason to move anything.
        assert!(plan(&carried_out(&view, &moves)).is_empty());
    }

    #[test]
    fn nothing_moves_during_recovery_and_nothing_to_a_node_that_stops() {
        let mut view = View {
            nodes: BTreeSet::from([1, 2]),
            led: (0..6).map(|partition| led(partition, 1, &[2, 3])).collect(),
            obstacles: Vec::new(),
        };
        assert!(plan(&view).iter().all(|step| step.to == 2));
        view.obstacles.push("partition 9 has no leader".to_owned());
        assert!(plan(&view).is_empty());
    }

    #[test]
    fn where_two_nodes_share_no_group_a_third_passes_one_on() {
        let view = View {
            nodes: BTreeSet::from([1, 2, 3]),
            led: vec![led(0, 1, &[2]), led(1, 1, &[2]), led(2, 2, &[3])],
            obstacles: Vec::new(),
        };
        let moves = plan(&view);
        let after = carried_out(&view, &moves).leads();
        assert!(after.values().all(|leads| *leads == 1), "{after:?}");
        assert_eq!(moves[0].from, 2, "who is to take one gives one first");
    }

    fn views() -> impl Strategy<Value = View> {
        let group = (1..6_u64, prop::collection::btree_set(1..6_u64, 0..4));
        prop::collection::vec(group, 0..40).prop_map(|groups| View {
            nodes: (1..6).collect(),
            led: (0..)
                .zip(groups)
                .map(|(partition, (leader, mut others))| {
                    others.remove(&leader);
                    led(partition, leader, &others.into_iter().collect::<Vec<_>>())
                })
                .collect(),
            obstacles: Vec::new(),
        })
    }

    proptest! {
        #[test]
        fn a_plan_can_be_carried_out_and_is_the_last(view in views()) {
            let after = carried_out(&view, &plan(&view));
            prop_assert!(plan(&after).is_empty(), "{after:?}");
            let busiest = |view: &View| view.leads().into_values().max();
            prop_assert!(busiest(&after) <= busiest(&view));
        }
    }
}
