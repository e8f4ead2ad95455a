//! The fixed layout of an event: labels to seats and back, without a string a seat.

use std::ops::Range;

use grid_core::FixedHashMap;
use smallvec::SmallVec;

use super::messages::{NewEvent, RowSeats, SeatIndex};

/// Where an event's sections and rows lie in its run of seats; derived from the event.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) sections: Vec<SectionPlace>,
    pub(super) rows: Vec<RowPlace>,
    section_by_name: FixedHashMap<String, u32>,
    row_by_name: FixedHashMap<String, SmallVec<[u32; 4]>>,
    seats: u32,
}

/// A section's place.
#[derive(Debug)]
pub(super) struct SectionPlace {
    pub(super) price: i64,
    /// Its rows in [`Layout::rows`].
    pub(super) rows: Range<u32>,
    pub(super) seats: Range<SeatIndex>,
}

/// A row's place.
#[derive(Debug)]
pub(super) struct RowPlace {
    pub(super) section: u32,
    pub(super) seats: Range<SeatIndex>,
    /// For named seats: their places in the row in the order of their names.
    by_name: Vec<u32>,
}

impl RowSeats {
    /// How many seats the row has.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Count(count) => *count as usize,
            Self::Labels(labels) => labels.len(),
        }
    }
}

impl Layout {
    /// The layout of an event whose terms were accepted.
    pub(super) fn new(event: &NewEvent) -> Self {
        let mut layout = Self {
            sections: Vec::with_capacity(event.sections.len()),
            rows: Vec::new(),
            section_by_name: FixedHashMap::default(),
            row_by_name: FixedHashMap::default(),
            seats: 0,
        };
        for (number, section) in (0u32..).zip(&event.sections) {
            let (first_row, first_seat) = (layout.rows.len() as u32, layout.seats);
            for row in &section.rows {
                let row_number = layout.rows.len() as u32;
                let rows = layout.row_by_name.entry(row.name.clone()).or_default();
                rows.push(row_number);
                let first = layout.seats;
                layout.seats += row.seats.len() as u32;
                layout.rows.push(RowPlace {
                    section: number,
                    seats: first..layout.seats,
                    by_name: order_by_name(&row.seats),
                });
            }
            layout.section_by_name.insert(section.name.clone(), number);
            layout.sections.push(SectionPlace {
                price: section.price,
                rows: first_row..layout.rows.len() as u32,
                seats: first_seat..layout.seats,
            });
        }
        layout
    }

    /// The number of seats.
    pub(super) fn seats(&self) -> u32 {
        self.seats
    }

    /// The section of this name.
    pub(super) fn section(&self, name: &str) -> Option<u32> {
        self.section_by_name.get(name).copied()
    }

    /// The number of the row that a seat is in.
    pub(super) fn row_of(&self, seat: SeatIndex) -> usize {
        let after = self.rows.partition_point(|row| row.seats.start <= seat);
        after.saturating_sub(1)
    }

    /// The price of a seat.
    pub(super) fn price(&self, seat: SeatIndex) -> i64 {
        self.row_price(self.row_of(seat))
    }

    /// The price of a row's seats.
    pub(super) fn row_price(&self, row_number: usize) -> i64 {
        self.rows
            .get(row_number)
            .and_then(|row| self.sections.get(row.section as usize))
            .map_or(0, |section| section.price)
    }

    /// The seat of a label, `SECTION-ROW-SEAT`. Only the section's name may hold a `-`, so the label
    /// is read from its end; a number is written without leading zeros. One seat has one label.
    pub(super) fn seat(&self, event: &NewEvent, label: &str) -> Option<SeatIndex> {
        let (row_label, seat_label) = label.rsplit_once('-')?;
        let (section_name, row_name) = row_label.rsplit_once('-')?;
        let section = self.section(section_name)?;
        let rows = &self.sections.get(section as usize)?.rows;
        // Row names repeat between sections; their numbers ascend.
        let candidates = self.row_by_name.get(row_name)?;
        let first = candidates.partition_point(|row| *row < rows.start);
        let row_number = *candidates.get(first).filter(|row| rows.contains(row))?;
        let row = self.rows.get(row_number as usize)?;
        let terms = event.sections.get(section as usize)?;
        let place = match &terms.rows.get((row_number - rows.start) as usize)?.seats {
            RowSeats::Count(count) => parse_number(seat_label).filter(|n| n <= count)? - 1,
            RowSeats::Labels(labels) => {
                let found = row
                    .by_name
                    .binary_search_by(|place| labels[*place as usize].as_str().cmp(seat_label));
                *row.by_name.get(found.ok()?)?
            }
        };
        Some(row.seats.start + place)
    }

    /// The label of a seat.
    pub(super) fn label(&self, event: &NewEvent, seat: SeatIndex) -> String {
        self.label_in(event, self.row_of(seat), seat)
    }

    /// The label of a seat whose row is known.
    pub(super) fn label_in(&self, event: &NewEvent, row_number: usize, seat: SeatIndex) -> String {
        let Some(row) = self.rows.get(row_number) else {
            return String::new();
        };
        let section = &event.sections[row.section as usize];
        let first_row = self.sections[row.section as usize].rows.start as usize;
        let terms = &section.rows[row_number - first_row];
        let place = seat - row.seats.start;
        let mut label = String::with_capacity(section.name.len() + terms.name.len() + 8);
        label.push_str(&section.name);
        label.push('-');
        label.push_str(&terms.name);
        label.push('-');
        match &terms.seats {
            RowSeats::Count(_) => push_number(&mut label, place + 1),
            RowSeats::Labels(labels) => label.push_str(&labels[place as usize]),
        }
        label
    }
}

fn order_by_name(seats: &RowSeats) -> Vec<u32> {
    match seats {
        RowSeats::Count(_) => Vec::new(),
        RowSeats::Labels(labels) => {
            let mut order: Vec<u32> = (0..labels.len() as u32).collect();
            order.sort_by_key(|place| &labels[*place as usize]);
            order
        }
    }
}

/// A positive number without sign or leading zeros.
fn parse_number(text: &str) -> Option<u32> {
    let starts_well = matches!(text.as_bytes().first(), Some(b'1'..=b'9'));
    if starts_well { text.parse().ok() } else { None }
}

fn push_number(text: &mut String, mut number: u32) {
    // The formatting machinery costs more than the rest of a label.
    let mut digits = [0u8; 10];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    text.extend(digits[start..].iter().map(|digit| char::from(*digit)));
}
