//! What subscribers of an auction are told of its changes, and what an event's changes mean for its
//! seats.

use processing_unit::auction::{Change, Outcome};
use processing_unit::box_office::{self, SeatIndex};
use processing_unit::{Currency, UserId};

use super::values::{alias, money, time};
use super::views::outcome;
use crate::protocol::view::AuctionEventData as Data;

/// Whom a change concerns in person: their event is marked as their own.
pub(crate) fn owner(change: &Change) -> Option<UserId> {
    match change {
        Change::BidPlaced { bidder, .. } | Change::BidWithdrawn { bidder, .. } => Some(*bidder),
        Change::AuctionEnded {
            outcome: Outcome::Sold { winner, .. },
            ..
        } => Some(*winner),
        _ => None,
    }
}

/// A change as an event: its type and data, as its owner gets it or as everybody else does. `None` for
/// changes that no subscriber is told.
pub(crate) fn auction_event(
    change: &Change,
    currency: Currency,
    own: bool,
) -> Option<(&'static str, Data)> {
    Some(match change {
        Change::ItemCreated { .. } | Change::AuctionCreated { .. } => return None,
        Change::AuctionStarted { start_time, .. } => (
            "auction_started",
            Data::Started {
                start_time: time(*start_time),
            },
        ),
        Change::BidPlaced {
            bid_id,
            alias: number,
            amount,
            minimum_next,
            bids,
            reserve_met,
            ..
        } => (
            "bid_placed",
            Data::BidPlaced {
                bid_id: bid_id.0,
                user_id: alias(*number),
                amount: money(*amount, currency),
                current_price: money(*amount, currency),
                minimum_next: money(*minimum_next, currency),
                bids: *bids,
                reserve_met: *reserve_met,
                own,
            },
        ),
        Change::BidWithdrawn {
            bid_id,
            alias: number,
            current_price,
            minimum_next,
            bids,
            ..
        } => (
            "bid_withdrawn",
            Data::BidWithdrawn {
                bid_id: bid_id.0,
                user_id: alias(*number),
                current_price: current_price.map(|price| money(price, currency)),
                minimum_next: money(*minimum_next, currency),
                bids: *bids,
                own,
            },
        ),
        Change::AuctionExtended {
            end_time,
            extensions,
            ..
        } => (
            "auction_extended",
            Data::Extended {
                end_time: time(*end_time),
                extensions: *extensions,
            },
        ),
        Change::AuctionEnded { outcome: ended, .. } => (
            "auction_ended",
            Data::Ended {
                outcome: outcome(ended, currency),
                own,
            },
        ),
        Change::AuctionCancelled { .. } => ("auction_cancelled", Data::Cancelled {}),
    })
}

/// Shows each seat that a change of an event touches with the letter of its new state.
pub(crate) fn each_seat(change: &box_office::Change, mut visit: impl FnMut(SeatIndex, u8)) {
    match change {
        box_office::Change::EventCreated { .. } => {}
        box_office::Change::SeatsHeld { seats, .. } => {
            seats.iter().for_each(|seat| visit(*seat, b'h'));
        }
        box_office::Change::SeatsReleased { seats, .. } => {
            seats.iter().for_each(|seat| visit(*seat, b'a'));
        }
        box_office::Change::SeatsSold { tickets, .. } => {
            tickets.iter().for_each(|sold| visit(sold.seat, b's'));
        }
    }
}
