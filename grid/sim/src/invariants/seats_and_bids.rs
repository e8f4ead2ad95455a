//! No seat has two holders, no hold ends before its time, no bid is below the rule, the highest bid
//! wins: told from the changes alone.

use std::collections::BTreeMap;

use grid_core::PartitionId;

use super::{Fact, Invariant};
use crate::history::History;
use crate::model::Model;

/// See the module.
#[derive(Default)]
pub(super) struct SeatsAndBids {
    models: BTreeMap<PartitionId, Model>,
}

impl Invariant for SeatsAndBids {
    fn name(&self) -> &'static str {
        "seats_and_bids"
    }

    fn check(&mut self, _history: &History, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Committed(entry) = fact else {
            return Ok(());
        };
        let Some(batch) = &entry.batch else {
            return Ok(());
        };
        let model = self.models.entry(entry.partition).or_default();
        model.take(batch).map_err(|what| {
            format!(
                "partition {} entry {}: {what}",
                entry.partition, entry.index
            )
        })
    }
}
