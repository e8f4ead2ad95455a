//! What clients get to see: replies, resources of the HTTP interface, data of events.

use serde::Serialize;
use uuid::Uuid;

use super::amount::MoneyView;
use crate::waiting::{QueueView, RoomStateView};

/// The data of a positive reply, the same over HTTP and WebSocket.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum ReplyData {
    Item {
        item_id: Uuid,
    },
    Auction {
        auction_id: Uuid,
        item_id: Uuid,
    },
    Status {
        status: &'static str,
    },
    Closed {
        status: &'static str,
        outcome: OutcomeView,
    },
    Bid {
        bid_id: Uuid,
        rank: u32,
        amount: MoneyView,
        minimum_next: MoneyView,
        end_time: String,
    },
    Event {
        event_id: Uuid,
        seats: u32,
    },
    Hold {
        hold_id: Uuid,
        seats: Vec<String>,
        total: MoneyView,
        expires_at: String,
    },
    Tickets {
        tickets: Vec<TicketView>,
    },
    Released {
        released: u32,
    },
    Queue(Box<QueueView>),
    Room(Box<RoomStateView>),
    RoomChanged {
        phase: &'static str,
        paused: bool,
    },
    Pong {
        timestamp: u64,
    },
    Empty {},
}

/// How an auction ended.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum OutcomeView {
    Sold {
        sold: bool,
        winner: String,
        amount: MoneyView,
        bid_id: Uuid,
    },
    NotSold {
        sold: bool,
        reason: &'static str,
    },
}

/// A sold seat, with the code that is printed on it.
#[derive(Debug, Serialize)]
pub(crate) struct TicketView {
    pub(crate) ticket_id: Uuid,
    pub(crate) seat: String,
    pub(crate) price: MoneyView,
    pub(crate) code: String,
}

/// The rule that extends an auction.
#[derive(Debug, Serialize)]
pub(crate) struct SoftCloseView {
    pub(crate) window_s: u64,
    pub(crate) extend_s: u64,
    pub(crate) max_extensions: u32,
}

/// A step of an increment table.
#[derive(Debug, Serialize)]
pub(crate) struct IncrementView {
    pub(crate) from: MoneyView,
    pub(crate) increment: MoneyView,
}

/// An auction. `reserve_price` is there for its host only.
#[derive(Debug, Serialize)]
pub(crate) struct AuctionView {
    pub(crate) auction_id: Uuid,
    pub(crate) item_id: Uuid,
    pub(crate) host_id: Uuid,
    pub(crate) title: String,
    pub(crate) category: String,
    pub(crate) currency: String,
    pub(crate) status: &'static str,
    pub(crate) starting_price: MoneyView,
    pub(crate) current_price: Option<MoneyView>,
    pub(crate) minimum_next: MoneyView,
    pub(crate) increments: Vec<IncrementView>,
    pub(crate) bids: u32,
    pub(crate) leader: Option<String>,
    pub(crate) reserve_met: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reserve_price: Option<MoneyView>,
    pub(crate) start_time: String,
    pub(crate) end_time: String,
    pub(crate) extensions: u32,
    pub(crate) soft_close: Option<SoftCloseView>,
    pub(crate) withdrawal: &'static str,
    pub(crate) outcome: Option<OutcomeView>,
}

/// A bid of the public history.
#[derive(Debug, Serialize)]
pub(crate) struct BidView {
    pub(crate) number: u64,
    pub(crate) bid_id: Uuid,
    pub(crate) user_id: String,
    pub(crate) amount: MoneyView,
    pub(crate) at: String,
    pub(crate) withdrawn: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) own: bool,
}

/// A bidder's own bid.
#[derive(Debug, Serialize)]
pub(crate) struct OwnBidView {
    pub(crate) auction_id: Uuid,
    pub(crate) status: &'static str,
    pub(crate) leads: bool,
    pub(crate) number: u64,
    pub(crate) bid_id: Uuid,
    pub(crate) amount: MoneyView,
    pub(crate) at: String,
    pub(crate) withdrawn: bool,
}

/// How a section stands.
#[derive(Debug, Serialize)]
pub(crate) struct SectionView {
    pub(crate) name: String,
    pub(crate) price: MoneyView,
    pub(crate) total: u32,
    pub(crate) available: u32,
    pub(crate) held: u32,
    pub(crate) sold: u32,
}

/// An event.
#[derive(Debug, Serialize)]
pub(crate) struct EventView {
    pub(crate) event_id: Uuid,
    pub(crate) host_id: Uuid,
    pub(crate) name: String,
    pub(crate) artist: String,
    pub(crate) venue: String,
    pub(crate) starts_at: String,
    pub(crate) on_sale_at: String,
    pub(crate) currency: String,
    pub(crate) max_seats_per_buyer: u32,
    pub(crate) hold_seconds: u64,
    pub(crate) seats: u32,
    pub(crate) sections: Vec<SectionView>,
}

