//! Changes as the messages that subscribers get.

use std::collections::BTreeSet;

use bytes::Bytes;
use grid_core::Cursor;
use processing_unit::box_office::{self, ReleaseReason, SeatIndex};
use processing_unit::{Currency, UserId, auction};
use uuid::Uuid;

use super::board::Board;
use crate::convert;
use crate::layout::EventLayout;
use crate::protocol::frame;
use crate::protocol::message::Topic;
use crate::protocol::view::HoldExpiredData;

/// The event of a change of an auction, for the person it concerns or for everybody else.
pub(crate) fn auction_frame(
    change: &auction::Change,
    currency: Currency,
    cursor: Cursor,
    at_ms: u64,
    own: bool,
) -> Option<Bytes> {
    let topic = Topic::Auction(change.auction_id()?.0);
    let (kind, data) = convert::auction_event(change, currency, own)?;
    let cursor = Some(cursor.to_string());
    Some(frame::topic(kind, topic, &data, cursor, Some(at_ms)))
}

/// Tells a buyer that their hold has run out, if that is what the change is. It has no cursor: seats may
/// have changed before it that are told later.
pub(crate) fn hold_expired_frame(
    change: &box_office::Change,
    layout: &EventLayout,
) -> Option<(UserId, Bytes)> {
    let box_office::Change::SeatsReleased {
        event_id,
        hold_id,
        buyer,
        seats,
        reason: ReleaseReason::Expired,
    } = change
    else {
        return None;
    };
    let data = HoldExpiredData {
        hold_id: hold_id.0,
        seats: seats.iter().map(|seat| layout.label(*seat)).collect(),
    };
    let of = Topic::Event(event_id.0);
    let frame = frame::topic("hold_expired", of, &data, None, None);
    Some((*buyer, frame))
}

/// Where these seats stand on the board, which has every change up to the cursor.
pub(crate) fn seats_frame(
    event_id: Uuid,
    board: &Board,
    seats: &BTreeSet<SeatIndex>,
    cursor: Cursor,
    at_ms: Option<u64>,
) -> Bytes {
    let of = Topic::Event(event_id);
    let update = board.update(seats);
    let cursor = Some(cursor.to_string());
    frame::topic("seats_changed", of, &update, cursor, at_ms)
}
