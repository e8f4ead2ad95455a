//! The space of waiting rooms: the state, the dispatch of commands, deadlines, views and restore.

use std::collections::BTreeSet;

use grid_core::{ApplyContext, CodecError, CowVec, FixedHashMap, Slot, SlotMap, Timestamp};

use super::index::RoomIndex;
use super::lottery::{self, LIST_DIGEST_START};
use super::messages::{
    Change, Command, Counts, ENTRIES_MAX, NewRoom, OVERSUBSCRIPTION_PERCENT_MAX,
    OVERSUBSCRIPTION_PERCENT_MIN, PASS_MS_MAX, PASS_MS_MIN, Phase, RATE_PER_MINUTE_MAX, Refusal,
    Reply, SecretChoice,
};
use super::state::{Lottery, Room, RoomSlot, room_mut};
use crate::auction::Actor;
use crate::box_office::{BoxOfficeSpace, SaleFacts};
use crate::ids::{EventId, UserId};
use crate::slots::SlotState;

/// All waiting rooms of a partition; each lives in the slot of its event.
///
/// Invariants: every room has an index, equal to a fresh one; `deadlines` has each room's next one.
#[derive(Debug, Default)]
pub struct WaitingRoomSpace {
    pub(super) slots: SlotMap<RoomSlot>,
    pub(super) indexes: FixedHashMap<EventId, RoomIndex>,
    pub(super) deadlines: BTreeSet<(Timestamp, EventId)>,
}

/// A room for writing, with its index.
pub(super) struct RoomWriter<'a> {
    pub(super) room: &'a mut Room,
    pub(super) index: &'a mut RoomIndex,
}

impl WaitingRoomSpace {
    /// Carries out one command, with the sales as they stand.
    ///
    /// # Errors
    /// A refusal: nothing was done.
    pub fn apply<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        sales: &BoxOfficeSpace,
        command: Command,
    ) -> Result<Reply, Refusal> {
        let event_id = command.event_id();
        let sale = sales.sale_facts(event_id).ok_or(Refusal::EventNotFound)?;
        let reply = match command {
            Command::Create { by, room } => self.create(context, &sale, by, *room),
            Command::Join { user, .. } => self.join(context, &sale, event_id, user),
            Command::Leave { user, .. } => self.leave(context, event_id, user),
            Command::Open { by, secret, .. } => {
                self.check_host(&sale, event_id, by)?;
                self.open_now(context, &sale, event_id, secret)
            }
            Command::Pause { by, .. } => {
                self.check_host(&sale, event_id, by)?;
                self.set_paused(context, event_id, by.user, true)
            }
            Command::Resume { by, .. } => {
                self.check_host(&sale, event_id, by)?;
                self.set_paused(context, event_id, by.user, false)
            }
            Command::SetRate {
                by,
                rate_per_minute,
                ..
            } => {
                self.check_host(&sale, event_id, by)?;
                self.set_rate(context, event_id, by.user, rate_per_minute)
            }
        };
        self.arm(event_id, &sale);
        reply
    }

    fn check_host(&self, sale: &SaleFacts, event_id: EventId, by: Actor) -> Result<(), Refusal> {
        if !self.indexes.contains_key(&event_id) {
            return Err(Refusal::RoomNotFound);
        }
        if by.user != sale.host && !by.is_manager {
            return Err(Refusal::Forbidden);
        }
        Ok(())
    }

    fn create<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        sale: &SaleFacts,
        by: Actor,
        new: NewRoom,
    ) -> Result<Reply, Refusal> {
        let event_id = new.event_id;
        if by.user != sale.host && !by.is_manager {
            return Err(Refusal::Forbidden);
        }
        if self.indexes.contains_key(&event_id) {
            return Err(Refusal::RoomExists);
        }
        check_terms(&new)?;
        let opens_at = new.opens_at.unwrap_or(sale.on_sale_at);
        if opens_at < sale.on_sale_at {
            let rule = "opens_at: not before the sale begins".to_owned();
            return Err(Refusal::Invalid(rule));
        }
        let (commitment, secret) = match new.secret {
            SecretChoice::Kept(secret) => (lottery::commitment(&secret), Some(secret)),
            SecretChoice::Withheld { commitment } => (commitment, None),
        };
        let room = Room {
            opens_at,
            pass_ms: new.pass_ms,
            oversubscription_percent: new.oversubscription_percent,
            entries_max: new.entries_max,
            rate_per_minute: new.rate_per_minute,
            phase: Phase::Gathering,
            is_paused: false,
            lottery: Lottery {
                commitment,
                secret,
                salt: new.salt,
                list_digest: LIST_DIGEST_START,
                early: 0,
                entropy: None,
                sealed_index: 0,
                seed: None,
                order: CowVec::default(),
            },
            entries: CowVec::default(),
            next_rank: 0,
            batches: CowVec::default(),
            batches_expired: 0,
            passes_open: 0,
            counts: Counts::default(),
            credit: 0,
            credited_at: context.now(),
        };
        context.emit(C::from(Change::RoomCreated {
            event_id,
            by: by.user,
            opens_at: room.opens_at,
            rate_per_minute: room.rate_per_minute,
            pass_ms: room.pass_ms,
            oversubscription_percent: room.oversubscription_percent,
            entries_max: room.entries_max,
            commitment,
        }));
        self.indexes.insert(event_id, RoomIndex::default());
        let slot = self.slots.get_mut(Slot::of(event_id.0));
        slot.rooms.insert(event_id, room.into());
        Ok(Reply::Created { commitment })
    }

    /// Whether a buyer may hold seats of an event: there is no room before it, or they have a pass.
    #[must_use]
    pub fn may_hold(&self, event_id: EventId, buyer: UserId, now: Timestamp) -> bool {
        if self.indexes.is_empty() {
            return true;
        }
        match self.room(event_id) {
            Some((room, index)) => room
                .pass_of(index, buyer)
                .is_some_and(|expires_at| now < expires_at),
            None => true,
        }
    }

    /// The earliest time at which a room is to do something by itself.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Lets the earliest room do what is due; says whether there was one.
    pub fn fire_next<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        sales: &BoxOfficeSpace,
    ) -> bool {
        let Some(&(at, event_id)) = self.deadlines.first() else {
            return false;
        };
        if at > context.now() {
            return false;
        }
        match sales.sale_facts(event_id) {
            Some(sale) => {
                self.step(context, &sale, event_id);
                self.arm(event_id, &sale);
            }
            // Events do not go away.
            None => {
                self.deadlines.remove(&(at, event_id));
            }
        }
        true
    }

    /// Sets the room's next deadline to what follows from its state and that of the sale.
    pub(super) fn arm(&mut self, event_id: EventId, sale: &SaleFacts) {
        let due = match self.room(event_id) {
            Some((room, index)) => room.next_due(index.waiting, sale),
            None => return,
        };
        let Some(index) = self.indexes.get_mut(&event_id) else {
            return;
        };
        let before = std::mem::replace(&mut index.due, due);
        if before != due {
            if let Some(at) = before {
                self.deadlines.remove(&(at, event_id));
            }
            if let Some(at) = due {
                self.deadlines.insert((at, event_id));
            }
        }
    }

    /// Takes a view of all slots: one pointer a slot.
    pub(crate) fn view(&self) -> SlotMap<RoomSlot> {
        self.slots.clone()
    }

    /// Reads one slot's state at the start of `bytes`, rebuilds what is derived from it, and returns what
    /// follows. The slot's sales have been restored before.
    ///
    /// # Errors
    /// When the bytes are not such a state; the space must then be dropped.
    pub fn restore_slot<'a>(
        &mut self,
        sales: &BoxOfficeSpace,
        slot: Slot,
        bytes: &'a [u8],
    ) -> Result<&'a [u8], CodecError> {
        let (state, rest) = RoomSlot::decode(bytes)?;
        for (event_id, room) in &state.rooms {
            let wrong = |what: String| CodecError::Decode(format!("room of {event_id}: {what}"));
            room.check().map_err(wrong)?;
            self.indexes.insert(*event_id, RoomIndex::new(room));
        }
        let events: Vec<EventId> = state.rooms.keys().copied().collect();
        *self.slots.get_mut(slot) = state;
        for event_id in events {
            let sale = sales.sale_facts(event_id).ok_or_else(|| {
                CodecError::Decode(format!("there is a room for {event_id}, and no such event"))
            })?;
            self.arm(event_id, &sale);
        }
        Ok(rest)
    }

    pub(super) fn room(&self, event_id: EventId) -> Option<(&Room, &RoomIndex)> {
        let index = self.indexes.get(&event_id)?;
        let slot = self.slots.get(Slot::of(event_id.0))?;
        Some((slot.rooms.get(&event_id)?, index))
    }

    pub(super) fn writer(&mut self, event_id: EventId) -> Option<RoomWriter<'_>> {
        Some(RoomWriter {
            index: self.indexes.get_mut(&event_id)?,
            room: room_mut(&mut self.slots, event_id)?,
        })
    }
}

