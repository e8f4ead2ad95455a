//! Once: whatever comes under a key a second time is answered with the first reply and changes
//! nothing.

use std::collections::BTreeSet;

use grid_core::Outcome;

use super::{Fact, Invariant};
use crate::history::History;

/// See the module.
pub(super) struct Once;

impl Invariant for Once {
    fn name(&self) -> &'static str {
        "once"
    }

    fn check(&mut self, history: &History, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Committed(entry) = fact else {
            return Ok(());
        };
        let mut carried_out = BTreeSet::new();
        for (key, outcome) in &entry.outcomes {
            let place = format!(
                "partition {} key {:032x} at {}",
                entry.partition, key.0, entry.index
            );
            let first = history
                .get(entry.partition)
                .and_then(|log| log.first_outcome(*key));
            let (first_index, first) = first.ok_or_else(|| format!("{place} is unknown"))?;
            let (Outcome::Reply { reply, replayed }, Outcome::Reply { reply: before, .. }) =
                (outcome, first)
            else {
                return Err(format!("{place}: {outcome:?}"));
            };
            // A key that comes twice in one entry is a retry in the same batch.
            let is_first = first_index == entry.index && carried_out.insert(*key);
            if *replayed == is_first {
                return Err(format!(
                    "{place} is carried out again, first at {first_index}"
                ));
            }
            if reply != before {
                return Err(format!("{place} says {reply:?}, before {before:?}"));
            }
        }
        Ok(())
    }
}
