//! The box-office space: the state, the dispatch of commands, views and restore.

use std::collections::BTreeSet;
use std::sync::Arc;

use grid_core::{ApplyContext, CodecError, FixedHashMap, Slot, SlotMap, Timestamp};

use super::index::EventIndex;
use super::messages::{Change, Command, NewEvent, Refusal, Reply};
use super::seat::{Occupancy, Seat};
use super::state::{BoxOfficeSlot, Event, ExpiredHolds, HoldSlab, event_mut};
use super::terms;
use crate::ids::{EventId, HoldId, UserId};
use crate::slots::SlotState;

/// All events of a partition with their seats.
///
/// Invariants: every event has an index, equal to a fresh one; `expiries` has every open hold.
#[derive(Debug, Default)]
pub struct BoxOfficeSpace {
    pub(super) slots: SlotMap<BoxOfficeSlot>,
    pub(super) indexes: FixedHashMap<EventId, EventIndex>,
    /// All events, for lists in the order of ids.
    pub(super) ids: BTreeSet<EventId>,
    /// When each open hold expires.
    pub(super) expiries: BTreeSet<(Timestamp, EventId, HoldId)>,
}

/// How a sale stands, for the waiting room before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in NewEvent")]
pub struct SaleFacts {
    pub host: UserId,
    pub on_sale_at: Timestamp,
    pub seats_per_buyer: u32,
    /// Seats that are free or on hold.
    pub unsold: u32,
}

/// An event for writing, with its index and the expiries.
pub(super) struct EventWriter<'a> {
    pub(super) event: &'a mut Event,
    pub(super) index: &'a mut EventIndex,
    pub(super) expiries: &'a mut BTreeSet<(Timestamp, EventId, HoldId)>,
}

