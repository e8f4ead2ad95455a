//! What goes into and comes out of the waiting rooms.

use grid_core::Timestamp;
use serde::{Deserialize, Serialize};

use super::lottery::{Digest, Entropy, Pseudonym, Secret};
use crate::auction::Actor;
use crate::ids::{EventId, UserId};

/// The most entries of a room, those that left included, unless it says less: 500,000.
pub const ENTRIES_MAX: u32 = 500_000;
/// The fastest admission, in people a minute.
pub const RATE_PER_MINUTE_MAX: u32 = 240_000;
/// The shortest time that a pass may last, in ms.
pub const PASS_MS_MIN: u64 = 1_000;
/// The longest time that a pass may last: a day.
pub const PASS_MS_MAX: u64 = 86_400_000;
/// Passes for the unsold seats, in percent: at least as many as there are seats for...
pub const OVERSUBSCRIPTION_PERCENT_MIN: u32 = 100;
/// ... and at most ten times as many.
pub const OVERSUBSCRIPTION_PERCENT_MAX: u32 = 1_000;
/// Admissions are at least this far apart, in ms: one batch for all that fell due in between.
pub const ADMISSION_INTERVAL_MS: u64 = 250;
/// The most people in one batch.
pub const BATCH_MAX: u32 = 1_000;
/// Ranks that [`Marker::gone`] counts together.
pub const GONE_CHUNK_RANKS: u32 = 256;
/// The most rows of one answer to [`Query::Order`], and users of one [`Query::Places`].
pub const ROWS_MAX: usize = 1_000;

/// Who knows the lottery's secret before it is drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecretChoice {
    /// The grid keeps it and opens the room by itself.
    Kept(Secret),
    /// The host keeps it, and reveals it once the list is sealed.
    Withheld {
        /// Of the secret; see [`super::lottery::commitment`].
        commitment: Digest,
    },
}

/// A new room before an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain names")]
pub struct NewRoom {
    pub event_id: EventId,
    /// When the early ones are drawn and admission begins [default: when the sale does].
    pub opens_at: Option<Timestamp>,
    pub rate_per_minute: u32,
    /// How long a pass lasts.
    pub pass_ms: u64,
    /// Passes that may be open at a time, in percent of what the unsold seats suffice for.
    pub oversubscription_percent: u32,
    /// Entries beyond it are refused.
    pub entries_max: u32,
    pub secret: SecretChoice,
    /// Random, kept for ever: without it nobody tells whose pseudonym is whose.
    pub salt: Secret,
}

/// A command to a waiting room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the variants are named for what they do")]
pub enum Command {
    Create {
        by: Actor,
        room: Box<NewRoom>,
    },
    /// A user who waits or is admitted keeps their place.
    Join {
        event_id: EventId,
        user: UserId,
    },
    /// Gives the place or the pass back.
    Leave {
        event_id: EventId,
        user: UserId,
    },
    /// Seals the list of the early ones now, if that has not happened. A withheld secret is given in a second
    /// command, when the list is sealed.
    Open {
        event_id: EventId,
        by: Actor,
        secret: Option<Secret>,
    },
    Pause {
        event_id: EventId,
        by: Actor,
    },
    Resume {
        event_id: EventId,
        by: Actor,
    },
    SetRate {
        event_id: EventId,
        by: Actor,
        rate_per_minute: u32,
    },
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the variants mirror the commands")]
pub enum Reply {
    Created {
        commitment: Digest,
    },
    /// Also for who was there already.
    Joined(PlaceView),
    Left,
    Changed {
        phase: Phase,
        is_paused: bool,
    },
}

/// Why nothing was done. Each maps to one stable code of the client protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Refusal {
    #[error("there is no such event")]
    EventNotFound,
    #[error("the event has no waiting room")]
    RoomNotFound,
    #[error("the event has a waiting room already")]
    RoomExists,
    #[error("only the event's host or a manager may do this")]
    Forbidden,
    #[error("the waiting room is full")]
    RoomFull { limit: u32 },
    #[error("all seats are sold")]
    SoldOut,
    #[error("you are not in this waiting room")]
    NotInRoom,
    #[error("the room is open already")]
    AlreadyOpen,
    /// Whoever leads the partition must not know the secret when the entropy is drawn.
    #[error("the list is not sealed yet: open without the secret first, then reveal it")]
    NotSealed,
    #[error("the secret is not the one that was committed to")]
    WrongSecret,
    /// Terms that make no sense; the text names the field.
    #[error("{0}")]
    Invalid(String),
}

