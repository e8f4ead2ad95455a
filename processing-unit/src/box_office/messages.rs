//! What goes into and comes out of the box-office space.

use grid_core::Timestamp;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::ids::{EventId, HoldId, TicketId, UserId};
use crate::money::Currency;

/// How long a hold lasts unless the event says otherwise: 300 s.
pub const HOLD_MS_DEFAULT: u64 = 300_000;
/// The longest hold an event may set: a day.
pub const HOLD_MS_MAX: u64 = 86_400_000;
/// The most seats of an event.
pub const SEATS_MAX: usize = 200_000;
/// The most sections of an event.
pub const SECTIONS_MAX: usize = 1_000;
/// The most seats that one request may ask for.
pub const SEATS_PER_REQUEST_MAX: usize = 100;
/// The longest name of an event, an artist or a venue, in bytes.
pub const NAME_BYTES_MAX: usize = 300;
/// The longest name of a section, row or seat, in bytes.
pub const LABEL_BYTES_MAX: usize = 32;
/// The longest payment reference, in bytes.
pub const PAYMENT_REFERENCE_BYTES_MAX: usize = 128;

/// A seat's place in the event's layout: sections, rows and seats in their given order, from 0.
pub type SeatIndex = u32;

/// A row's seats as the venue describes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RowSeats {
    /// Numbered from 1.
    Count(u32),
    /// Named one by one, in their order along the row.
    Labels(Vec<String>),
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain names")]
pub struct Row {
    /// Without `-`, unique in its section.
    pub name: String,
    pub seats: RowSeats,
}

/// A section: one price, rows from best to worst.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain names")]
pub struct Section {
    /// Unique in the event.
    pub name: String,
    /// Minor units of the event's currency.
    pub price: i64,
    pub rows: Vec<Row>,
}

/// A new event with its seats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain names")]
pub struct NewEvent {
    /// Minted by the gateway.
    pub event_id: EventId,
    pub name: String,
    pub artist: String,
    pub venue: String,
    pub starts_at: Timestamp,
    /// Nothing is held before this.
    pub on_sale_at: Timestamp,
    pub currency: Currency,
    /// Held and sold together.
    pub max_seats_per_buyer: u32,
    pub hold_ms: u64,
    /// From best to worst.
    pub sections: Vec<Section>,
}

/// A command to the box office.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the variants are named for what they do")]
pub enum Command {
    CreateEvent {
        host: UserId,
        event: Box<NewEvent>,
    },
    /// Seats by label, `SECTION-ROW-NUMBER`; all or nothing.
    HoldSeats {
        event_id: EventId,
        buyer: UserId,
        seats: Vec<String>,
    },
    /// `section` restricts the choice.
    HoldBestAvailable {
        event_id: EventId,
        buyer: UserId,
        section: Option<String>,
        quantity: u32,
    },
    Confirm {
        event_id: EventId,
        hold_id: HoldId,
        buyer: UserId,
        payment_reference: String,
    },
    Release {
        event_id: EventId,
        hold_id: HoldId,
        buyer: UserId,
    },
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the variants mirror the commands")]
pub enum Reply {
    EventCreated {
        event_id: EventId,
        seats: u32,
    },
    Held {
        hold_id: HoldId,
        /// Labels, in the layout's order.
        seats: Vec<String>,
        /// The sum of the prices, minor units.
        total: i64,
        currency: Currency,
        expires_at: Timestamp,
    },
    Confirmed {
        currency: Currency,
        tickets: Vec<TicketView>,
    },
    Released {
        seats: u32,
    },
}

/// A ticket: one sold seat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain names")]
pub struct TicketView {
    pub ticket_id: TicketId,
    pub seat: String,
    pub price: i64,
}

/// Why nothing was done. Each maps to one stable code of the client protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Refusal {
    #[error("there is no such event")]
    EventNotFound,
    #[error("the id is in use")]
    IdInUse,
    /// A label that this event does not have (also a seat of another event).
    #[error("the event has no such seat")]
    SeatNotFound { seats: Vec<String> },
    #[error("the event has no such section")]
    SectionNotFound,
    #[error("a seat is taken")]
    SeatTaken { seats: Vec<String> },
    #[error("the sale is not open yet")]
    OnSaleClosed { on_sale_at: Timestamp },
    #[error("the buyer may not have more seats of this event")]
    TooManySeats { limit: u32, has: u32 },
    #[error("there are not that many seats side by side")]
    NotEnoughSeats { available: u32 },
    #[error("there is no such hold")]
    HoldNotFound,
    #[error("the hold has expired")]
    HoldExpired,
    /// A request or terms that make no sense; the text names the field.
    #[error("{0}")]
    Invalid(String),
    /// The buyer has no open pass. The unit says so, which knows the rooms; since
    /// [`crate::RULES_WAITING_ROOM`].
    #[error("the event has a waiting room: join it, and hold seats when you are admitted")]
    WaitingRoomRequired,
}

