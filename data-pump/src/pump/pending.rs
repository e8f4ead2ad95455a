//! What a lane has read and not yet written, and how it is cut into transactions.

use grid::FeedSlice;
use grid_core::{ChangeBatch, StateHash};
use processing_unit::Change;

use super::planner::{PlacedChange, placed};

/// What was read and is not yet written: usually one slice, several small ones at most.
pub(super) struct Pending {
    slices: Vec<FeedSlice<Change>>,
    /// How many changes there are.
    pub(super) changes: usize,
    /// Every entry up to this index was read.
    pub(super) upto_index: u64,
}

impl Pending {
    pub(super) fn new(upto_index: u64) -> Self {
        Self {
            slices: Vec::new(),
            changes: 0,
            upto_index,
        }
    }

    pub(super) fn add(&mut self, slice: FeedSlice<Change>) {
        self.upto_index = self.upto_index.max(slice.upto_index);
        let changes: usize = slice.batches.iter().map(|batch| batch.changes.len()).sum();
        self.changes += changes;
        if changes > 0 {
            self.slices.push(slice);
        }
    }

    pub(super) fn oldest_at_ms(&self) -> Option<u64> {
        let first = self.slices.first()?.batches.first()?;
        Some(first.at.as_millis())
    }

    /// What is pending beyond `applied_index`, in runs of whole entries.
    pub(super) fn runs(&self, applied_index: u64, changes_max: usize) -> Runs<'_> {
        let entries = self
            .slices
            .iter()
            .flat_map(|slice| &slice.batches)
            .map(|batch| &**batch)
            .filter(|batch| batch.index > applied_index)
            .collect();
        Runs {
            entries,
            next: 0,
            upto_index: self.upto_index.max(applied_index),
            changes_max,
            is_done: false,
        }
    }
}

/// Cuts pending entries into transactions; an entry is never cut, even one beyond the bound.
pub(super) struct Runs<'a> {
    entries: Vec<&'a ChangeBatch<Change>>,
    next: usize,
    upto_index: u64,
    changes_max: usize,
    is_done: bool,
}

impl<'a> Runs<'a> {
    /// When the first entry that no run has had was stamped.
    pub(super) fn oldest_at_ms(&self) -> Option<u64> {
        Some(self.entries.get(self.next)?.at.as_millis())
    }

    /// The running state hash after the last entry that a run has had, with that entry's index.
    pub(super) fn last_hash(&self) -> Option<(u64, StateHash)> {
        let last = self.entries.get(self.next.checked_sub(1)?)?;
        Some((last.index, last.hash))
    }

    /// The next run with the index that the checkpoint moves to: its last entry's, or for the last
    /// run that of everything read.
    pub(super) fn next_run(&mut self) -> Option<(Vec<PlacedChange<'a>>, u64)> {
        if self.is_done {
            return None;
        }
        let mut run: Vec<PlacedChange<'a>> = Vec::new();
        while let Some(entry) = self.entries.get(self.next) {
            if !run.is_empty() && run.len() + entry.changes.len() > self.changes_max {
                let last = self.entries[self.next - 1].index;
                return Some((run, last));
            }
            run.extend(placed(entry));
            self.next += 1;
        }
        self.is_done = true;
        Some((run, self.upto_index))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use grid_core::Timestamp;
    use processing_unit::{AuctionId, auction};
    use uuid::Uuid;

    use super::*;

    fn slice(entries: &[(u64, usize)], upto_index: u64) -> FeedSlice<Change> {
        let change = Change::Auction(auction::Change::AuctionCancelled {
            auction_id: AuctionId(Uuid::nil()),
        });
        FeedSlice {
            batches: entries
                .iter()
                .map(|&(index, changes)| {
                    Arc::new(ChangeBatch {
                        index,
                        at: Timestamp::from_millis(index),
                        hash: StateHash::default(),
                        changes: vec![change.clone(); changes],
                    })
                })
                .collect(),
            upto_index,
        }
    }

    fn cut(pending: &Pending, applied_index: u64, max: usize) -> Vec<(Vec<u64>, u64)> {
        let mut runs = pending.runs(applied_index, max);
        let mut cut = Vec::new();
        while let Some((run, index)) = runs.next_run() {
            let mut entries: Vec<u64> = run.iter().map(|change| change.log_index).collect();
            entries.dedup();
            cut.push((entries, index));
        }
        cut
    }

    #[test]
    fn an_entry_is_never_cut() {
        let mut pending = Pending::new(0);
        pending.add(slice(&[(1, 2), (2, 2), (5, 9), (6, 1)], 6));
        pending.add(slice(&[(8, 1)], 10));
        assert_eq!(
            cut(&pending, 0, 4),
            [(vec![1, 2], 2), (vec![5], 5), (vec![6, 8], 10)]
        );
        assert_eq!(cut(&pending, 0, 100), [(vec![1, 2, 5, 6, 8], 10)]);
    }

    #[test]
    fn what_is_written_already_is_left_out() {
        let mut pending = Pending::new(3);
        pending.add(slice(&[(3, 1), (4, 1)], 4));
        assert_eq!(cut(&pending, 3, 10), [(vec![4], 4)]);
    }

    #[test]
    fn entries_without_changes_move_the_checkpoint() {
        let mut pending = Pending::new(3);
        pending.add(slice(&[], 9));
        assert_eq!(cut(&pending, 3, 10), [(vec![], 9)]);
    }
}
