//! Where replicas should be, and in which order they go there. Pure: a function of the map and of
//! which nodes do not answer or have a disk in trouble.
//!
//! A plan is a list of moves, each of one replica of one group. In order of urgency: off the nodes that
//! are draining, gone or came back empty; missing copies; surplus copies; two copies in one zone; then
//! evenness. Each move is chosen on the map that the moves before it leave behind, so the first move of
//! a plan is the first step, and a plan that was interrupted is continued by planning again.
//!
//! Invariants:
//! * no move leaves a group without a majority of answering replicas, or with fewer copies than the
//!   eligible nodes allow;
//! * a plan ends: nothing is moved for evenness unless the difference is two or more.

use std::collections::{BTreeMap, BTreeSet};

use grid_core::PartitionId;
use grid_core::entry::RULES_FIRST;
use serde::{Deserialize, Serialize};

use super::map::{ClusterMap, GroupEntry, META, NodeEntry, NodeInfo};
use crate::node::NodeId;
use crate::status::DiskTrouble;

/// The most moves that are planned ahead.
const MOVES_MAX: usize = 4_096;

/// Why a replica is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MoveReason {
    /// Its node drains, is removed, or has come back without its data.
    Leaving,
    /// The group has fewer copies than wanted.
    MissingCopy,
    /// The group has more copies than wanted.
    SurplusCopy,
    /// Two copies are in one zone.
    Zone,
    /// Its node holds more than others.
    Balance,
}

/// One replica's move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The group; `4294967295` is the cluster map's own.
    pub partition: PartitionId,
    /// The node that gives its copy up; none for an additional copy.
    pub from: Option<NodeId>,
    /// The node that gets one; none for a copy less.
    pub to: Option<NodeId>,
    /// Why.
    pub reason: MoveReason,
}

impl Move {
    /// The replicas after it.
    pub(super) fn applied_to(&self, replicas: &[NodeId]) -> Vec<NodeId> {
        let mut after: Vec<NodeId> = Vec::with_capacity(replicas.len() + 1);
        for &node in replicas {
            if Some(node) == self.from {
                after.extend(self.to);
            } else {
                after.push(node);
            }
        }
        if self.from.is_none() {
            after.extend(self.to);
        }
        after
    }
}

/// What is known of the nodes just now, beside the map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conditions {
    /// They do not answer.
    pub(crate) down: BTreeSet<NodeId>,
    /// What is wrong with disks; those that nothing is known of are taken for well.
    pub(crate) disks: BTreeMap<NodeId, DiskTrouble>,
}

impl Conditions {
    /// These nodes do not answer, and nothing is known of disks.
    #[cfg(test)]
    pub(crate) fn of_down(down: &BTreeSet<NodeId>) -> Self {
        Self {
            down: down.clone(),
            ..Self::default()
        }
    }
}

/// Everything that is to be moved, in order.
pub(crate) fn plan(map: &ClusterMap, conditions: &Conditions) -> Vec<Move> {
    let mut map = map.clone();
    let mut moves = Vec::new();
    while moves.len() < MOVES_MAX {
        let Some(next) = next_move(&map, conditions) else {
            break;
        };
        if let Some(group) = map.groups.get_mut(&next.partition) {
            group.replicas = next.applied_to(&group.replicas);
        }
        moves.push(next);
    }
    moves
}

/// The most urgent move.
pub(crate) fn next_move(map: &ClusterMap, conditions: &Conditions) -> Option<Move> {
    let planner = Planner::new(map, conditions);
    planner
        .evict()
        .or_else(|| planner.grow())
        .or_else(|| planner.shrink())
        .or_else(|| planner.separate())
        .or_else(|| planner.balance())
}

/// Which of these nodes hold a partition of a new grid that has no zones, the first leader first.
pub(crate) fn first_holders(
    partition: PartitionId,
    nodes: &[NodeId],
    partitions: u32,
    replicas: u32,
) -> Vec<NodeId> {
    let infos = nodes.iter().map(|&node| NodeInfo {
        node,
        incarnation: 0,
        peer_address: String::new(),
        gateway_address: String::new(),
        zone: String::new(),
        rules: RULES_FIRST,
    });
    let map = found(infos.collect(), partitions, replicas);
    let group = map.groups.get(&partition);
    group
        .map(|group| group.replicas.clone())
        .unwrap_or_default()
}

