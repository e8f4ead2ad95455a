//! Where domain types and wire types meet; nowhere else. (Refusals, which are on neither side, become
//! failures in [`crate::refusals`].)

mod events;
mod terms;
mod values;
mod views;

pub(crate) use events::{auction_event, each_seat, owner};
pub(crate) use terms::{new_auction, new_event, new_item};
pub(crate) use values::{minor, money, room_time, seat_state, status, status_from, time};
pub(crate) use views::{
    auction, bid, event, hold, item, outcome, own_bid, own_ticket, sections, ticket, ticket_row,
};
