//! What the checks go by.

use std::collections::BTreeMap;

use grid::NodeStatus;
use grid::health::GridHealth;

use crate::cluster::{self, AttachedPump};

/// How a node's gateway answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GatewayAnswer {
    /// It was not asked: nobody knows where it is.
    Unknown,
    /// It answered.
    Answered,
    /// Nothing listens there.
    Refused(String),
    /// Something listens and does not answer in time.
    Silent(String),
}

/// One node.
#[derive(Clone, Debug)]
pub(crate) struct NodeFacts {
    /// Where its gateway is, if that is known.
    pub(crate) gateway_url: Option<String>,
    /// How it answered.
    pub(crate) gateway: GatewayAnswer,
    /// What it says of itself, directly or through another node.
    pub(crate) status: Option<NodeStatus>,
    /// By how much its clock is ahead of this machine's, and how long asking took, in milliseconds.
    pub(crate) clock_ahead_ms: Option<(i64, u64)>,
}

/// What the database says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DatabaseFacts {
    /// The doctor does not know where it is.
    Unknown,
    /// It answers; so many changes are parked, the last of them described.
    Running {
        /// How many, up to a bound.
        parked: usize,
        /// The last few.
        examples: Vec<String>,
    },
    /// It does not.
    Unreachable(String),
}

/// Everything.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// By number; every node that anybody knows of.
    pub(crate) nodes: BTreeMap<u64, NodeFacts>,
    /// The grid's health by what all nodes say, gathered over their gateways.
    pub(crate) health: GridHealth,
    /// The database.
    pub(crate) database: DatabaseFacts,
}

impl Facts {
    /// What the nodes that could be asked say.
    pub(crate) fn statuses(&self) -> impl Iterator<Item = (u64, &NodeStatus)> {
        self.nodes
            .iter()
            .filter_map(|(id, node)| Some((*id, node.status.as_ref()?)))
    }

    /// The pumps of the nodes that could be asked.
    pub(crate) fn pumps(&self) -> impl Iterator<Item = (u64, AttachedPump)> {
        self.statuses()
            .filter_map(|(id, status)| Some((id, cluster::pump(status)?)))
    }

    /// The nodes that run and cannot reach a node.
    pub(crate) fn cut_off_from(&self, node: u64) -> Vec<u64> {
        self.statuses()
            .filter(|(_, status)| status.unreachable.contains(&node))
            .map(|(id, _)| id)
            .collect()
    }
}

/// `node 1, node 2`.
pub(crate) fn node_list(nodes: &[u64]) -> String {
    let nodes: Vec<String> = nodes.iter().map(|node| format!("node {node}")).collect();
    nodes.join(", ")
}