/// The map of a new grid: replicas are neighbours in the ring of nodes, then zones and evenness. It
/// follows the newest rules that all of its nodes know.
pub(crate) fn found(nodes: Vec<NodeInfo>, partitions: u32, replicas: u32) -> ClusterMap {
    let rules = nodes.iter().map(|info| info.rules).min();
    let nodes: BTreeMap<NodeId, NodeEntry> = nodes
        .into_iter()
        .map(|info| (info.node, info.entry()))
        .collect();
    let ring: Vec<NodeId> = nodes.keys().copied().collect();
    let place = |first: usize| GroupEntry {
        replicas: (0..(replicas as usize).min(ring.len()))
            .map(|step| ring[(first + step) % ring.len()])
            .collect(),
        leaving: Vec::new(),
        settled: true,
        epoch: 1,
    };
    let mut groups: BTreeMap<PartitionId, GroupEntry> = (0..partitions)
        .map(|partition| (PartitionId(partition), place(partition as usize)))
        .collect();
    groups.insert(META, place(partitions as usize));
    let mut map = ClusterMap {
        epoch: 1,
        slots_epoch: 1,
        partitions,
        replicas,
        rules: rules.unwrap_or(RULES_FIRST),
        nodes,
        groups,
    };
    for next in plan(&map, &Conditions::default()) {
        if let Some(group) = map.groups.get_mut(&next.partition) {
            group.replicas = next.applied_to(&group.replicas);
        }
    }
    map
}

struct Planner<'a> {
    map: &'a ClusterMap,
    down: &'a BTreeSet<NodeId>,
    disks: &'a BTreeMap<NodeId, DiskTrouble>,
    eligible: BTreeSet<NodeId>,
    loads: BTreeMap<NodeId, usize>,
    /// Copies of each group that the grid should and can have.
    copies: usize,
}

impl<'a> Planner<'a> {
    fn new(map: &'a ClusterMap, conditions: &'a Conditions) -> Self {
        let eligible = map.eligible();
        let mut loads: BTreeMap<NodeId, usize> = eligible.iter().map(|node| (*node, 0)).collect();
        for group in map.groups.values() {
            for node in &group.replicas {
                if let Some(load) = loads.get_mut(node) {
                    *load += 1;
                }
            }
        }
        let copies = (map.replicas as usize).min(eligible.len());
        Self {
            map,
            down: &conditions.down,
            disks: &conditions.disks,
            eligible,
            loads,
            copies,
        }
    }

    fn load(&self, node: NodeId) -> usize {
        self.loads.get(&node).copied().unwrap_or(0)
    }

    fn zone(&self, node: NodeId) -> Option<&str> {
        let zone = self.map.nodes.get(&node)?.zone.as_str();
        (!zone.is_empty()).then_some(zone)
    }

    /// How many pairs of these nodes share a zone.
    fn collisions(&self, nodes: &[NodeId]) -> usize {
        let pairs = nodes.iter().enumerate().flat_map(|(place, one)| {
            nodes[place + 1..]
                .iter()
                .map(move |other| (self.zone(*one), self.zone(*other)))
        });
        pairs
            .filter(|(one, other)| one.is_some() && one == other)
            .count()
    }

    /// Whether a majority of these nodes answers.
    fn has_quorum(&self, nodes: &[NodeId]) -> bool {
        let up = nodes.iter().filter(|node| !self.down.contains(node));
        up.count() > nodes.len() / 2
    }

    fn allowed(&self, group: &GroupEntry, candidate: &Move) -> bool {
        let after = candidate.applied_to(&group.replicas);
        // A group without a majority now cannot change its membership at all.
        !after.is_empty() && self.has_quorum(&group.replicas) && self.has_quorum(&after)
    }

    /// Whether a node can take one more copy: it answers, and has room.
    fn can_take(&self, node: NodeId) -> bool {
        !self.down.contains(&node) && self.disks.get(&node) != Some(&DiskTrouble::Full)
    }

    fn is_slow(&self, node: NodeId) -> bool {
        self.disks.get(&node) == Some(&DiskTrouble::Slow)
    }

    /// The best node for one more copy beside `others`: no shared zone, then no slow disk, then the least
    /// loaded.
    fn best_target(&self, others: &[NodeId]) -> Option<NodeId> {
        let candidates = self
            .eligible
            .iter()
            .copied()
            .filter(|node| !others.contains(node) && self.can_take(*node));
        candidates.min_by_key(|node| {
            let mut with: Vec<NodeId> = others.to_vec();
            with.push(*node);
            let is_slow = self.is_slow(*node);
            (self.collisions(&with), is_slow, self.load(*node), *node)
        })
    }

    fn groups(&self) -> impl Iterator<Item = (PartitionId, &'a GroupEntry)> {
        // The map's own group first: while it is short of copies every other move is at risk.
        let meta = self.map.groups.get_key_value(&META);
        let others = self.map.groups.iter().filter(|(id, _)| **id != META);
        meta.into_iter()
            .chain(others)
            .map(|(id, group)| (*id, group))
    }

