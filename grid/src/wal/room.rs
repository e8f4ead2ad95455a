//! Whether the log takes more, by the room there is: on its disk, and in the segments it has.
//!
//! | room | new commands | entries from other leaders | votes, purges, marks |
//! |---|---|---|---|
//! | plenty | yes | yes | yes |
//! | low: less than the reserve is free, or there is no next segment and the present one is mostly full | no | yes | yes |
//! | scarce: less than half the reserve is free, or without a next segment the present one is nearly full | no | no | yes |
//!
//! What is refused would eat what is needed to get out of it: a snapshot is written before old segments
//! can go, and a purge is a record too.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Without a next segment, room is low when less than this part of the present one is left.
const LOW_DIVISOR: u64 = 4;
/// And scarce when less than this part is.
const SCARCE_DIVISOR: u64 = 8;

/// The room on the log's disk, see the module's table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RoomLevel {
    /// There is enough.
    #[default]
    Plenty,
    /// New work would eat the reserve.
    Low,
    /// What is left is for what must go on.
    Scarce,
}

/// What the log knows of its room; the disk's level is told by who looks at the disk.
#[derive(Debug)]
pub(super) struct Room {
    disk: AtomicU8,
    left_in_segment: AtomicU64,
    segment_bytes: u64,
}

impl Room {
    pub(super) fn new(segment_bytes: u64) -> Self {
        Self {
            disk: AtomicU8::new(0),
            left_in_segment: AtomicU64::new(0),
            segment_bytes,
        }
    }

    pub(super) fn set_disk(&self, level: RoomLevel) {
        self.disk.store(level as u8, Ordering::Relaxed);
    }

    pub(super) fn set_left_in_segment(&self, bytes: u64) {
        self.left_in_segment.store(bytes, Ordering::Relaxed);
    }

    /// The worse of the disk's room and the segments'.
    pub(super) fn level(&self, spare_ready: bool) -> RoomLevel {
        let disk = match self.disk.load(Ordering::Relaxed) {
            0 => RoomLevel::Plenty,
            1 => RoomLevel::Low,
            _ => RoomLevel::Scarce,
        };
        let left = self.left_in_segment.load(Ordering::Relaxed);
        let segments = if spare_ready || left > self.segment_bytes / LOW_DIVISOR {
            RoomLevel::Plenty
        } else if left > self.segment_bytes / SCARCE_DIVISOR {
            RoomLevel::Low
        } else {
            RoomLevel::Scarce
        };
        disk.max(segments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worse_of_disk_and_segments_counts() {
        let room = Room::new(1_000);
        let level = |left, spare| {
            room.set_left_in_segment(left);
            room.level(spare)
        };
        assert_eq!(level(900, false), RoomLevel::Plenty);
        assert_eq!(level(200, false), RoomLevel::Low);
        assert_eq!(level(100, false), RoomLevel::Scarce);
        assert_eq!(level(100, true), RoomLevel::Plenty);
        room.set_disk(RoomLevel::Low);
        assert_eq!(level(900, true), RoomLevel::Low);
        assert_eq!(level(100, false), RoomLevel::Scarce);
        room.set_disk(RoomLevel::Scarce);
        assert_eq!(level(900, true), RoomLevel::Scarce);
        room.set_disk(RoomLevel::Plenty);
        assert_eq!(level(900, true), RoomLevel::Plenty);
    }
}
