//! A node stops by itself only when its disk gave it reason to; and clients see no error that says
//! that nodes do not understand each other.

use grid::GridError;

use super::{Fact, Invariant};
use crate::history::History;

/// See the module.
pub(super) struct NodesStand;

impl Invariant for NodesStand {
    fn name(&self) -> &'static str {
        "nodes_stand"
    }

    fn check(&mut self, _history: &History, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Stopped {
                node,
                reason,
                is_excused: false,
            } => Err(format!("node {node} stopped: {reason}")),
            Fact::Failed(
                error @ (GridError::IdempotencyConflict
                | GridError::Malformed
                | GridError::UnknownPartition),
            ) => Err(format!("a client was told: {error}")),
            _ => Ok(()),
        }
    }
}
