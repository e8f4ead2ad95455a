//! The cluster map as a replicated state: the commands that change it, and what they refuse.
//!
//! Whatever must hold of the map is checked here, where every replica of it decides alike: one group is
//! moved at a time, a copy is given up only for the membership that was asked for, a removed node holds
//! nothing.

use grid_core::entry::RULES_FIRST;
use grid_core::{ApplyContext, CodecError, PartitionId, Slot, Space, SpaceView, Timestamp, codec};
use serde::{Deserialize, Serialize};

use super::map::{ClusterMap, NodeInfo, NodeState};
use super::revocations::{Revocation, Revocations};
use crate::node::NodeId;

/// The longest address or zone, in bytes.
const TEXT_BYTES_MAX: usize = 255;
/// Nodes of a grid, removed ones included.
const NODES_MAX: usize = 256;
/// Where a snapshot has the map.
const MAP_SLOT: u16 = 0;
/// Where it has what is revoked, if anything ever was: builds before that do not know of it.
const REVOCATIONS_SLOT: u16 = 1;

/// Why a change of the members is not made. The text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// There is no map yet.
    #[error("the grid is not founded yet; try again when its first nodes run")]
    NotFounded,
    /// No such node.
    #[error("there is no node {node}; `grid node list` shows those there are")]
    UnknownNode {
        /// The node named.
        node: NodeId,
    },
    /// The node was removed.
    #[error("node {node} was removed; give it an empty directory or another number to join again")]
    Removed {
        /// The node named.
        node: NodeId,
    },
    /// Another process runs under that number.
    #[error("node {node} is running already at {address}; choose another number")]
    InUse {
        /// The node named.
        node: NodeId,
        /// Where it runs.
        address: String,
    },
    /// The grid has as many nodes as it may.
    #[error("the grid has as many nodes as it may have")]
    TooManyNodes,
    /// An address or zone is too long, or a number is 0.
    #[error("{what} is not valid")]
    Invalid {
        /// What is wrong.
        what: String,
    },
    /// Nobody would be left.
    #[error("node {node} is the last that can hold data; add another before")]
    LastNode {
        /// The node named.
        node: NodeId,
    },
    /// Fewer nodes than copies would be left.
    #[error(
        "without node {node} only {nodes} nodes are left for {replicas} copies of each partition; add a \
         node before, or accept fewer copies (--fewer-copies)"
    )]
    FewerCopies {
        /// The node named.
        node: NodeId,
        /// How many would be left.
        nodes: u32,
        /// How many copies are wanted.
        replicas: u32,
    },
    /// The node holds replicas.
    #[error(
        "node {node} holds {replicas} replicas; drain it before (grid node drain {node}), or have that \
         done as well (--drain)"
    )]
    HoldsReplicas {
        /// The node named.
        node: NodeId,
        /// How many.
        replicas: u32,
    },
    /// The successor cannot take replicas.
    #[error("node {node} cannot take replicas over: it drains, is removed or is coming back")]
    NotEligible {
        /// The node named.
        node: NodeId,
    },
    /// The node's build knows only older rules than the grid follows.
    #[error(
        "node {node} knows the rules up to {known}, the grid follows rules {followed}; start it with a \
         newer build"
    )]
    OlderRules {
        /// The node named.
        node: NodeId,
        /// What it knows.
        known: u16,
        /// What the grid follows.
        followed: u16,
    },
    /// Some members do not know the newer rules.
    #[error(
        "nodes {nodes:?} do not know rules {rules} yet; start them with the newer build, or remove them"
    )]
    OlderNodes {
        /// The rules asked for.
        rules: u16,
        /// Which nodes.
        nodes: Vec<NodeId>,
    },
    /// The map has changed since the command was made.
    #[error("the cluster map has changed meanwhile")]
    Outdated,
    /// Moving replicas would leave these partitions without a majority that answers.
    #[error("partitions {partitions:?} would be without a majority that answers: {why}")]
    NoQuorum {
        /// The partitions.
        partitions: Vec<PartitionId>,
        /// What is missing.
        why: String,
    },
}

