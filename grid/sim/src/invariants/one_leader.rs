//! One leader a term; and no running replica goes back to an earlier one.

use std::collections::BTreeMap;

use grid::ReplicaRole;
use grid_core::PartitionId;

use super::{Fact, Invariant};
use crate::history::History;

/// See the module.
#[derive(Default)]
pub(super) struct OneLeader {
    leaders: BTreeMap<(PartitionId, u64), u64>,
    terms: BTreeMap<(u64, PartitionId), u64>,
}

impl Invariant for OneLeader {
    fn name(&self) -> &'static str {
        "one_leader"
    }

    fn check(&mut self, _history: &History, fact: &Fact<'_>) -> Result<(), String> {
        let (node, status) = match fact {
            Fact::Status { node, status } => (node, status),
            Fact::Crashed { node } => {
                // A term that was not yet on disk may be forgotten.
                self.terms.retain(|(of, _), _| of != node);
                return Ok(());
            }
            Fact::Opened { node, partition } => {
                // The replica was not here for a while: it comes back as one that knows nothing.
                self.terms.remove(&(*node, *partition));
                return Ok(());
            }
            _ => return Ok(()),
        };
        for replica in &status.replicas {
            let partition = replica.partition;
            let before = self.terms.insert((*node, partition), replica.term);
            if before.is_some_and(|before| before > replica.term) {
                return Err(format!(
                    "node {node} partition {partition} goes back from term {before:?} to {}",
                    replica.term
                ));
            }
            if replica.role == ReplicaRole::Leader {
                let leader = self
                    .leaders
                    .entry((partition, replica.term))
                    .or_insert(*node);
                if leader != node {
                    return Err(format!(
                        "partition {partition} term {}: nodes {leader} and {node} lead",
                        replica.term
                    ));
                }
            }
        }
        Ok(())
    }
}
