//! The whole-state check of the auction rules; linear in the state, for tests and on request.

use grid_core::Slot;

use super::index::AuctionIndex;
use super::messages::{Status, WithdrawalPolicy};
use super::space::AuctionSpace;
use super::state::Auction;
use super::{BIDS_MAX, increment};

impl AuctionSpace {
    /// Checks every invariant of the auction space.
    ///
    /// # Errors
    /// The first broken invariant, in words.
    pub fn check_invariants(&self) -> Result<(), String> {
        let mut recounted = AuctionIndex::default();
        let mut unfinished = 0;
        for (slot, state) in self.slots.iter() {
            if let Some(item_id) = state.items.keys().find(|id| Slot::of(id.0) != slot) {
                return Err(format!("item {item_id} is in slot {slot}, not its own"));
            }
            for (auction_id, auction) in &state.auctions {
                let wrong = |what: String| format!("auction {auction_id}: {what}");
                if Slot::of(auction_id.0) != slot {
                    return Err(wrong(format!("is in slot {slot}, not its own")));
                }
                if !state.items.contains_key(&auction.item_id) {
                    return Err(wrong("its item is not in its slot".to_owned()));
                }
                unfinished += usize::from(auction.is_unfinished());
                auction.check().map_err(wrong)?;
                recounted.add(*auction_id, auction);
            }
        }
        if unfinished != recounted.unfinished.len() {
            return Err("an item has two unfinished auctions".to_owned());
        }
        self.index.check_equals(&recounted)
    }
}

impl AuctionIndex {
    fn check_equals(&self, recounted: &Self) -> Result<(), String> {
        let parts = [
            ("ids", self.ids == recounted.ids),
            ("deadlines", self.deadlines == recounted.deadlines),
            ("unfinished", self.unfinished == recounted.unfinished),
            ("aliases", self.aliases == recounted.aliases),
            ("by_bidder", self.by_bidder == recounted.by_bidder),
            ("withdrawable", self.withdrawable == recounted.withdrawable),
            ("bids", self.bids == recounted.bids),
        ];
        match parts.iter().find(|(_, equal)| !equal) {
            Some((name, _)) => Err(format!("auction index {name} differs from a recount")),
            None => Ok(()),
        }
    }
}

impl Auction {
    fn check(&self) -> Result<(), String> {
        self.check_bids()?;
        if (self.status == Status::Ended) != self.outcome.is_some() {
            return Err("an outcome without an end, or an end without an outcome".to_owned());
        }
        if self.outcome.is_some_and(|kept| kept != self.outcome_now()) {
            return Err(format!("ended as {:?}, against the rule", self.outcome));
        }
        if self.end_time < self.terms.end_time {
            return Err("ends before its terms say".to_owned());
        }
        let extensions_max = self.terms.soft_close.map_or(0, |rule| rule.max_extensions);
        if self.extensions > extensions_max {
            return Err(format!("extended {} times", self.extensions));
        }
        if self.extensions == 0 && self.end_time != self.terms.end_time {
            return Err("the end moved without an extension".to_owned());
        }
        Ok(())
    }

    /// No accepted bid is below the rule, and the leader is the highest standing bid.
    fn check_bids(&self) -> Result<(), String> {
        if self.bids.len() > BIDS_MAX {
            return Err("too many bids".to_owned());
        }
        let starting = self.terms.starting_price.max(1);
        let mut standing = 0;
        let mut highest: Option<(usize, i64)> = None;
        let mut aliases = 0;
        for (place, bid) in self.bids.iter().enumerate() {
            if bid.alias > aliases + 1 || self.bidder(bid.alias).is_none() {
                return Err(format!("bid {place} has alias {} out of turn", bid.alias));
            }
            aliases = aliases.max(bid.alias);
            if self.bidder(bid.alias) == Some(self.host) {
                return Err(format!("bid {place} is the host's"));
            }
            if bid.at < self.start_time || bid.at >= self.end_time {
                return Err(format!("bid {place} came while the auction was not open"));
            }
            if bid.amount < starting {
                return Err(format!("bid {place} is below the starting price"));
            }
            if bid.withdrawn {
                if self.terms.withdrawal == WithdrawalPolicy::Forbidden {
                    return Err(format!("bid {place} was withdrawn against the policy"));
                }
                continue;
            }
            standing += 1;
            if let Some((before, amount)) = highest {
                // Between the two there may have been a leader who withdrew, with a higher step.
                let rise = match place - before {
                    1 => increment::increment_at(&self.terms.increments, amount),
                    _ => 1,
                };
                if bid.amount < amount + rise {
                    return Err(format!("bid {place} is below the minimum"));
                }
            }
            highest = Some((place, bid.amount));
        }
        if standing != self.standing {
            return Err(format!("{} bids stand, counted {standing}", self.standing));
        }
        if aliases as usize != self.bidders.len() {
            return Err("a bidder without a bid".to_owned());
        }
        if self.leader.map(|place| place as usize) != highest.map(|(place, _)| place) {
            return Err("the leader is not the highest standing bid".to_owned());
        }
        Ok(())
    }
}
