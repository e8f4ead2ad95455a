//! Answers from the present state.

use std::ops::Bound;

use super::index::EventIndex;
use super::messages::{
    Answer, EventView, HoldView, OwnTicketView, Query, SeatIndex, SeatStates, SectionCount,
    TicketRow, TicketView,
};
use super::seat::Occupancy;
use super::space::BoxOfficeSpace;
use super::state::{Event, Hold};
use crate::ids::{EventId, UserId};

impl BoxOfficeSpace {
    /// Answers a question. Lists cost what they skip, so callers page.
    #[must_use]
    pub fn query(&self, query: &Query) -> Answer {
        match query {
            Query::Event { event_id } => Answer::Event(
                self.event(*event_id)
                    .map(|(event, index)| event_view(event, index)),
            ),
            Query::Events { text, after, limit } => {
                Answer::Events(self.events(text.as_deref(), *after, *limit))
            }
            Query::Layout { event_id } => {
                let event = self.event(*event_id);
                Answer::Layout(event.map(|(event, _)| (*event.terms).clone()))
            }
            Query::Overview { event_id } => Answer::Overview(
                self.event(*event_id)
                    .map(|(event, index)| section_counts(event, index)),
            ),
            Query::Seats { event_id, section } => Answer::Seats(
                self.event(*event_id)
                    .and_then(|(event, index)| seat_states(event, index, section.as_deref())),
            ),
            Query::HoldsOf { buyer, limit } => Answer::HoldsOf(self.holds_of(*buyer, *limit)),
            Query::TicketsOf { buyer, limit } => Answer::TicketsOf(self.tickets_of(*buyer, *limit)),
            Query::Tickets {
                event_id,
                after,
                limit,
            } => Answer::Tickets(
                self.event(*event_id)
                    .map(|(event, index)| ticket_rows(event, index, *after, *limit)),
            ),
        }
    }

    fn events(&self, text: Option<&str>, after: Option<EventId>, limit: usize) -> Vec<EventView> {
        let text = text.map(str::to_lowercase);
        let matches = |field: &str, text: &str| field.to_lowercase().contains(text);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.ids
            .range((from, Bound::Unbounded))
            .filter_map(|event_id| self.event(*event_id))
            .filter(|(event, _)| {
                let terms = &event.terms;
                text.as_deref().is_none_or(|text| {
                    [&terms.name, &terms.artist, &terms.venue]
                        .iter()
                        .any(|field| matches(field, text))
                })
            })
            .take(limit)
            .map(|(event, index)| event_view(event, index))
            .collect()
    }

    fn holds_of(&self, buyer: UserId, limit: usize) -> Vec<HoldView> {
        let mut views = Vec::new();
        for event_id in &self.ids {
            let Some((event, index)) = self.event(*event_id) else {
                continue;
            };
            let numbers = index.buyers.holds_of(buyer).iter();
            let mut holds: Vec<_> = numbers.filter_map(|hold| event.holds.get(*hold)).collect();
            holds.sort_unstable_by_key(|hold| hold.hold_id);
            holds.truncate(limit - views.len());
            views.extend(
                holds
                    .into_iter()
                    .map(|hold| hold_view(*event_id, event, index, hold)),
            );
            if views.len() == limit {
                break;
            }
        }
        views
    }

    fn tickets_of(&self, buyer: UserId, limit: usize) -> Vec<OwnTicketView> {
        self.ids
            .iter()
            .filter_map(|event_id| Some((*event_id, self.event(*event_id)?)))
            .flat_map(|(event_id, (event, index))| {
                let numbers = index.buyers.sales_of(buyer).iter();
                let sales = numbers.filter_map(|number| event.sales.get(*number as usize));
                sales.flat_map(move |sale| {
                    sale.tickets.iter().map(move |ticket| OwnTicketView {
                        event_id,
                        currency: event.terms.currency,
                        payment_reference: sale.payment_reference.to_string(),
                        ticket: TicketView {
                            ticket_id: ticket.ticket_id,
                            seat: index.layout.label(&event.terms, ticket.seat),
                            price: index.layout.price(ticket.seat),
                        },
                    })
                })
            })
            .take(limit)
            .collect()
    }
}

fn event_view(event: &Event, index: &EventIndex) -> EventView {
    let terms = &event.terms;
    EventView {
        event_id: terms.event_id,
        host: event.host,
        name: terms.name.clone(),
        artist: terms.artist.clone(),
        venue: terms.venue.clone(),
        starts_at: terms.starts_at,
        on_sale_at: terms.on_sale_at,
        currency: terms.currency,
        max_seats_per_buyer: terms.max_seats_per_buyer,
        hold_ms: terms.hold_ms,
        seats: index.layout.seats(),
        sections: section_counts(event, index),
    }
}

fn section_counts(event: &Event, index: &EventIndex) -> Vec<SectionCount> {
    let sections = event.terms.sections.iter().zip(&index.layout.sections);
    sections
        .zip(&index.sections)
        .map(|((section, place), counters)| {
            let total = place.seats.len() as u32;
            SectionCount {
                name: section.name.clone(),
                price: section.price,
                total,
                available: counters.free,
                held: counters.held,
                sold: total - counters.free - counters.held,
            }
        })
        .collect()
}

fn seat_states(event: &Event, index: &EventIndex, section: Option<&str>) -> Option<SeatStates> {
    let seats = match section {
        Some(name) => {
            let number = index.layout.section(name)?;
            index.layout.sections.get(number as usize)?.seats.clone()
        }
        None => 0..index.layout.seats(),
    };
    let states = event.seats.iter_from(seats.start as usize);
    Some(SeatStates {
        first: seats.start,
        states: states
            .take(seats.len())
            .map(|seat| match seat.occupancy() {
                Occupancy::Free => b'a',
                Occupancy::Held(_) => b'h',
                Occupancy::Sold(_) => b's',
            })
            .collect(),
        labels: seats
            .map(|seat| index.layout.label(&event.terms, seat))
            .collect(),
    })
}

fn hold_view(event_id: EventId, event: &Event, index: &EventIndex, hold: &Hold) -> HoldView {
    let seats = hold.seats.iter();
    HoldView {
        event_id,
        hold_id: hold.hold_id,
        seats: seats
            .clone()
            .map(|seat| index.layout.label(&event.terms, *seat))
            .collect(),
        total: seats.map(|seat| index.layout.price(*seat)).sum(),
        currency: event.terms.currency,
        expires_at: hold.expires_at,
    }
}

fn ticket_rows(
    event: &Event,
    index: &EventIndex,
    after: Option<SeatIndex>,
    limit: usize,
) -> Vec<TicketRow> {
    let first = after.map_or(0, |after| after.saturating_add(1));
    (first..)
        .zip(event.seats.iter_from(first as usize))
        .filter_map(|(seat_index, seat)| {
            let Occupancy::Sold(number) = seat.occupancy() else {
                return None;
            };
            let sale = event.sales.get(number as usize)?;
            let ticket = sale
                .tickets
                .iter()
                .find(|ticket| ticket.seat == seat_index)?;
            Some(TicketRow {
                seat_index,
                seat: index.layout.label(&event.terms, seat_index),
                ticket_id: ticket.ticket_id,
                hold_id: sale.hold_id,
                buyer: sale.buyer,
                price: index.layout.price(seat_index),
            })
        })
        .take(limit)
        .collect()
}
