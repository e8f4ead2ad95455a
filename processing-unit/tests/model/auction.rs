//! The auction rules over plain lists.

use grid_core::{Slot, Timestamp};
use processing_unit::auction::{
    Actor, Change, Command, DURATION_MS_MAX, ItemChoice, NewAuction, NewItem, NotSoldReason,
    Outcome, Refusal, Reply, Status, WithdrawalPolicy,
};
use processing_unit::money::AMOUNT_MINOR_MAX;
use processing_unit::{AuctionId, BidId, ItemId, UserId};

use super::Context;

#[derive(Default)]
pub(crate) struct Auctions {
    items: Vec<(ItemId, UserId)>,
    auctions: Vec<Auction>,
}

struct Auction {
    host: UserId,
    item_id: ItemId,
    terms: NewAuction,
    status: Status,
    start_time: Timestamp,
    end_time: Timestamp,
    extensions: u32,
    /// In the order of acceptance.
    bids: Vec<Bid>,
}

struct Bid {
    bid_id: BidId,
    bidder: UserId,
    amount: i64,
    withdrawn: bool,
}

fn emit(context: &mut Context<'_>, change: Change) {
    context.emit(processing_unit::Change::Auction(change));
}

impl Auction {
    fn id(&self) -> AuctionId {
        self.terms.auction_id
    }

    fn due(&self) -> Option<Timestamp> {
        match self.status {
            Status::Scheduled => Some(self.start_time),
            Status::Open => Some(self.end_time),
            _ => None,
        }
    }

    /// The highest standing bid; of equal ones the earliest.
    fn leader(&self) -> Option<&Bid> {
        let mut leader: Option<&Bid> = None;
        for bid in self.bids.iter().filter(|bid| !bid.withdrawn) {
            if leader.is_none_or(|leader| bid.amount > leader.amount) {
                leader = Some(bid);
            }
        }
        leader
    }

    fn minimum(&self) -> i64 {
        let Some(leader) = self.leader() else {
            return self.terms.starting_price.max(1);
        };
        let mut minimum = leader.amount + 1;
        for step in &self.terms.increments {
            if step.from_price <= leader.amount {
                minimum = leader.amount + step.increment;
            }
        }
        minimum
    }

    fn standing(&self) -> u32 {
        self.bids.iter().filter(|bid| !bid.withdrawn).count() as u32
    }

    fn alias(&self, bidder: UserId) -> u32 {
        let mut bidders = Vec::new();
        for bid in &self.bids {
            if !bidders.contains(&bid.bidder) {
                bidders.push(bid.bidder);
            }
        }
        let place = bidders.iter().position(|known| *known == bidder);
        place.unwrap_or(bidders.len()) as u32 + 1
    }

    fn reserve_met(&self) -> bool {
        match self.terms.reserve_price {
            Some(reserve) => self.leader().is_some_and(|bid| bid.amount >= reserve),
            None => true,
        }
    }

    fn outcome(&self) -> Outcome {
        match self.leader() {
            None => Outcome::NotSold {
                reason: NotSoldReason::NoBids,
            },
            Some(_) if !self.reserve_met() => Outcome::NotSold {
                reason: NotSoldReason::ReserveNotMet,
            },
            Some(bid) => Outcome::Sold {
                bid_id: bid.bid_id,
                winner: bid.bidder,
                alias: self.alias(bid.bidder),
                amount: bid.amount,
            },
        }
    }
}

fn terms_are_valid(terms: &NewAuction, item_id: ItemId, now: Timestamp) -> bool {
    let steps = &terms.increments;
    let table_is_valid = !steps.is_empty()
        && steps[0].from_price == 0
        && steps.iter().all(|step| step.increment >= 1)
        && steps.is_sorted_by(|a, b| a.from_price < b.from_price);
    let opens_at = terms.start_time.max(now);
    Slot::of(terms.auction_id.0) == Slot::of(item_id.0)
        && !terms.title.is_empty()
        && terms.starting_price >= 0
        && terms
            .reserve_price
            .is_none_or(|reserve| reserve >= terms.starting_price)
        && table_is_valid
        && terms.end_time > now
        && terms.end_time > terms.start_time
        && terms.end_time.millis_since(opens_at) <= DURATION_MS_MAX
        && terms
            .soft_close
            .is_none_or(|rule| rule.window_ms > 0 && rule.extend_ms > 0)
}

fn invalid() -> Refusal {
    Refusal::Invalid(String::new())
}