    fn evict(&self) -> Option<Move> {
        self.groups().find_map(|(partition, group)| {
            let leaver = group
                .replicas
                .iter()
                .copied()
                .find(|node| !self.eligible.contains(node))?;
            let others: Vec<NodeId> = group
                .replicas
                .iter()
                .copied()
                .filter(|node| *node != leaver)
                .collect();
            let successor = self
                .map
                .nodes
                .get(&leaver)
                .and_then(|entry| entry.replaced_by)
                .filter(|node| {
                    self.eligible.contains(node) && !others.contains(node) && self.can_take(*node)
                });
            let to = successor.or_else(|| self.best_target(&others));
            let is_spare = others.len() >= self.copies;
            let candidate = Move {
                partition,
                from: Some(leaver),
                to: if is_spare { None } else { to },
                reason: MoveReason::Leaving,
            };
            // Without a target that answers the copy stays, unless no further one is wanted.
            let is_possible = candidate.to.is_some() || is_spare;
            (is_possible && self.allowed(group, &candidate)).then_some(candidate)
        })
    }

    fn grow(&self) -> Option<Move> {
        self.groups().find_map(|(partition, group)| {
            if group.replicas.len() >= self.copies {
                return None;
            }
            let candidate = Move {
                partition,
                from: None,
                to: Some(self.best_target(&group.replicas)?),
                reason: MoveReason::MissingCopy,
            };
            self.allowed(group, &candidate).then_some(candidate)
        })
    }

    fn shrink(&self) -> Option<Move> {
        self.groups().find_map(|(partition, group)| {
            if group.replicas.len() <= self.copies {
                return None;
            }
            let without = |node: NodeId| -> Vec<NodeId> {
                group
                    .replicas
                    .iter()
                    .copied()
                    .filter(|other| *other != node)
                    .collect()
            };
            let from = group.replicas.iter().copied().min_by_key(|node| {
                let is_up = !self.down.contains(node);
                let load = std::cmp::Reverse(self.load(*node));
                (is_up, self.collisions(&without(*node)), load, *node)
            })?;
            let candidate = Move {
                partition,
                from: Some(from),
                to: None,
                reason: MoveReason::SurplusCopy,
            };
            self.allowed(group, &candidate).then_some(candidate)
        })
    }

    /// The swap in a group after which fewer copies share a zone.
    fn separate(&self) -> Option<Move> {
        self.groups().find_map(|(partition, group)| {
            let present = self.collisions(&group.replicas);
            if present == 0 {
                return None;
            }
            let swaps = self.swaps(partition, group, MoveReason::Zone);
            let better = swaps.filter_map(|(candidate, after)| {
                let collisions = self.collisions(&after);
                (collisions < present && self.allowed(group, &candidate))
                    .then_some((candidate, collisions))
            });
            better
                .min_by_key(|(candidate, collisions)| {
                    let from = candidate.from.map_or(0, |node| self.load(node));
                    let to = candidate.to.map_or(0, |node| self.load(node));
                    (*collisions, to, std::cmp::Reverse(from))
                })
                .map(|(candidate, _)| candidate)
        })
    }

    /// The swap that lessens the largest difference of loads without bringing zones together. Nothing is
    /// brought to a slow disk for evenness.
    fn balance(&self) -> Option<Move> {
        let candidates = self.groups().flat_map(|(partition, group)| {
            let present = self.collisions(&group.replicas);
            self.swaps(partition, group, MoveReason::Balance)
                .filter(move |(candidate, after)| {
                    let is_slow = candidate.to.is_some_and(|node| self.is_slow(node));
                    !is_slow && self.collisions(after) <= present && self.allowed(group, candidate)
                })
        });
        let gains = candidates.filter_map(|(candidate, _)| {
            let from = candidate.from.map(|node| self.load(node))?;
            let to = candidate.to.map(|node| self.load(node))?;
            (from >= to + 2).then(|| (from - to, candidate))
        });
        // The first of the best, so that equal choices are made alike.
        gains
            .reduce(|best, next| if next.0 > best.0 { next } else { best })
            .map(|(_, candidate)| candidate)
    }

    /// Every replacement of one copy by a node that answers and has none.
    fn swaps(
        &self,
        partition: PartitionId,
        group: &'a GroupEntry,
        reason: MoveReason,
    ) -> impl Iterator<Item = (Move, Vec<NodeId>)> {
        let targets = self
            .eligible
            .iter()
            .copied()
            .filter(|node| !group.replicas.contains(node) && self.can_take(*node));
        targets.flat_map(move |to| {
            group.replicas.iter().map(move |from| {
                let candidate = Move {
                    partition,
                    from: Some(*from),
                    to: Some(to),
                    reason,
                };
                let after = candidate.applied_to(&group.replicas);
                (candidate, after)
            })
        })
    }
}
