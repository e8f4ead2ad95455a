//! From creation to the end: items, auctions, opening, closing, cancelling, and what time does.

use std::sync::Arc;

use grid_core::{ApplyContext, CowVec, Slot, Timestamp};

use super::messages::{
    Actor, Change, ItemChoice, NewAuction, NewItem, Outcome, Refusal, Reply, Status,
};
use super::space::AuctionSpace;
use super::state::{Auction, Item, auction_mut};
use super::terms;
use crate::ids::{AuctionId, UserId};

impl AuctionSpace {
    pub(super) fn create_item<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        owner: UserId,
        item: NewItem,
    ) -> Result<Reply, Refusal> {
        terms::check_item(&item)?;
        let item_id = item.item_id;
        if self.item(item_id).is_some() {
            return Err(Refusal::IdInUse);
        }
        self.add_item(context, owner, item);
        Ok(Reply::ItemCreated { item_id })
    }

    fn add_item<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        owner: UserId,
        item: NewItem,
    ) {
        context.emit(C::from(Change::ItemCreated {
            owner,
            item: Box::new(item.clone()),
        }));
        let slot = self.slots.get_mut(Slot::of(item.item_id.0));
        slot.items
            .insert(item.item_id, Arc::new(Item { owner, item }));
    }

    pub(super) fn create_auction<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        host: UserId,
        auction: NewAuction,
    ) -> Result<Reply, Refusal> {
        let now = context.now();
        let auction_id = auction.auction_id;
        let item_id = auction.item.item_id();
        terms::check_auction(&auction, now)?;
        if let ItemChoice::New(item) = &auction.item {
            terms::check_item(item)?;
        }
        if self.auction(auction_id).is_some() {
            return Err(Refusal::IdInUse);
        }
        match (&auction.item, self.item(item_id)) {
            (ItemChoice::New(_), Some(_)) => return Err(Refusal::IdInUse),
            (ItemChoice::Existing(_), None) => return Err(Refusal::ItemNotFound),
            (ItemChoice::Existing(_), Some(item)) if item.owner != host => {
                return Err(Refusal::Forbidden);
            }
            _ => {}
        }
        if let Some(&auction_id) = self.index.unfinished.get(&item_id) {
            // Its end may be due, with a tick that has not come to it yet.
            self.settle(context, auction_id);
            if self.index.unfinished.contains_key(&item_id) {
                return Err(Refusal::ItemAlreadyOnAuction { auction_id });
            }
        }

        if let ItemChoice::New(item) = &auction.item {
            self.add_item(context, host, item.clone());
        }
        context.emit(C::from(Change::AuctionCreated {
            host,
            item_id,
            auction: Box::new(auction.clone()),
        }));
        let state = Auction {
            host,
            item_id,
            status: Status::Scheduled,
            start_time: auction.start_time,
            end_time: auction.end_time,
            extensions: 0,
            bidders: CowVec::default(),
            bids: CowVec::default(),
            standing: 0,
            leader: None,
            outcome: None,
            terms: Arc::new(auction),
        };
        self.index.add(auction_id, &state);
        let starts_now = state.start_time <= now;
        let slot = self.slots.get_mut(Slot::of(auction_id.0));
        slot.auctions.insert(auction_id, Arc::new(state));
        if starts_now {
            // It cannot have been open before it was there.
            self.open(context, auction_id, now);
        }
        Ok(Reply::AuctionCreated {
            auction_id,
            item_id,
        })
    }

    pub(super) fn start<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        auction_id: AuctionId,
        by: Actor,
    ) -> Result<Reply, Refusal> {
        match self.hosted_by(auction_id, by)?.status {
            Status::Scheduled => {
                self.open(context, auction_id, context.now());
                Ok(Reply::Started)
            }
            status => Err(Refusal::NotScheduled { status }),
        }
    }

    pub(super) fn close<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        auction_id: AuctionId,
        by: Actor,
    ) -> Result<Reply, Refusal> {
        let auction = self.hosted_by(auction_id, by)?;
        match auction.status {
            Status::Open => {
                let outcome = auction.outcome_now();
                self.end(context, auction_id, outcome);
                Ok(Reply::Closed { outcome })
            }
            status => Err(Refusal::NotOpen { status }),
        }
    }

    pub(super) fn cancel<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        auction_id: AuctionId,
        by: Actor,
    ) -> Result<Reply, Refusal> {
        let auction = self.hosted_by(auction_id, by)?;
        if !auction.is_unfinished() {
            return Err(Refusal::NotOpen {
                status: auction.status,
            });
        }
        self.finish(auction_id, |auction| auction.status = Status::Cancelled);
        context.emit(C::from(Change::AuctionCancelled { auction_id }));
        Ok(Reply::Cancelled)
    }

    /// Carries out everything that is due for one auction.
    pub(super) fn settle<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        auction_id: AuctionId,
    ) {
        let now = context.now();
        let is_due = |auction: &Auction| auction.deadline().is_some_and(|at| at <= now);
        // At most twice: opening, then the end.
        while self.auction(auction_id).is_some_and(is_due) {
            self.pass_deadline(context, auction_id);
        }
    }

    /// What an auction's deadline brings: the opening or the end.
    pub(super) fn pass_deadline<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        auction_id: AuctionId,
    ) {
        let Some(auction) = self.auction(auction_id) else {
            return;
        };
        match auction.status {
            Status::Scheduled => {
                let start_time = auction.start_time;
                self.open(context, auction_id, start_time);
            }
            Status::Open => {
                let outcome = auction.outcome_now();
                self.end(context, auction_id, outcome);
            }
            Status::Ended | Status::Cancelled => {}
        }
    }

    fn open<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        auction_id: AuctionId,
        start_time: Timestamp,
    ) {
        let Some(auction) = auction_mut(&mut self.slots, auction_id) else {
            return;
        };
        let before = auction.deadline();
        auction.status = Status::Open;
        auction.start_time = start_time;
        self.index
            .reschedule(auction_id, before, auction.deadline());
        context.emit(C::from(Change::AuctionStarted {
            auction_id,
            start_time,
        }));
    }

    fn end<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        auction_id: AuctionId,
        outcome: Outcome,
    ) {
        self.finish(auction_id, |auction| {
            auction.status = Status::Ended;
            auction.outcome = Some(outcome);
        });
        context.emit(C::from(Change::AuctionEnded {
            auction_id,
            outcome,
        }));
    }

    fn finish(&mut self, auction_id: AuctionId, change: impl FnOnce(&mut Auction)) {
        let Some(auction) = auction_mut(&mut self.slots, auction_id) else {
            return;
        };
        let before = auction.deadline();
        change(auction);
        self.index.reschedule(auction_id, before, None);
        self.index.finish(auction_id, auction.item_id);
    }

    /// The auction, if `by` may act as its host.
    fn hosted_by(&self, auction_id: AuctionId, by: Actor) -> Result<&Auction, Refusal> {
        let auction = self.auction(auction_id).ok_or(Refusal::AuctionNotFound)?;
        if auction.host == by.user || by.is_manager {
            Ok(auction)
        } else {
            Err(Refusal::Forbidden)
        }
    }
}
