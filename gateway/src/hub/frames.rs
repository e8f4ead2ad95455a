//! Changes as the messages that subscribers get.

use bytes::Bytes;
use grid_core::Cursor;
use processing_unit::box_office::SeatIndex;
use processing_unit::{Currency, auction};
use uuid::Uuid;

use crate::convert;
use crate::layout::EventLayout;
use crate::protocol::frame;
use crate::protocol::message::Topic;
use crate::protocol::view::HoldExpiredData;

/// The event of a change of an auction, for the person it concerns or for everybody else.
pub(super) fn auction_frame(
    change: &auction::Change,
    currency: Currency,
    cursor: Cursor,
    at_ms: u64,
    own: bool,
) -> Option<Bytes> {
    let topic = Topic::Auction(change.auction_id()?.0);
    let (kind, data) = convert::auction_event(change, currency, own)?;
    let cursor = Some(cursor.to_string());
    Some(frame::topic(kind, None, topic, &data, cursor, Some(at_ms)))
}

/// Tells a buyer that their hold has run out. It has no cursor: seats may have changed before it that
/// are told later.
pub(super) fn hold_expired_frame(
    event_id: Uuid,
    layout: &EventLayout,
    hold_id: Uuid,
    seats: &[SeatIndex],
) -> Bytes {
    let data = HoldExpiredData {
        hold_id,
        seats: seats.iter().map(|seat| layout.label(*seat)).collect(),
    };
    frame::topic(
        "hold_expired",
        None,
        Topic::Event(event_id),
        &data,
        None,
        None,
    )
}
