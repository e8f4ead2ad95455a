//! Which events are accepted. Every refusal names the field.

use std::collections::BTreeSet;

use super::messages::{
    HOLD_MS_MAX, LABEL_BYTES_MAX, NAME_BYTES_MAX, NewEvent, Refusal, Row, RowSeats, SEATS_MAX,
    SECTIONS_MAX, Section,
};
use crate::money::AMOUNT_MINOR_MAX;

fn invalid(field: &str, rule: impl std::fmt::Display) -> Refusal {
    Refusal::Invalid(format!("{field}: {rule}"))
}

/// Checks a new event.
pub(super) fn check_event(event: &NewEvent) -> Result<(), Refusal> {
    if event.name.trim().is_empty() {
        return Err(invalid("name", "must not be empty"));
    }
    for (field, text) in [
        ("name", &event.name),
        ("artist", &event.artist),
        ("venue", &event.venue),
    ] {
        if text.len() > NAME_BYTES_MAX {
            return Err(invalid(field, format!("at most {NAME_BYTES_MAX} bytes")));
        }
    }
    if event.max_seats_per_buyer == 0 {
        return Err(invalid("max_seats_per_buyer", "at least 1"));
    }
    if !(1..=HOLD_MS_MAX).contains(&event.hold_ms) {
        return Err(invalid("hold_ms", format!("between 1 and {HOLD_MS_MAX}")));
    }
    if event.sections.is_empty() || event.sections.len() > SECTIONS_MAX {
        return Err(invalid("sections", format!("between 1 and {SECTIONS_MAX}")));
    }
    let rows = || event.sections.iter().flat_map(|section| &section.rows);
    // Counted before anything is built from it: one number can claim four billion seats.
    let seats = rows().fold(0usize, |sum, row| sum.saturating_add(row.seats.len()));
    if seats > SEATS_MAX {
        return Err(invalid("sections", format!("at most {SEATS_MAX} seats")));
    }
    let mut names = BTreeSet::new();
    for section in &event.sections {
        if !names.insert(section.name.as_str()) {
            return Err(invalid("sections.name", "unique in the event"));
        }
        check_section(section)?;
    }
    Ok(())
}

fn check_section(section: &Section) -> Result<(), Refusal> {
    check_label("sections.name", &section.name)?;
    if !(0..=AMOUNT_MINOR_MAX).contains(&section.price) {
        return Err(invalid("sections.price", "not negative and not too large"));
    }
    if section.rows.is_empty() {
        return Err(invalid("sections.rows", "at least 1"));
    }
    let mut names = BTreeSet::new();
    for row in &section.rows {
        if !names.insert(row.name.as_str()) {
            return Err(invalid("rows.name", "unique in its section"));
        }
        check_row(row)?;
    }
    Ok(())
}

fn check_row(row: &Row) -> Result<(), Refusal> {
    check_part("rows.name", &row.name)?;
    if row.seats.len() == 0 {
        return Err(invalid("rows.seats", "at least 1"));
    }
    if let RowSeats::Labels(labels) = &row.seats {
        let mut names = BTreeSet::new();
        for label in labels {
            check_part("rows.seats", label)?;
            if !names.insert(label.as_str()) {
                return Err(invalid("rows.seats", "unique in their row"));
            }
        }
    }
    Ok(())
}

fn check_label(field: &str, label: &str) -> Result<(), Refusal> {
    if label.is_empty() || label.len() > LABEL_BYTES_MAX {
        let rule = format!("between 1 and {LABEL_BYTES_MAX} bytes");
        return Err(invalid(field, rule));
    }
    Ok(())
}

/// A label that must not hold the separator of `SECTION-ROW-SEAT`.
fn check_part(field: &str, label: &str) -> Result<(), Refusal> {
    check_label(field, label)?;
    if label.contains('-') {
        return Err(invalid(field, "must not contain '-'"));
    }
    Ok(())
}
