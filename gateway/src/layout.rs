//! An event's layout as the edge needs it: from a seat's index to its label and section.

use processing_unit::Currency;
use processing_unit::box_office::{NewEvent, RowSeats, SeatIndex};

/// A section's place and terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SectionLayout {
    pub(crate) name: String,
    pub(crate) price: i64,
    /// The index of its first seat; its seats follow without a gap.
    pub(crate) first: SeatIndex,
    pub(crate) seats: u32,
}

/// The immutable part of an event. All labels share one buffer: a venue of 20,000 seats takes about
/// 250 kB.
#[derive(Clone, Debug)]
pub(crate) struct EventLayout {
    pub(crate) name: String,
    pub(crate) currency: Currency,
    pub(crate) sections: Vec<SectionLayout>,
    labels: String,
    /// Where each label ends in `labels`.
    ends: Vec<u32>,
}

impl EventLayout {
    pub(crate) fn new(event: &NewEvent) -> Self {
        let mut layout = Self {
            name: event.name.clone(),
            currency: event.currency,
            sections: Vec::with_capacity(event.sections.len()),
            labels: String::new(),
            ends: Vec::new(),
        };
        for section in &event.sections {
            let first = layout.ends.len() as u32;
            for row in &section.rows {
                match &row.seats {
                    RowSeats::Count(count) => {
                        for number in 1..=*count {
                            layout.push(&section.name, &row.name, &number.to_string());
                        }
                    }
                    RowSeats::Labels(labels) => {
                        for label in labels {
                            layout.push(&section.name, &row.name, label);
                        }
                    }
                }
            }
            layout.sections.push(SectionLayout {
                name: section.name.clone(),
                price: section.price,
                first,
                seats: layout.ends.len() as u32 - first,
            });
        }
        layout
    }

    fn push(&mut self, section: &str, row: &str, seat: &str) {
        for part in [section, "-", row, "-", seat] {
            self.labels.push_str(part);
        }
        self.ends.push(self.labels.len() as u32);
    }

    /// The number of seats.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// A seat's label, `SECTION-ROW-NUMBER`; empty for a seat that the event does not have.
    pub(crate) fn label(&self, seat: SeatIndex) -> &str {
        let seat = seat as usize;
        let Some(&end) = self.ends.get(seat) else {
            return "";
        };
        let start = seat.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.labels[start as usize..end as usize]
    }

    /// The place of a seat's section in [`Self::sections`].
    pub(crate) fn section_of(&self, seat: SeatIndex) -> Option<usize> {
        if seat as usize >= self.len() {
            return None;
        }
        // Sections without seats share their first seat's index with the next; the last one counts.
        self.sections
            .partition_point(|section| section.first <= seat)
            .checked_sub(1)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use grid_core::Timestamp;
    use processing_unit::EventId;
    use processing_unit::box_office::{Row, Section};
    use uuid::Uuid;

    use super::*;

    pub(crate) fn two_sections() -> EventLayout {
        let row = |name: &str, seats| Row {
            name: name.to_owned(),
            seats,
        };
        EventLayout::new(&NewEvent {
            event_id: EventId(Uuid::from_u128(1)),
            name: "Concert".to_owned(),
            artist: String::new(),
            venue: String::new(),
            starts_at: Timestamp::ZERO,
            on_sale_at: Timestamp::ZERO,
            currency: Currency::from_code("EUR").expect("known"),
            max_seats_per_buyer: 4,
            hold_ms: 1_000,
            sections: vec![
                Section {
                    name: "A".to_owned(),
                    price: 5_000,
                    rows: vec![
                        row("1", RowSeats::Count(2)),
                        row("2", RowSeats::Labels(vec!["x".to_owned()])),
                    ],
                },
                Section {
                    name: "B".to_owned(),
                    price: 1_000,
                    rows: vec![row("1", RowSeats::Count(2))],
                },
            ],
        })
    }

    #[test]
    fn seats_have_labels_and_sections() {
        let layout = two_sections();
        let labels: Vec<_> = (0..6).map(|seat| layout.label(seat)).collect();
        assert_eq!(labels, ["A-1-1", "A-1-2", "A-2-x", "B-1-1", "B-1-2", ""]);
        let sections: Vec<_> = (0..6).map(|seat| layout.section_of(seat)).collect();
        assert_eq!(
            sections,
            [Some(0), Some(0), Some(0), Some(1), Some(1), None]
        );
    }
}
