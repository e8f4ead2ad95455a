//! The running state hashes of a replica's recent entries, for comparing replicas at one log index.
//!
//! Every hash of the newest entries is kept, and of older ones the hash at each *mark*, an index that
//! all replicas choose alike. A replica that lags or has just been asked can therefore still be compared
//! at a mark, and an idle one at its very last entry.
//!
//! Bounded: some 25 KiB a replica.

use std::collections::VecDeque;

use grid_core::StateHash;

/// Entries whose hashes are all kept.
const RECENT_ENTRIES_MAX: usize = 512;
/// Every so many entries there is a mark.
const MARK_EVERY_ENTRIES: u64 = 256;
/// Marks that are kept.
const MARKS_MAX: usize = 128;

/// Hashes by index, ascending.
#[derive(Debug, Default)]
pub(crate) struct HashTrail {
    recent: VecDeque<(u64, StateHash)>,
    marks: VecDeque<(u64, StateHash)>,
}

fn push(hashes: &mut VecDeque<(u64, StateHash)>, index: u64, hash: StateHash, max: usize) {
    if hashes.len() == max {
        hashes.pop_front();
    }
    hashes.push_back((index, hash));
}

fn find(hashes: &VecDeque<(u64, StateHash)>, index: u64) -> Option<StateHash> {
    let place = hashes.partition_point(|(known, _)| *known < index);
    hashes
        .get(place)
        .filter(|(known, _)| *known == index)
        .map(|(_, hash)| *hash)
}

impl HashTrail {
    /// Notes the hash after an entry.
    pub(crate) fn push(&mut self, index: u64, hash: StateHash) {
        push(&mut self.recent, index, hash, RECENT_ENTRIES_MAX);
        if index.is_multiple_of(MARK_EVERY_ENTRIES) {
            push(&mut self.marks, index, hash, MARKS_MAX);
        }
    }

    /// Begins anew at a position: what was before belongs to another state.
    pub(crate) fn restart(&mut self, index: u64, hash: StateHash) {
        self.recent.clear();
        self.marks.clear();
        self.push(index, hash);
    }

    /// The hash after an entry, if it is still known.
    pub(crate) fn at(&self, index: u64) -> Option<StateHash> {
        find(&self.recent, index).or_else(|| find(&self.marks, index))
    }

    /// The newest mark at or before an index.
    pub(crate) fn mark_before(&self, index: u64) -> Option<u64> {
        let place = self.marks.partition_point(|(known, _)| *known <= index);
        let (mark, _) = self.marks.get(place.checked_sub(1)?)?;
        Some(*mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(index: u64) -> StateHash {
        StateHash::default().chain(index, 0, &[])
    }

    #[test]
    fn recent_hashes_and_older_marks_are_found_and_nothing_else() {
        let mut trail = HashTrail::default();
        let last = 256 * 300 + 7;
        for index in 1..=last {
            trail.push(index, hash(index));
        }
        assert_eq!(trail.at(last), Some(hash(last)));
        assert_eq!(trail.at(last - 511), Some(hash(last - 511)));
        assert_eq!(trail.at(last - 512), None, "no mark, and too old");
        assert_eq!(trail.at(256 * 200), Some(hash(256 * 200)));
        assert_eq!(trail.at(256 * 172), None, "older than all marks");
        assert_eq!(trail.at(last + 1), None);
        assert_eq!(trail.mark_before(256 * 250 + 9), Some(256 * 250));
        assert_eq!(trail.mark_before(5), None);
        assert_eq!(
            (trail.recent.len(), trail.marks.len()),
            (RECENT_ENTRIES_MAX, MARKS_MAX)
        );
    }

    #[test]
    fn a_restart_forgets_the_other_state() {
        let mut trail = HashTrail::default();
        trail.push(256, hash(1));
        trail.restart(300, hash(2));
        assert_eq!(trail.at(256), None);
        assert_eq!(trail.at(300), Some(hash(2)));
    }
}
