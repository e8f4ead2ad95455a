//! Whom this node dials and whom it lets in.

use std::collections::BTreeMap;

use parking_lot::RwLock;

use super::handshake::{Hello, Refusal, RefusalReason, Role};

/// A peer, as the members' map has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerSpec {
    /// As `host:port`, tried in turn.
    pub(crate) addresses: Vec<String>,
    /// Stands for its disk; `None` while no map says which it must be.
    pub(crate) incarnation: Option<u64>,
}

/// All peers, and those that were removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PeerTable {
    /// By number, this node itself left out.
    pub(crate) peers: BTreeMap<u64, PeerSpec>,
    /// The disk with which a node was removed.
    pub(crate) removed: BTreeMap<u64, u64>,
}

/// The present table, shared by acceptor and diallers.
#[derive(Debug, Default)]
pub(super) struct Peers {
    table: RwLock<PeerTable>,
}

impl Peers {
    pub(super) fn new(table: PeerTable) -> Self {
        Self {
            table: RwLock::new(table),
        }
    }

    pub(super) fn set(&self, table: PeerTable) {
        *self.table.write() = table;
    }

    /// Whether the node that says this may connect to node `own`.
    pub(super) fn judge(&self, own: u64, hello: &Hello) -> Result<(), Refusal> {
        match hello.role {
            Role::Guest | Role::Gateway => Ok(()),
            Role::Member => self.judge_member(own, hello.from, hello.incarnation),
        }
    }

    /// Whether a node with this disk is a member.
    pub(super) fn judge_member(
        &self,
        own: u64,
        node: u64,
        incarnation: u64,
    ) -> Result<(), Refusal> {
        let table = self.table.read();
        let refuse = |reason, detail: String| Err(Refusal::new(reason, detail));
        if table.removed.get(&node) == Some(&incarnation) {
            return refuse(
                RefusalReason::Removed,
                format!("node {node} was removed from the grid"),
            );
        }
        let Some(spec) = table.peers.get(&node) else {
            return refuse(
                RefusalReason::UnknownNode,
                format!("node {node} is not a member known to node {own}"),
            );
        };
        match spec.incarnation {
            Some(known) if known != incarnation => refuse(
                RefusalReason::Incarnation,
                format!(
                    "node {node} has another disk ({incarnation:016x}) than node {own} knows it by \
                     ({known:016x}); it must join again"
                ),
            ),
            _ => Ok(()),
        }
    }
}