/// Counts by section.
#[derive(Debug, Serialize)]
pub(crate) struct OverviewView {
    pub(crate) event_id: Uuid,
    pub(crate) sections: Vec<SectionView>,
}

/// Every seat of a section: `states` has one letter a seat (`a`vailable, `h`eld, `s`old), in the
/// order of `labels`.
#[derive(Debug, Serialize)]
pub(crate) struct SeatsView {
    pub(crate) event_id: Uuid,
    pub(crate) section: String,
    pub(crate) states: String,
    pub(crate) labels: Vec<String>,
}

/// A buyer's open hold.
#[derive(Debug, Serialize)]
pub(crate) struct HoldView {
    pub(crate) event_id: Uuid,
    pub(crate) hold_id: Uuid,
    pub(crate) seats: Vec<String>,
    pub(crate) total: MoneyView,
    pub(crate) expires_at: String,
}

/// A buyer's ticket.
#[derive(Debug, Serialize)]
pub(crate) struct OwnTicketView {
    pub(crate) event_id: Uuid,
    pub(crate) payment_reference: String,
    #[serde(flatten)]
    pub(crate) ticket: TicketView,
}

/// A ticket for verification at the door.
#[derive(Debug, Serialize)]
pub(crate) struct TicketRowView {
    pub(crate) ticket_id: Uuid,
    pub(crate) seat: String,
    pub(crate) seat_index: u32,
    pub(crate) hold_id: Uuid,
    pub(crate) buyer_id: Uuid,
    pub(crate) price: MoneyView,
    pub(crate) code: String,
}

/// The data of an auction's event.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum AuctionEventData {
    Started {
        start_time: String,
    },
    BidPlaced {
        bid_id: Uuid,
        user_id: String,
        amount: MoneyView,
        current_price: MoneyView,
        minimum_next: MoneyView,
        bids: u32,
        reserve_met: bool,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        own: bool,
    },
    BidWithdrawn {
        bid_id: Uuid,
        user_id: String,
        current_price: Option<MoneyView>,
        minimum_next: MoneyView,
        bids: u32,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        own: bool,
    },
    Extended {
        end_time: String,
        extensions: u32,
    },
    Ended {
        #[serde(flatten)]
        outcome: OutcomeView,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        own: bool,
    },
    Cancelled {},
}

/// A section in a seat update.
#[derive(Debug, Serialize)]
pub(crate) struct SectionUpdate<'a> {
    pub(crate) name: &'a str,
    pub(crate) available: u32,
    pub(crate) held: u32,
    pub(crate) sold: u32,
}

/// The data of `seats_changed`: the sections and the seats that changed, with where they stand now.
#[derive(Debug, Serialize)]
pub(crate) struct SeatsChangedData<'a> {
    pub(crate) sections: Vec<SectionUpdate<'a>>,
    pub(crate) seats: Vec<(&'a str, &'static str)>,
}

/// A section in an event's snapshot.
#[derive(Debug, Serialize)]
pub(crate) struct SectionSnapshot<'a> {
    pub(crate) name: &'a str,
    pub(crate) price: MoneyView,
    pub(crate) total: u32,
    pub(crate) available: u32,
    pub(crate) held: u32,
    pub(crate) sold: u32,
    /// One letter a seat, in the layout's order.
    pub(crate) states: &'a str,
}

/// The data of an event's snapshot.
#[derive(Debug, Serialize)]
pub(crate) struct EventSnapshotData<'a> {
    pub(crate) name: &'a str,
    pub(crate) currency: &'a str,
    pub(crate) sections: Vec<SectionSnapshot<'a>>,
}

/// The data of `hold_expired`.
#[derive(Debug, Serialize)]
pub(crate) struct HoldExpiredData<'a> {
    pub(crate) hold_id: Uuid,
    pub(crate) seats: Vec<&'a str>,
}

/// One page of a list.
#[derive(Debug, Serialize)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    /// Give it as `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

impl<T> Page<T> {
    /// A page that may have `limit` items; a full one names the cursor of its last.
    pub(crate) fn of<C: ToString>(items: Vec<T>, limit: usize, cursor: impl Fn(&T) -> C) -> Self {
        let last = items.last().filter(|_| items.len() == limit);
        Self {
            next: last.map(|last| cursor(last).to_string()),
            items,
        }
    }
}

/// An item.
#[derive(Debug, Serialize)]
pub(crate) struct ItemView {
    pub(crate) item_id: Uuid,
    pub(crate) owner_id: Uuid,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) category: String,
    pub(crate) images: Vec<String>,
    /// Its unfinished auction.
    pub(crate) auction_id: Option<Uuid>,
}