impl Command {
    /// The event that the room is for.
    #[must_use]
    pub fn event_id(&self) -> EventId {
        match self {
            Self::Create { room, .. } => room.event_id,
            Self::Join { event_id, .. }
            | Self::Leave { event_id, .. }
            | Self::Open { event_id, .. }
            | Self::Pause { event_id, .. }
            | Self::Resume { event_id, .. }
            | Self::SetRate { event_id, .. } => *event_id,
        }
    }
}

fn check_terms(room: &NewRoom) -> Result<(), Refusal> {
    check_rate(room.rate_per_minute)?;
    let percents = OVERSUBSCRIPTION_PERCENT_MIN..=OVERSUBSCRIPTION_PERCENT_MAX;
    if !percents.contains(&room.oversubscription_percent) {
        return Err(Refusal::Invalid(format!(
            "oversubscription_percent: between {OVERSUBSCRIPTION_PERCENT_MIN} and {OVERSUBSCRIPTION_PERCENT_MAX}"
        )));
    }
    if !(PASS_MS_MIN..=PASS_MS_MAX).contains(&room.pass_ms) {
        return Err(Refusal::Invalid(format!(
            "pass_ms: between {PASS_MS_MIN} and {PASS_MS_MAX}"
        )));
    }
    if !(1..=ENTRIES_MAX).contains(&room.entries_max) {
        return Err(Refusal::Invalid(format!(
            "entries_max: between 1 and {ENTRIES_MAX}"
        )));
    }
    Ok(())
}

pub(super) fn check_rate(rate_per_minute: u32) -> Result<(), Refusal> {
    if (1..=RATE_PER_MINUTE_MAX).contains(&rate_per_minute) {
        return Ok(());
    }
    let rule = format!("rate_per_minute: between 1 and {RATE_PER_MINUTE_MAX}");
    Err(Refusal::Invalid(rule))
}
