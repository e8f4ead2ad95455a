//! What a batch of changes means in rows: sets that the writer turns into one statement each.
//!
//! Updates are keyed by entity and hold the last value only, because one statement may not touch a
//! row twice; keys are ordered, so that two writers take locks in the same order.

use std::collections::BTreeMap;

use uuid::Uuid;

/// A time, in milliseconds since the Unix epoch, within what the database can hold.
pub(super) type Millis = i64;

/// The rows of a batch, in the order in which the writer writes the sets.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct RowSets {
    pub(super) changes: Vec<ChangeRow>,
    pub(super) items: Vec<ItemRow>,
    pub(super) auctions: Vec<AuctionRow>,
    pub(super) auction_updates: BTreeMap<Uuid, AuctionUpdate>,
    pub(super) bids: Vec<BidRow>,
    /// (auction, bid) to version.
    pub(super) bid_withdrawals: BTreeMap<(Uuid, Uuid), i64>,
    pub(super) events: Vec<EventRow>,
    pub(super) seats: Vec<SeatRow>,
    pub(super) seat_updates: BTreeMap<(Uuid, i32), SeatUpdate>,
    /// By (event, hold); one that also ended in the batch is written as ended.
    pub(super) holds: BTreeMap<(Uuid, Uuid), HoldRow>,
    /// Ends of earlier holds, by (event, hold).
    pub(super) hold_updates: BTreeMap<(Uuid, Uuid), HoldEnd>,
    pub(super) tickets: Vec<TicketRow>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChangeRow {
    pub(super) log_index: i64,
    pub(super) seq: i32,
    pub(super) at: Millis,
    pub(super) kind: &'static str,
    pub(super) entity: Uuid,
    /// Canonical JSON without NUL characters.
    pub(super) payload: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct ItemRow {
    pub(super) item_id: Uuid,
    pub(super) owner: Uuid,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) category: String,
    pub(super) images: String,
    pub(super) created_at: Millis,
    pub(super) version: i64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct AuctionRow {
    pub(super) auction_id: Uuid,
    pub(super) item_id: Uuid,
    pub(super) host: Uuid,
    pub(super) title: String,
    pub(super) category: String,
    pub(super) currency: String,
    pub(super) minor_digits: i16,
    pub(super) starting_price: i64,
    pub(super) reserve_price: Option<i64>,
    pub(super) start_time: Millis,
    pub(super) end_time: Millis,
    pub(super) created_at: Millis,
    pub(super) version: i64,
}

/// `None` leaves a column as it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct AuctionUpdate {
    pub(super) status: Option<&'static str>,
    pub(super) start_time: Option<Millis>,
    pub(super) end_time: Option<Millis>,
    pub(super) extensions: Option<i32>,
    pub(super) standing: Option<Standing>,
    pub(super) outcome: Option<OutcomeColumns>,
    pub(super) ended_at: Option<Millis>,
    pub(super) version: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) current_price: Option<i64>,
    pub(super) minimum_next: i64,
    pub(super) bids: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OutcomeColumns {
    pub(super) outcome: &'static str,
    /// Winner, bid, amount.
    pub(super) won: Option<(Uuid, Uuid, i64)>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct BidRow {
    pub(super) auction_id: Uuid,
    pub(super) bid_id: Uuid,
    pub(super) bidder: Uuid,
    pub(super) alias: i32,
    pub(super) amount: i64,
    pub(super) at: Millis,
    pub(super) log_index: i64,
    pub(super) seq: i32,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct EventRow {
    pub(super) event_id: Uuid,
    pub(super) host: Uuid,
    pub(super) name: String,
    pub(super) artist: String,
    pub(super) venue: String,
    pub(super) starts_at: Millis,
    pub(super) on_sale_at: Millis,
    pub(super) currency: String,
    pub(super) minor_digits: i16,
    pub(super) max_seats_per_buyer: i32,
    pub(super) hold_ms: i64,
    pub(super) seats: i32,
    pub(super) created_at: Millis,
    pub(super) version: i64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct SeatRow {
    pub(super) event_id: Uuid,
    pub(super) seat_index: i32,
    pub(super) section: String,
    pub(super) row_name: String,
    pub(super) label: String,
    pub(super) price: i64,
    pub(super) version: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SeatUpdate {
    pub(super) state: &'static str,
    pub(super) buyer: Option<Uuid>,
    pub(super) hold_id: Option<Uuid>,
    pub(super) ticket_id: Option<Uuid>,
    pub(super) version: i64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct HoldRow {
    pub(super) buyer: Uuid,
    pub(super) seats: i32,
    pub(super) expires_at: Millis,
    pub(super) created_at: Millis,
    pub(super) end: Option<HoldEnd>,
    pub(super) version: i64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct HoldEnd {
    pub(super) state: &'static str,
    pub(super) closed_at: Millis,
    pub(super) payment_reference: Option<String>,
    pub(super) version: i64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct TicketRow {
    pub(super) event_id: Uuid,
    pub(super) seat_index: i32,
    pub(super) ticket_id: Uuid,
    pub(super) hold_id: Uuid,
    pub(super) buyer: Uuid,
    pub(super) price: i64,
    pub(super) payment_reference: String,
    pub(super) sold_at: Millis,
    pub(super) log_index: i64,
    pub(super) seq: i32,
}
