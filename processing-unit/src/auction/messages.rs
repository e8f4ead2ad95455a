//! What goes into and comes out of the auction space.

use grid_core::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{AuctionId, BidId, ItemId, UserId};
use crate::money::Currency;

/// The most steps in an increment table.
pub const INCREMENT_STEPS_MAX: usize = 32;
/// The most bids of one auction; the next is refused with [`Refusal::TooManyBids`].
pub const BIDS_MAX: usize = 1_000_000;
/// The longest name or title, in bytes.
pub const NAME_BYTES_MAX: usize = 300;
/// The longest description, in bytes.
pub const DESCRIPTION_BYTES_MAX: usize = 8_000;
/// The most images of an item.
pub const IMAGES_MAX: usize = 32;
/// The longest auction: a year, in milliseconds.
pub const DURATION_MS_MAX: u64 = 366 * 86_400_000;

/// Who acts, and with which rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The person.
    pub user: UserId,
    /// Whether they may act for any host (roles manager and admin).
    pub is_manager: bool,
}

/// An item as its owner describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewItem {
    /// Minted by the gateway.
    pub item_id: ItemId,
    /// Its name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// A category, free text.
    pub category: String,
    /// Addresses of pictures.
    pub images: Vec<String>,
}

/// One step of an increment table: from this price on, the next bid must be this much higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncrementStep {
    /// From this current price on, in minor units.
    pub from_price: i64,
    /// The least rise, in minor units, at least 1.
    pub increment: i64,
}

/// Extends the end when a bid comes late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoftClose {
    /// An accepted bid less than this before the end extends it.
    pub window_ms: u64,
    /// The new end is this long after the bid, never earlier than the old end.
    pub extend_ms: u64,
    /// How often it may be extended.
    pub max_extensions: u32,
}

/// Whether bids may be taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WithdrawalPolicy {
    /// No bid may be withdrawn.
    #[default]
    Forbidden,
    /// A bidder may withdraw while the auction is open; the highest remaining bid leads again.
    WhileOpen,
}

/// The item of a new auction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ItemChoice {
    /// One that exists.
    Existing(ItemId),
    /// One that is made with the auction.
    New(NewItem),
}

/// The terms of a new auction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewAuction {
    /// Minted by the gateway, in the item's slot.
    pub auction_id: AuctionId,
    /// What is sold.
    pub item: ItemChoice,
    /// Shown to bidders.
    pub title: String,
    /// A category, free text.
    pub category: String,
    /// The currency of every amount below.
    pub currency: Currency,
    /// The least first bid, minor units.
    pub starting_price: i64,
    /// Below this the auction ends unsold; never shown.
    pub reserve_price: Option<i64>,
    /// Ascending by `from_price`, the first from 0.
    pub increments: Vec<IncrementStep>,
    /// Opens by itself.
    pub start_time: Timestamp,
    /// Ends by itself.
    pub end_time: Timestamp,
    /// Extension rule, if any.
    pub soft_close: Option<SoftClose>,
    /// Withdrawal rule.
    pub withdrawal: WithdrawalPolicy,
}

/// A command to the auction space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the variants are named for what they do; fields as in NewAuction"
)]
pub enum Command {
    CreateItem {
        owner: UserId,
        item: Box<NewItem>,
    },
    CreateAuction {
        host: UserId,
        auction: Box<NewAuction>,
    },
    /// Opens a scheduled auction now; `start_time` becomes now.
    Start {
        auction_id: AuctionId,
        by: Actor,
    },
    /// Ends an open auction now, with a winner if the rule gives one.
    Close {
        auction_id: AuctionId,
        by: Actor,
    },
    /// Ends an unfinished auction without a winner.
    Cancel {
        auction_id: AuctionId,
        by: Actor,
    },
    PlaceBid {
        auction_id: AuctionId,
        bidder: UserId,
        amount: i64,
    },
    WithdrawBid {
        auction_id: AuctionId,
        bid_id: BidId,
        by: Actor,
    },
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the variants mirror the commands")]
pub enum Reply {
    ItemCreated {
        item_id: ItemId,
    },
    AuctionCreated {
        auction_id: AuctionId,
        item_id: ItemId,
    },
    Started,
    Closed {
        outcome: Outcome,
    },
    Cancelled,
    /// `rank` is 1: an accepted bid leads. `end_time` is the end after a possible extension.
    BidPlaced {
        bid_id: BidId,
        amount: i64,
        rank: u32,
        minimum_next: i64,
        end_time: Timestamp,
    },
    BidWithdrawn,
}

/// Why nothing was done. Each maps to one stable code of the client protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Refusal {
    #[error("there is no such auction")]
    AuctionNotFound,
    #[error("there is no such item")]
    ItemNotFound,
    #[error("there is no such bid")]
    BidNotFound,
    /// The id is taken (a gateway minted it twice, or it was chosen by hand).
    #[error("the id is in use")]
    IdInUse,
    #[error("the item already has an unfinished auction")]
    ItemAlreadyOnAuction { auction_id: AuctionId },
    #[error("the auction is not open for bids")]
    NotOpen { status: Status },
    #[error("the auction cannot be started, it is not scheduled")]
    NotScheduled { status: Status },
    #[error("the bid is below the minimum")]
    BidTooLow { minimum: i64 },
    #[error("your own bid leads already")]
    OwnBidLeads,
    #[error("only the host may do that")]
    Forbidden,
    #[error("the host may not bid in their own auction")]
    HostMayNotBid,
    #[error("bids of this auction may not be withdrawn")]
    WithdrawalForbidden,
    #[error("the auction has reached its number of bids")]
    TooManyBids,
    /// Terms that make no sense; the text names the field.
    #[error("{0}")]
    Invalid(String),
}