impl Auctions {
    pub(crate) fn apply(
        &mut self,
        context: &mut Context<'_>,
        command: Command,
    ) -> Result<Reply, Refusal> {
        match command {
            Command::CreateItem { owner, item } => self.create_item(context, owner, *item),
            Command::CreateAuction { host, auction } => self.create(context, host, *auction),
            Command::Start { auction_id, by } => {
                let auction = self.hosted(auction_id, by)?;
                if auction.status != Status::Scheduled {
                    return Err(Refusal::NotScheduled {
                        status: auction.status,
                    });
                }
                auction.status = Status::Open;
                auction.start_time = context.now();
                let start_time = auction.start_time;
                emit(
                    context,
                    Change::AuctionStarted {
                        auction_id,
                        start_time,
                    },
                );
                Ok(Reply::Started)
            }
            Command::Close { auction_id, by } => {
                let auction = self.hosted(auction_id, by)?;
                if auction.status != Status::Open {
                    return Err(Refusal::NotOpen {
                        status: auction.status,
                    });
                }
                let outcome = auction.outcome();
                auction.status = Status::Ended;
                emit(
                    context,
                    Change::AuctionEnded {
                        auction_id,
                        outcome,
                    },
                );
                Ok(Reply::Closed { outcome })
            }
            Command::Cancel { auction_id, by } => {
                let auction = self.hosted(auction_id, by)?;
                if !matches!(auction.status, Status::Open | Status::Scheduled) {
                    return Err(Refusal::NotOpen {
                        status: auction.status,
                    });
                }
                auction.status = Status::Cancelled;
                emit(context, Change::AuctionCancelled { auction_id });
                Ok(Reply::Cancelled)
            }
            Command::PlaceBid {
                auction_id,
                bidder,
                amount,
            } => self.bid(context, auction_id, bidder, amount),
            Command::WithdrawBid {
                auction_id,
                bid_id,
                by,
            } => self.withdraw(context, auction_id, bid_id, by),
        }
    }

    fn find(&mut self, auction_id: AuctionId) -> Result<&mut Auction, Refusal> {
        let mut auctions = self.auctions.iter_mut();
        auctions
            .find(|auction| auction.id() == auction_id)
            .ok_or(Refusal::AuctionNotFound)
    }

    fn hosted(&mut self, auction_id: AuctionId, by: Actor) -> Result<&mut Auction, Refusal> {
        let auction = self.find(auction_id)?;
        if auction.host != by.user && !by.is_manager {
            return Err(Refusal::Forbidden);
        }
        Ok(auction)
    }

    fn owner(&self, item_id: ItemId) -> Option<UserId> {
        let mut items = self.items.iter();
        items
            .find(|(id, _)| *id == item_id)
            .map(|(_, owner)| *owner)
    }

    fn create_item(
        &mut self,
        context: &mut Context<'_>,
        owner: UserId,
        item: NewItem,
    ) -> Result<Reply, Refusal> {
        let item_id = item.item_id;
        if item.name.is_empty() {
            return Err(invalid());
        }
        if self.owner(item_id).is_some() {
            return Err(Refusal::IdInUse);
        }
        self.items.push((item_id, owner));
        let item = Box::new(item);
        emit(context, Change::ItemCreated { owner, item });
        Ok(Reply::ItemCreated { item_id })
    }

    fn create(
        &mut self,
        context: &mut Context<'_>,
        host: UserId,
        terms: NewAuction,
    ) -> Result<Reply, Refusal> {
        let (item_id, new_item) = match &terms.item {
            ItemChoice::Existing(item_id) => (*item_id, None),
            ItemChoice::New(item) => (item.item_id, Some(item.clone())),
        };
        let auction_id = terms.auction_id;
        if !terms_are_valid(&terms, item_id, context.now()) {
            return Err(invalid());
        }
        if self.find(auction_id).is_ok() {
            return Err(Refusal::IdInUse);
        }
        match (&new_item, self.owner(item_id)) {
            (Some(_), Some(_)) => return Err(Refusal::IdInUse),
            (None, None) => return Err(Refusal::ItemNotFound),
            (None, Some(owner)) if owner != host => return Err(Refusal::Forbidden),
            _ => {}
        }
        let mut unfinished = self
            .auctions
            .iter()
            .filter(|auction| auction.due().is_some());
        if let Some(other) = unfinished.find(|auction| auction.item_id == item_id) {
            return Err(Refusal::ItemAlreadyOnAuction {
                auction_id: other.id(),
            });
        }
        if let Some(item) = new_item {
            self.create_item(context, host, item)?;
        }
        emit(
            context,
            Change::AuctionCreated {
                host,
                item_id,
                auction: Box::new(terms.clone()),
            },
        );
        let now = context.now();
        let opens_now = terms.start_time <= now;
        self.auctions.push(Auction {
            host,
            item_id,
            status: if opens_now {
                Status::Open
            } else {
                Status::Scheduled
            },
            start_time: terms.start_time.max(now),
            end_time: terms.end_time,
            extensions: 0,
            bids: Vec::new(),
            terms,
        });
        if opens_now {
            emit(
                context,
                Change::AuctionStarted {
                    auction_id,
                    start_time: now,
                },
            );
        }
        Ok(Reply::AuctionCreated {
            auction_id,
            item_id,
        })
    }