impl Refusal {
    /// A short stable name, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFounded => "not_founded",
            Self::UnknownNode { .. } => "unknown_node",
            Self::Removed { .. } => "removed",
            Self::InUse { .. } => "in_use",
            Self::TooManyNodes => "too_many_nodes",
            Self::Invalid { .. } => "invalid",
            Self::LastNode { .. } => "last_node",
            Self::FewerCopies { .. } => "fewer_copies",
            Self::HoldsReplicas { .. } => "holds_replicas",
            Self::NotEligible { .. } => "not_eligible",
            Self::OlderRules { .. } => "older_rules",
            Self::OlderNodes { .. } => "older_nodes",
            Self::Outdated => "outdated",
            Self::NoQuorum { .. } => "no_quorum",
        }
    }
}

/// What the map is asked to note.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum MapCommand {
    /// The map of a new grid. Ignored when there is one.
    Found(ClusterMap),
    /// A node comes, comes back, or has moved.
    Join(NodeInfo),
    /// A node is to give its replicas up.
    Drain {
        node: NodeId,
        fewer_copies: bool,
        remove: bool,
        replaced_by: Option<NodeId>,
    },
    /// A drained node is to hold its share again.
    Activate { node: NodeId },
    /// A node that holds nothing goes for good.
    Remove { node: NodeId },
    /// A group is to be held by these nodes; `epoch` is the group's present one.
    Place {
        group: PartitionId,
        replicas: Vec<NodeId>,
        epoch: u64,
    },
    /// The group's membership is what `Place` asked for.
    Settle { group: PartitionId, epoch: u64 },
    /// No group counts on the node's old disk any more.
    Readmit { node: NodeId },
    /// The grid is to follow these rules from now on.
    Follow { rules: u16 },
    /// A subject's older credentials are to be refused; `now_s` lets old records go.
    Revoke { order: Revocation, now_s: u64 },
}

/// The map's epoch after the command, or why it was not carried out.
pub(crate) type MapReply = Result<u64, Refusal>;

/// The space of the meta group.
#[derive(Clone, Debug, Default)]
pub(crate) struct MapSpace {
    map: Option<ClusterMap>,
    revocations: Revocations,
}

impl MapSpace {
    /// The map; `None` before the founding.
    pub(crate) fn map(&self) -> Option<&ClusterMap> {
        self.map.as_ref()
    }

    /// What is refused.
    pub(crate) fn revocations(&self) -> &Revocations {
        &self.revocations
    }
}

/// What a drain would be refused for.
///
/// # Errors
/// See [`Refusal`].
pub(crate) fn check_drain(
    map: &ClusterMap,
    node: NodeId,
    fewer_copies: bool,
) -> Result<(), Refusal> {
    let entry = map.nodes.get(&node).ok_or(Refusal::UnknownNode { node })?;
    if entry.state == NodeState::Removed {
        return Err(Refusal::Removed { node });
    }
    let mut left = map.eligible();
    left.remove(&node);
    if left.is_empty() {
        return Err(Refusal::LastNode { node });
    }
    let nodes = u32::try_from(left.len()).unwrap_or(u32::MAX);
    if nodes < map.replicas && !fewer_copies && map.holds_anything(node) {
        return Err(Refusal::FewerCopies {
            node,
            nodes,
            replicas: map.replicas,
        });
    }
    Ok(())
}

fn check_info(info: &NodeInfo) -> Result<(), Refusal> {
    let invalid = |what: &str| {
        Err(Refusal::Invalid {
            what: what.to_owned(),
        })
    };
    if info.node == 0 {
        return invalid("node number 0");
    }
    if info.peer_address.is_empty() || info.peer_address.len() > TEXT_BYTES_MAX {
        return invalid("the node's address");
    }
    if info.gateway_address.len() > TEXT_BYTES_MAX {
        return invalid("the gateway's address");
    }
    if info.zone.len() > TEXT_BYTES_MAX {
        return invalid("the zone");
    }
    Ok(())
}

fn join(map: &mut ClusterMap, info: NodeInfo) -> Result<(), Refusal> {
    check_info(&info)?;
    let node = info.node;
    if info.is_known_to(map) && map.admits(node, info.incarnation) {
        return Ok(());
    }
    if info.rules < map.rules {
        return Err(Refusal::OlderRules {
            node,
            known: info.rules,
            followed: map.rules,
        });
    }
    let held = map.holds_anything(node);
    let count = map.nodes.len();
    match map.nodes.get_mut(&node) {
        None if count >= NODES_MAX => return Err(Refusal::TooManyNodes),
        None => {
            map.nodes.insert(node, info.entry());
        }
        Some(entry) if entry.incarnation == info.incarnation => {
            if entry.state == NodeState::Removed {
                return Err(Refusal::Removed { node });
            }
            entry.peer_address = info.peer_address;
            entry.gateway_address = info.gateway_address;
            entry.zone = info.zone;
            entry.rules = info.rules;
        }
        Some(entry) if held => {
            // The addresses stay the old disk's until that is out of every group.
            if entry.returning == Some(info.incarnation) {
                return Ok(());
            }
            entry.returning = Some(info.incarnation);
        }
        Some(entry) => *entry = info.entry(),
    }
    map.epoch += 1;
    Ok(())
}

