//! The unit: every domain's space side by side in one partition.
//!
//! A slot's section is the format version, then each domain's part in turn; the waiting rooms' part is there
//! where the slot has any, which the version says. Deadlines of all domains fire in the order of time; of equal
//! ones auctions go first, then holds, then waiting rooms.
//!
//! The rules: 1 are auctions and the box office; since 2 ([`RULES_WAITING_ROOM`]) there are waiting rooms, and
//! whoever holds seats of an event that has one needs a pass. Under older rules no command makes a room, so
//! old logs and snapshots mean what they meant.

use grid_core::entry::RULES_FIRST;
use grid_core::{ApplyContext, CodecError, Slot, SlotMap, Space, SpaceView, Timestamp, codec};
use serde::{Deserialize, Serialize};

use crate::slots::encode_slot;
use crate::{auction, box_office, waiting_room};

/// The rules since which there are waiting rooms.
pub const RULES_WAITING_ROOM: u16 = RULES_FIRST + 1;

/// The version of a slot's encoding, its first field: of a slot without waiting rooms.
const SLOT_FORMAT: u16 = 1;
/// Of a slot with waiting rooms: their part comes last.
const SLOT_FORMAT_ROOMS: u16 = 2;

/// A command to one of the domains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "one variant a domain")]
pub enum Command {
    Auction(auction::Command),
    BoxOffice(box_office::Command),
    WaitingRoom(waiting_room::Command),
}

/// A domain's reply; a refusal is one too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "one variant a domain")]
pub enum Reply {
    Auction(Result<auction::Reply, auction::Refusal>),
    BoxOffice(Result<box_office::Reply, box_office::Refusal>),
    WaitingRoom(Result<waiting_room::Reply, waiting_room::Refusal>),
}

/// A domain's change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "one variant a domain")]
pub enum Change {
    Auction(auction::Change),
    BoxOffice(box_office::Change),
    WaitingRoom(waiting_room::Change),
}

/// A question to one of the domains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "one variant a domain")]
pub enum Query {
    Auction(auction::Query),
    BoxOffice(box_office::Query),
    WaitingRoom(waiting_room::Query),
}

/// A domain's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "one variant a domain")]
pub enum Answer {
    Auction(auction::Answer),
    BoxOffice(box_office::Answer),
    WaitingRoom(waiting_room::Answer),
}

impl From<auction::Change> for Change {
    fn from(change: auction::Change) -> Self {
        Self::Auction(change)
    }
}

impl From<box_office::Change> for Change {
    fn from(change: box_office::Change) -> Self {
        Self::BoxOffice(change)
    }
}

impl From<waiting_room::Change> for Change {
    fn from(change: waiting_room::Change) -> Self {
        Self::WaitingRoom(change)
    }
}

/// The state of one partition: auctions and events whose keys lie in its slots.
#[derive(Debug, Default)]
pub struct Unit {
    auctions: auction::AuctionSpace,
    box_office: box_office::BoxOfficeSpace,
    waiting_rooms: waiting_room::WaitingRoomSpace,
}

/// Which domain's deadline comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Domain {
    Auctions,
    BoxOffice,
    WaitingRooms,
}

impl Unit {
    fn next_due(&self) -> Option<(Timestamp, Domain)> {
        let deadlines = [
            (self.auctions.next_deadline(), Domain::Auctions),
            (self.box_office.next_deadline(), Domain::BoxOffice),
            (self.waiting_rooms.next_deadline(), Domain::WaitingRooms),
        ];
        let due = |(at, domain): (Option<Timestamp>, Domain)| Some((at?, domain));
        deadlines.into_iter().filter_map(due).min()
    }

    fn apply_box_office(
        &mut self,
        context: &mut ApplyContext<'_, Change>,
        command: box_office::Command,
    ) -> Result<box_office::Reply, box_office::Refusal> {
        use box_office::Command;

        let bought = match &command {
            Command::HoldSeats {
                event_id, buyer, ..
            }
            | Command::HoldBestAvailable {
                event_id, buyer, ..
            } => {
                let now = context.now();
                if !self.waiting_rooms.may_hold(*event_id, *buyer, now) {
                    return Err(box_office::Refusal::WaitingRoomRequired);
                }
                None
            }
            Command::Confirm {
                event_id, buyer, ..
            } => Some((*event_id, *buyer)),
            Command::CreateEvent { .. } | Command::Release { .. } => None,
        };
        let reply = self.box_office.apply(context, command)?;
        if let Some((event_id, buyer)) = bought {
            self.waiting_rooms
                .bought(context, &self.box_office, event_id, buyer);
        }
        Ok(reply)
    }
}

