//! The present state of an event's seats, kept while anybody watches, and the seats that changed since
//! the last update.

use std::collections::BTreeSet;
use std::sync::Arc;

use processing_unit::box_office::{SeatIndex, SeatStates};

use crate::convert;
use crate::layout::EventLayout;
use crate::protocol::view::{EventSnapshotData, SeatsChangedData, SectionSnapshot, SectionUpdate};

/// How many seats of a section are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    available: u32,
    held: u32,
    sold: u32,
}

impl Counts {
    fn of(&mut self, state: u8) -> &mut u32 {
        match state {
            b'h' => &mut self.held,
            b's' => &mut self.sold,
            _ => &mut self.available,
        }
    }
}

/// All seats of one event at one log position.
///
/// Invariant: the counts are those of the states.
#[derive(Debug)]
pub(crate) struct Board {
    layout: Arc<EventLayout>,
    /// One ASCII letter a seat: `a`vailable, `h`eld, `s`old.
    states: String,
    counts: Vec<Counts>,
    touched: BTreeSet<SeatIndex>,
    /// The index of the log entry that changed each seat last, as far as it was seen here.
    changed_at: Vec<u64>,
}

impl Board {
    /// `None` when the states are not those of the layout's seats.
    pub(crate) fn new(layout: Arc<EventLayout>, seats: SeatStates) -> Option<Self> {
        if seats.first != 0 || seats.states.len() != layout.len() || !seats.states.is_ascii() {
            return None;
        }
        let mut counts = vec![Counts::default(); layout.sections.len()];
        for (section, counts) in layout.sections.iter().zip(&mut counts) {
            let range = section.first as usize..(section.first + section.seats) as usize;
            for state in &seats.states[range] {
                *counts.of(*state) += 1;
            }
        }
        let changed_at = vec![0; layout.len()];
        Some(Self {
            states: String::from_utf8(seats.states).ok()?,
            layout,
            counts,
            touched: BTreeSet::new(),
            changed_at,
        })
    }

    /// Notes that the entry at `index` put a seat into the state it has.
    pub(super) fn touch(&mut self, index: u64, seat: SeatIndex) {
        if let Some(changed_at) = self.changed_at.get_mut(seat as usize) {
            *changed_at = index.max(*changed_at);
            self.touched.insert(seat);
        }
    }

    /// The seats that were changed by entries after `index`.
    pub(super) fn changed_since(&self, index: u64) -> BTreeSet<SeatIndex> {
        let seats = (0..).zip(&self.changed_at);
        seats
            .filter(|(_, changed_at)| **changed_at > index)
            .map(|(seat, _)| seat)
            .collect()
    }

    /// Puts a seat into a state, by the entry at `index`.
    pub(crate) fn set(&mut self, index: u64, seat: SeatIndex, state: u8) {
        let place = seat as usize;
        let (Some(&old), Some(section)) = (
            self.states.as_bytes().get(place),
            self.layout.section_of(seat),
        ) else {
            return;
        };
        let letter = match state {
            b'h' => "h",
            b's' => "s",
            _ => "a",
        };
        self.states.replace_range(place..=place, letter);
        let counts = &mut self.counts[section];
        *counts.of(old) -= 1;
        *counts.of(state) += 1;
        self.touch(index, seat);
    }

    /// The seats that changed since this was last asked.
    pub(crate) fn take_touched(&mut self) -> BTreeSet<SeatIndex> {
        std::mem::take(&mut self.touched)
    }

    /// The data of an update about these seats.
    pub(crate) fn update(&self, seats: &BTreeSet<SeatIndex>) -> SeatsChangedData<'_> {
        let sections: BTreeSet<usize> = seats
            .iter()
            .filter_map(|seat| self.layout.section_of(*seat))
            .collect();
        SeatsChangedData {
            sections: sections
                .into_iter()
                .map(|section| SectionUpdate {
                    name: &self.layout.sections[section].name,
                    available: self.counts[section].available,
                    held: self.counts[section].held,
                    sold: self.counts[section].sold,
                })
                .collect(),
            seats: seats
                .iter()
                .filter_map(|seat| {
                    let state = *self.states.as_bytes().get(*seat as usize)?;
                    Some((self.layout.label(*seat), convert::seat_state(state)))
                })
                .collect(),
        }
    }

    /// The data of a snapshot.
    pub(crate) fn snapshot(&self) -> EventSnapshotData<'_> {
        let sections = self.layout.sections.iter().zip(&self.counts);
        EventSnapshotData {
            name: &self.layout.name,
            currency: self.layout.currency.code(),
            sections: sections
                .map(|(section, counts)| {
                    let range = section.first as usize..(section.first + section.seats) as usize;
                    SectionSnapshot {
                        name: &section.name,
                        price: convert::money(section.price, self.layout.currency),
                        total: section.seats,
                        available: counts.available,
                        held: counts.held,
                        sold: counts.sold,
                        states: &self.states[range],
                    }
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::tests::two_sections;

    fn board() -> Board {
        let layout = Arc::new(two_sections());
        let seats = SeatStates {
            first: 0,
            states: b"aahas".to_vec(),
            labels: Vec::new(),
        };
        Board::new(layout, seats).expect("fits")
    }

    fn json<T: serde::Serialize>(value: &T) -> String {
        serde_json::to_string(value).expect("plain")
    }

    #[test]
    fn an_update_has_the_latest_state_of_each_changed_seat_and_its_section() {
        let mut board = board();
        board.set(7, 0, b'h');
        board.set(8, 0, b's');
        board.set(9, 2, b'a');
        board.set(9, 99, b's');
        assert_eq!(board.changed_since(8), BTreeSet::from([2]));
        assert_eq!(board.changed_since(7), BTreeSet::from([0, 2]));
        let touched = board.take_touched();
        assert_eq!(
            json(&board.update(&touched)),
            r#"{"sections":[{"name":"A","available":2,"held":0,"sold":1}],"seats":[["A-1-1","sold"],["A-2-x","available"]]}"#
        );
        assert!(board.take_touched().is_empty());
    }

    #[test]
    fn a_snapshot_has_every_seat() {
        let snapshot = json(&board().snapshot());
        assert!(snapshot.contains(r#""name":"A","price":{"amount":"50.00","currency":"EUR"},"total":3,"available":2,"held":1,"sold":0,"states":"aah""#), "{snapshot}");
        assert!(snapshot.contains(r#""states":"as""#), "{snapshot}");
    }

    #[test]
    fn states_of_another_layout_are_refused() {
        let seats = SeatStates {
            first: 0,
            states: b"aa".to_vec(),
            labels: Vec::new(),
        };
        assert!(Board::new(Arc::new(two_sections()), seats).is_none());
    }
}
