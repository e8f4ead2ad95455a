//! Orders about the members, given while clients buy and things break: nodes join, drain, are taken
//! back, removed and replaced. Each order is only given; the grid carries it out, refuses it, or loses
//! it with the node that was asked.
//!
//! Three nodes are left at the least: fewer would not hold three copies, and the grid refuses them
//! anyway.

use std::collections::BTreeSet;

use grid::simulation;
use grid::{ClusterMap, MemberAction, NodeState};
use grid_core::PartitionId;

use crate::cluster::Cluster;
use crate::plan::Plan;
use crate::random::Random;
use crate::requests::{Asked, Request};

/// The time between two orders, in simulated milliseconds.
const PAUSE_MS: (u64, u64) = (800, 4_000);
/// Nodes that join a run at most.
const JOINING_MAX: u64 = 3;
/// Nodes that are left at the least.
const NODES_MIN: usize = 3;
/// Tickets from here on are orders, whose answers only the trace is told.
const TICKETS: u64 = 1 << 61;

/// The orders of a run.
pub(super) struct Orders {
    random: Random,
    next_ms: u64,
    first: u64,
    newest: u64,
    given: u64,
    /// Nodes that the grid was told to let go.
    ordered_out: BTreeSet<u64>,
}

impl Orders {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            random: Random::new(plan.seed, 4),
            next_ms: 2_000,
            first: plan.nodes,
            newest: plan.nodes,
            given: 0,
            ordered_out: BTreeSet::new(),
        }
    }

    /// How many were given, joins included.
    pub(super) fn count(&self) -> u64 {
        self.given
    }

    /// Whether the grid was told to let a node go.
    pub(super) fn has_ordered_out(&self, node: u64) -> bool {
        self.ordered_out.contains(&node)
    }

    /// Gives an order when one is due.
    pub(super) fn act(&mut self, cluster: &mut Cluster<'_>, now_ms: u64) {
        if now_ms < self.next_ms {
            return;
        }
        self.next_ms = now_ms + self.random.between(PAUSE_MS.0, PAUSE_MS.1);
        let Some(map) = cluster.latest_map() else {
            return;
        };
        let kind = self.random.between(0, 99);
        if kind < 30 {
            return self.join(cluster);
        }
        let Some(action) = self.choose(&map, kind) else {
            return;
        };
        let Some(node) = self.random.pick(&cluster.up()).copied() else {
            return;
        };
        self.given += 1;
        simulation::trace_note(&format!("order {node} {action:?}"));
        if let MemberAction::Remove { node, .. } | MemberAction::Replace { node, .. } = action {
            self.ordered_out.insert(node);
        }
        let request = Request {
            ticket: TICKETS + self.given,
            partition: PartitionId(0),
            asked: Asked::Order(action),
        };
        cluster.ask(node, request);
    }

    fn join(&mut self, cluster: &mut Cluster<'_>) {
        if self.newest < self.first + JOINING_MAX {
            self.newest += 1;
            self.given += 1;
            cluster.add(self.newest);
        }
    }

    fn choose(&mut self, map: &ClusterMap, kind: u64) -> Option<MemberAction> {
        let in_state = |state: NodeState| -> Vec<u64> {
            let nodes = map.members().filter(|(_, entry)| entry.state == state);
            nodes.map(|(node, _)| node).collect()
        };
        let (active, draining) = (in_state(NodeState::Active), in_state(NodeState::Draining));
        let node = self.random.pick(&active).copied();
        let may_lose_one = active.len() > NODES_MIN;
        match kind {
            30..55 => node
                .filter(|_| may_lose_one)
                .map(|node| MemberAction::Drain {
                    node,
                    fewer_copies: false,
                }),
            55..65 => {
                let node = self.random.pick(&draining).copied();
                node.map(|node| MemberAction::Activate { node })
            }
            65..85 => node
                .filter(|_| may_lose_one)
                .map(|node| MemberAction::Remove {
                    node,
                    drain: true,
                    fewer_copies: false,
                }),
            _ => {
                let with = self.random.pick(&active).copied()?;
                node.filter(|node| may_lose_one && *node != with)
                    .map(|node| MemberAction::Replace { node, with })
            }
        }
    }
}
