//! The box-office rules over plain lists: one entry a seat, one a hold.

use grid_core::Timestamp;
use processing_unit::box_office::{
    Change, Command, NewEvent, PAYMENT_REFERENCE_BYTES_MAX, Refusal, ReleaseReason, Reply,
    RowSeats, SEATS_PER_REQUEST_MAX, SoldSeat, TicketView,
};
use processing_unit::{EventId, HoldId, TicketId, UserId};

use super::Context;

#[derive(Default)]
pub(crate) struct BoxOffice {
    events: Vec<Event>,
}

struct Event {
    terms: NewEvent,
    seats: Vec<Seat>,
    holds: Vec<Hold>,
    expired: Vec<(HoldId, UserId)>,
}

struct Seat {
    label: String,
    section: String,
    /// Counted over the whole event.
    row: usize,
    price: i64,
    owner: Option<UserId>,
    held_by: Option<HoldId>,
}

struct Hold {
    hold_id: HoldId,
    buyer: UserId,
    expires_at: Timestamp,
}

fn emit(context: &mut Context<'_>, change: Change) {
    context.emit(processing_unit::Change::BoxOffice(change));
}

fn invalid() -> Refusal {
    Refusal::Invalid(String::new())
}

fn lay_out(terms: &NewEvent) -> Vec<Seat> {
    let mut seats = Vec::new();
    let mut row_number = 0;
    for section in &terms.sections {
        for row in &section.rows {
            let names = match &row.seats {
                RowSeats::Count(count) => (1..=*count).map(|n| n.to_string()).collect(),
                RowSeats::Labels(labels) => labels.clone(),
            };
            for name in names {
                seats.push(Seat {
                    label: format!("{}-{}-{name}", section.name, row.name),
                    section: section.name.clone(),
                    row: row_number,
                    price: section.price,
                    owner: None,
                    held_by: None,
                });
            }
            row_number += 1;
        }
    }
    seats
}

impl Event {
    fn is_free(&self, seat: usize) -> bool {
        self.seats[seat].owner.is_none()
    }

    fn has(&self, buyer: UserId) -> u32 {
        let seats = self.seats.iter();
        seats.filter(|seat| seat.owner == Some(buyer)).count() as u32
    }

    fn seats_of_hold(&self, hold_id: HoldId) -> Vec<usize> {
        let seats = 0..self.seats.len();
        seats
            .filter(|seat| self.seats[*seat].held_by == Some(hold_id))
            .collect()
    }

    fn check_request(&self, now: Timestamp, quantity: usize) -> Result<(), Refusal> {
        if quantity == 0 || quantity > SEATS_PER_REQUEST_MAX {
            return Err(invalid());
        }
        if now < self.terms.on_sale_at {
            return Err(Refusal::OnSaleClosed {
                on_sale_at: self.terms.on_sale_at,
            });
        }
        Ok(())
    }

    fn check_limit(&self, buyer: UserId, quantity: usize) -> Result<(), Refusal> {
        let (limit, has) = (self.terms.max_seats_per_buyer, self.has(buyer));
        if has as usize + quantity > limit as usize {
            return Err(Refusal::TooManySeats { limit, has });
        }
        Ok(())
    }

    fn named_seats(&self, labels: &[String]) -> Result<Vec<usize>, Refusal> {
        let find = |label: &String| self.seats.iter().position(|seat| seat.label == *label);
        let unknown: Vec<_> = labels
            .iter()
            .filter(|label| find(label).is_none())
            .cloned()
            .collect();
        if !unknown.is_empty() {
            return Err(Refusal::SeatNotFound { seats: unknown });
        }
        let mut seats: Vec<_> = labels.iter().filter_map(find).collect();
        seats.sort_unstable();
        seats.dedup();
        if seats.len() < labels.len() {
            return Err(invalid());
        }
        Ok(seats)
    }

