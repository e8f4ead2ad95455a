//! One slot's items and auctions: exactly what a snapshot holds.

use std::sync::Arc;

use grid_core::{CodecError, CowVec, Slot, SlotMap, Timestamp, codec};
use serde::{Deserialize, Serialize};

use super::increment::increment_at;
use super::messages::{NewAuction, NewItem, NotSoldReason, Outcome, Status};
use crate::ids::{AuctionId, BidId, ItemId, UserId};
use crate::slots::{Entities, SlotState, decode_entities, encode_entities};

/// What the auction space keeps in one slot. Entities are shared with views until they are written.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuctionSlot {
    pub(super) items: Entities<ItemId, Item>,
    pub(super) auctions: Entities<AuctionId, Auction>,
}

/// An item that can be auctioned.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Item {
    pub(super) owner: UserId,
    pub(super) item: NewItem,
}

/// An accepted bid.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Bid {
    pub(super) bid_id: BidId,
    /// The bidder, as [`Auction::bidder`] resolves it.
    pub(super) alias: u32,
    pub(super) amount: i64,
    pub(super) at: Timestamp,
    pub(super) withdrawn: bool,
}

/// An auction.
///
/// Invariants: the amounts of standing bids strictly ascend in the order of acceptance, hence the
/// leader is the last of them; `outcome` is set exactly when the status is `Ended`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Auction {
    pub(super) host: UserId,
    pub(super) item_id: ItemId,
    pub(super) terms: Arc<NewAuction>,
    pub(super) status: Status,
    /// When it opened or will open.
    pub(super) start_time: Timestamp,
    /// The effective end, extensions included.
    pub(super) end_time: Timestamp,
    pub(super) extensions: u32,
    /// By alias, less one.
    pub(super) bidders: CowVec<UserId>,
    /// In the order of acceptance.
    pub(super) bids: CowVec<Bid>,
    /// How many bids are not withdrawn.
    pub(super) standing: u32,
    /// The place of the leading bid in `bids`.
    pub(super) leader: Option<u32>,
    pub(super) outcome: Option<Outcome>,
}

impl Auction {
    /// The next moment at which something happens by itself.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        match self.status {
            Status::Scheduled => Some(self.start_time),
            Status::Open => Some(self.end_time),
            Status::Ended | Status::Cancelled => None,
        }
    }

    pub(super) fn is_unfinished(&self) -> bool {
        self.deadline().is_some()
    }

    pub(super) fn leading_bid(&self) -> Option<&Bid> {
        self.bids.get(self.leader? as usize)
    }

    pub(super) fn current_price(&self) -> Option<i64> {
        self.leading_bid().map(|bid| bid.amount)
    }

    /// The least amount of the next bid.
    pub(super) fn minimum_next(&self) -> i64 {
        match self.current_price() {
            Some(price) => price + increment_at(&self.terms.increments, price),
            None => self.terms.starting_price.max(1),
        }
    }

    /// Whether the highest bid may win; without a reserve any may.
    pub(super) fn reserve_met(&self) -> bool {
        match (self.terms.reserve_price, self.current_price()) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(reserve), Some(price)) => price >= reserve,
        }
    }

    /// The person behind an alias.
    pub(super) fn bidder(&self, alias: u32) -> Option<UserId> {
        self.bidders.get(alias.checked_sub(1)? as usize).copied()
    }

    /// How the auction ends if it ends now.
    pub(super) fn outcome_now(&self) -> Outcome {
        let not_sold = |reason| Outcome::NotSold { reason };
        let Some(bid) = self.leading_bid() else {
            return not_sold(NotSoldReason::NoBids);
        };
        match self.bidder(bid.alias) {
            Some(winner) if self.reserve_met() => Outcome::Sold {
                bid_id: bid.bid_id,
                winner,
                alias: bid.alias,
                amount: bid.amount,
            },
            _ => not_sold(NotSoldReason::ReserveNotMet),
        }
    }
}

/// The auction for writing; a shared one is copied first. `None` never makes a slot.
pub(super) fn auction_mut(
    slots: &mut SlotMap<AuctionSlot>,
    auction_id: AuctionId,
) -> Option<&mut Auction> {
    let slot = Slot::of(auction_id.0);
    if !slots.get(slot)?.auctions.contains_key(&auction_id) {
        return None;
    }
    let auction = slots.get_mut(slot).auctions.get_mut(&auction_id)?;
    Some(Arc::make_mut(auction))
}

impl SlotState for AuctionSlot {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        codec::encode_into(&(self.items.len() as u64, self.auctions.len() as u64), out)?;
        encode_entities(&self.items, out)?;
        encode_entities(&self.auctions, out)
    }

    fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), CodecError> {
        let ((items, auctions), rest): ((u64, u64), _) = codec::decode_prefix(bytes)?;
        let (items, rest) = decode_entities(items, rest)?;
        let (auctions, rest) = decode_entities(auctions, rest)?;
        Ok((Self { items, auctions }, rest))
    }
}
