//! How much of its log a replica would have to apply again after a restart.
//!
//! ```text
//!   applied ─► + entry      view taken ─► mark      its file is there ─► covered up to the mark
//! ```
//!
//! Counted in bytes of entries, with a fixed part for each: what an entry costs to apply depends on its
//! commands, of which there may be one or a thousand, so the number of entries says little.
//!
//! Invariant: covered never exceeds applied.

use std::sync::atomic::{AtomicU64, Ordering};

/// What an entry costs beside its bytes: it is looked up, read and handed to the state machine.
const ENTRY_OVERHEAD_BYTES: u64 = 256;

/// One replica's account since it was opened.
#[derive(Debug, Default)]
pub(crate) struct ReplayCost {
    applied: AtomicU64,
    covered: AtomicU64,
}

/// How much had been applied when a view was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReplayMark(u64);

impl ReplayCost {
    /// An entry with so many bytes was applied.
    pub(crate) fn applied(&self, bytes: usize) {
        let cost = ENTRY_OVERHEAD_BYTES + bytes as u64;
        self.applied.fetch_add(cost, Ordering::Relaxed);
    }

    /// The present place; to be taken with the view, while nothing is applied.
    pub(crate) fn mark(&self) -> ReplayMark {
        ReplayMark(self.applied.load(Ordering::Relaxed))
    }

    /// A snapshot of what stood at `mark` is on the disk.
    pub(crate) fn covered(&self, mark: ReplayMark) {
        self.covered.fetch_max(mark.0, Ordering::Relaxed);
    }

    /// What would be applied again.
    pub(crate) fn bytes(&self) -> u64 {
        let covered = self.covered.load(Ordering::Relaxed);
        self.applied.load(Ordering::Relaxed).saturating_sub(covered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_covers_what_was_applied_before_its_view() {
        let cost = ReplayCost::default();
        cost.applied(1_000);
        let mark = cost.mark();
        cost.applied(10);
        cost.applied(0);
        assert_eq!(cost.bytes(), 1_010 + 3 * ENTRY_OVERHEAD_BYTES);
        cost.covered(mark);
        assert_eq!(cost.bytes(), 10 + 2 * ENTRY_OVERHEAD_BYTES);
        let newer = cost.mark();
        cost.covered(newer);
        cost.covered(mark);
        assert_eq!(cost.bytes(), 0, "an older snapshot takes nothing back");
    }
}
