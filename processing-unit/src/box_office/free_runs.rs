//! How many runs of free seats a row or a section has, by length, so that the search for the best
//! available seats passes over whatever cannot seat a party without looking at its seats.
//!
//! Flow: a seat that is taken or returned changes at most three runs; the index looks at the seats
//! beside it, [`LENGTHS`] at most on either side, and counts those runs anew. A nearly sold-out house of
//! any size is then searched by its counters alone.
//!
//! What it deliberately does not do: tell lengths from [`LENGTHS`] on apart. For parties as large as
//! that the answers only say that a row may have a place, and its seats are looked at.

use super::messages::SeatIndex;

/// Runs of this many seats and more are counted as one length.
pub(super) const LENGTHS: u32 = 16;

/// The runs of free seats of a row or a section, counted by length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FreeRuns {
    /// Bit `length - 1` is set when `by_length[length - 1]` is not 0.
    present: u16,
    /// By length, less one.
    by_length: [u32; LENGTHS as usize],
}

const _: () = assert!(LENGTHS == u16::BITS);

impl FreeRuns {
    /// Counts a run; one without seats is none.
    pub(super) fn add(&mut self, length: u32) {
        if let Some(place) = place(length) {
            self.by_length[place] += 1;
            self.present |= 1 << place;
        }
    }

    /// Takes a counted run back.
    pub(super) fn remove(&mut self, length: u32) {
        if let Some(place) = place(length) {
            self.by_length[place] -= 1;
            if self.by_length[place] == 0 {
                self.present &= !(1 << place);
            }
        }
    }

    /// Whether a run is long enough for a party, as far as the counters tell.
    pub(super) fn may_seat(&self, quantity: u32) -> bool {
        self.present >> (quantity.clamp(1, LENGTHS) - 1) != 0
    }

    /// Whether a run may take a party without leaving a single seat beside it: one that it fills, or one
    /// that is longer by two or more.
    pub(super) fn may_seat_without_orphan(&self, quantity: u32) -> bool {
        let fills = quantity.clamp(1, LENGTHS) - 1;
        let is_filled = self.present >> fills & 1 == 1;
        is_filled || self.may_seat(quantity.saturating_add(2))
    }
}

fn place(length: u32) -> Option<usize> {
    Some(length.min(LENGTHS).checked_sub(1)? as usize)
}

/// How many free seats lie directly before and after a seat in its row, [`LENGTHS`] at most each.
pub(super) fn beside(
    is_free: impl Fn(SeatIndex) -> bool,
    row: &std::ops::Range<SeatIndex>,
    seat: SeatIndex,
) -> (u32, u32) {
    let most = LENGTHS as usize;
    let before = (row.start..seat).rev().take(most);
    let after = (seat + 1..row.end).take(most);
    (
        before.take_while(|seat| is_free(*seat)).count() as u32,
        after.take_while(|seat| is_free(*seat)).count() as u32,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_party_fits_where_a_run_is_long_enough_and_without_an_orphan_where_it_fills_or_leaves_two()
    {
        let mut runs = FreeRuns::default();
        assert!(!runs.may_seat(1) && !runs.may_seat_without_orphan(1));
        runs.add(3);
        let fits: Vec<_> = (1..=4).map(|party| runs.may_seat(party)).collect();
        assert_eq!(fits, [true, true, true, false]);
        let clean: Vec<_> = (1..=4)
            .map(|party| runs.may_seat_without_orphan(party))
            .collect();
        assert_eq!(clean, [true, false, true, false]);
    }

    #[test]
    fn a_length_is_there_until_its_last_run_is_gone() {
        let mut runs = FreeRuns::default();
        runs.add(2);
        runs.add(2);
        runs.remove(2);
        assert!(runs.may_seat(2));
        runs.remove(2);
        assert_eq!(runs, FreeRuns::default());
    }

    #[test]
    fn the_longest_lengths_may_seat_any_party() {
        let mut runs = FreeRuns::default();
        runs.add(LENGTHS + 5);
        assert!(runs.may_seat(LENGTHS) && runs.may_seat(100));
        assert!(runs.may_seat_without_orphan(LENGTHS - 2) && runs.may_seat_without_orphan(100));
        runs.remove(LENGTHS);
        assert_eq!(runs, FreeRuns::default());
    }

    #[test]
    fn neighbours_are_counted_up_to_a_taken_seat_the_rows_end_and_the_bound() {
        let row = 10..60;
        let free_but = |taken: SeatIndex| move |seat| seat != taken;
        assert_eq!(beside(free_but(10), &row, 13), (2, LENGTHS));
        assert_eq!(beside(free_but(57), &row, 55), (LENGTHS, 1));
        assert_eq!(beside(free_but(0), &row, 59), (LENGTHS, 0));
        assert_eq!(beside(free_but(0), &row, 10), (0, LENGTHS));
    }
}