/// How far a room is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Whoever joins is among the early ones.
    Gathering,
    /// The list of the early ones is closed; the host's secret is awaited.
    Sealed,
    /// The order is known, people are admitted.
    Open,
}

/// A fact about a waiting room, in the order of the log. The secret is in none until it is revealed, and the
/// salt never.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the variants are named for what happened")]
pub enum Change {
    RoomCreated {
        event_id: EventId,
        by: UserId,
        opens_at: Timestamp,
        rate_per_minute: u32,
        pass_ms: u64,
        oversubscription_percent: u32,
        entries_max: u32,
        commitment: Digest,
    },
    Joined {
        event_id: EventId,
        user: UserId,
        number: u32,
    },
    Left {
        event_id: EventId,
        user: UserId,
        number: u32,
    },
    Sealed {
        event_id: EventId,
        early: u32,
        list_digest: Digest,
        entropy: Entropy,
    },
    Opened {
        event_id: EventId,
        secret: Secret,
        seed: Digest,
    },
    /// The ranks from `first_rank` up to and without `end_rank` got passes, those that had left aside.
    Admitted {
        event_id: EventId,
        first_rank: u32,
        end_rank: u32,
        passes: u32,
        expires_at: Timestamp,
    },
    /// Passes that were open to their end.
    PassesExpired {
        event_id: EventId,
        numbers: Box<[u32]>,
    },
    /// A pass that ended before its time.
    PassEnded {
        event_id: EventId,
        user: UserId,
        number: u32,
        reason: PassEnd,
    },
    Paused {
        event_id: EventId,
        by: UserId,
    },
    Resumed {
        event_id: EventId,
        by: UserId,
    },
    RateChanged {
        event_id: EventId,
        by: UserId,
        rate_per_minute: u32,
    },
}

/// Why a pass ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain names")]
pub enum PassEnd {
    Bought,
    GivenBack,
}

impl Change {
    /// The event that the room is for.
    #[must_use]
    pub fn event_id(&self) -> EventId {
        match self {
            Self::RoomCreated { event_id, .. }
            | Self::Joined { event_id, .. }
            | Self::Left { event_id, .. }
            | Self::Sealed { event_id, .. }
            | Self::Opened { event_id, .. }
            | Self::Admitted { event_id, .. }
            | Self::PassesExpired { event_id, .. }
            | Self::PassEnded { event_id, .. }
            | Self::Paused { event_id, .. }
            | Self::Resumed { event_id, .. }
            | Self::RateChanged { event_id, .. } => *event_id,
        }
    }
}

/// A question to a waiting room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain names")]
pub enum Query {
    /// How the room stands, with what is needed to work positions out.
    Marker { event_id: EventId },
    /// The places of these users, at most [`ROWS_MAX`], in this order.
    Places {
        event_id: EventId,
        users: Vec<UserId>,
    },
    /// The early ones by number, after `after`, at most `limit` and [`ROWS_MAX`]; for whoever checks the order.
    Order {
        event_id: EventId,
        after: Option<u32>,
        limit: usize,
    },
}

/// An answer to a [`Query`]; `None` where the event has no room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain names")]
pub enum Answer {
    Marker(Option<Box<Marker>>),
    /// `None` for a user who never joined.
    Places(Option<(Box<RoomView>, Vec<Option<PlaceView>>)>),
    Order(Option<Vec<OrderRow>>),
}

