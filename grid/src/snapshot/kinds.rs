//! Which snapshots are needed, and for what.
//!
//! The log after the replay base is kept. The base lies as far behind the pump as a database may go back
//! and still find its changes in the log; so that it can follow the pump without jumping up to it, the
//! snapshot that will be the next base is kept as well.

/// How much log behind the pump is wanted.
#[derive(Clone, Copy)]
pub(crate) struct Reach<'a> {
    /// So much, in bytes.
    pub(crate) bytes: u64,
    /// About how many bytes of log there are after an index.
    pub(crate) bytes_after: &'a dyn Fn(u64) -> u64,
}

impl Reach<'_> {
    /// About how many bytes of log lie between two indexes.
    fn between(&self, earlier: u64, later: u64) -> u64 {
        (self.bytes_after)(earlier).saturating_sub((self.bytes_after)(later))
    }
}

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kinds {
    /// What a replay of anything that may be needed begins with.
    pub(super) base: Option<u64>,
    /// What will be the base when the pump is further.
    pub(super) next_base: Option<u64>,
    /// What a restart begins with.
    pub(super) newest: Option<u64>,
}

impl Kinds {
    /// Of snapshots at these ascending indexes.
    pub(super) fn of(indexes: &[u64], pumped: u64, reach: Reach<'_>) -> Self {
        let passed = &indexes[..indexes.partition_point(|index| *index <= pumped)];
        let far = |index: &&u64| reach.bytes == 0 || reach.between(**index, pumped) >= reach.bytes;
        // Until the pump is far enough past one, the oldest is the nearest to a base there is.
        let base = passed.iter().rev().find(far).or(indexes.first()).copied();
        let apart = |index: &&u64| {
            base.is_some_and(|base| {
                **index > base && reach.between(base, **index) >= reach.bytes / 2
            })
        };
        let next_base = match reach.bytes {
            0 => None,
            _ => indexes.iter().find(apart).copied(),
        };
        Self {
            base,
            next_base,
            newest: indexes.last().copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a log with ten bytes an entry that ends at 1,000.
    fn kinds(indexes: &[u64], pumped: u64, bytes: u64) -> (Option<u64>, Option<u64>, Option<u64>) {
        let reach = Reach {
            bytes,
            bytes_after: &|index| (1_000 - index) * 10,
        };
        let kinds = Kinds::of(indexes, pumped, reach);
        (kinds.base, kinds.next_base, kinds.newest)
    }

    #[test]
    fn the_base_is_the_newest_snapshot_that_the_pump_has_passed() {
        assert_eq!(kinds(&[], 500, 0), (None, None, None));
        assert_eq!(
            kinds(&[100, 400, 900], 500, 0),
            (Some(400), None, Some(900))
        );
        // It has passed none yet.
        assert_eq!(kinds(&[100, 400], 50, 0), (Some(100), None, Some(400)));
    }

    #[test]
    fn the_base_lies_as_far_behind_as_the_database_may_go_back() {
        let indexes = [100, 200, 300, 400, 500, 900];
        // 2,000 bytes are 200 entries; the next base is half of that after it.
        let wanted = (Some(300), Some(400), Some(900));
        assert_eq!(kinds(&indexes, 500, 2_000), wanted);
        assert_eq!(kinds(&indexes, 499, 2_000).0, Some(200));
        // There is not so much log yet: all of it stays.
        assert_eq!(kinds(&indexes, 500, 5_000).0, Some(100));
    }

    #[test]
    fn a_base_follows_the_pump_by_steps_of_about_half_the_reach() {
        let mut kept: Vec<u64> = Vec::new();
        for at in (10..1_000).step_by(10) {
            kept.push(at);
            let (base, next_base, newest) = kinds(&kept, at, 1_000);
            kept.retain(|index| [base, next_base, newest].contains(&Some(*index)));
            assert!(kept.len() <= 3);
            let behind = at - base.unwrap_or(0);
            assert!(at < 120 || (100..=220).contains(&behind), "{at}: {kept:?}");
        }
    }
}
