//! The unit: every domain's space side by side in one partition.
//!
//! A slot's section is the format version, then each domain's part in turn. Deadlines of all domains
//! fire in the order of time; of equal ones auctions go first.

use grid_core::entry::RULES_FIRST;
use grid_core::{ApplyContext, CodecError, Slot, SlotMap, Space, SpaceView, Timestamp, codec};
use serde::{Deserialize, Serialize};

use crate::slots::encode_slot;
use crate::{auction, box_office};

/// The version of a slot's encoding, its first field.
const SLOT_FORMAT: u16 = 1;

/// A command to one of the domains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "one variant a domain")]
pub enum Command {
    Auction(auction::Command),
    BoxOffice(box_office::Command),
}

/// A domain's reply; a refusal is one too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "one variant a domain")]
pub enum Reply {
    Auction(Result<auction::Reply, auction::Refusal>),
    BoxOffice(Result<box_office::Reply, box_office::Refusal>),
}

/// A domain's change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "one variant a domain")]
pub enum Change {
    Auction(auction::Change),
    BoxOffice(box_office::Change),
}

/// A question to one of the domains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "one variant a domain")]
pub enum Query {
    Auction(auction::Query),
    BoxOffice(box_office::Query),
}

/// A domain's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "one variant a domain")]
pub enum Answer {
    Auction(auction::Answer),
    BoxOffice(box_office::Answer),
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

/// The state of one partition: auctions and events whose keys lie in its slots.
#[derive(Debug, Default)]
pub struct Unit {
    auctions: auction::AuctionSpace,
    box_office: box_office::BoxOfficeSpace,
}

/// A view of a [`Unit`].
#[derive(Debug)]
pub struct UnitView {
    auctions: SlotMap<auction::AuctionSlot>,
    box_office: SlotMap<box_office::BoxOfficeSlot>,
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
        codec::encode_into(&SLOT_FORMAT, out)?;
        encode_slot(&self.auctions, slot, out)?;
        encode_slot(&self.box_office, slot, out)
    }
}

impl Space for Unit {
    const RULES: u16 = RULES_FIRST;
    type Command = Command;
    type Reply = Reply;
    type Change = Change;
    type Query = Query;
    type Answer = Answer;
    type View = UnitView;

    fn apply(&mut self, context: &mut ApplyContext<'_, Change>, command: Command) -> Reply {
        match command {
            Command::Auction(command) => Reply::Auction(self.auctions.apply(context, command)),
            Command::BoxOffice(command) => {
                Reply::BoxOffice(self.box_office.apply(context, command))
            }
        }
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        let deadlines = [
            self.auctions.next_deadline(),
            self.box_office.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    fn fire_due(&mut self, context: &mut ApplyContext<'_, Change>, limit: usize) {
        for _ in 0..limit {
            let auctions_first = match (
                self.auctions.next_deadline(),
                self.box_office.next_deadline(),
            ) {
                (Some(auction), Some(hold)) => auction <= hold,
                (auction, _) => auction.is_some(),
            };
            let fired = if auctions_first {
                self.auctions.fire_next(context)
            } else {
                self.box_office.fire_next(context)
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
        }
    }

    fn view(&self) -> UnitView {
        UnitView {
            auctions: self.auctions.view(),
            box_office: self.box_office.view(),
        }
    }

    fn restore_slot(&mut self, slot: Slot, bytes: &[u8]) -> Result<(), CodecError> {
        let (format, rest): (u16, _) = codec::decode_prefix(bytes)?;
        if format != SLOT_FORMAT {
            return Err(CodecError::Version {
                found: format,
                supported: SLOT_FORMAT,
            });
        }
        let rest = self.auctions.restore_slot(slot, rest)?;
        let rest = self.box_office.restore_slot(slot, rest)?;
        match rest.len() {
            0 => Ok(()),
            left => Err(CodecError::Trailing(left)),
        }
    }

    fn check_invariants(&self) -> Result<(), String> {
        self.auctions.check_invariants()?;
        self.box_office.check_invariants()
    }
}
