//! Who holds which seat and who bid what, after each entry: told from the changes alone, without a
//! line of the rules' own code.

use std::collections::BTreeMap;

use grid_core::{ChangeBatch, Timestamp};
use processing_unit::auction::{self, Outcome};
use processing_unit::box_office::{self, ReleaseReason};
use processing_unit::{AuctionId, Change, EventId, HoldId, UserId};

/// A seat's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    Nobody,
    Held {
        hold: HoldId,
        buyer: UserId,
        until: Timestamp,
    },
    Sold,
}

/// Values with the index from which each is valid.
#[derive(Clone, Debug)]
pub(crate) struct Timeline<T>(Vec<(u64, T)>);

impl<T: Copy> Timeline<T> {
    fn new(index: u64, value: T) -> Self {
        Self(vec![(index, value)])
    }

    fn set(&mut self, index: u64, value: T) {
        self.0.push((index, value));
    }

    fn now(&self) -> Option<T> {
        self.0.last().map(|(_, value)| *value)
    }

    /// The value after the entry at `index`; `None` before there was one.
    pub(crate) fn at(&self, index: u64) -> Option<T> {
        let after = self.0.partition_point(|(from, _)| *from <= index);
        Some(self.0.get(after.checked_sub(1)?)?.1)
    }
}

/// Where an auction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) bids: u32,
    pub(crate) highest: Option<(i64, UserId)>,
    minimum_next: i64,
    ends_at: Timestamp,
    pub(crate) has_ended: bool,
}

/// One partition's seats and auctions.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) events: BTreeMap<EventId, Vec<Timeline<Holder>>>,
    pub(crate) auctions: BTreeMap<AuctionId, Timeline<Standing>>,
}

impl Model {
    /// Takes in the changes of an entry.
    ///
    /// # Errors
    /// What in them is impossible.
    pub(crate) fn take(&mut self, batch: &ChangeBatch<Change>) -> Result<(), String> {
        for change in &batch.changes {
            match change {
                Change::BoxOffice(change) => self.take_seats(batch, change)?,
                Change::Auction(change) => self.take_auction(batch, change)?,
                // The workloads make none; the space's own invariants are checked all the same.
                Change::WaitingRoom(_) => {}
            }
        }
        Ok(())
    }

    fn take_seats(
        &mut self,
        batch: &ChangeBatch<Change>,
        change: &box_office::Change,
    ) -> Result<(), String> {
        use box_office::Change as C;
        let index = batch.index;
        if let C::EventCreated { event, .. } = change {
            let rows = event.sections.iter().flat_map(|section| &section.rows);
            let seats = rows.map(|row| match &row.seats {
                box_office::RowSeats::Count(count) => *count as usize,
                box_office::RowSeats::Labels(labels) => labels.len(),
            });
            let seats = seats.sum();
            let free = vec![Timeline::new(index, Holder::Nobody); seats];
            if self.events.insert(event.event_id, free).is_some() {
                return Err(format!("event {} is created twice", event.event_id));
            }
            return Ok(());
        }
        let event_id = change.event_id();
        let seats = self.events.get_mut(&event_id);
        let seats = seats.ok_or_else(|| format!("event {event_id} does not exist"))?;
        let mut move_seat = |seat: u32, allowed: &dyn Fn(Holder) -> bool, to: Holder| {
            let timeline = seats.get_mut(seat as usize);
            let timeline = timeline.ok_or_else(|| format!("there is no seat {seat}"))?;
            let from = timeline.now().unwrap_or(Holder::Nobody);
            if !allowed(from) {
                return Err(format!(
                    "seat {seat} of {event_id} goes from {from:?} to {to:?}"
                ));
            }
            timeline.set(index, to);
            Ok(())
        };
        match change {
            C::EventCreated { .. } => {}
            C::SeatsHeld {
                hold_id: hold,
                buyer,
                seats,
                expires_at: until,
                ..
            } => {
                let to = Holder::Held {
                    hold: *hold,
                    buyer: *buyer,
                    until: *until,
                };
                for seat in seats {
                    move_seat(*seat, &|from| from == Holder::Nobody, to)?;
                }
            }
            C::SeatsReleased {
                hold_id,
                seats,
                reason,
                ..
            } => {
                let expired = *reason == ReleaseReason::Expired;
                let is_due = |until: Timestamp| !expired || until <= batch.at;
                let allowed = |from| matches!(from, Holder::Held { hold, until, .. } if hold == *hold_id && is_due(until));
                for seat in seats {
                    move_seat(*seat, &allowed, Holder::Nobody)?;
                }
            }
            C::SeatsSold {
                hold_id,
                buyer: to,
                tickets,
                ..
            } => {
                let allowed = |from| matches!(from, Holder::Held { hold, buyer, .. } if hold == *hold_id && buyer == *to);
                for ticket in tickets {
                    move_seat(ticket.seat, &allowed, Holder::Sold)?;
                }
            }
        }
        Ok(())
    }

    fn take_auction(
        &mut self,
        batch: &ChangeBatch<Change>,
        change: &auction::Change,
    ) -> Result<(), String> {
        use auction::Change as C;
        let index = batch.index;
        if let C::AuctionCreated { auction, .. } = change {
            let standing = Standing {
                bids: 0,
                highest: None,
                minimum_next: auction.starting_price,
                ends_at: auction.end_time,
                has_ended: false,
            };
            let created = Timeline::new(index, standing);
            if self.auctions.insert(auction.auction_id, created).is_some() {
                return Err(format!("auction {} is created twice", auction.auction_id));
            }
            return Ok(());
        }
        let Some(auction_id) = change.auction_id() else {
            return Ok(());
        };
        let timeline = self.auctions.get_mut(&auction_id);
        let timeline = timeline.ok_or_else(|| format!("auction {auction_id} does not exist"))?;
        let mut standing = timeline
            .now()
            .ok_or_else(|| format!("auction {auction_id} has no state"))?;
        if standing.has_ended {
            return Err(format!(
                "auction {auction_id} has ended and goes on: {change:?}"
            ));
        }
        match change {
            C::BidPlaced {
                bidder,
                amount,
                minimum_next,
                bids,
                ..
            } => {
                let highest = standing.highest.map_or(i64::MIN, |(highest, _)| highest);
                let counts_on = *bids == standing.bids + 1;
                if *amount < standing.minimum_next || *amount <= highest || !counts_on {
                    return Err(format!(
                        "a bid below the rule after {standing:?}: {change:?}"
                    ));
                }
                standing.bids = *bids;
                standing.highest = Some((*amount, *bidder));
                standing.minimum_next = *minimum_next;
            }
            C::AuctionExtended { end_time, .. } => standing.ends_at = *end_time,
            C::AuctionEnded { outcome, .. } => {
                if batch.at < standing.ends_at {
                    return Err(format!(
                        "it ends at {} and not later: {standing:?}",
                        batch.at
                    ));
                }
                let winner = match outcome {
                    Outcome::Sold { winner, amount, .. } => Some((*amount, *winner)),
                    Outcome::NotSold { .. } => None,
                };
                // The simulated auctions have no reserve.
                if winner != standing.highest {
                    return Err(format!("{winner:?} wins after {standing:?}"));
                }
                standing.has_ended = true;
            }
            _ => {}
        }
        timeline.set(index, standing);
        Ok(())
    }
}