fn drain(
    map: &mut ClusterMap,
    node: NodeId,
    fewer_copies: bool,
    remove: bool,
    replaced_by: Option<NodeId>,
) -> Result<(), Refusal> {
    check_drain(map, node, fewer_copies)?;
    if let Some(successor) = replaced_by
        && (successor == node || !map.eligible().contains(&successor))
    {
        return Err(Refusal::NotEligible { node: successor });
    }
    if let Some(entry) = map.nodes.get_mut(&node) {
        entry.state = NodeState::Draining;
        entry.remove_when_empty |= remove;
        entry.replaced_by = replaced_by.or(entry.replaced_by);
    }
    map.epoch += 1;
    Ok(())
}

fn activate(map: &mut ClusterMap, node: NodeId) -> Result<(), Refusal> {
    let entry = map
        .nodes
        .get_mut(&node)
        .ok_or(Refusal::UnknownNode { node })?;
    match entry.state {
        NodeState::Removed => return Err(Refusal::Removed { node }),
        NodeState::Active => return Ok(()),
        NodeState::Draining => {}
    }
    entry.state = NodeState::Active;
    entry.remove_when_empty = false;
    entry.replaced_by = None;
    map.epoch += 1;
    Ok(())
}

fn remove(map: &mut ClusterMap, node: NodeId) -> Result<(), Refusal> {
    let state = map.nodes.get(&node).map(|entry| entry.state);
    match state {
        None => return Err(Refusal::UnknownNode { node }),
        Some(NodeState::Removed) => return Ok(()),
        Some(NodeState::Active | NodeState::Draining) => {}
    }
    if map.holds_anything(node) {
        return Err(Refusal::HoldsReplicas {
            node,
            replicas: u32::try_from(map.load(node)).unwrap_or(u32::MAX),
        });
    }
    if map.members().count() <= 1 {
        return Err(Refusal::LastNode { node });
    }
    if let Some(entry) = map.nodes.get_mut(&node) {
        entry.state = NodeState::Removed;
        entry.returning = None;
    }
    map.epoch += 1;
    Ok(())
}

fn place(
    map: &mut ClusterMap,
    group: PartitionId,
    replicas: Vec<NodeId>,
    epoch: u64,
) -> Result<(), Refusal> {
    let moving = map.moving().map(|(partition, _)| partition);
    if moving.is_some_and(|other| other != group) {
        return Err(Refusal::Outdated);
    }
    let eligible = map.eligible();
    let entry = map.groups.get_mut(&group).ok_or(Refusal::Outdated)?;
    let is_known = |node: &NodeId| eligible.contains(node) || entry.holders().any(|h| h == *node);
    let mut distinct = replicas.clone();
    distinct.sort_unstable();
    distinct.dedup();
    if entry.epoch != epoch
        || replicas.is_empty()
        || distinct.len() != replicas.len()
        || !replicas.iter().all(is_known)
    {
        return Err(Refusal::Outdated);
    }
    let leaving: Vec<NodeId> = entry
        .holders()
        .filter(|node| !replicas.contains(node))
        .collect();
    entry.replicas = replicas;
    entry.leaving = leaving;
    entry.settled = false;
    entry.epoch += epochs_of_a_move();
    map.epoch += 1;
    Ok(())
}

/// By how much a group's epoch grows with its holders.
fn epochs_of_a_move() -> u64 {
    #[cfg(feature = "planted-bugs")]
    if crate::platform::simulated::is_planted("same-epoch") {
        return 0;
    }
    1
}

