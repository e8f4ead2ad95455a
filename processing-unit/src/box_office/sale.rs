//! How a hold ends: confirmed into tickets, released by its buyer, or expired.

use grid_core::{ApplyContext, Timestamp};

use super::index::{EventIndex, SeatMove};
use super::messages::{
    Change, PAYMENT_REFERENCE_BYTES_MAX, Refusal, ReleaseReason, Reply, SoldSeat, TicketView,
};
use super::seat::Seat;
use super::space::{BoxOfficeSpace, EventWriter};
use super::state::{Event, Hold, Sale, SoldTicket};
use crate::ids::{EventId, HoldId, TicketId, UserId};

impl BoxOfficeSpace {
    pub(super) fn confirm<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        event_id: EventId,
        hold_id: HoldId,
        buyer: UserId,
        payment_reference: String,
    ) -> Result<Reply, Refusal> {
        let (event, index) = self.event(event_id).ok_or(Refusal::EventNotFound)?;
        if payment_reference.is_empty() || payment_reference.len() > PAYMENT_REFERENCE_BYTES_MAX {
            let rule = format!("payment_reference: 1 to {PAYMENT_REFERENCE_BYTES_MAX} bytes");
            return Err(Refusal::Invalid(rule));
        }
        let number = find_open(event, index, hold_id, buyer, context.now())?;
        let currency = event.terms.currency;

        let mut writer = self.writer(event_id).ok_or(Refusal::EventNotFound)?;
        let hold = writer
            .take_hold(event_id, number)
            .ok_or(Refusal::HoldNotFound)?;
        let EventWriter { event, index, .. } = writer;
        index.remove_hold(number, &hold);
        let sale_number = event.sales.len() as u32;
        let mut sale = Sale {
            hold_id,
            buyer,
            payment_reference: payment_reference.as_str().into(),
            tickets: smallvec::SmallVec::with_capacity(hold.seats.len()),
        };
        let mut sold = Vec::with_capacity(hold.seats.len());
        let mut tickets = Vec::with_capacity(hold.seats.len());
        for seat in hold.seats {
            let ticket_id = TicketId(context.mint_id());
            let row_number = index.layout.row_of(seat);
            let price = index.layout.row_price(row_number);
            if let Some(state) = event.seats.get_mut(seat as usize) {
                *state = Seat::sold(sale_number);
            }
            index.count(&event.seats, row_number, seat, SeatMove::HeldToSold);
            sale.tickets.push(SoldTicket { ticket_id, seat });
            sold.push(SoldSeat {
                ticket_id,
                seat,
                price,
            });
            tickets.push(TicketView {
                ticket_id,
                seat: index.layout.label_in(&event.terms, row_number, seat),
                price,
            });
        }
        let seats = sale.tickets.len() as u32;
        index.buyers.add_sale(buyer, sale_number, seats);
        event.sales.push(sale);
        context.emit(C::from(Change::SeatsSold {
            event_id,
            hold_id,
            buyer,
            payment_reference: payment_reference.into(),
            tickets: sold.into(),
        }));
        Ok(Reply::Confirmed { currency, tickets })
    }

    pub(super) fn release<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        event_id: EventId,
        hold_id: HoldId,
        buyer: UserId,
    ) -> Result<Reply, Refusal> {
        let (event, index) = self.event(event_id).ok_or(Refusal::EventNotFound)?;
        let number = find_open(event, index, hold_id, buyer, context.now())?;
        let seats = self
            .writer(event_id)
            .and_then(|writer| {
                writer.return_seats(context, event_id, number, ReleaseReason::Released)
            })
            .ok_or(Refusal::HoldNotFound)?;
        Ok(Reply::Released { seats })
    }

    /// Returns the seats of an expired hold and remembers it as expired.
    pub(super) fn expire<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        event_id: EventId,
        hold_id: HoldId,
    ) {
        if let Some(writer) = self.writer(event_id)
            && let Some(&number) = writer.index.holds.get(&hold_id)
        {
            writer.return_seats(context, event_id, number, ReleaseReason::Expired);
        }
    }
}

impl EventWriter<'_> {
    fn take_hold(&mut self, event_id: EventId, number: u32) -> Option<Hold> {
        let hold = self.event.holds.remove(number)?;
        self.expiries
            .remove(&(hold.expires_at, event_id, hold.hold_id));
        Some(hold)
    }

    /// Makes a hold's seats free; says how many.
    fn return_seats<C: From<Change>>(
        mut self,
        context: &mut ApplyContext<'_, C>,
        event_id: EventId,
        number: u32,
        reason: ReleaseReason,
    ) -> Option<u32> {
        let hold = self.take_hold(event_id, number)?;
        self.index.remove_hold(number, &hold);
        for seat in &hold.seats {
            if let Some(state) = self.event.seats.get_mut(*seat as usize) {
                *state = Seat::FREE;
            }
            let row_number = self.index.layout.row_of(*seat);
            self.index
                .count(&self.event.seats, row_number, *seat, SeatMove::HeldToFree);
        }
        if reason == ReleaseReason::Expired {
            let forgotten = self.event.expired.remember(hold.hold_id, hold.buyer);
            if let Some(forgotten) = forgotten {
                self.index.expired.remove(&forgotten);
            }
            self.index.expired.insert(hold.hold_id, hold.buyer);
        }
        let returned = hold.seats.len() as u32;
        context.emit(C::from(Change::SeatsReleased {
            event_id,
            hold_id: hold.hold_id,
            buyer: hold.buyer,
            seats: hold.seats,
            reason,
        }));
        Some(returned)
    }
}

/// The number of the buyer's open hold. Another buyer's hold is as good as none.
fn find_open(
    event: &Event,
    index: &EventIndex,
    hold_id: HoldId,
    buyer: UserId,
    now: Timestamp,
) -> Result<u32, Refusal> {
    let Some(&number) = index.holds.get(&hold_id) else {
        return Err(match index.expired.get(&hold_id) {
            Some(owner) if *owner == buyer => Refusal::HoldExpired,
            _ => Refusal::HoldNotFound,
        });
    };
    match event.holds.get(number) {
        Some(hold) if hold.buyer == buyer && now < hold.expires_at => Ok(number),
        Some(hold) if hold.buyer == buyer => Err(Refusal::HoldExpired),
        _ => Err(Refusal::HoldNotFound),
    }
}
