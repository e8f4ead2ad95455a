//! What is derived from an event's state and kept beside it for speed: never in a snapshot, rebuilt
//! by a restore, compared with a recount by the invariants' check.

use grid_core::{CowVec, ShardedMap};

use super::buyers::Buyers;
use super::free_runs::{FreeRuns, beside};
use super::layout::Layout;
use super::messages::SeatIndex;
use super::seat::{Occupancy, Seat};
use super::state::{Event, Hold};
use crate::ids::{HoldId, UserId};

/// One event's layout, counters and look-ups.
#[derive(Debug)]
pub(super) struct EventIndex {
    pub(super) layout: Layout,
    /// By row, so that rows without a place for a party are passed over.
    pub(super) row_runs: Vec<FreeRuns>,
    /// By section, the sum of its rows'.
    pub(super) section_runs: Vec<FreeRuns>,
    pub(super) sections: Vec<SectionCounters>,
    /// Numbers in the event's slab.
    pub(super) holds: ShardedMap<HoldId, u32>,
    /// Remembered expired holds with their buyers.
    pub(super) expired: ShardedMap<HoldId, UserId>,
    pub(super) buyers: Buyers,
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
            row_runs: vec![FreeRuns::default(); layout.rows.len()],
            section_runs: vec![FreeRuns::default(); layout.sections.len()],
            sections: vec![SectionCounters::default(); layout.sections.len()],
            holds: ShardedMap::default(),
            expired: event.expired.iter().copied().collect(),
            buyers: Buyers::default(),
            layout,
        };
        let mut seats = event.seats.iter();
        for (row, row_runs) in index.layout.rows.iter().zip(&mut index.row_runs) {
            let section = &mut index.sections[row.section as usize];
            let section_runs = &mut index.section_runs[row.section as usize];
            let mut run = 0;
            let mut end_run = |run: &mut u32| {
                row_runs.add(*run);
                section_runs.add(*run);
                *run = 0;
            };
            for seat in seats.by_ref().take(row.seats.len()) {
                match seat.occupancy() {
                    Occupancy::Free => {
                        section.free += 1;
                        run += 1;
                        continue;
                    }
                    Occupancy::Held(_) => section.held += 1,
                    Occupancy::Sold(_) => {}
                }
                end_run(&mut run);
            }
            end_run(&mut run);
        }
        for (number, hold) in event.holds.iter() {
            index.add_hold(number, hold);
        }
        for (number, sale) in (0..).zip(event.sales.iter()) {
            let seats = sale.tickets.len() as u32;
            index.buyers.add_sale(sale.buyer, number, seats);
        }
        index
    }

    /// Notes an open hold.
    pub(super) fn add_hold(&mut self, number: u32, hold: &Hold) {
        self.holds.insert(hold.hold_id, number);
        let seats = hold.seats.len() as u32;
        self.buyers.add_hold(hold.buyer, number, seats);
    }

    /// Forgets a hold whose seats are no longer the buyer's.
    pub(super) fn remove_hold(&mut self, number: u32, hold: &Hold) {
        self.holds.remove(&hold.hold_id);
        let seats = hold.seats.len() as u32;
        self.buyers.remove_hold(hold.buyer, number, seats);
    }

    /// Counts the move of a seat of this row. Of the seats only the neighbours' states matter, so those
    /// of one hold may be moved and counted one after the other.
    pub(super) fn count(
        &mut self,
        seats: &CowVec<Seat>,
        row_number: usize,
        seat: SeatIndex,
        seat_move: SeatMove,
    ) {
        let Some(row) = self.layout.rows.get(row_number) else {
            return;
        };
        let section_number = row.section as usize;
        let section = &mut self.sections[section_number];
        match seat_move {
            SeatMove::FreeToHeld => {
                section.free -= 1;
                section.held += 1;
            }
            SeatMove::HeldToFree => {
                section.held -= 1;
                section.free += 1;
            }
            SeatMove::HeldToSold => {
                section.held -= 1;
                return;
            }
        }
        let is_free = |seat| seats.get(seat as usize).is_some_and(|seat| seat.is_free());
        let (before, after) = beside(is_free, &row.seats, seat);
        let whole = before + 1 + after;
        for runs in [
            &mut self.row_runs[row_number],
            &mut self.section_runs[section_number],
        ] {
            if seat_move == SeatMove::FreeToHeld {
                runs.remove(whole);
                runs.add(before);
                runs.add(after);
            } else {
                runs.remove(before);
                runs.remove(after);
                runs.add(whole);
            }
        }
    }
}
