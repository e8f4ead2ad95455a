//! One seat in four bytes.

use serde::{Deserialize, Serialize};

/// A seat's state with the number of its hold or sale: two bits of state, thirty of number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seat(u32);

/// A [`Seat`] unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occupancy {
    Free,
    /// By the hold with this number in the event's slab.
    Held(u32),
    /// By the sale with this number in the event's list.
    Sold(u32),
}

const NUMBER_BITS: u32 = 30;
const NUMBER_MASK: u32 = (1 << NUMBER_BITS) - 1;
const HELD: u32 = 1 << NUMBER_BITS;
const SOLD: u32 = 2 << NUMBER_BITS;

// There are never more holds or sales than seats, so their numbers always fit.
const _: () = assert!(super::SEATS_MAX <= NUMBER_MASK as usize);

impl Seat {
    pub(super) const FREE: Self = Self(0);

    pub(super) const fn held(hold: u32) -> Self {
        Self(HELD | (hold & NUMBER_MASK))
    }

    pub(super) const fn sold(sale: u32) -> Self {
        Self(SOLD | (sale & NUMBER_MASK))
    }

    pub(super) const fn is_free(self) -> bool {
        self.0 == 0
    }

    pub(super) const fn occupancy(self) -> Occupancy {
        let number = self.0 & NUMBER_MASK;
        match self.0 >> NUMBER_BITS {
            0 => Occupancy::Free,
            1 => Occupancy::Held(number),
            _ => Occupancy::Sold(number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_keeps_its_number_at_both_ends() {
        for number in [0, 1, NUMBER_MASK] {
            assert_eq!(Seat::held(number).occupancy(), Occupancy::Held(number));
            assert_eq!(Seat::sold(number).occupancy(), Occupancy::Sold(number));
        }
        assert_eq!(Seat::FREE.occupancy(), Occupancy::Free);
        assert_eq!(size_of::<Seat>(), 4);
    }
}
