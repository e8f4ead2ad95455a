//! The log is the only source of truth: a feed gives every change of the log once, in order, byte for
//! byte, wherever it is read and however often the node restarts.

use std::collections::BTreeMap;
use std::ops::Bound;

use grid_core::PartitionId;

use super::{Fact, Invariant};
use crate::history::History;

/// See the module.
#[derive(Default)]
pub(super) struct FeedIsTheLog {
    /// Each node's present feed, and up to where it has given everything.
    covered: BTreeMap<(u64, PartitionId), (u64, u64)>,
}

impl Invariant for FeedIsTheLog {
    fn name(&self) -> &'static str {
        "feed_is_the_log"
    }

    fn check(&mut self, history: &History, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Fed { node, fed } => {
                let partition = fed.partition;
                let place = format!("node {node} partition {partition}");
                let covered = self.covered.get(&(*node, partition));
                // A replica that has gone and come back has a feed of its own.
                let covered = covered.filter(|(feed, _)| *feed == fed.feed);
                // A feed that was told that the log is gone began anew further on.
                let after = covered.map_or(0, |(_, upto)| *upto).max(fed.began_after);
                let upto = fed.slice.upto_index;
                if upto < after {
                    return Err(format!(
                        "{place}: the feed goes back from {after} to {upto}"
                    ));
                }
                let log = history.get(partition);
                let log = log.ok_or_else(|| format!("{place}: a feed without a log"))?;
                let after_that = (Bound::Excluded(after), Bound::Included(upto));
                let expected = (upto > after)
                    .then(|| log.entries.range(after_that))
                    .into_iter()
                    .flatten()
                    .filter_map(|(_, entry)| entry.batch.as_ref());
                if !expected.eq(&fed.slice.batches) {
                    return Err(format!(
                        "{place}: the feed differs from the log in {}..={upto}",
                        after + 1
                    ));
                }
                self.covered.insert((*node, partition), (fed.feed, upto));
            }
            Fact::Crashed { node } => self.covered.retain(|(of, _), _| of != node),
            _ => {}
        }
        Ok(())
    }
}
