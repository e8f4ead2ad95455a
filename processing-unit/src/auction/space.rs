//! The auction space: the state, the dispatch of commands, views and restore.

use std::sync::Arc;

use grid_core::{ApplyContext, CodecError, Slot, SlotMap, Timestamp};

use super::index::AuctionIndex;
use super::messages::{Change, Command, Refusal, Reply};
use super::state::{Auction, AuctionSlot, Item};
use crate::ids::{AuctionId, ItemId};
use crate::slots::SlotState;

/// All auctions and items of a partition.
///
/// Invariants: the index equals what a fresh one built from the slots would be.
#[derive(Debug, Default)]
pub struct AuctionSpace {
    pub(super) slots: SlotMap<AuctionSlot>,
    pub(super) index: AuctionIndex,
}

impl AuctionSpace {
    /// Carries out one command. `C` is the change type of the unit that embeds this space.
    ///
    /// # Errors
    /// A refusal: nothing was done, except what was due for that auction anyway.
    pub fn apply<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        command: Command,
    ) -> Result<Reply, Refusal> {
        match command {
            Command::CreateItem { owner, item } => self.create_item(context, owner, *item),
            Command::CreateAuction { host, auction } => {
                self.create_auction(context, host, *auction)
            }
            Command::Start { auction_id, by } => {
                self.settle(context, auction_id);
                self.start(context, auction_id, by)
            }
            Command::Close { auction_id, by } => {
                self.settle(context, auction_id);
                self.close(context, auction_id, by)
            }
            Command::Cancel { auction_id, by } => {
                self.settle(context, auction_id);
                self.cancel(context, auction_id, by)
            }
            Command::PlaceBid {
                auction_id,
                bidder,
                amount,
            } => {
                self.settle(context, auction_id);
                self.place_bid(context, auction_id, bidder, amount)
            }
            Command::WithdrawBid {
                auction_id,
                bid_id,
                by,
            } => {
                self.settle(context, auction_id);
                self.withdraw_bid(context, auction_id, bid_id, by)
            }
        }
    }

    /// The earliest opening or end.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.index.deadlines.first().map(|(at, _)| *at)
    }

    /// Carries out the earliest opening or end if it is due; says whether it did.
    pub fn fire_next<C: From<Change>>(&mut self, context: &mut ApplyContext<'_, C>) -> bool {
        match self.index.deadlines.first() {
            Some(&(at, auction_id)) if at <= context.now() => {
                self.pass_deadline(context, auction_id);
                true
            }
            _ => false,
        }
    }

    /// Takes a view of all slots: one pointer a slot.
    pub(crate) fn view(&self) -> SlotMap<AuctionSlot> {
        self.slots.clone()
    }

    /// Reads one slot's state at the start of `bytes`, rebuilds what is derived from it, and returns
    /// what follows.
    ///
    /// # Errors
    /// When the bytes are not such a state; the space must then be dropped.
    pub fn restore_slot<'a>(
        &mut self,
        slot: Slot,
        bytes: &'a [u8],
    ) -> Result<&'a [u8], CodecError> {
        let (state, rest) = AuctionSlot::decode(bytes)?;
        if state.items.is_empty() && state.auctions.is_empty() {
            return Ok(rest);
        }
        for (auction_id, auction) in &state.auctions {
            self.index.add(*auction_id, auction);
        }
        *self.slots.get_mut(slot) = state;
        Ok(rest)
    }

    pub(super) fn auction(&self, auction_id: AuctionId) -> Option<&Auction> {
        let slot = self.slots.get(Slot::of(auction_id.0))?;
        slot.auctions.get(&auction_id).map(Arc::as_ref)
    }

    pub(super) fn item(&self, item_id: ItemId) -> Option<&Item> {
        let slot = self.slots.get(Slot::of(item_id.0))?;
        slot.items.get(&item_id).map(Arc::as_ref)
    }
}