    /// Every placement is judged; the best has no orphan, then the first row, then the least distance
    /// from its middle, then the first seat.
    fn best_seats(&self, section: Option<&str>, quantity: usize) -> Option<Vec<usize>> {
        let mut best = None;
        for first in 0..self.seats.len() {
            let end = first + quantity;
            if end > self.seats.len() {
                break;
            }
            let row = self.seats[first].row;
            let fits = (first..end).all(|seat| self.is_free(seat) && self.seats[seat].row == row);
            if !fits || section.is_some_and(|wanted| self.seats[first].section != wanted) {
                continue;
            }
            let free_in_row = |seat: Option<usize>| {
                seat.is_some_and(|seat| {
                    seat < self.seats.len() && self.seats[seat].row == row && self.is_free(seat)
                })
            };
            let before = first.checked_sub(1);
            let two_before = first.checked_sub(2);
            let orphan = (free_in_row(before) && !free_in_row(two_before))
                || (free_in_row(Some(end)) && !free_in_row(Some(end + 1)));
            let in_row = |seat: &usize| self.seats[*seat].row == row;
            let row_seats: Vec<_> = (0..self.seats.len()).filter(in_row).collect();
            let middle = row_seats[0] + row_seats[row_seats.len() - 1] + 1;
            let distance = middle.abs_diff(first + end);
            let rank = (orphan, row, distance, first);
            if best.is_none_or(|known| rank < known) {
                best = Some(rank);
            }
        }
        best.map(|(_, _, _, first)| (first..first + quantity).collect())
    }

    fn hold(&mut self, context: &mut Context<'_>, buyer: UserId, seats: &[usize]) -> Reply {
        let hold_id = HoldId(context.mint_id());
        let expires_at = context.now() + self.terms.hold_ms;
        for seat in seats {
            self.seats[*seat].owner = Some(buyer);
            self.seats[*seat].held_by = Some(hold_id);
        }
        self.holds.push(Hold {
            hold_id,
            buyer,
            expires_at,
        });
        emit(
            context,
            Change::SeatsHeld {
                event_id: self.terms.event_id,
                hold_id,
                buyer,
                seats: seats.iter().map(|seat| *seat as u32).collect(),
                expires_at,
            },
        );
        Reply::Held {
            hold_id,
            seats: seats
                .iter()
                .map(|seat| self.seats[*seat].label.clone())
                .collect(),
            total: seats.iter().map(|seat| self.seats[*seat].price).sum(),
            currency: self.terms.currency,
            expires_at,
        }
    }

    fn open_hold(&self, hold_id: HoldId, buyer: UserId) -> Result<usize, Refusal> {
        if self.expired.contains(&(hold_id, buyer)) {
            return Err(Refusal::HoldExpired);
        }
        let mut holds = self.holds.iter();
        holds
            .position(|hold| hold.hold_id == hold_id && hold.buyer == buyer)
            .ok_or(Refusal::HoldNotFound)
    }

    fn return_seats(
        &mut self,
        context: &mut Context<'_>,
        hold: &Hold,
        reason: ReleaseReason,
    ) -> u32 {
        let seats = self.seats_of_hold(hold.hold_id);
        for seat in &seats {
            self.seats[*seat].owner = None;
            self.seats[*seat].held_by = None;
        }
        emit(
            context,
            Change::SeatsReleased {
                event_id: self.terms.event_id,
                hold_id: hold.hold_id,
                buyer: hold.buyer,
                seats: seats.iter().map(|seat| *seat as u32).collect(),
                reason,
            },
        );
        seats.len() as u32
    }

    fn confirm(
        &mut self,
        context: &mut Context<'_>,
        hold_id: HoldId,
        buyer: UserId,
        payment_reference: String,
    ) -> Result<Reply, Refusal> {
        if payment_reference.is_empty() || payment_reference.len() > PAYMENT_REFERENCE_BYTES_MAX {
            return Err(invalid());
        }
        let place = self.open_hold(hold_id, buyer)?;
        self.holds.remove(place);
        let mut sold = Vec::new();
        let mut tickets = Vec::new();
        for seat in self.seats_of_hold(hold_id) {
            self.seats[seat].held_by = None;
            let ticket_id = TicketId(context.mint_id());
            let price = self.seats[seat].price;
            sold.push(SoldSeat {
                ticket_id,
                seat: seat as u32,
                price,
            });
            tickets.push(TicketView {
                ticket_id,
                seat: self.seats[seat].label.clone(),
                price,
            });
        }
        emit(
            context,
            Change::SeatsSold {
                event_id: self.terms.event_id,
                hold_id,
                buyer,
                payment_reference: payment_reference.into(),
                tickets: sold.into(),
            },
        );
        Ok(Reply::Confirmed {
            currency: self.terms.currency,
            tickets,
        })
    }
}

