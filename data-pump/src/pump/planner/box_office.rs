//! Events, seats, holds and tickets.

use std::collections::btree_map::Entry;

use processing_unit::box_office;
use processing_unit::box_office::{NewEvent, ReleaseReason, RowSeats};
use uuid::Uuid;

use super::super::rows::{EventRow, HoldEnd, HoldRow, RowSets, SeatRow, SeatUpdate, TicketRow};
use super::{PlacedChange, count, digits, int, millis, text, version};

pub(super) fn plan_box_office(
    rows: &mut RowSets,
    placed: &PlacedChange<'_>,
    change: &box_office::Change,
) {
    use box_office::Change as C;
    let version = version(placed);
    let at = millis(placed.at);
    match change {
        C::EventCreated { host, event } => plan_event(rows, placed, host.0, event),
        C::SeatsHeld {
            event_id,
            hold_id,
            buyer,
            seats,
            expires_at,
        } => {
            let hold = HoldRow {
                buyer: buyer.0,
                seats: count(seats.len()),
                expires_at: millis(*expires_at),
                created_at: at,
                end: None,
                version,
            };
            rows.holds.insert((event_id.0, hold_id.0), hold);
            let held = held_or_sold("held", buyer.0, hold_id.0, None, version);
            hold_seats(rows, event_id.0, seats, held);
        }
        C::SeatsReleased {
            event_id,
            hold_id,
            seats,
            reason,
            ..
        } => {
            let end = HoldEnd {
                state: match reason {
                    ReleaseReason::Released => "released",
                    ReleaseReason::Expired => "expired",
                },
                closed_at: at,
                payment_reference: None,
                version,
            };
            end_hold(rows, (event_id.0, hold_id.0), end);
            let available = SeatUpdate {
                state: "available",
                buyer: None,
                hold_id: None,
                ticket_id: None,
                was_available: false,
                version,
            };
            let_seats_go(rows, event_id.0, seats, available);
        }
        C::SeatsSold {
            event_id,
            hold_id,
            buyer,
            payment_reference,
            tickets,
        } => {
            let payment_reference = text(payment_reference);
            for ticket in tickets {
                let seat_index = int(ticket.seat);
                let ticket_id = Some(ticket.ticket_id.0);
                let sold = held_or_sold("sold", buyer.0, hold_id.0, ticket_id, version);
                // Nothing comes after it, so it does not matter what was before.
                rows.seat_updates.insert((event_id.0, seat_index), sold);
                rows.tickets.push(TicketRow {
                    event_id: event_id.0,
                    seat_index,
                    ticket_id: ticket.ticket_id.0,
                    hold_id: hold_id.0,
                    buyer: buyer.0,
                    price: ticket.price,
                    payment_reference: payment_reference.clone(),
                    sold_at: at,
                    log_index: version,
                    seq: int(placed.seq),
                });
            }
            let end = HoldEnd {
                state: "confirmed",
                closed_at: at,
                payment_reference: Some(payment_reference),
                version,
            };
            end_hold(rows, (event_id.0, hold_id.0), end);
        }
    }
}

/// Only a free seat is held, so what the batch finds of it, unless it has touched it already, is a row that
/// says so.
fn hold_seats(rows: &mut RowSets, event_id: Uuid, seats: &[u32], held: SeatUpdate) {
    for seat in seats {
        let update = rows.seat_updates.entry((event_id, int(*seat)));
        let was_available = match &update {
            Entry::Vacant(_) => true,
            Entry::Occupied(known) => known.get().was_available,
        };
        update.insert_entry(SeatUpdate {
            was_available,
            ..held
        });
    }
}

/// A seat that was held and let go within the batch keeps its row as it is.
fn let_seats_go(rows: &mut RowSets, event_id: Uuid, seats: &[u32], available: SeatUpdate) {
    for seat in seats {
        match rows.seat_updates.entry((event_id, int(*seat))) {
            Entry::Occupied(known) if known.get().was_available => {
                known.remove();
            }
            update => {
                update.insert_entry(available);
            }
        }
    }
}

fn held_or_sold(
    state: &'static str,
    buyer: Uuid,
    hold_id: Uuid,
    ticket_id: Option<Uuid>,
    version: i64,
) -> SeatUpdate {
    SeatUpdate {
        state,
        buyer: Some(buyer),
        hold_id: Some(hold_id),
        ticket_id,
        was_available: false,
        version,
    }
}

fn end_hold(rows: &mut RowSets, key: (Uuid, Uuid), end: HoldEnd) {
    match rows.holds.get_mut(&key) {
        Some(hold) => hold.end = Some(end),
        None => {
            rows.hold_updates.insert(key, end);
        }
    }
}

/// The event and each of its seats, numbered as the grid numbers them: sections, rows and seats in
/// their order, from 0.
fn plan_event(rows: &mut RowSets, placed: &PlacedChange<'_>, host: Uuid, event: &NewEvent) {
    let first = rows.seats.len();
    let mut seat_index = 0;
    for section in &event.sections {
        for row in &section.rows {
            let mut seat = |number: &dyn std::fmt::Display| {
                rows.seats.push(SeatRow {
                    event_id: event.event_id.0,
                    seat_index,
                    section: text(&section.name),
                    row_name: text(&row.name),
                    label: text(&format!("{}-{}-{number}", section.name, row.name)),
                    price: section.price,
                    version: version(placed),
                });
                seat_index += 1;
            };
            match &row.seats {
                RowSeats::Count(seats) => (1..=*seats).for_each(|number| seat(&number)),
                RowSeats::Labels(labels) => labels.iter().for_each(|label| seat(label)),
            }
        }
    }
    let seats = count(rows.seats.len() - first);
    rows.events.push(EventRow {
        event_id: event.event_id.0,
        host,
        name: text(&event.name),
        artist: text(&event.artist),
        venue: text(&event.venue),
        starts_at: millis(event.starts_at),
        on_sale_at: millis(event.on_sale_at),
        currency: text(event.currency.code()),
        minor_digits: digits(event.currency.minor_digits()),
        max_seats_per_buyer: int(event.max_seats_per_buyer),
        hold_ms: i64::try_from(event.hold_ms).unwrap_or(i64::MAX),
        seats,
        created_at: millis(placed.at),
        version: version(placed),
    });
}
