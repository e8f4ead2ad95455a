//! Refused means not done: a command of which its client was told, each time it tried, that it was
//! certainly not carried out, is not in the log, then or later.

use std::collections::BTreeSet;

use super::{Fact, Invariant};
use crate::history::History;

/// See the module.
#[derive(Default)]
pub(super) struct RefusedIsNotDone {
    refused: BTreeSet<u128>,
}

impl Invariant for RefusedIsNotDone {
    fn name(&self) -> &'static str {
        "refused_is_not_done"
    }

    fn check(&mut self, history: &History, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::CertainlyRefused { partition, key } => {
                let log = history.get(*partition);
                if let Some(places) = log.and_then(|log| log.places.get(&key.0)) {
                    return Err(format!(
                        "partition {partition} key {:032x} was refused for certain and is at {places:?}",
                        key.0
                    ));
                }
                self.refused.insert(key.0);
            }
            Fact::Committed(entry) => {
                for (key, _) in &entry.outcomes {
                    if self.refused.contains(&key.0) {
                        return Err(format!(
                            "partition {} key {:032x} was refused for certain and comes at {}",
                            entry.partition, key.0, entry.index
                        ));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}