impl BoxOfficeSpace {
    /// Carries out one command. `C` is the change type of the unit that embeds this space.
    ///
    /// # Errors
    /// A refusal: nothing was done.
    pub fn apply<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        command: Command,
    ) -> Result<Reply, Refusal> {
        match command {
            Command::CreateEvent { host, event } => self.create_event(context, host, *event),
            Command::HoldSeats {
                event_id,
                buyer,
                seats,
            } => self.hold_seats(context, event_id, buyer, &seats),
            Command::HoldBestAvailable {
                event_id,
                buyer,
                section,
                quantity,
            } => self.hold_best_available(context, event_id, buyer, section.as_deref(), quantity),
            Command::Confirm {
                event_id,
                hold_id,
                buyer,
                payment_reference,
            } => self.confirm(context, event_id, hold_id, buyer, payment_reference),
            Command::Release {
                event_id,
                hold_id,
                buyer,
            } => self.release(context, event_id, hold_id, buyer),
        }
    }

    fn create_event<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        host: UserId,
        terms: NewEvent,
    ) -> Result<Reply, Refusal> {
        terms::check_event(&terms)?;
        let event_id = terms.event_id;
        if self.indexes.contains_key(&event_id) {
            return Err(Refusal::IdInUse);
        }
        context.emit(C::from(Change::EventCreated {
            host,
            event: Box::new(terms.clone()),
        }));
        let seats: usize = terms
            .sections
            .iter()
            .flat_map(|section| &section.rows)
            .map(|row| row.seats.len())
            .sum();
        let event = Event {
            host,
            terms: Arc::new(terms),
            seats: std::iter::repeat_n(Seat::FREE, seats).collect(),
            holds: HoldSlab::default(),
            sales: grid_core::CowVec::default(),
            expired: ExpiredHolds::default(),
        };
        self.add_index(event_id, &event);
        let slot = self.slots.get_mut(Slot::of(event_id.0));
        slot.events.insert(event_id, Arc::new(event));
        Ok(Reply::EventCreated {
            event_id,
            seats: seats as u32,
        })
    }

    fn add_index(&mut self, event_id: EventId, event: &Event) {
        self.indexes.insert(event_id, EventIndex::new(event));
        self.ids.insert(event_id);
        for (_, hold) in event.holds.iter() {
            self.expiries
                .insert((hold.expires_at, event_id, hold.hold_id));
        }
    }

    /// The earliest expiry.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.expiries.first().map(|(at, ..)| *at)
    }

    /// Returns the seats of the earliest expiring hold if it is due; says whether it did.
    pub fn fire_next<C: From<Change>>(&mut self, context: &mut ApplyContext<'_, C>) -> bool {
        match self.expiries.first() {
            Some(&(at, event_id, hold_id)) if at <= context.now() => {
                self.expire(context, event_id, hold_id);
                true
            }
            _ => false,
        }
    }

    /// Takes a view of all slots: one pointer a slot.
    pub(crate) fn view(&self) -> SlotMap<BoxOfficeSlot> {
        self.slots.clone()
    }

    /// Reads one slot's state at the start of `bytes`, rebuilds what is derived from it, and returns
    /// what follows.
    ///
    /// # Errors
    /// When the bytes are not such a state; the space must then be dropped.
    pub fn restore_slot<'a>(
        &mut self,
        slot: Slot,
        bytes: &'a [u8],
    ) -> Result<&'a [u8], CodecError> {
        let (state, rest) = BoxOfficeSlot::decode(bytes)?;
        if state.events.is_empty() {
            return Ok(rest);
        }
        for (event_id, event) in &state.events {
            if !event.references_resolve() {
                return Err(CodecError::Decode(format!(
                    "event {event_id}: its seats do not agree with its layout, holds and sales"
                )));
            }
            self.add_index(*event_id, event);
        }
        *self.slots.get_mut(slot) = state;
        Ok(rest)
    }

    /// What a waiting room needs to know of its sale.
    #[must_use]
    pub fn sale_facts(&self, event_id: EventId) -> Option<SaleFacts> {
        let (event, index) = self.event(event_id)?;
        let counters = index.sections.iter();
        Some(SaleFacts {
            host: event.host,
            on_sale_at: event.terms.on_sale_at,
            seats_per_buyer: event.terms.max_seats_per_buyer,
            unsold: counters.map(|section| section.free + section.held).sum(),
        })
    }

    pub(super) fn event(&self, event_id: EventId) -> Option<(&Event, &EventIndex)> {
        let index = self.indexes.get(&event_id)?;
        let slot = self.slots.get(Slot::of(event_id.0))?;
        Some((slot.events.get(&event_id)?, index))
    }

    pub(super) fn writer(&mut self, event_id: EventId) -> Option<EventWriter<'_>> {
        Some(EventWriter {
            index: self.indexes.get_mut(&event_id)?,
            event: event_mut(&mut self.slots, event_id)?,
            expiries: &mut self.expiries,
        })
    }
}

impl Event {
    /// Whether the counters can be kept without looking twice: as many seats as the layout says, and
    /// seats, holds and sales that name each other.
    pub(super) fn references_resolve(&self) -> bool {
        let rows = self.terms.sections.iter().flat_map(|section| &section.rows);
        let laid_out = rows.fold(0usize, |sum, row| sum.saturating_add(row.seats.len()));
        let occupancy = |seat: u32| self.seats.get(seat as usize).map(|seat| seat.occupancy());
        let mut held = 0;
        for (number, hold) in self.holds.iter() {
            let is_held = |seat: &u32| occupancy(*seat) == Some(Occupancy::Held(number));
            if !hold.seats.is_sorted_by(|a, b| a < b) || !hold.seats.iter().all(is_held) {
                return false;
            }
            held += hold.seats.len();
        }
        let mut sold = 0;
        for (number, sale) in (0..).zip(self.sales.iter()) {
            let mut seats = sale.tickets.iter().map(|ticket| ticket.seat);
            let is_sold = |seat: u32| occupancy(seat) == Some(Occupancy::Sold(number));
            if !seats.clone().is_sorted_by(|a, b| a < b) || !seats.all(is_sold) {
                return false;
            }
            sold += sale.tickets.len();
        }
        let free = self.seats.iter().filter(|seat| seat.is_free()).count();
        self.seats.len() == laid_out && held + sold + free == laid_out
    }
}
