//! One slot's events with their seats, holds and sales: exactly what a snapshot holds.

use std::sync::Arc;

use grid_core::{CodecError, CowVec, Slot, SlotMap, Timestamp, codec};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::messages::{NewEvent, SeatIndex};
use super::seat::Seat;
use crate::ids::{EventId, HoldId, TicketId, UserId};
use crate::slots::{Entities, SlotState, decode_entities, encode_entities};

/// How many expired holds of an event are remembered; the oldest is forgotten first.
pub const EXPIRED_HOLDS_KEPT: usize = 4096;

/// What the box office keeps in one slot. Events are shared with views until they are written.
#[derive(Clone, Debug, Default)]
pub(crate) struct BoxOfficeSlot {
    pub(super) events: Entities<EventId, Event>,
}

/// An event with the state of its sale.
///
/// Invariants: a held seat and its hold name each other, a sold seat and its sale likewise; seats of a
/// hold and of a sale ascend.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Event {
    pub(super) host: UserId,
    pub(super) terms: Arc<NewEvent>,
    /// In the layout's order.
    pub(super) seats: CowVec<Seat>,
    pub(super) holds: HoldSlab,
    /// In the order of confirmation; a seat's sale is final.
    pub(super) sales: CowVec<Sale>,
    pub(super) expired: ExpiredHolds,
}

/// A buyer's hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hold {
    pub(super) hold_id: HoldId,
    pub(super) buyer: UserId,
    pub(super) expires_at: Timestamp,
    pub(super) seats: SmallVec<[SeatIndex; 4]>,
}

/// A confirmed hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sale {
    pub(super) hold_id: HoldId,
    pub(super) buyer: UserId,
    pub(super) payment_reference: Box<str>,
    pub(super) tickets: SmallVec<[SoldTicket; 1]>,
}

/// A ticket of a sale. The price is that of its section, which never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SoldTicket {
    pub(super) ticket_id: TicketId,
    pub(super) seat: SeatIndex,
}

/// Open holds under small numbers that are used again: the number fits in a seat, and a view shares
/// the slab's pieces, which a map of holds could not.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct HoldSlab {
    entries: CowVec<SlabEntry>,
    /// The first of the chain of free entries.
    free: Option<u32>,
    len: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum SlabEntry {
    Used(Hold),
    Free { next: Option<u32> },
}

impl HoldSlab {
    pub(super) fn get(&self, number: u32) -> Option<&Hold> {
        match self.entries.get(number as usize)? {
            SlabEntry::Used(hold) => Some(hold),
            SlabEntry::Free { .. } => None,
        }
    }

    /// The number that the next [`Self::insert`] gives.
    pub(super) fn next_number(&self) -> u32 {
        self.free.unwrap_or(self.entries.len() as u32)
    }

    pub(super) fn insert(&mut self, hold: Hold) -> u32 {
        let number = self.next_number();
        self.len += 1;
        match self.entries.get_mut(number as usize) {
            Some(entry) => {
                if let SlabEntry::Free { next } = entry {
                    self.free = *next;
                }
                *entry = SlabEntry::Used(hold);
            }
            None => self.entries.push(SlabEntry::Used(hold)),
        }
        number
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<Hold> {
        self.get(number)?;
        let next = self.free.replace(number);
        let entry = self.entries.get_mut(number as usize)?;
        self.len -= 1;
        match std::mem::replace(entry, SlabEntry::Free { next }) {
            SlabEntry::Used(hold) => Some(hold),
            SlabEntry::Free { .. } => None,
        }
    }

    /// The open holds with their numbers, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Hold)> {
        (0..)
            .zip(self.entries.iter())
            .filter_map(|(number, entry)| match entry {
                SlabEntry::Used(hold) => Some((number, hold)),
                SlabEntry::Free { .. } => None,
            })
    }

    /// How many holds are open.
    pub(super) fn len(&self) -> u32 {
        self.len
    }
}

/// The last [`EXPIRED_HOLDS_KEPT`] expired holds with their buyers, as a ring.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct ExpiredHolds {
    ring: CowVec<(HoldId, UserId)>,
    next: u32,
}

impl ExpiredHolds {
    /// Remembers a hold; returns the one that is forgotten for it.
    pub(super) fn remember(&mut self, hold_id: HoldId, buyer: UserId) -> Option<HoldId> {
        let place = self.next as usize;
        self.next = (self.next + 1) % EXPIRED_HOLDS_KEPT as u32;
        match self.ring.get_mut(place) {
            Some(entry) => Some(std::mem::replace(entry, (hold_id, buyer)).0),
            None => {
                self.ring.push((hold_id, buyer));
                None
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(HoldId, UserId)> {
        self.ring.iter()
    }
}

/// The event for writing; a shared one is copied first. `None` never makes a slot.
pub(super) fn event_mut(
    slots: &mut SlotMap<BoxOfficeSlot>,
    event_id: EventId,
) -> Option<&mut Event> {
    let slot = Slot::of(event_id.0);
    slots.get(slot)?;
    let event = slots.get_mut(slot).events.get_mut(&event_id)?;
    Some(Arc::make_mut(event))
}

impl SlotState for BoxOfficeSlot {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        codec::encode_into(&(self.events.len() as u64), out)?;
        encode_entities(&self.events, out)
    }

    fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), CodecError> {
        let (events, rest): (u64, _) = codec::decode_prefix(bytes)?;
        let (events, rest) = decode_entities(events, rest)?;
        Ok((Self { events }, rest))
    }
}