/// A view of a [`Unit`].
#[derive(Debug)]
pub struct UnitView {
    auctions: SlotMap<auction::AuctionSlot>,
    box_office: SlotMap<box_office::BoxOfficeSlot>,
    waiting_rooms: SlotMap<waiting_room::RoomSlot>,
}

impl SpaceView for UnitView {
    fn slots(&self) -> Vec<Slot> {
        let auctions = self.auctions.iter().map(|(slot, _)| slot);
        let box_office = self.box_office.iter().map(|(slot, _)| slot);
        let mut slots: Vec<_> = auctions.chain(box_office).collect();
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    fn encode_slot(&self, slot: Slot, out: &mut Vec<u8>) -> Result<(), CodecError> {
        // A room is for an event of its slot, so `slots` needs not ask for rooms.
        let rooms = self.waiting_rooms.get(slot);
        let has_rooms = rooms.is_some_and(|rooms| !rooms.is_empty());
        let format = match has_rooms {
            true => SLOT_FORMAT_ROOMS,
            false => SLOT_FORMAT,
        };
        codec::encode_into(&format, out)?;
        encode_slot(&self.auctions, slot, out)?;
        encode_slot(&self.box_office, slot, out)?;
        match has_rooms {
            true => encode_slot(&self.waiting_rooms, slot, out),
            false => Ok(()),
        }
    }
}

impl Space for Unit {
    const RULES: u16 = RULES_WAITING_ROOM;
    type Command = Command;
    type Reply = Reply;
    type Change = Change;
    type Query = Query;
    type Answer = Answer;
    type View = UnitView;

    fn is_known(rules: u16, command: &Command) -> bool {
        match command {
            Command::Auction(_) | Command::BoxOffice(_) => true,
            Command::WaitingRoom(_) => rules >= RULES_WAITING_ROOM,
        }
    }

    fn apply(&mut self, context: &mut ApplyContext<'_, Change>, command: Command) -> Reply {
        match command {
            Command::Auction(command) => Reply::Auction(self.auctions.apply(context, command)),
            Command::BoxOffice(command) => {
                Reply::BoxOffice(self.apply_box_office(context, command))
            }
            Command::WaitingRoom(command) => {
                let sales = &self.box_office;
                Reply::WaitingRoom(self.waiting_rooms.apply(context, sales, command))
            }
        }
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        self.next_due().map(|(at, _)| at)
    }

    fn fire_due(&mut self, context: &mut ApplyContext<'_, Change>, limit: usize) {
        for _ in 0..limit {
            let fired = match self.next_due() {
                Some((_, Domain::Auctions)) => self.auctions.fire_next(context),
                Some((_, Domain::BoxOffice)) => self.box_office.fire_next(context),
                Some((_, Domain::WaitingRooms)) => {
                    self.waiting_rooms.fire_next(context, &self.box_office)
                }
                None => false,
            };
            if !fired {
                return;
            }
        }
    }

    fn query(&self, query: &Query) -> Answer {
        match query {
            Query::Auction(query) => Answer::Auction(self.auctions.query(query)),
            Query::BoxOffice(query) => Answer::BoxOffice(self.box_office.query(query)),
            Query::WaitingRoom(query) => {
                Answer::WaitingRoom(self.waiting_rooms.query(&self.box_office, query))
            }
        }
    }

    fn view(&self) -> UnitView {
        UnitView {
            auctions: self.auctions.view(),
            box_office: self.box_office.view(),
            waiting_rooms: self.waiting_rooms.view(),
        }
    }

    fn restore_slot(&mut self, slot: Slot, bytes: &[u8]) -> Result<(), CodecError> {
        let (format, rest): (u16, _) = codec::decode_prefix(bytes)?;
        if !(SLOT_FORMAT..=SLOT_FORMAT_ROOMS).contains(&format) {
            return Err(CodecError::Version {
                found: format,
                supported: SLOT_FORMAT_ROOMS,
            });
        }
        let rest = self.auctions.restore_slot(slot, rest)?;
        let mut rest = self.box_office.restore_slot(slot, rest)?;
        if format == SLOT_FORMAT_ROOMS {
            rest = self
                .waiting_rooms
                .restore_slot(&self.box_office, slot, rest)?;
        }
        match rest.len() {
            0 => Ok(()),
            left => Err(CodecError::Trailing(left)),
        }
    }

    fn check_invariants(&self) -> Result<(), String> {
        self.auctions.check_invariants()?;
        self.box_office.check_invariants()?;
        self.waiting_rooms.check_invariants(&self.box_office)
    }
}