/// Why a hold's seats came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain names")]
pub enum ReleaseReason {
    Released,
    Expired,
}

/// A fact about an event's seats, in the order of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the variants are named for what happened")]
pub enum Change {
    EventCreated {
        host: UserId,
        event: Box<NewEvent>,
    },
    SeatsHeld {
        event_id: EventId,
        hold_id: HoldId,
        buyer: UserId,
        seats: SmallVec<[SeatIndex; 4]>,
        expires_at: Timestamp,
    },
    SeatsReleased {
        event_id: EventId,
        hold_id: HoldId,
        buyer: UserId,
        seats: SmallVec<[SeatIndex; 4]>,
        reason: ReleaseReason,
    },
    SeatsSold {
        event_id: EventId,
        hold_id: HoldId,
        buyer: UserId,
        payment_reference: Box<str>,
        tickets: Box<[SoldSeat]>,
    },
}

impl Change {
    /// The event the change is about.
    #[must_use]
    pub fn event_id(&self) -> EventId {
        match self {
            Self::EventCreated { event, .. } => event.event_id,
            Self::SeatsHeld { event_id, .. }
            | Self::SeatsReleased { event_id, .. }
            | Self::SeatsSold { event_id, .. } => *event_id,
        }
    }
}

/// A seat that became a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain names")]
pub struct SoldSeat {
    pub ticket_id: TicketId,
    pub seat: SeatIndex,
    pub price: i64,
}

/// A question to the box office. Lists are ascending by id, after `after`, at most `limit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain names")]
pub enum Query {
    Event {
        event_id: EventId,
    },
    Events {
        text: Option<String>,
        after: Option<EventId>,
        limit: usize,
    },
    /// The whole layout, which never changes; for whoever turns seat indexes into labels.
    Layout {
        event_id: EventId,
    },
    /// Counts by section.
    Overview {
        event_id: EventId,
    },
    /// Every seat's state, of one section or of all.
    Seats {
        event_id: EventId,
        section: Option<String>,
    },
    /// A buyer's open holds in the partition.
    HoldsOf {
        buyer: UserId,
        limit: usize,
    },
    /// A buyer's tickets in the partition.
    TicketsOf {
        buyer: UserId,
        limit: usize,
    },
    /// All tickets of an event, by seat; for verification.
    Tickets {
        event_id: EventId,
        after: Option<SeatIndex>,
        limit: usize,
    },
}

/// An answer to a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain names")]
pub enum Answer {
    Event(Option<EventView>),
    Events(Vec<EventView>),
    Layout(Option<NewEvent>),
    Overview(Option<Vec<SectionCount>>),
    Seats(Option<SeatStates>),
    HoldsOf(Vec<HoldView>),
    TicketsOf(Vec<OwnTicketView>),
    Tickets(Option<Vec<TicketRow>>),
}

/// An event without its seats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as in NewEvent")]
pub struct EventView {
    pub event_id: EventId,
    pub host: UserId,
    pub name: String,
    pub artist: String,
    pub venue: String,
    pub starts_at: Timestamp,
    pub on_sale_at: Timestamp,
    pub currency: Currency,
    pub max_seats_per_buyer: u32,
    pub hold_ms: u64,
    pub seats: u32,
    pub sections: Vec<SectionCount>,
}

/// How a section stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain names")]
pub struct SectionCount {
    pub name: String,
    pub price: i64,
    pub total: u32,
    pub available: u32,
    pub held: u32,
    pub sold: u32,
}

/// The states of a run of seats in the layout's order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatStates {
    /// The index of the first.
    pub first: SeatIndex,
    /// One byte a seat: `a`vailable, `h`eld, `s`old.
    #[serde(with = "serde_bytes")]
    pub states: Vec<u8>,
    /// The labels in the same order.
    pub labels: Vec<String>,
}

/// A buyer's hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain names")]
pub struct HoldView {
    pub event_id: EventId,
    pub hold_id: HoldId,
    pub seats: Vec<String>,
    pub total: i64,
    pub currency: Currency,
    pub expires_at: Timestamp,
}

/// A buyer's ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain names")]
pub struct OwnTicketView {
    pub event_id: EventId,
    pub currency: Currency,
    pub payment_reference: String,
    pub ticket: TicketView,
}

/// A ticket for verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain names")]
pub struct TicketRow {
    pub seat_index: SeatIndex,
    pub seat: String,
    pub ticket_id: TicketId,
    pub hold_id: HoldId,
    pub buyer: UserId,
    pub price: i64,
}
