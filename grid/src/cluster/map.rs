//! The cluster map: which nodes there are, where they are reached, and which of them hold what.
//!
//! One value, replicated in the meta group. It says what is *wanted*; what is, each group's own Raft
//! membership says. The two differ for at most one group at a time: the one that is being moved.
//!
//! Invariants:
//! * `epoch` grows with every change, so of two maps of a grid the later one is known;
//! * a node that holds a replica, or is still leaving a group, is in `nodes` and not removed;
//! * every member knows the rules that the grid follows, and these never go back;
//! * a node's `incarnation` stands for its disk: with another disk it is another node under an old
//!   number, and is not let in before every group has let go of the old one.

use std::collections::{BTreeMap, BTreeSet};

use grid_core::{PartitionId, Space};
use serde::{Deserialize, Serialize};

use crate::error::StartError;
use crate::node::NodeId;

/// The group that replicates the cluster map. It is placed and moved like any partition.
pub const META: PartitionId = PartitionId(u32::MAX);

/// Whether a node is to hold replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// It takes its share.
    Active,
    /// Its replicas are moved to others.
    Draining,
    /// It holds nothing and is refused by the others.
    Removed,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// Where other nodes reach it, as `host:port`.
    pub peer_address: String,
    /// Where clients reach its gateway, as a URL; empty when it has none.
    pub gateway_address: String,
    /// What fails together, such as a rack. Empty when not said.
    pub zone: String,
    /// What it is to do.
    pub state: NodeState,
    /// Stands for its disk.
    pub incarnation: u64,
    /// It has come back with another disk, which is let in when no group counts on the old one.
    pub returning: Option<u64>,
    /// It is removed as soon as it holds nothing.
    pub remove_when_empty: bool,
    /// The node that takes its replicas over where it can.
    pub replaced_by: Option<NodeId>,
    /// The newest rules that its build knows, as it last said.
    pub rules: u16,
}

impl NodeEntry {
    /// Whether replicas may be placed on it.
    #[must_use]
    pub fn is_eligible(&self) -> bool {
        self.state == NodeState::Active && self.returning.is_none()
    }
}

/// One group: a partition, or the map itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupEntry {
    /// The nodes that are to hold it.
    pub replicas: Vec<NodeId>,
    /// Nodes that held it and may still have a vote in it.
    pub leaving: Vec<NodeId>,
    /// Whether its membership is known to be `replicas`.
    pub settled: bool,
    /// Grows with every change of `replicas`, from 1 at the founding.
    pub epoch: u64,
}

impl GroupEntry {
    /// Every node that may have something of it.
    pub fn holders(&self) -> impl Iterator<Item = NodeId> {
        self.replicas.iter().chain(&self.leaving).copied()
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterMap {
    /// Grows with every change, from 1.
    pub epoch: u64,
    /// Grows when slots move between partitions; they do not so far.
    pub slots_epoch: u64,
    /// Partitions of the grid.
    pub partitions: u32,
    /// Replicas wanted of each group.
    pub replicas: u32,
    /// The rules that leaders stamp entries with; see [`grid_core::Space::RULES`].
    pub rules: u16,
    /// Every node there is or was.
    pub nodes: BTreeMap<NodeId, NodeEntry>,
    /// Every partition, and the map itself under [`META`].
    pub groups: BTreeMap<PartitionId, GroupEntry>,
}

/// What a node says of itself when it comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeInfo {
    pub(crate) node: NodeId,
    pub(crate) incarnation: u64,
    pub(crate) peer_address: String,
    pub(crate) gateway_address: String,
    pub(crate) zone: String,
    /// The newest rules that its build knows.
    pub(crate) rules: u16,
}

impl NodeInfo {
    pub(super) fn entry(self) -> NodeEntry {
        NodeEntry {
            peer_address: self.peer_address,
            gateway_address: self.gateway_address,
            zone: self.zone,
            state: NodeState::Active,
            incarnation: self.incarnation,
            returning: None,
            remove_when_empty: false,
            replaced_by: None,
            rules: self.rules,
        }
    }

    /// Whether the map says the same of it.
    pub(crate) fn is_known_to(&self, map: &ClusterMap) -> bool {
        map.nodes.get(&self.node).is_some_and(|entry| {
            entry.incarnation == self.incarnation
                && entry.peer_address == self.peer_address
                && entry.gateway_address == self.gateway_address
                && entry.zone == self.zone
                && entry.rules == self.rules
        })
    }
}

impl ClusterMap {
    /// Whether a node holds, or may still hold, a replica.
    #[must_use]
    pub fn holds_anything(&self, node: NodeId) -> bool {
        self.groups
            .values()
            .any(|group| group.holders().any(|holder| holder == node))
    }

