//! The domains' own invariants, on the live state of every replica.

use super::{Fact, Invariant};
use crate::history::History;

/// See the module.
pub(super) struct SpaceRules;

impl Invariant for SpaceRules {
    fn name(&self) -> &'static str {
        "space_rules"
    }

    fn check(&mut self, _history: &History, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Inspected {
                node,
                partition,
                verdict: Err(verdict),
            } => Err(format!("node {node} partition {partition}: {verdict}")),
            _ => Ok(()),
        }
    }
}