/// The small thing from which anybody's position follows, given their rank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// How the room stands.
    pub room: RoomView,
    /// By chunk of [`GONE_CHUNK_RANKS`] ranks, from that of `next_rank` on: how many of the ranks not admitted
    /// yet have left.
    pub gone: Vec<u32>,
}

impl Marker {
    /// How many are before this rank. Those who left within the rank's own chunk are counted as still there,
    /// so that a position never grows.
    #[must_use]
    pub fn ahead(&self, rank: u32) -> u32 {
        let next = self.room.next_rank;
        let chunks = (rank / GONE_CHUNK_RANKS).saturating_sub(next / GONE_CHUNK_RANKS);
        let gone: u32 = self.gone.iter().take(chunks as usize).sum();
        rank.saturating_sub(next).saturating_sub(gone)
    }
}

/// How a room stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as in NewRoom")]
pub struct RoomView {
    pub event_id: EventId,
    pub phase: Phase,
    pub is_paused: bool,
    pub opens_at: Timestamp,
    pub rate_per_minute: u32,
    pub pass_ms: u64,
    pub oversubscription_percent: u32,
    pub entries_max: u32,
    pub seats_per_pass: u32,
    /// Seats that are free or on hold.
    pub unsold: u32,
    /// All entries ever made.
    pub entries: u32,
    /// Entries whose rank was drawn.
    pub early: u32,
    pub waiting: u32,
    /// The first rank that has not been admitted.
    pub next_rank: u32,
    pub passes_open: u32,
    /// How many may be open just now.
    pub passes_open_max: u32,
    pub counts: Counts,
    /// Passes given in the last minute, once the first is a minute old.
    pub admitted_last_minute: Option<u32>,
    /// Published before the first joins.
    pub commitment: Digest,
    /// Of the early ones, so far or for good.
    pub list_digest: Digest,
    /// Once the list is sealed.
    pub entropy: Option<Entropy>,
    /// Once the room is open.
    pub revealed: Option<Revealed>,
}

impl RoomView {
    /// In how many seconds, as far as can be said, somebody is admitted who has so many ahead: by the rate, or
    /// by how fast it went in the last minute where that was slower. `None` where nothing can be said: not
    /// open, paused, nobody was admitted lately, or there are not seats enough for all who are ahead.
    #[must_use]
    pub fn estimate_s(&self, ahead: u32) -> Option<u64> {
        if self.phase != Phase::Open || self.is_paused || ahead >= self.unsold {
            return None;
        }
        let seen = self.admitted_last_minute.unwrap_or(self.rate_per_minute);
        let a_minute = u64::from(self.rate_per_minute.min(seen));
        let turns = (u64::from(ahead) + 1) * 60;
        (a_minute > 0).then(|| turns.div_ceil(a_minute))
    }
}

/// What became of a room's entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain names")]
pub struct Counts {
    pub left: u32,
    pub admitted: u32,
    pub bought: u32,
    pub expired: u32,
    pub given_back: u32,
}

/// What the order follows from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain names")]
pub struct Revealed {
    pub secret: Secret,
    pub seed: Digest,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain names")]
pub enum Standing {
    Waiting,
    Left,
    Admitted { expires_at: Timestamp },
    Bought,
    Expired,
    GivenBack,
}

/// A user's newest entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceView {
    /// In the order of joining, from 0.
    pub number: u32,
    /// By which the entry stands in the published list.
    pub pseudonym: Pseudonym,
    /// The order of admission, from 0; of an early entry only once the room is open.
    pub rank: Option<u32>,
    /// What became of it.
    pub standing: Standing,
    /// How many are to be admitted before; of one that waits and has a rank.
    pub ahead: Option<u32>,
}

/// An early entry as it is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as in PlaceView")]
pub struct OrderRow {
    pub number: u32,
    pub pseudonym: Pseudonym,
    pub rank: Option<u32>,
}
