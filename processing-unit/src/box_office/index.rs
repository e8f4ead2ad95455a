//! What is derived from an event's state and kept beside it for speed: never in a snapshot, rebuilt
//! by a restore, compared with a recount by the invariants' check.

use std::collections::BTreeSet;

use grid_core::FixedHashMap;

use super::layout::Layout;
use super::messages::SeatIndex;
use super::seat::Occupancy;
use super::state::{Event, Hold, Sale};
use crate::ids::{HoldId, UserId};

/// One event's layout, counters and look-ups.
#[derive(Debug)]
pub(super) struct EventIndex {
    pub(super) layout: Layout,
    /// By row, so that full rows are passed over.
    pub(super) row_free: Vec<u32>,
    pub(super) sections: Vec<SectionCounters>,
    /// Numbers in the event's slab.
    pub(super) holds: FixedHashMap<HoldId, u32>,
    /// Remembered expired holds with their buyers.
    pub(super) expired: FixedHashMap<HoldId, UserId>,
    /// Held and sold seats.
    pub(super) seats_of: FixedHashMap<UserId, u32>,
    pub(super) holds_of: BTreeSet<(UserId, HoldId)>,
    /// Numbers in the event's list of sales.
    pub(super) sales_of: BTreeSet<(UserId, u32)>,
}

/// How many seats of a section are free and held; the rest is sold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SectionCounters {
    pub(super) free: u32,
    pub(super) held: u32,
}

/// What happens to a seat, as the counters see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SeatMove {
    FreeToHeld,
    HeldToFree,
    HeldToSold,
}

impl EventIndex {
    /// The index of an event in any state. References that lead nowhere are left out, for the
    /// invariants' check to find.
    pub(super) fn new(event: &Event) -> Self {
        let layout = Layout::new(&event.terms);
        let mut index = Self {
            row_free: vec![0; layout.rows.len()],
            sections: vec![SectionCounters::default(); layout.sections.len()],
            holds: FixedHashMap::default(),
            expired: event.expired.iter().copied().collect(),
            seats_of: FixedHashMap::default(),
            holds_of: BTreeSet::new(),
            sales_of: BTreeSet::new(),
            layout,
        };
        let mut seats = event.seats.iter();
        for (row_number, row) in index.layout.rows.iter().enumerate() {
            let section = &mut index.sections[row.section as usize];
            for seat in seats.by_ref().take(row.seats.len()) {
                match seat.occupancy() {
                    Occupancy::Free => {
                        section.free += 1;
                        index.row_free[row_number] += 1;
                    }
                    Occupancy::Held(_) => section.held += 1,
                    Occupancy::Sold(_) => {}
                }
            }
        }
        for (number, hold) in event.holds.iter() {
            index.add_hold(number, hold);
        }
        for (number, sale) in (0..).zip(event.sales.iter()) {
            *index.seats_of.entry(sale.buyer).or_default() += sale.tickets.len() as u32;
            index.add_sale(number, sale);
        }
        index
    }

    /// How many seats a buyer holds and owns.
    pub(super) fn seats_of(&self, buyer: UserId) -> u32 {
        self.seats_of.get(&buyer).copied().unwrap_or(0)
    }

    pub(super) fn add_hold(&mut self, number: u32, hold: &Hold) {
        self.holds.insert(hold.hold_id, number);
        self.holds_of.insert((hold.buyer, hold.hold_id));
        *self.seats_of.entry(hold.buyer).or_default() += hold.seats.len() as u32;
    }

    /// Forgets a hold whose seats became free.
    pub(super) fn remove_hold(&mut self, hold: &Hold) {
        self.forget_hold(hold);
        if let Some(seats) = self.seats_of.get_mut(&hold.buyer) {
            *seats = seats.saturating_sub(hold.seats.len() as u32);
            if *seats == 0 {
                self.seats_of.remove(&hold.buyer);
            }
        }
    }

    /// Forgets a hold whose seats the buyer keeps.
    pub(super) fn forget_hold(&mut self, hold: &Hold) {
        self.holds.remove(&hold.hold_id);
        self.holds_of.remove(&(hold.buyer, hold.hold_id));
    }

    pub(super) fn add_sale(&mut self, number: u32, sale: &Sale) {
        self.sales_of.insert((sale.buyer, number));
    }

    /// Counts a seat's move.
    pub(super) fn count(&mut self, seat: SeatIndex, seat_move: SeatMove) {
        let row_number = self.layout.row_of(seat);
        let Some(row) = self.layout.rows.get(row_number) else {
            return;
        };
        let section = &mut self.sections[row.section as usize];
        let row_free = &mut self.row_free[row_number];
        match seat_move {
            SeatMove::FreeToHeld => {
                section.free -= 1;
                section.held += 1;
                *row_free -= 1;
            }
            SeatMove::HeldToFree => {
                section.held -= 1;
                section.free += 1;
                *row_free += 1;
            }
            SeatMove::HeldToSold => section.held -= 1,
        }
    }
}