    fn bid(
        &mut self,
        context: &mut Context<'_>,
        auction_id: AuctionId,
        bidder: UserId,
        amount: i64,
    ) -> Result<Reply, Refusal> {
        let now = context.now();
        let auction = self.find(auction_id)?;
        if auction.status != Status::Open {
            return Err(Refusal::NotOpen {
                status: auction.status,
            });
        }
        if bidder == auction.host {
            return Err(Refusal::HostMayNotBid);
        }
        if auction.leader().is_some_and(|bid| bid.bidder == bidder) {
            return Err(Refusal::OwnBidLeads);
        }
        if amount > AMOUNT_MINOR_MAX {
            return Err(invalid());
        }
        let minimum = auction.minimum();
        if amount < minimum {
            return Err(Refusal::BidTooLow { minimum });
        }
        let bid_id = BidId(context.mint_id());
        auction.bids.push(Bid {
            bid_id,
            bidder,
            amount,
            withdrawn: false,
        });
        emit(
            context,
            Change::BidPlaced {
                auction_id,
                bid_id,
                bidder,
                alias: auction.alias(bidder),
                amount,
                minimum_next: auction.minimum(),
                bids: auction.standing(),
                reserve_met: auction.reserve_met(),
            },
        );
        if let Some(rule) = auction.terms.soft_close {
            let left_ms = auction.end_time.as_millis() - now.as_millis();
            let new_end = (now + rule.extend_ms).max(auction.end_time);
            if left_ms < rule.window_ms
                && auction.extensions < rule.max_extensions
                && new_end != auction.end_time
            {
                auction.end_time = new_end;
                auction.extensions += 1;
                emit(
                    context,
                    Change::AuctionExtended {
                        auction_id,
                        end_time: new_end,
                        extensions: auction.extensions,
                    },
                );
            }
        }
        Ok(Reply::BidPlaced {
            bid_id,
            amount,
            rank: 1,
            minimum_next: auction.minimum(),
            end_time: auction.end_time,
        })
    }

    fn withdraw(
        &mut self,
        context: &mut Context<'_>,
        auction_id: AuctionId,
        bid_id: BidId,
        by: Actor,
    ) -> Result<Reply, Refusal> {
        let auction = self.find(auction_id)?;
        if auction.terms.withdrawal == WithdrawalPolicy::Forbidden {
            return Err(Refusal::WithdrawalForbidden);
        }
        if auction.status != Status::Open {
            return Err(Refusal::NotOpen {
                status: auction.status,
            });
        }
        let mut standing = auction.bids.iter_mut().filter(|bid| !bid.withdrawn);
        let bid = standing.find(|bid| bid.bid_id == bid_id);
        let bid = bid.ok_or(Refusal::BidNotFound)?;
        if bid.bidder != by.user {
            return Err(Refusal::Forbidden);
        }
        bid.withdrawn = true;
        emit(
            context,
            Change::BidWithdrawn {
                auction_id,
                bid_id,
                bidder: by.user,
                alias: auction.alias(by.user),
                current_price: auction.leader().map(|bid| bid.amount),
                minimum_next: auction.minimum(),
                bids: auction.standing(),
            },
        );
        Ok(Reply::BidWithdrawn)
    }

    pub(crate) fn next_due(&self) -> Option<(Timestamp, AuctionId)> {
        let due = |auction: &Auction| Some((auction.due()?, auction.id()));
        self.auctions.iter().filter_map(due).min()
    }

    pub(crate) fn fire(&mut self, context: &mut Context<'_>, auction_id: AuctionId) {
        let Ok(auction) = self.find(auction_id) else {
            return;
        };
        if auction.status == Status::Scheduled {
            auction.status = Status::Open;
            let start_time = auction.start_time;
            emit(
                context,
                Change::AuctionStarted {
                    auction_id,
                    start_time,
                },
            );
        } else {
            auction.status = Status::Ended;
            let outcome = auction.outcome();
            emit(
                context,
                Change::AuctionEnded {
                    auction_id,
                    outcome,
                },
            );
        }
    }
}
