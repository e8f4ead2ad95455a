//! What clients see of waiting rooms.

use processing_unit::waiting_room::{OrderRow, Phase, PlaceView, RoomView, Standing};
use processing_unit::{EventId, UserId};
use serde::Serialize;
use uuid::Uuid;

use super::pass;
use crate::convert::time;
use crate::tickets::TicketSigner;

/// Bytes as lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A person's place in a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct QueueView {
    pub(crate) event_id: Uuid,
    /// In the order of joining, from 0; what the published list is sorted by.
    pub(crate) number: u32,
    /// The person's name in the published list.
    pub(crate) pseudonym: String,
    /// `gathering`, `sealed`, `waiting`, `paused`, `sold_out`, `admitted`, `bought`, `expired`, `left` or
    /// `given_back`.
    pub(crate) state: &'static str,
    /// The order of admission, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rank: Option<u32>,
    #[serde(flatten)]
    pub(crate) position: Position,
    #[serde(flatten)]
    pub(crate) pass: Option<PassView>,
}

/// How far from admission somebody is; absent as long as it cannot be said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Position {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) position: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ahead: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) estimate_s: Option<u64>,
}

impl Position {
    pub(super) fn of(ahead: Option<u32>, room: Option<&RoomView>) -> Self {
        Self {
            position: ahead.map(|ahead| ahead.saturating_add(1)),
            ahead,
            estimate_s: ahead.and_then(|ahead| room?.estimate_s(ahead)),
        }
    }
}

/// A pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PassView {
    pub(crate) pass: String,
    pub(crate) expires_at: String,
}

/// The data of `queue_position`.
#[derive(Debug, Serialize)]
pub(super) struct PositionData {
    pub(super) state: &'static str,
    #[serde(flatten)]
    pub(super) position: Position,
}

/// What an entry's state is called, given the room where that is known.
pub(super) fn state_of(place: &PlaceView, room: Option<&RoomView>) -> &'static str {
    match place.standing {
        Standing::Admitted { .. } => "admitted",
        Standing::Left => "left",
        Standing::Bought => "bought",
        Standing::Expired => "expired",
        Standing::GivenBack => "given_back",
        Standing::Waiting => waiting_state(room, place.rank),
    }
}

/// The state of somebody who waits.
pub(super) fn waiting_state(room: Option<&RoomView>, rank: Option<u32>) -> &'static str {
    match room {
        Some(room) if room.unsold == 0 => "sold_out",
        Some(room) if room.phase == Phase::Gathering => "gathering",
        Some(room) if room.phase == Phase::Sealed => "sealed",
        Some(room) if room.is_paused => "paused",
        None if rank.is_none() => "gathering",
        _ => "waiting",
    }
}

/// The pass that a place comes with.
pub(super) fn pass_of(
    signer: &TicketSigner,
    event_id: EventId,
    user: UserId,
    place: &PlaceView,
) -> Option<PassView> {
    match place.standing {
        Standing::Admitted { expires_at } => Some(PassView {
            pass: pass::issue(signer, event_id.0, user.0, expires_at),
            expires_at: time(expires_at),
        }),
        _ => None,
    }
}

impl QueueView {
    pub(super) fn new(
        signer: &TicketSigner,
        event_id: EventId,
        user: UserId,
        place: &PlaceView,
        room: Option<&RoomView>,
    ) -> Self {
        Self {
            event_id: event_id.0,
            number: place.number,
            pseudonym: hex(&place.pseudonym),
            state: state_of(place, room),
            rank: place.rank,
            position: Position::of(place.ahead, room),
            pass: pass_of(signer, event_id, user, place),
        }
    }
}

/// How a room stands; public.
#[derive(Debug, Serialize)]
pub(crate) struct RoomStateView {
    event_id: Uuid,
    phase: &'static str,
    paused: bool,
    opens_at: String,
    rate_per_minute: u32,
    pass_seconds: u64,
    oversubscription_percent: u32,
    entries_max: u32,
    seats_per_pass: u32,
    unsold: u32,
    entries: u32,
    early: u32,
    waiting: u32,
    next_rank: u32,
    passes_open: u32,
    passes_open_max: u32,
    admitted: u32,
    bought: u32,
    expired: u32,
    given_back: u32,
    left: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    admitted_last_minute: Option<u32>,
    commitment: String,
    list_digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    entropy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<String>,
}

impl RoomStateView {
    pub(super) fn new(room: &RoomView) -> Self {
        let revealed = room.revealed.as_ref();
        Self {
            event_id: room.event_id.0,
            phase: phase(room.phase),
            paused: room.is_paused,
            opens_at: time(room.opens_at),
            rate_per_minute: room.rate_per_minute,
            pass_seconds: room.pass_ms / 1_000,
            oversubscription_percent: room.oversubscription_percent,
            entries_max: room.entries_max,
            seats_per_pass: room.seats_per_pass,
            unsold: room.unsold,
            entries: room.entries,
            early: room.early,
            waiting: room.waiting,
            next_rank: room.next_rank,
            passes_open: room.passes_open,
            passes_open_max: room.passes_open_max,
            admitted: room.counts.admitted,
            bought: room.counts.bought,
            expired: room.counts.expired,
            given_back: room.counts.given_back,
            left: room.counts.left,
            admitted_last_minute: room.admitted_last_minute,
            commitment: hex(&room.commitment),
            list_digest: hex(&room.list_digest),
            entropy: room.entropy.map(|entropy| hex(&entropy)),
            secret: revealed.map(|revealed| hex(&revealed.secret)),
            seed: revealed.map(|revealed| hex(&revealed.seed)),
        }
    }
}

pub(super) fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Gathering => "gathering",
        Phase::Sealed => "sealed",
        Phase::Open => "open",
    }
}

/// An early entry of the published list.
#[derive(Debug, Serialize)]
pub(crate) struct OrderView {
    pub(crate) number: u32,
    pseudonym: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rank: Option<u32>,
}

impl OrderView {
    pub(super) fn new(row: &OrderRow) -> Self {
        Self {
            number: row.number,
            pseudonym: hex(&row.pseudonym),
            rank: row.rank,
        }
    }
}

/// Hexadecimal digits of either case as bytes.
pub(super) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read_and_written() {
        assert_eq!(hex(&[0, 0x1f, 0xff]), "001fff");
        assert_eq!(from_hex("001FfF"), Some([0, 0x1f, 0xff]));
        for wrong in ["", "00", "00000", "00000g", "0000000"] {
            assert_eq!(from_hex::<3>(wrong), None, "{wrong}");
        }
    }
}
