//! Partition keys, slots and partitions.
//!
//! `slot = xxh3_64(key) % 4096`, fixed for ever: it is in clients' ids, in snapshots and in the slot
//! map. A partition owns a contiguous range of slots; how many partitions there are is chosen when
//! the grid is created.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The number of slots of every grid.
pub const SLOT_COUNT: u16 = 4096;

/// One of the 4096 shares of the key space: the unit of routing, of copy-on-write and of moving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot(u16);

impl Slot {
    /// The slot with this number; `None` from 4096 on.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if number < SLOT_COUNT {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The slot of a partition key.
    #[must_use]
    pub fn of(key: Uuid) -> Self {
        let hash = xxhash_rust::xxh3::xxh3_64(key.as_bytes());
        Self((hash % u64::from(SLOT_COUNT)) as u16)
    }

    /// Its number, below 4096.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// An id that lies in this slot, found by trying the numbers after `seed`; 4096 tries on average.
    /// Used where a new entity must live beside an existing one (an auction beside its item).
    #[must_use]
    pub fn mint(self, seed: u128) -> Uuid {
        let mut candidate = seed;
        loop {
            let id = uuid::Builder::from_random_bytes(candidate.to_be_bytes()).into_uuid();
            if Self::of(id) == self {
                return id;
            }
            candidate = candidate.wrapping_add(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A partition's number: one Raft group, one log, one space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartitionId(pub u32);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which partition owns which slot: equal contiguous ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotLayout {
    partitions: u32,
}

impl SlotLayout {
    /// A layout of `partitions` ranges; `None` unless it is between 1 and 4096.
    #[must_use]
    pub const fn new(partitions: u32) -> Option<Self> {
        if partitions >= 1 && partitions <= SLOT_COUNT as u32 {
            Some(Self { partitions })
        } else {
            None
        }
    }

    /// How many partitions there are.
    #[must_use]
    pub const fn partitions(self) -> u32 {
        self.partitions
    }

    /// The owner of a slot.
    #[must_use]
    pub const fn owner(self, slot: Slot) -> PartitionId {
        PartitionId(slot.0 as u32 * self.partitions / SLOT_COUNT as u32)
    }

    /// The owner of a partition key.
    #[must_use]
    pub fn partition_of(self, key: Uuid) -> PartitionId {
        self.owner(Slot::of(key))
    }

    /// All partitions in order.
    pub fn iter(self) -> impl Iterator<Item = PartitionId> {
        (0..self.partitions).map(PartitionId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_of_a_key_never_changes() {
        let key = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        assert_eq!(Slot::of(key).number(), 655);
        assert_eq!(Slot::of(Uuid::nil()).number(), 2408);
    }

    #[test]
    fn every_slot_has_one_owner_and_every_partition_has_slots() {
        for partitions in [1, 3, 16, 64, 4096] {
            let layout = SlotLayout::new(partitions).expect("in range");
            let mut owned = vec![0; partitions as usize];
            for number in 0..SLOT_COUNT {
                let owner = layout.owner(Slot::new(number).expect("in range"));
                owned[owner.0 as usize] += 1;
            }
            assert!(
                owned.iter().all(|&slots| slots > 0),
                "{partitions}: {owned:?}"
            );
        }
        assert!(SlotLayout::new(0).is_none() && SlotLayout::new(4097).is_none());
    }

    #[test]
    fn a_minted_id_lies_in_its_slot() {
        for number in [0, 1, 4095] {
            let slot = Slot::new(number).expect("in range");
            let id = slot.mint(42);
            assert_eq!(Slot::of(id), slot);
            assert_eq!(id.get_version_num(), 4);
        }
    }
}
