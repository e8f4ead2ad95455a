//! The unit: every domain's space side by side in one partition.

use serde::{Deserialize, Serialize};

use crate::{auction, box_office};

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

/// The state of one partition: auctions and events whose keys lie in its slots.
#[derive(Debug, Default)]
pub struct Unit {}

/// A view of a [`Unit`].
#[derive(Debug)]
pub struct UnitView {}

impl grid_core::SpaceView for UnitView {
    fn slots(&self) -> Vec<grid_core::Slot> {
        Vec::new()
    }
    fn encode_slot(
        &self,
        _slot: grid_core::Slot,
        _out: &mut Vec<u8>,
    ) -> Result<(), grid_core::CodecError> {
        Ok(())
    }
}

impl grid_core::Space for Unit {
    type Command = Command;
    type Reply = Reply;
    type Change = Change;
    type Query = Query;
    type Answer = Answer;
    type View = UnitView;

    fn apply(
        &mut self,
        _context: &mut grid_core::ApplyContext<'_, Change>,
        _command: Command,
    ) -> Reply {
        Reply::Auction(Err(auction::Refusal::AuctionNotFound))
    }
    fn next_deadline(&self) -> Option<grid_core::Timestamp> {
        None
    }
    fn fire_due(&mut self, _context: &mut grid_core::ApplyContext<'_, Change>, _limit: usize) {}
    fn query(&self, _query: &Query) -> Answer {
        Answer::Auction(auction::Answer::Totals {
            auctions: 0,
            bids: 0,
        })
    }
    fn view(&self) -> UnitView {
        UnitView {}
    }
    fn restore_slot(
        &mut self,
        _slot: grid_core::Slot,
        _bytes: &[u8],
    ) -> Result<(), grid_core::CodecError> {
        Ok(())
    }
    fn check_invariants(&self) -> Result<(), String> {
        Ok(())
    }
}