/// How an auction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain names")]
pub enum Outcome {
    Sold {
        bid_id: BidId,
        winner: UserId,
        alias: u32,
        amount: i64,
    },
    NotSold {
        reason: NotSoldReason,
    },
}

/// Why an auction ended without a winner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotSoldReason {
    /// Nobody bid (or every bid was withdrawn).
    NoBids,
    /// The highest bid was below the reserve.
    ReserveNotMet,
    /// The host passed the lot.
    Passed,
}

/// Where an auction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain names")]
pub enum Status {
    Scheduled,
    Open,
    Ended,
    Cancelled,
}

/// A fact about auctions, in the order of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the variants are named for what happened")]
pub enum Change {
    ItemCreated {
        owner: UserId,
        item: Box<NewItem>,
    },
    /// `item_id` stands for `auction.item`; a new item was announced by its own change before.
    AuctionCreated {
        host: UserId,
        item_id: ItemId,
        auction: Box<NewAuction>,
    },
    AuctionStarted {
        auction_id: AuctionId,
        start_time: Timestamp,
    },
    /// `bids` counts the accepted bids that stand. `alias` is the bidder's number in this auction.
    BidPlaced {
        auction_id: AuctionId,
        bid_id: BidId,
        bidder: UserId,
        alias: u32,
        amount: i64,
        minimum_next: i64,
        bids: u32,
        reserve_met: bool,
    },
    /// `current_price` is the highest remaining bid.
    BidWithdrawn {
        auction_id: AuctionId,
        bid_id: BidId,
        bidder: UserId,
        alias: u32,
        current_price: Option<i64>,
        minimum_next: i64,
        bids: u32,
    },
    AuctionExtended {
        auction_id: AuctionId,
        end_time: Timestamp,
        extensions: u32,
    },
    AuctionEnded {
        auction_id: AuctionId,
        outcome: Outcome,
    },
    AuctionCancelled {
        auction_id: AuctionId,
    },
}

impl Change {
    /// The auction the change is about; `None` for changes of items.
    #[must_use]
    pub fn auction_id(&self) -> Option<AuctionId> {
        match self {
            Self::ItemCreated { .. } => None,
            Self::AuctionCreated { auction, .. } => Some(auction.auction_id),
            Self::AuctionStarted { auction_id, .. }
            | Self::BidPlaced { auction_id, .. }
            | Self::BidWithdrawn { auction_id, .. }
            | Self::AuctionExtended { auction_id, .. }
            | Self::AuctionEnded { auction_id, .. }
            | Self::AuctionCancelled { auction_id } => Some(*auction_id),
        }
    }
}

/// A question to the auction space. Lists are ascending by id, after `after`, at most `limit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain names")]
pub enum Query {
    Item {
        item_id: ItemId,
    },
    Auction {
        auction_id: AuctionId,
    },
    Auctions {
        status: Option<Status>,
        category: Option<String>,
        /// A part of the title, case-insensitive.
        text: Option<String>,
        after: Option<AuctionId>,
        limit: usize,
    },
    /// Newest first; `before` is the number (from 1) of the oldest bid already seen.
    Bids {
        auction_id: AuctionId,
        before: Option<u64>,
        limit: usize,
    },
    /// A bidder's own bids over all auctions of the partition, newest first.
    BidsOf {
        bidder: UserId,
        limit: usize,
    },
    /// The number of auctions and of bids in the partition.
    Totals,
}

/// An answer to a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain names")]
pub enum Answer {
    Item(Option<ItemView>),
    Auction(Option<Box<AuctionView>>),
    Auctions(Vec<AuctionView>),
    Bids(Option<Vec<BidView>>),
    BidsOf(Vec<OwnBidView>),
    Totals { auctions: u64, bids: u64 },
}

/// An item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as in NewItem")]
pub struct ItemView {
    pub owner: UserId,
    pub item: NewItem,
    pub active_auction: Option<AuctionId>,
}

/// An auction with where it stands. The reserve itself is for its host only; the gateway hides it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as in NewAuction")]
pub struct AuctionView {
    pub host: UserId,
    pub item_id: ItemId,
    pub terms: NewAuction,
    pub status: Status,
    /// The effective end, extensions included.
    pub end_time: Timestamp,
    pub extensions: u32,
    pub current_price: Option<i64>,
    /// The least amount of the next bid.
    pub minimum_next: i64,
    /// The standing bids' count.
    pub bids: u32,
    pub leader_alias: Option<u32>,
    pub leader: Option<UserId>,
    /// `None` when there is no reserve.
    pub reserve_met: Option<bool>,
    pub outcome: Option<Outcome>,
}

/// A bid of an auction's public history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain names")]
pub struct BidView {
    /// From 1, in the order of acceptance.
    pub number: u64,
    pub bid_id: BidId,
    pub bidder: UserId,
    pub alias: u32,
    pub amount: i64,
    pub at: Timestamp,
    pub withdrawn: bool,
}

/// A bidder's own bid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain names")]
pub struct OwnBidView {
    pub auction_id: AuctionId,
    pub currency: Currency,
    pub status: Status,
    pub leads: bool,
    pub bid: BidView,
}
