//! Holding seats: chosen by the buyer, or the best available.

use grid_core::{ApplyContext, Timestamp};
use smallvec::SmallVec;

use super::best_available;
use super::index::{EventIndex, SeatMove};
use super::messages::{Change, Refusal, Reply, SEATS_PER_REQUEST_MAX, SeatIndex};
use super::seat::Seat;
use super::space::BoxOfficeSpace;
use super::state::{Event, Hold};
use crate::ids::{EventId, HoldId, UserId};

impl BoxOfficeSpace {
    /// Holds the named seats. Refused in this order: no such event, a senseless number of seats, not on
    /// sale yet, unknown seats, a seat named twice, the buyer's limit, taken seats.
    pub(super) fn hold_seats<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        event_id: EventId,
        buyer: UserId,
        labels: &[String],
    ) -> Result<Reply, Refusal> {
        let (event, index) = self.event(event_id).ok_or(Refusal::EventNotFound)?;
        check_quantity("seats", labels.len())?;
        event.check_on_sale(context.now())?;
        let seats = find_seats(event, index, labels)?;
        index.check_limit(event, buyer, seats.len() as u32)?;
        let taken: Vec<_> = seats
            .iter()
            .filter(|seat| {
                event
                    .seats
                    .get(**seat as usize)
                    .is_none_or(|seat| !seat.is_free())
            })
            .map(|seat| index.layout.label(&event.terms, *seat))
            .collect();
        if !taken.is_empty() {
            return Err(Refusal::SeatTaken { seats: taken });
        }
        self.hold(context, event_id, buyer, seats)
    }

    /// Chooses and holds in one step, so that nobody can take the seats in between.
    pub(super) fn hold_best_available<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        event_id: EventId,
        buyer: UserId,
        section: Option<&str>,
        quantity: u32,
    ) -> Result<Reply, Refusal> {
        let (event, index) = self.event(event_id).ok_or(Refusal::EventNotFound)?;
        check_quantity("quantity", quantity as usize)?;
        event.check_on_sale(context.now())?;
        let sections = match section {
            Some(name) => {
                let number = index.layout.section(name).ok_or(Refusal::SectionNotFound)?;
                number..number + 1
            }
            None => 0..index.layout.sections.len() as u32,
        };
        index.check_limit(event, buyer, quantity)?;
        let counters = &index.sections[sections.start as usize..sections.end as usize];
        let available = counters.iter().map(|section| section.free).sum();
        let seats = best_available::choose(index, &event.seats, sections, quantity)
            .ok_or(Refusal::NotEnoughSeats { available })?;
        self.hold(context, event_id, buyer, seats.collect())
    }

    /// Holds free seats, ascending.
    fn hold<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        event_id: EventId,
        buyer: UserId,
        seats: SmallVec<[SeatIndex; 4]>,
    ) -> Result<Reply, Refusal> {
        let writer = self.writer(event_id).ok_or(Refusal::EventNotFound)?;
        let (event, index) = (writer.event, writer.index);
        let hold_id = HoldId(context.mint_id());
        let expires_at = context.now() + event.terms.hold_ms;
        let number = event.holds.next_number();
        let mut labels = Vec::with_capacity(seats.len());
        let mut total = 0;
        for seat in &seats {
            if let Some(state) = event.seats.get_mut(*seat as usize) {
                *state = Seat::held(number);
            }
            let row_number = index.layout.row_of(*seat);
            index.count(&event.seats, row_number, *seat, SeatMove::FreeToHeld);
            labels.push(index.layout.label_in(&event.terms, row_number, *seat));
            total += index.layout.row_price(row_number);
        }
        context.emit(C::from(Change::SeatsHeld {
            event_id,
            hold_id,
            buyer,
            seats: seats.clone(),
            expires_at,
        }));
        let hold = Hold {
            hold_id,
            buyer,
            expires_at,
            seats,
        };
        index.add_hold(number, &hold);
        event.holds.insert(hold);
        writer.expiries.insert((expires_at, event_id, hold_id));
        Ok(Reply::Held {
            hold_id,
            seats: labels,
            total,
            currency: event.terms.currency,
            expires_at,
        })
    }
}

fn check_quantity(field: &str, quantity: usize) -> Result<(), Refusal> {
    if (1..=SEATS_PER_REQUEST_MAX).contains(&quantity) {
        return Ok(());
    }
    let rule = format!("{field}: between 1 and {SEATS_PER_REQUEST_MAX}");
    Err(Refusal::Invalid(rule))
}

/// The seats of these labels, ascending.
fn find_seats(
    event: &Event,
    index: &EventIndex,
    labels: &[String],
) -> Result<SmallVec<[SeatIndex; 4]>, Refusal> {
    let mut seats = SmallVec::with_capacity(labels.len());
    let mut unknown = Vec::new();
    for label in labels {
        match index.layout.seat(&event.terms, label) {
            Some(seat) => seats.push(seat),
            None => unknown.push(label.clone()),
        }
    }
    if !unknown.is_empty() {
        return Err(Refusal::SeatNotFound { seats: unknown });
    }
    seats.sort_unstable();
    if seats.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Refusal::Invalid("seats: a seat is named twice".to_owned()));
    }
    Ok(seats)
}

impl Event {
    fn check_on_sale(&self, now: Timestamp) -> Result<(), Refusal> {
        let on_sale_at = self.terms.on_sale_at;
        if now < on_sale_at {
            return Err(Refusal::OnSaleClosed { on_sale_at });
        }
        Ok(())
    }
}

impl EventIndex {
    fn check_limit(&self, event: &Event, buyer: UserId, quantity: u32) -> Result<(), Refusal> {
        let limit = event.terms.max_seats_per_buyer;
        let has = self.buyers.seats_of(buyer);
        if has.saturating_add(quantity) > limit {
            return Err(Refusal::TooManySeats { limit, has });
        }
        Ok(())
    }
}
