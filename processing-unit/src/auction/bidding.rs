//! Bids: which are accepted, what they extend, and how they are taken back.

use grid_core::{ApplyContext, Timestamp};

use super::messages::{Actor, BIDS_MAX, Change, Refusal, Reply, Status, WithdrawalPolicy};
use super::space::AuctionSpace;
use super::state::{Auction, Bid, auction_mut};
use crate::ids::{AuctionId, BidId, UserId};
use crate::money::AMOUNT_MINOR_MAX;

impl Auction {
    /// The rule for a bid, in the order in which a bidder is told: open, not the host, not the
    /// leader, an amount from the minimum on, room for one more.
    fn check_bid(&self, bidder: UserId, amount: i64) -> Result<(), Refusal> {
        if self.status != Status::Open {
            return Err(Refusal::NotOpen {
                status: self.status,
            });
        }
        if bidder == self.host {
            return Err(Refusal::HostMayNotBid);
        }
        let leader = self.leading_bid().and_then(|bid| self.bidder(bid.alias));
        if leader == Some(bidder) {
            return Err(Refusal::OwnBidLeads);
        }
        if amount > AMOUNT_MINOR_MAX {
            return Err(Refusal::Invalid("amount: too large".to_owned()));
        }
        let minimum = self.minimum_next();
        if amount < minimum {
            return Err(Refusal::BidTooLow { minimum });
        }
        if self.bids.len() >= BIDS_MAX {
            return Err(Refusal::TooManyBids);
        }
        Ok(())
    }

    /// The later end that a bid accepted at `now` brings, if it brings one.
    fn extended_end(&self, now: Timestamp) -> Option<Timestamp> {
        let soft_close = self.terms.soft_close?;
        let is_late = self.end_time.millis_since(now) < soft_close.window_ms;
        let end_time = now + soft_close.extend_ms;
        (is_late && self.extensions < soft_close.max_extensions && end_time > self.end_time)
            .then_some(end_time)
    }
}

impl AuctionSpace {
    pub(super) fn place_bid<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        auction_id: AuctionId,
        bidder: UserId,
        amount: i64,
    ) -> Result<Reply, Refusal> {
        let now = context.now();
        self.auction(auction_id)
            .ok_or(Refusal::AuctionNotFound)?
            .check_bid(bidder, amount)?;
        let auction = auction_mut(&mut self.slots, auction_id).ok_or(Refusal::AuctionNotFound)?;

        let bid_id = BidId(context.mint_id());
        let alias = *self
            .index
            .aliases
            .get_or_insert_with((auction_id, bidder), || {
                auction.bidders.push(bidder);
                auction.bidders.len() as u32
            });
        let place = auction.bids.len() as u32;
        auction.bids.push(Bid {
            bid_id,
            alias,
            amount,
            at: now,
            withdrawn: false,
        });
        auction.standing += 1;
        auction.leader = Some(place);
        self.index.add_bid(auction_id, place, bid_id, bidder, now);

        let minimum_next = auction.minimum_next();
        context.emit(C::from(Change::BidPlaced {
            auction_id,
            bid_id,
            bidder,
            alias,
            amount,
            minimum_next,
            bids: auction.standing,
            reserve_met: auction.reserve_met(),
        }));
        if let Some(end_time) = auction.extended_end(now) {
            let before = auction.deadline();
            auction.end_time = end_time;
            auction.extensions += 1;
            self.index.reschedule(auction_id, before, Some(end_time));
            context.emit(C::from(Change::AuctionExtended {
                auction_id,
                end_time,
                extensions: auction.extensions,
            }));
        }
        Ok(Reply::BidPlaced {
            bid_id,
            amount,
            rank: 1,
            minimum_next,
            end_time: auction.end_time,
        })
    }

    /// Takes back a standing bid of one's own. A withdrawn bid does not revive, and the extensions it
    /// brought stay.
    pub(super) fn withdraw_bid<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        auction_id: AuctionId,
        bid_id: BidId,
        by: Actor,
    ) -> Result<Reply, Refusal> {
        let auction = self.auction(auction_id).ok_or(Refusal::AuctionNotFound)?;
        if auction.terms.withdrawal == WithdrawalPolicy::Forbidden {
            return Err(Refusal::WithdrawalForbidden);
        }
        if auction.status != Status::Open {
            return Err(Refusal::NotOpen {
                status: auction.status,
            });
        }
        let standing = self.index.withdrawable.get(&auction_id);
        let place = standing
            .and_then(|standing| standing.place_of.get(&bid_id).copied())
            .ok_or(Refusal::BidNotFound)?;
        let alias = auction
            .bids
            .get(place as usize)
            .map(|bid| bid.alias)
            .ok_or(Refusal::BidNotFound)?;
        // A manager acts for hosts, never for a bidder.
        if auction.bidder(alias) != Some(by.user) {
            return Err(Refusal::Forbidden);
        }

        self.index.remove_standing(auction_id, place, bid_id);
        let standing = self.index.withdrawable.get(&auction_id);
        let leader = standing.and_then(|standing| standing.places.last().copied());
        let auction = auction_mut(&mut self.slots, auction_id).ok_or(Refusal::AuctionNotFound)?;
        if let Some(bid) = auction.bids.get_mut(place as usize) {
            bid.withdrawn = true;
        }
        auction.standing -= 1;
        auction.leader = leader;
        context.emit(C::from(Change::BidWithdrawn {
            auction_id,
            bid_id,
            bidder: by.user,
            alias,
            current_price: auction.current_price(),
            minimum_next: auction.minimum_next(),
            bids: auction.standing,
        }));
        Ok(Reply::BidWithdrawn)
    }
}
