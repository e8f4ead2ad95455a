//! Whether a node's disk is fit to lead: pure rules, with hysteresis, so that leaderships do not swing.
//!
//! | trouble | begins | ends |
//! |---|---|---|
//! | full | less than the reserve is free | a quarter more than the reserve is free |
//! | slow | syncs usually take longer than the bound and [`SLOWER_TIMES`] as long as another node's, [`SLOW_LOOKS`] looks running | they take less than half the bound, [`WELL_LOOKS`] looks running |
//!
//! The comparison keeps a grid whose nodes share one slow disk from passing leaderships around, and two
//! nodes from passing one to and fro: neither can be that much slower than the other.

use crate::disk::DiskRoom;
use crate::status::{DiskTrouble, NodeStatus};
use crate::wal::RoomLevel;

/// A disk is slow against another one that is so many times as fast.
const SLOWER_TIMES: u64 = 4;
/// A slow disk is believed after so many looks, one a second.
const SLOW_LOOKS: u32 = 3;
/// And a mended one after so many.
const WELL_LOOKS: u32 = 30;

/// The room there is against the reserve, given how it was judged before.
pub(crate) fn room_level(
    before: RoomLevel,
    room: Option<DiskRoom>,
    reserve_bytes: u64,
) -> RoomLevel {
    let Some(room) = room else {
        return RoomLevel::Plenty;
    };
    let begins_below = |level: RoomLevel| match level {
        RoomLevel::Plenty => u64::MAX,
        RoomLevel::Low => reserve_bytes,
        RoomLevel::Scarce => reserve_bytes / 2,
    };
    let holds = |level: RoomLevel| {
        let bound = begins_below(level);
        // What has begun ends only with some more room than it began with.
        let bound = if before >= level {
            bound.saturating_add(bound / 4)
        } else {
            bound
        };
        room.free_bytes < bound
    };
    let levels = [RoomLevel::Scarce, RoomLevel::Low];
    let found = levels.into_iter().find(|level| holds(*level));
    found.unwrap_or(RoomLevel::Plenty)
}

/// Whether another node is fit to take what this one gives away because of `trouble`.
pub(crate) fn is_better(other: &NodeStatus, trouble: DiskTrouble, own_sync_us: u64) -> bool {
    let is_fit = !other.draining && other.wal.writable && other.wal.trouble.is_none();
    is_fit
        && match trouble {
            DiskTrouble::Full => true,
            DiskTrouble::Slow => is_much_faster(other, own_sync_us),
        }
}

fn is_much_faster(other: &NodeStatus, own_sync_us: u64) -> bool {
    let theirs = other.wal.usual_sync_us;
    theirs.is_some_and(|theirs_us| theirs_us.saturating_mul(SLOWER_TIMES) <= own_sync_us)
}

/// Remembers how the disk's syncs looked.
#[derive(Debug)]
pub(crate) struct SlowJudge {
    bound_us: u64,
    is_slow: bool,
    /// Looks running that speak against the present judgement.
    looks: u32,
}

impl SlowJudge {
    /// A judge with the bound in milliseconds; 0 finds nothing slow.
    pub(crate) fn new(bound_ms: u64) -> Self {
        Self {
            bound_us: bound_ms.saturating_mul(1_000),
            is_slow: false,
            looks: 0,
        }
    }

    /// Whether syncs of this length are worth asking the others about.
    pub(crate) fn is_suspicious(&self, own_us: Option<u64>) -> bool {
        self.bound_us > 0 && own_us.is_some_and(|us| us > self.bound_us)
    }

    /// Whether the disk was called slow at the last look.
    pub(crate) fn is_slow(&self) -> bool {
        self.is_slow
    }

    /// Takes one look: how long syncs usually take here, and whether another node's disk is much faster.
    pub(crate) fn look(&mut self, own_us: Option<u64>, is_other_faster: bool) -> bool {
        let speaks_against = if self.is_slow {
            own_us.is_some_and(|us| us < self.bound_us / 2)
        } else {
            self.is_suspicious(own_us) && is_other_faster
        };
        self.looks = if speaks_against { self.looks + 1 } else { 0 };
        let needed = if self.is_slow { WELL_LOOKS } else { SLOW_LOOKS };
        if self.looks >= needed {
            self.is_slow = !self.is_slow;
            self.looks = 0;
        }
        self.is_slow
    }
}

/// Whether any of the others is much faster than this node's syncs.
pub(crate) fn any_much_faster<'a>(
    others: impl IntoIterator<Item = &'a NodeStatus>,
    own_us: u64,
) -> bool {
    others
        .into_iter()
        .any(|other| is_much_faster(other, own_us))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(free_bytes: u64) -> Option<DiskRoom> {
        Some(DiskRoom {
            free_bytes,
            total_bytes: 10_000,
        })
    }

    #[test]
    fn room_has_levels_that_do_not_flicker() {
        use RoomLevel::{Low, Plenty, Scarce};
        let level = |before, bytes| room_level(before, free(bytes), 1_000);
        assert_eq!(level(Plenty, 1_000), Plenty);
        assert_eq!(level(Plenty, 999), Low);
        assert_eq!(level(Low, 1_249), Low, "just above is not enough");
        assert_eq!(level(Low, 1_250), Plenty);
        assert_eq!(level(Low, 499), Scarce);
        assert_eq!(level(Scarce, 624), Scarce);
        assert_eq!(level(Scarce, 625), Low);
        assert_eq!(level(Scarce, 5_000), Plenty);
        assert_eq!(room_level(Scarce, None, 1_000), Plenty);
        assert_eq!(room_level(Plenty, free(0), 0), Plenty, "no reserve");
    }

    #[test]
    fn a_disk_is_slow_only_for_long_and_only_against_others() {
        let mut judge = SlowJudge::new(100);
        let slow = Some(500_000);
        assert!(!judge.look(slow, true) && !judge.look(slow, true));
        assert!(!judge.look(Some(2_000), true), "a moment is no trouble");
        assert!(!judge.look(slow, true) && !judge.look(slow, true));
        assert!(judge.look(slow, true));
        for _ in 0..WELL_LOOKS - 1 {
            assert!(judge.look(Some(1_000), true));
        }
        assert!(judge.look(Some(60_000), true), "not well enough");
        for _ in 0..WELL_LOOKS - 1 {
            assert!(judge.look(Some(1_000), true));
        }
        assert!(!judge.look(Some(1_000), true));

        for _ in 0..10 {
            assert!(!judge.look(slow, false), "all are slow");
            assert!(!SlowJudge::new(0).look(slow, true), "switched off");
        }
    }
}