fn settle(map: &mut ClusterMap, group: PartitionId, epoch: u64) -> Result<(), Refusal> {
    let entry = map.groups.get_mut(&group).ok_or(Refusal::Outdated)?;
    if entry.epoch != epoch {
        return Err(Refusal::Outdated);
    }
    if entry.settled {
        return Ok(());
    }
    entry.settled = true;
    entry.leaving.clear();
    map.epoch += 1;
    Ok(())
}

fn readmit(map: &mut ClusterMap, node: NodeId) -> Result<(), Refusal> {
    if map.holds_anything(node) {
        return Err(Refusal::Outdated);
    }
    let entry = map
        .nodes
        .get_mut(&node)
        .ok_or(Refusal::UnknownNode { node })?;
    if let Some(incarnation) = entry.returning.take() {
        entry.incarnation = incarnation;
        map.epoch += 1;
    }
    Ok(())
}

/// There is no way back: from then on logs may hold what older builds cannot apply.
fn follow(map: &mut ClusterMap, rules: u16) -> Result<(), Refusal> {
    let older: Vec<NodeId> = map
        .members()
        .filter(|(_, entry)| entry.rules < rules)
        .map(|(node, _)| node)
        .collect();
    if !older.is_empty() {
        return Err(Refusal::OlderNodes {
            rules,
            nodes: older,
        });
    }
    if rules > map.rules {
        map.rules = rules;
        map.epoch += 1;
    }
    Ok(())
}

impl MapSpace {
    pub(super) fn carry_out(&mut self, command: MapCommand) -> MapReply {
        if let MapCommand::Found(map) = command {
            return Ok(self.map.get_or_insert(map).epoch);
        }
        if let MapCommand::Revoke { order, now_s } = command {
            self.revocations.note(order, now_s);
            return Ok(self.map.as_ref().map_or(0, |map| map.epoch));
        }
        let map = self.map.as_mut().ok_or(Refusal::NotFounded)?;
        match command {
            MapCommand::Found(_) | MapCommand::Revoke { .. } => {}
            MapCommand::Join(info) => join(map, info)?,
            MapCommand::Drain {
                node,
                fewer_copies,
                remove,
                replaced_by,
            } => drain(map, node, fewer_copies, remove, replaced_by)?,
            MapCommand::Activate { node } => activate(map, node)?,
            MapCommand::Remove { node } => remove(map, node)?,
            MapCommand::Place {
                group,
                replicas,
                epoch,
            } => place(map, group, replicas, epoch)?,
            MapCommand::Settle { group, epoch } => settle(map, group, epoch)?,
            MapCommand::Readmit { node } => readmit(map, node)?,
            MapCommand::Follow { rules } => follow(map, rules)?,
        }
        Ok(map.epoch)
    }
}

impl SpaceView for MapSpace {
    fn slots(&self) -> Vec<Slot> {
        let has_revocations = self.revocations != Revocations::default();
        let revocations = Slot::new(REVOCATIONS_SLOT).filter(|_| has_revocations);
        Slot::new(MAP_SLOT).into_iter().chain(revocations).collect()
    }

    fn encode_slot(&self, slot: Slot, out: &mut Vec<u8>) -> Result<(), CodecError> {
        match Some(slot) == Slot::new(REVOCATIONS_SLOT) {
            true => codec::encode_into(&self.revocations, out),
            false => codec::encode_into(&self.map, out),
        }
    }
}

impl Space for MapSpace {
    const RULES: u16 = RULES_FIRST;
    type Command = MapCommand;
    type Reply = MapReply;
    type Change = ();
    type Query = ();
    type Answer = Option<ClusterMap>;
    type View = Self;

    fn apply(&mut self, _context: &mut ApplyContext<'_, ()>, command: MapCommand) -> MapReply {
        self.carry_out(command)
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        None
    }

    fn fire_due(&mut self, _context: &mut ApplyContext<'_, ()>, _limit: usize) {}

    fn query(&self, (): &()) -> Option<ClusterMap> {
        self.map.clone()
    }

    fn view(&self) -> Self {
        self.clone()
    }

    fn restore_slot(&mut self, slot: Slot, bytes: &[u8]) -> Result<(), CodecError> {
        match Some(slot) == Slot::new(REVOCATIONS_SLOT) {
            true => self.revocations = codec::decode(bytes)?,
            false => self.map = codec::decode(bytes)?,
        }
        Ok(())
    }

    fn check_invariants(&self) -> Result<(), String> {
        self.map.as_ref().map_or(Ok(()), ClusterMap::check)
    }
}
