//! Where an event's seats stand on the way through its history, in a few bytes a seat.

use grid_core::Timestamp;
use processing_unit::box_office::{Change, NewEvent, RowSeats, SeatIndex};

/// A seat's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SeatState {
    /// On sale.
    Free,
    /// Held by a buyer.
    Held,
    /// Sold.
    Sold,
}

/// How many seats are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SeatCounts {
    pub(super) free: u32,
    pub(super) held: u32,
    pub(super) sold: u32,
}

impl SeatCounts {
    fn of(&mut self, state: SeatState) -> &mut u32 {
        match state {
            SeatState::Free => &mut self.free,
            SeatState::Held => &mut self.held,
            SeatState::Sold => &mut self.sold,
        }
    }
}

/// All seats of an event.
///
/// Invariant: the counts are those of the states.
#[derive(Debug)]
pub(super) struct SeatBoard {
    labels: Vec<Box<str>>,
    states: Vec<SeatState>,
    /// When each came into its state.
    since: Vec<Timestamp>,
    counts: SeatCounts,
}

impl SeatBoard {
    /// All seats free.
    pub(super) fn new(event: &NewEvent) -> Self {
        let mut labels = Vec::new();
        for section in &event.sections {
            for row in &section.rows {
                let mut push = |seat: &dyn std::fmt::Display| {
                    labels.push(format!("{}-{}-{seat}", section.name, row.name).into_boxed_str());
                };
                match &row.seats {
                    RowSeats::Count(count) => (1..=*count).for_each(|number| push(&number)),
                    RowSeats::Labels(names) => names.iter().for_each(|name| push(name)),
                }
            }
        }
        let seats = labels.len();
        Self {
            labels,
            states: vec![SeatState::Free; seats],
            since: vec![Timestamp::ZERO; seats],
            counts: SeatCounts {
                free: u32::try_from(seats).unwrap_or(u32::MAX),
                ..SeatCounts::default()
            },
        }
    }

    /// Follows a change that happened at no known time.
    pub(super) fn apply(&mut self, change: &Change) {
        self.apply_at(change, Timestamp::ZERO);
    }

    /// Follows a change.
    pub(super) fn apply_at(&mut self, change: &Change, at: Timestamp) {
        match change {
            Change::EventCreated { .. } => {}
            Change::SeatsHeld { seats, .. } => self.set_all(seats, SeatState::Held, at),
            Change::SeatsReleased { seats, .. } => self.set_all(seats, SeatState::Free, at),
            Change::SeatsSold { tickets, .. } => {
                for sold in tickets {
                    self.set_all(&[sold.seat], SeatState::Sold, at);
                }
            }
        }
    }

    fn set_all(&mut self, seats: &[SeatIndex], state: SeatState, at: Timestamp) {
        for seat in seats {
            let seat = *seat as usize;
            let Some(old) = self.states.get_mut(seat) else {
                continue;
            };
            *self.counts.of(*old) -= 1;
            *self.counts.of(state) += 1;
            *old = state;
            self.since[seat] = at;
        }
    }

    /// How many are in which state.
    pub(super) fn counts(&self) -> SeatCounts {
        self.counts
    }

    /// A seat's label; empty for one that the event does not have.
    pub(super) fn label(&self, seat: SeatIndex) -> &str {
        self.labels.get(seat as usize).map_or("", |label| label)
    }

    /// A seat's state, and since when it has it.
    pub(super) fn state(&self, seat: usize) -> (SeatState, Timestamp) {
        let state = self.states.get(seat).copied().unwrap_or(SeatState::Free);
        let since = self.since.get(seat).copied().unwrap_or(Timestamp::ZERO);
        (state, since)
    }
}
