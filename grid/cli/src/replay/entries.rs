//! From single changes to log entries, which is how they happened.

use std::ops::ControlFlow;

use grid_core::{PartitionId, Timestamp};
use processing_unit::Change;

/// What one log entry did to the auction or event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Whose log.
    pub(crate) partition: PartitionId,
    /// Its place there.
    pub(crate) index: u64,
    /// Its time.
    pub(crate) at: Timestamp,
    /// With their places among all of the entry's changes.
    pub(crate) changes: Vec<(u32, Change)>,
}

/// Collects changes and hands over whole entries.
///
/// Invariant: entries are handed over in ascending order. A change that came already is passed over, so
/// a source may be read again from an earlier place.
pub(crate) struct Entries<'a> {
    pending: Option<Entry>,
    last: Option<(u64, u32)>,
    take: &'a mut dyn FnMut(Entry) -> anyhow::Result<ControlFlow<()>>,
    ended: Option<anyhow::Result<()>>,
}

impl<'a> Entries<'a> {
    /// Hands entries to `take` until that has enough or fails.
    pub(crate) fn new(take: &'a mut dyn FnMut(Entry) -> anyhow::Result<ControlFlow<()>>) -> Self {
        Self {
            pending: None,
            last: None,
            take,
            ended: None,
        }
    }

    /// Whether anything came.
    pub(crate) fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// Takes a change; `Break` when no more are wanted.
    pub(crate) fn push(
        &mut self,
        (partition, index, seq): (PartitionId, u64, u32),
        at: Timestamp,
        change: Change,
    ) -> ControlFlow<()> {
        if self.last.is_some_and(|last| (index, seq) <= last) {
            return ControlFlow::Continue(());
        }
        self.last = Some((index, seq));
        if let Some(pending) = &mut self.pending
            && pending.index == index
        {
            pending.changes.push((seq, change));
            return ControlFlow::Continue(());
        }
        self.hand_over()?;
        self.pending = Some(Entry {
            partition,
            index,
            at,
            changes: vec![(seq, change)],
        });
        ControlFlow::Continue(())
    }

    fn hand_over(&mut self) -> ControlFlow<()> {
        if self.ended.is_some() {
            return ControlFlow::Break(());
        }
        let Some(entry) = self.pending.take() else {
            return ControlFlow::Continue(());
        };
        match (self.take)(entry) {
            Ok(ControlFlow::Continue(())) => return ControlFlow::Continue(()),
            Ok(ControlFlow::Break(())) => self.ended = Some(Ok(())),
            Err(error) => self.ended = Some(Err(error)),
        }
        ControlFlow::Break(())
    }

    /// Whether `take` has had enough.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Hands over what is left.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        let _ = self.hand_over();
        self.ended.unwrap_or(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use processing_unit::AuctionId;
    use processing_unit::auction;
    use uuid::Uuid;

    use super::*;

    fn change() -> Change {
        Change::Auction(auction::Change::AuctionCancelled {
            auction_id: AuctionId(Uuid::nil()),
        })
    }

    fn entries(places: &[(u64, u32)], enough: usize) -> Vec<(u64, usize)> {
        let mut seen = Vec::new();
        let mut take = |entry: Entry| {
            seen.push((entry.index, entry.changes.len()));
            Ok(if seen.len() == enough {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        };
        let mut all = Entries::new(&mut take);
        for &(index, seq) in places {
            let at = Timestamp::from_millis(index);
            if all
                .push((PartitionId(0), index, seq), at, change())
                .is_break()
            {
                break;
            }
        }
        all.finish().expect("taken");
        seen
    }

    #[test]
    fn changes_of_one_entry_stay_together_and_none_comes_twice() {
        let places = [(1, 0), (1, 3), (4, 0), (1, 3), (4, 0), (4, 1), (9, 0)];
        assert_eq!(entries(&places, 9), [(1, 2), (4, 2), (9, 1)]);
    }

    #[test]
    fn whoever_has_enough_gets_no_more() {
        assert_eq!(entries(&[(1, 0), (2, 0), (3, 0)], 1), [(1, 1)]);
    }
}
