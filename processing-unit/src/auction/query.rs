//! Answers from the present state.

use std::ops::Bound;

use grid_core::Timestamp;
use uuid::Uuid;

use super::messages::{Answer, AuctionView, BidView, ItemView, OwnBidView, Query, Status};
use super::space::AuctionSpace;
use super::state::{Auction, Bid};
use crate::ids::{AuctionId, UserId};

impl AuctionSpace {
    /// Answers a question. Lists cost what they skip, so callers page.
    #[must_use]
    pub fn query(&self, query: &Query) -> Answer {
        match query {
            Query::Item { item_id } => Answer::Item(self.item(*item_id).map(|item| ItemView {
                owner: item.owner,
                item: item.item.clone(),
                active_auction: self.index.unfinished.get(item_id).copied(),
            })),
            Query::Auction { auction_id } => {
                let auction = self.auction(*auction_id);
                Answer::Auction(auction.map(|auction| Box::new(auction.to_view())))
            }
            Query::Auctions {
                status,
                category,
                text,
                after,
                limit,
            } => Answer::Auctions(self.auctions(
                *status,
                category.as_deref(),
                text.as_deref(),
                *after,
                *limit,
            )),
            Query::Bids {
                auction_id,
                before,
                limit,
            } => {
                let auction = self.auction(*auction_id);
                Answer::Bids(auction.map(|auction| auction.bid_history(*before, *limit)))
            }
            Query::BidsOf { bidder, limit } => Answer::BidsOf(self.bids_of(*bidder, *limit)),
            Query::Totals => Answer::Totals {
                auctions: self.index.ids.len() as u64,
                bids: self.index.bids,
            },
        }
    }

    fn auctions(
        &self,
        status: Option<Status>,
        category: Option<&str>,
        text: Option<&str>,
        after: Option<AuctionId>,
        limit: usize,
    ) -> Vec<AuctionView> {
        let text = text.map(str::to_lowercase);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.index
            .ids
            .range((from, Bound::Unbounded))
            .filter_map(|auction_id| self.auction(*auction_id))
            .filter(|auction| status.is_none_or(|status| auction.status == status))
            .filter(|auction| category.is_none_or(|wanted| auction.terms.category == wanted))
            .filter(|auction| {
                text.as_ref()
                    .is_none_or(|text| auction.terms.title.to_lowercase().contains(text))
            })
            .take(limit)
            .map(Auction::to_view)
            .collect()
    }

    fn bids_of(&self, bidder: UserId, limit: usize) -> Vec<OwnBidView> {
        let first = (bidder, Timestamp::ZERO, AuctionId(Uuid::nil()), 0);
        let end_of_time = Timestamp::from_millis(u64::MAX);
        let last = (bidder, end_of_time, AuctionId(Uuid::max()), u32::MAX);
        self.index
            .by_bidder
            .range(first..=last)
            .rev()
            .take(limit)
            .filter_map(|(_, _, auction_id, place)| {
                let auction = self.auction(*auction_id)?;
                Some(OwnBidView {
                    auction_id: *auction_id,
                    currency: auction.terms.currency,
                    status: auction.status,
                    leads: auction.leader == Some(*place),
                    bid: auction.bid_view(*place as usize, auction.bids.get(*place as usize)?)?,
                })
            })
            .collect()
    }
}

impl Auction {
    fn to_view(&self) -> AuctionView {
        let mut terms = (*self.terms).clone();
        terms.start_time = self.start_time;
        let leader = self.leading_bid();
        AuctionView {
            host: self.host,
            item_id: self.item_id,
            status: self.status,
            end_time: self.end_time,
            extensions: self.extensions,
            current_price: self.current_price(),
            minimum_next: self.minimum_next(),
            bids: self.standing,
            leader_alias: leader.map(|bid| bid.alias),
            leader: leader.and_then(|bid| self.bidder(bid.alias)),
            reserve_met: terms.reserve_price.map(|_| self.reserve_met()),
            outcome: self.outcome,
            terms,
        }
    }

    fn bid_history(&self, before: Option<u64>, limit: usize) -> Vec<BidView> {
        let all = self.bids.len() as u64;
        // A bid's number is its place plus one, so the places below `before - 1` are unseen.
        let unseen = before.map_or(all, |before| before.saturating_sub(1).min(all));
        (0..unseen as usize)
            .rev()
            .take(limit)
            .filter_map(|place| self.bid_view(place, self.bids.get(place)?))
            .collect()
    }

    fn bid_view(&self, place: usize, bid: &Bid) -> Option<BidView> {
        Some(BidView {
            number: place as u64 + 1,
            bid_id: bid.bid_id,
            bidder: self.bidder(bid.alias)?,
            alias: bid.alias,
            amount: bid.amount,
            at: bid.at,
            withdrawn: bid.withdrawn,
        })
    }
}
