//! Bodies of HTTP requests.

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

/// `POST /v1/items`, and `item` of a new auction.
#[derive(Debug, Deserialize)]
pub(crate) struct ItemBody {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) description: String,
    #[serde(default)]
    pub(crate) category: String,
    #[serde(default)]
    pub(crate) images: Vec<String>,
}

/// A step of an increment table.
#[derive(Debug, Deserialize)]
pub(crate) struct IncrementBody {
    pub(crate) from: Box<RawValue>,
    pub(crate) increment: Box<RawValue>,
}

/// The extension rule.
#[derive(Debug, Deserialize)]
pub(crate) struct SoftCloseBody {
    pub(crate) window_s: u64,
    pub(crate) extend_s: u64,
    pub(crate) max_extensions: Option<u32>,
}

/// The withdrawal rule.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WithdrawalBody {
    #[default]
    Forbidden,
    WhileOpen,
}

/// `POST /v1/auctions`.
#[derive(Debug, Deserialize)]
pub(crate) struct AuctionBody {
    pub(crate) item_id: Option<Uuid>,
    pub(crate) item: Option<ItemBody>,
    pub(crate) title: Option<String>,
    #[serde(default)]
    pub(crate) category: String,
    pub(crate) currency: String,
    pub(crate) starting_price: Box<RawValue>,
    pub(crate) reserve_price: Option<Box<RawValue>>,
    pub(crate) increment: Option<Box<RawValue>>,
    pub(crate) increments: Option<Vec<IncrementBody>>,
    pub(crate) start_time: String,
    pub(crate) end_time: String,
    pub(crate) soft_close: Option<SoftCloseBody>,
    #[serde(default)]
    pub(crate) withdrawal: WithdrawalBody,
}

/// `POST /v1/auctions/{id}/bids`.
#[derive(Debug, Deserialize)]
pub(crate) struct BidBody {
    pub(crate) amount: Box<RawValue>,
}

/// A row's seats: how many, or their labels.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum RowSeatsBody {
    Count(u32),
    Labels(Vec<String>),
}

/// A row.
#[derive(Debug, Deserialize)]
pub(crate) struct RowBody {
    pub(crate) name: String,
    pub(crate) seats: RowSeatsBody,
}

/// A section.
#[derive(Debug, Deserialize)]
pub(crate) struct SectionBody {
    pub(crate) name: String,
    pub(crate) price: Box<RawValue>,
    pub(crate) rows: Vec<RowBody>,
}

/// `POST /v1/events`.
#[derive(Debug, Deserialize)]
pub(crate) struct EventBody {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) artist: String,
    #[serde(default)]
    pub(crate) venue: String,
    pub(crate) starts_at: String,
    pub(crate) on_sale_at: String,
    pub(crate) currency: String,
    pub(crate) max_seats_per_buyer: u32,
    pub(crate) hold_seconds: Option<u64>,
    pub(crate) sections: Vec<SectionBody>,
}

/// `POST /v1/events/{id}/holds`.
#[derive(Debug, Deserialize)]
pub(crate) struct HoldBody {
    pub(crate) seats: Option<Vec<String>>,
    pub(crate) section: Option<String>,
    pub(crate) quantity: Option<u32>,
    pub(crate) best_available: Option<bool>,
    /// Of the event's waiting room, if it has one.
    pub(crate) pass: Option<String>,
}

/// `POST /v1/events/{id}/holds/{hold_id}/confirm`.
#[derive(Debug, Deserialize)]
pub(crate) struct ConfirmBody {
    pub(crate) payment_reference: String,
}
