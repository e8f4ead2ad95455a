//! The choice of best available seats.
//!
//! A placement is a run of `quantity` free seats side by side in one row. The ladder:
//!
//! 1. rows in their order (sections as given, rows within as given), the first row that has a
//!    placement without an orphan; in that row the most central such placement;
//! 2. only when no permitted row has one: the first row that has any placement; in that row the most
//!    central.
//!
//! An *orphan* is a single free seat that the placement leaves directly beside itself, with a taken
//! seat or the row's end on its other side. Of two equally central placements the one at the row's
//! beginning is chosen. Sections and rows whose free runs are too short are passed over by their counts.
//!
//! What it deliberately does not do: split a party over rows, or weigh a worse row against a less
//! central place in a better one.

use std::ops::Range;

use grid_core::CowVec;

use super::free_runs::FreeRuns;
use super::index::EventIndex;
use super::messages::SeatIndex;
use super::seat::Seat;

/// The best placement in the given sections, or `None` when no run is long enough.
pub(super) fn choose(
    index: &EventIndex,
    seats: &CowVec<Seat>,
    sections: Range<u32>,
    quantity: u32,
) -> Option<Range<SeatIndex>> {
    let mut with_orphan = None;
    for section in sections {
        let place = index.layout.sections.get(section as usize)?;
        if !may_help(&index.section_runs[section as usize], quantity, with_orphan) {
            continue;
        }
        for row_number in place.rows.clone() {
            if !may_help(&index.row_runs[row_number as usize], quantity, with_orphan) {
                continue;
            }
            let row = &index.layout.rows[row_number as usize].seats;
            let best = best_in_row(seats, row, quantity);
            if let Some(first) = best.without_orphan {
                return Some(first..first + quantity);
            }
            with_orphan = with_orphan.or(best.any);
        }
    }
    with_orphan.map(|first| first..first + quantity)
}

/// Whether these runs may have a placement better than the one found so far.
fn may_help(runs: &FreeRuns, quantity: u32, with_orphan: Option<SeatIndex>) -> bool {
    runs.may_seat_without_orphan(quantity) || with_orphan.is_none() && runs.may_seat(quantity)
}

/// The most central placements of a row, by their first seats.
#[derive(Debug, Default)]
struct RowChoice {
    without_orphan: Option<SeatIndex>,
    any: Option<SeatIndex>,
}

fn best_in_row(seats: &CowVec<Seat>, row: &Range<SeatIndex>, quantity: u32) -> RowChoice {
    let mut choice = RowChoice::default();
    let (mut nearest_without, mut nearest_any) = (u32::MAX, u32::MAX);
    // Twice the distance from the row's centre, to stay with whole numbers.
    let off_centre = |first: u32| (2 * first + quantity).abs_diff(row.start + row.end);
    let mut run_start = row.start;
    let row_seats = seats.iter_from(row.start as usize).take(row.len());
    // A taken seat after the last ends the last run.
    let taken = Seat::held(0);
    for (seat, state) in (row.start..=row.end).zip(row_seats.chain(std::iter::once(&taken))) {
        if state.is_free() {
            continue;
        }
        let run = run_start..seat;
        run_start = seat + 1;
        if run.len() < quantity as usize {
            continue;
        }
        for first in run.start..=run.end - quantity {
            let distance = off_centre(first);
            let leaves_orphan = first - run.start == 1 || run.end - (first + quantity) == 1;
            if distance < nearest_any {
                nearest_any = distance;
                choice.any = Some(first);
            }
            if !leaves_orphan && distance < nearest_without {
                nearest_without = distance;
                choice.without_orphan = Some(first);
            }
        }
    }
    choice
}