    /// How many replicas a node is to hold.
    #[must_use]
    pub fn load(&self, node: NodeId) -> usize {
        let holds = |group: &&GroupEntry| group.replicas.contains(&node);
        self.groups.values().filter(holds).count()
    }

    /// The nodes that replicas may be placed on.
    #[must_use]
    pub fn eligible(&self) -> BTreeSet<NodeId> {
        let eligible = self.nodes.iter().filter(|(_, entry)| entry.is_eligible());
        eligible.map(|(node, _)| *node).collect()
    }

    /// The nodes that are not removed.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, &NodeEntry)> {
        self.nodes
            .iter()
            .filter(|(_, entry)| entry.state != NodeState::Removed)
            .map(|(node, entry)| (*node, entry))
    }

    /// Whether a node is to be removed and holds nothing any more.
    #[must_use]
    pub fn is_leaving(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|entry| {
            entry.state == NodeState::Draining
                && entry.remove_when_empty
                && entry.returning.is_none()
                && !self.holds_anything(node)
        })
    }

    /// The newest rules that any member knows.
    #[must_use]
    pub fn newest_rules(&self) -> u16 {
        let known = self.members().map(|(_, entry)| entry.rules);
        known.max().unwrap_or(self.rules)
    }

    /// The group that is being moved, if one is.
    #[must_use]
    pub fn moving(&self) -> Option<(PartitionId, &GroupEntry)> {
        self.groups
            .iter()
            .find(|(_, group)| !group.settled)
            .map(|(partition, group)| (*partition, group))
    }

    /// Whether `node` with this disk is to hold a replica of the group.
    #[must_use]
    pub fn is_holder(&self, partition: PartitionId, node: NodeId, incarnation: u64) -> bool {
        self.admits(node, incarnation)
            && self
                .groups
                .get(&partition)
                .is_some_and(|group| group.holders().any(|holder| holder == node))
    }

    /// Whether `node` with this disk is a member.
    #[must_use]
    pub fn admits(&self, node: NodeId, incarnation: u64) -> bool {
        self.nodes.get(&node).is_some_and(|entry| {
            entry.state != NodeState::Removed && entry.incarnation == incarnation
        })
    }

    /// Whether `node` with this disk was removed for good.
    #[must_use]
    pub fn has_removed(&self, node: NodeId, incarnation: u64) -> bool {
        self.nodes.get(&node).is_some_and(|entry| {
            entry.state == NodeState::Removed && entry.incarnation == incarnation
        })
    }

    /// Refuses a build that is too old for this grid.
    ///
    /// # Errors
    /// [`StartError::OlderBuild`].
    pub(crate) fn check_build<S: Space>(&self) -> Result<(), StartError> {
        let (followed, known) = (self.rules, S::RULES);
        match followed > known {
            true => Err(StartError::OlderBuild { followed, known }),
            false => Ok(()),
        }
    }

    /// Checks what the module promises.
    ///
    /// # Errors
    /// The first broken promise, in words.
    pub fn check(&self) -> Result<(), String> {
        for (partition, group) in &self.groups {
            if group.replicas.is_empty() {
                return Err(format!("group {partition} has no replicas"));
            }
            let holders: Vec<NodeId> = group.holders().collect();
            let distinct: BTreeSet<NodeId> = holders.iter().copied().collect();
            if distinct.len() != holders.len() {
                return Err(format!("group {partition} names a node twice"));
            }
            if group.settled && !group.leaving.is_empty() {
                return Err(format!("group {partition} is settled and left"));
            }
            for node in holders {
                let state = self.nodes.get(&node).map(|entry| entry.state);
                if state.is_none_or(|state| state == NodeState::Removed) {
                    return Err(format!("group {partition} is held by node {node}"));
                }
            }
        }
        if let Some((node, _)) = self.members().find(|(_, entry)| entry.rules < self.rules) {
            return Err(format!("node {node} does not know rules {}", self.rules));
        }
        let moving = self.groups.values().filter(|group| !group.settled).count();
        if moving > 1 {
            return Err(format!("{moving} groups are moved at once"));
        }
        Ok(())
    }
}
