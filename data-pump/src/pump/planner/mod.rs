//! The planner: changes in log order to rows. Pure; it knows neither SQL nor the database's state.
//!
//! Splitting a run of changes anywhere and planning the parts one after the other means the same as
//! planning it whole; the writer relies on that to single out a change that the database refuses.

mod auction;
mod box_office;

use std::borrow::Cow;

use grid_core::{ChangeBatch, Timestamp};
use processing_unit::Change;
use uuid::Uuid;

use super::rows::{ChangeRow, Millis, RowSets};
use crate::audit::canonical_json;

/// The end of the year 9999: what lies beyond is written as this, since the database's calendar ends.
const TIME_MAX: Millis = 253_402_300_799_999;

/// A change with its place in the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlacedChange<'a> {
    pub(super) log_index: u64,
    pub(super) seq: u32,
    pub(super) at: Timestamp,
    pub(super) change: &'a Change,
}

/// The changes of an entry with their places.
pub(super) fn placed(batch: &ChangeBatch<Change>) -> impl Iterator<Item = PlacedChange<'_>> {
    (0u32..)
        .zip(&batch.changes)
        .map(|(seq, change)| PlacedChange {
            log_index: batch.index,
            seq,
            at: batch.at,
            change,
        })
}

/// The rows of a run of changes.
pub(super) fn plan(changes: &[PlacedChange<'_>]) -> RowSets {
    let mut rows = RowSets::default();
    rows.changes.reserve(changes.len());
    for placed in changes {
        rows.changes.push(change_row(placed));
        match placed.change {
            Change::Auction(change) => auction::plan_auction(&mut rows, placed, change),
            Change::BoxOffice(change) => box_office::plan_box_office(&mut rows, placed, change),
            // Views read them from the log of changes.
            Change::WaitingRoom(_) => {}
        }
    }
    rows
}

/// The row of the change itself.
pub(super) fn change_row(placed: &PlacedChange<'_>) -> ChangeRow {
    let (kind, entity) = kind_and_entity(placed.change);
    ChangeRow {
        log_index: version(placed),
        seq: int(placed.seq),
        at: millis(placed.at),
        kind,
        entity,
        payload: json(placed.change),
    }
}

/// What a change is about: an auction, an event, an item. Its changes are written in order.
pub(super) fn entity(change: &Change) -> Uuid {
    kind_and_entity(change).1
}

pub(crate) fn kind_and_entity(change: &Change) -> (&'static str, Uuid) {
    match change {
        Change::Auction(change) => {
            use processing_unit::auction::Change as C;
            let kind = match change {
                C::ItemCreated { item, .. } => return ("item_created", item.item_id.0),
                C::AuctionCreated { .. } => "auction_created",
                C::AuctionStarted { .. } => "auction_started",
                C::BidPlaced { .. } => "bid_placed",
                C::BidWithdrawn { .. } => "bid_withdrawn",
                C::AuctionExtended { .. } => "auction_extended",
                C::AuctionEnded { .. } => "auction_ended",
                C::AuctionCancelled { .. } => "auction_cancelled",
            };
            (kind, change.auction_id().map_or(Uuid::nil(), |id| id.0))
        }
        Change::BoxOffice(change) => {
            use processing_unit::box_office::Change as C;
            let kind = match change {
                C::EventCreated { .. } => "event_created",
                C::SeatsHeld { .. } => "seats_held",
                C::SeatsReleased { .. } => "seats_released",
                C::SeatsSold { .. } => "seats_sold",
            };
            (kind, change.event_id().0)
        }
        Change::WaitingRoom(change) => {
            use processing_unit::waiting_room::Change as C;
            let kind = match change {
                C::RoomCreated { .. } => "room_created",
                C::Joined { .. } => "room_joined",
                C::Left { .. } => "room_left",
                C::Sealed { .. } => "room_sealed",
                C::Opened { .. } => "room_opened",
                C::Admitted { .. } => "room_admitted",
                C::PassesExpired { .. } => "room_passes_expired",
                C::PassEnded { .. } => "room_pass_ended",
                C::Paused { .. } => "room_paused",
                C::Resumed { .. } => "room_resumed",
                C::RateChanged { .. } => "room_rate_changed",
            };
            (kind, change.event_id().0)
        }
    }
}

fn version(placed: &PlacedChange<'_>) -> i64 {
    i64::try_from(placed.log_index).unwrap_or(i64::MAX)
}

fn millis(time: Timestamp) -> Millis {
    Millis::try_from(time.as_millis()).map_or(TIME_MAX, |millis| millis.min(TIME_MAX))
}

fn int(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn digits(number: u32) -> i16 {
    i16::try_from(number).unwrap_or(i16::MAX)
}

/// A text as the database can hold it: PostgreSQL has no NUL character.
fn text(text: &str) -> String {
    without_nul(text).into_owned()
}

fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// A value's own JSON, from which it can be read back, in canonical form and without NUL characters.
fn json<T: serde::Serialize>(value: &T) -> String {
    let mut json = serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned());
    if json.contains("\\u0000") {
        json = match serde_json::from_str(&json) {
            Ok(mut value) => {
                clean(&mut value);
                value.to_string()
            }
            Err(_) => "null".to_owned(),
        };
    }
    canonical_json(&json).unwrap_or(json)
}

fn clean(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => {
            if let Cow::Owned(clean) = without_nul(text) {
                *text = clean;
            }
        }
        serde_json::Value::Array(values) => values.iter_mut().for_each(clean),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(clean),
        _ => {}
    }
}