impl BoxOffice {
    pub(crate) fn apply(
        &mut self,
        context: &mut Context<'_>,
        command: Command,
    ) -> Result<Reply, Refusal> {
        match command {
            Command::CreateEvent { host, event } => self.create(context, host, *event),
            Command::HoldSeats {
                event_id,
                buyer,
                seats,
            } => {
                let event = self.find(event_id)?;
                event.check_request(context.now(), seats.len())?;
                let places = event.named_seats(&seats)?;
                event.check_limit(buyer, places.len())?;
                let taken: Vec<_> = places
                    .iter()
                    .filter(|seat| !event.is_free(**seat))
                    .map(|seat| event.seats[*seat].label.clone())
                    .collect();
                if !taken.is_empty() {
                    return Err(Refusal::SeatTaken { seats: taken });
                }
                Ok(event.hold(context, buyer, &places))
            }
            Command::HoldBestAvailable {
                event_id,
                buyer,
                section,
                quantity,
            } => {
                let event = self.find(event_id)?;
                let section = section.as_deref();
                event.check_request(context.now(), quantity as usize)?;
                let permitted = |name: &str| section.is_none_or(|wanted| wanted == name);
                if !event.seats.iter().any(|seat| permitted(&seat.section)) {
                    return Err(Refusal::SectionNotFound);
                }
                event.check_limit(buyer, quantity as usize)?;
                let Some(places) = event.best_seats(section, quantity as usize) else {
                    let seats = event.seats.iter();
                    let free =
                        seats.filter(|seat| permitted(&seat.section) && seat.owner.is_none());
                    return Err(Refusal::NotEnoughSeats {
                        available: free.count() as u32,
                    });
                };
                Ok(event.hold(context, buyer, &places))
            }
            Command::Confirm {
                event_id,
                hold_id,
                buyer,
                payment_reference,
            } => self
                .find(event_id)?
                .confirm(context, hold_id, buyer, payment_reference),
            Command::Release {
                event_id,
                hold_id,
                buyer,
            } => {
                let event = self.find(event_id)?;
                let place = event.open_hold(hold_id, buyer)?;
                let hold = event.holds.remove(place);
                let seats = event.return_seats(context, &hold, ReleaseReason::Released);
                Ok(Reply::Released { seats })
            }
        }
    }

    fn find(&mut self, event_id: EventId) -> Result<&mut Event, Refusal> {
        let mut events = self.events.iter_mut();
        events
            .find(|event| event.terms.event_id == event_id)
            .ok_or(Refusal::EventNotFound)
    }

    fn create(
        &mut self,
        context: &mut Context<'_>,
        host: UserId,
        terms: NewEvent,
    ) -> Result<Reply, Refusal> {
        if terms.max_seats_per_buyer == 0 || terms.hold_ms == 0 {
            return Err(invalid());
        }
        let event_id = terms.event_id;
        if self.find(event_id).is_ok() {
            return Err(Refusal::IdInUse);
        }
        let seats = lay_out(&terms);
        let count = seats.len() as u32;
        self.events.push(Event {
            terms: terms.clone(),
            seats,
            holds: Vec::new(),
            expired: Vec::new(),
        });
        let event = Box::new(terms);
        emit(context, Change::EventCreated { host, event });
        Ok(Reply::EventCreated {
            event_id,
            seats: count,
        })
    }

    pub(crate) fn next_due(&self) -> Option<(Timestamp, EventId, HoldId)> {
        let holds = self.events.iter().flat_map(|event| {
            let event_id = event.terms.event_id;
            let due = move |hold: &Hold| (hold.expires_at, event_id, hold.hold_id);
            event.holds.iter().map(due)
        });
        holds.min()
    }

    pub(crate) fn fire(&mut self, context: &mut Context<'_>) {
        let Some((_, event_id, hold_id)) = self.next_due() else {
            return;
        };
        if let Ok(event) = self.find(event_id)
            && let Some(place) = event.holds.iter().position(|hold| hold.hold_id == hold_id)
        {
            let hold = event.holds.remove(place);
            event.return_seats(context, &hold, ReleaseReason::Expired);
            event.expired.push((hold.hold_id, hold.buyer));
        }
    }
}
