//! One log: whatever a replica applies at an index is what every other one applied there, and gives
//! the same state. No replica skips or repeats an entry.

use std::collections::BTreeMap;

use grid_core::PartitionId;

use super::{Fact, Invariant};
use crate::history::History;

/// See the module.
#[derive(Default)]
pub(super) struct ReplicasAgree {
    /// The last index that each running replica applied.
    last: BTreeMap<(u64, PartitionId), u64>,
}

impl Invariant for ReplicasAgree {
    fn name(&self) -> &'static str {
        "replicas_agree"
    }

    fn check(&mut self, history: &History, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Applied {
                node,
                partition,
                index,
                entry,
                hash,
            } => {
                let place = format!("node {node} partition {partition} entry {index}");
                let known = history
                    .get(*partition)
                    .and_then(|log| log.entries.get(index));
                let known = known.ok_or_else(|| format!("{place} is unknown"))?;
                if known.entry.as_deref() != *entry {
                    return Err(format!(
                        "{place} is not the one that node {} applied",
                        known.by
                    ));
                }
                if known.hash != *hash || known.reference_hash != *hash {
                    return Err(format!(
                        "{place} gives {hash}, node {} had {}, the rules say {}",
                        known.by, known.hash, known.reference_hash
                    ));
                }
                if let Some(last) = self.last.insert((*node, *partition), *index)
                    && *index != last + 1
                {
                    return Err(format!("{place} follows entry {last}"));
                }
            }
            Fact::Restored {
                node,
                partition,
                index,
                hash,
            } => {
                self.last.insert((*node, *partition), *index);
                let known = history
                    .get(*partition)
                    .and_then(|log| log.entries.get(index));
                if known.is_some_and(|known| known.hash != *hash) {
                    return Err(format!(
                        "node {node} takes over partition {partition} at {index} with another state"
                    ));
                }
            }
            Fact::Opened { node, partition } => {
                self.last.remove(&(*node, *partition));
            }
            Fact::Crashed { node } => self.last.retain(|(of, _), _| of != node),
            Fact::Settled { standing } => {
                for replica in *standing {
                    let same = |other: &&super::Standing| other.partition == replica.partition;
                    if let Some(other) = standing.iter().filter(same).find(|other| {
                        (other.index, other.hash, other.digest)
                            != (replica.index, replica.hash, replica.digest)
                    }) {
                        return Err(format!("at rest {replica:?} is not {other:?}"));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}
