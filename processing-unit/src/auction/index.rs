//! What is derived from the slots' state and kept beside it for speed: never in a snapshot, rebuilt
//! by a restore, compared with a recount by the invariants' check.

use std::collections::BTreeSet;

use grid_core::{FixedHashMap, ShardedMap, Timestamp};

use super::messages::WithdrawalPolicy;
use super::state::Auction;
use crate::ids::{AuctionId, BidId, ItemId, UserId};

/// The indexes over all slots of the space.
#[derive(Debug, Default)]
pub(super) struct AuctionIndex {
    /// All auctions, for lists in the order of ids.
    pub(super) ids: BTreeSet<AuctionId>,
    /// When the next thing happens by itself, for every unfinished auction.
    pub(super) deadlines: BTreeSet<(Timestamp, AuctionId)>,
    /// The unfinished auction of an item.
    pub(super) unfinished: FixedHashMap<ItemId, AuctionId>,
    pub(super) aliases: ShardedMap<(AuctionId, UserId), u32>,
    /// A bidder's bids by time; the last part is the bid's place in its auction.
    pub(super) by_bidder: BTreeSet<(UserId, Timestamp, AuctionId, u32)>,
    /// Only for unfinished auctions whose bids may be withdrawn.
    pub(super) withdrawable: FixedHashMap<AuctionId, StandingBids>,
    /// Accepted bids of all auctions, withdrawn ones included.
    pub(super) bids: u64,
}

/// The bids of an auction that can still be withdrawn.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct StandingBids {
    pub(super) places: BTreeSet<u32>,
    pub(super) place_of: ShardedMap<BidId, u32>,
}

impl AuctionIndex {
    /// Adds an auction with all its bids.
    pub(super) fn add(&mut self, auction_id: AuctionId, auction: &Auction) {
        self.ids.insert(auction_id);
        for (alias, bidder) in (1..).zip(auction.bidders.iter()) {
            self.aliases.insert((auction_id, *bidder), alias);
        }
        if let Some(deadline) = auction.deadline() {
            self.deadlines.insert((deadline, auction_id));
            self.unfinished.insert(auction.item_id, auction_id);
            if auction.terms.withdrawal == WithdrawalPolicy::WhileOpen {
                self.withdrawable.entry(auction_id).or_default();
            }
        }
        for (place, bid) in (0..).zip(auction.bids.iter()) {
            if let Some(bidder) = auction.bidder(bid.alias) {
                self.add_bid(auction_id, place, bid.bid_id, bidder, bid.at);
            }
            if bid.withdrawn {
                self.remove_standing(auction_id, place, bid.bid_id);
            }
        }
    }

    /// Notes an accepted bid.
    pub(super) fn add_bid(
        &mut self,
        auction_id: AuctionId,
        place: u32,
        bid_id: BidId,
        bidder: UserId,
        at: Timestamp,
    ) {
        self.bids += 1;
        self.by_bidder.insert((bidder, at, auction_id, place));
        if let Some(standing) = self.withdrawable.get_mut(&auction_id) {
            standing.places.insert(place);
            standing.place_of.insert(bid_id, place);
        }
    }

    /// Notes a withdrawn bid.
    pub(super) fn remove_standing(&mut self, auction_id: AuctionId, place: u32, bid_id: BidId) {
        if let Some(standing) = self.withdrawable.get_mut(&auction_id) {
            standing.places.remove(&place);
            standing.place_of.remove(&bid_id);
        }
    }

    /// Moves an auction's deadline.
    pub(super) fn reschedule(
        &mut self,
        auction_id: AuctionId,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
    ) {
        if let Some(from) = from {
            self.deadlines.remove(&(from, auction_id));
        }
        if let Some(to) = to {
            self.deadlines.insert((to, auction_id));
        }
    }

    /// Forgets what only an unfinished auction needs.
    pub(super) fn finish(&mut self, auction_id: AuctionId, item_id: ItemId) {
        self.unfinished.remove(&item_id);
        self.withdrawable.remove(&auction_id);
    }
}
