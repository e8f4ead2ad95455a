//! One slot's waiting rooms: exactly what a snapshot holds.

use std::sync::Arc;

use grid_core::{CodecError, CowVec, Slot, SlotMap, Timestamp, codec};
use serde::{Deserialize, Serialize};

use super::lottery::{Digest, Entropy, Secret};
use super::messages::{Counts, Phase};
use crate::ids::{EventId, UserId};
use crate::slots::{Entities, SlotState, decode_entities, encode_entities};

/// What one admission costs of a room's credit, which grows by the rate a minute in each ms.
pub(super) const CREDIT_OF_ONE: u64 = 60_000;
/// For how long credit is saved up, in ms: what a change of leaders may delay is made up for, a pause is not.
pub(super) const CREDIT_MS_MAX: u64 = 1_000;

/// What the waiting rooms keep in one slot.
#[derive(Clone, Debug, Default)]
pub(crate) struct RoomSlot {
    pub(super) rooms: Entities<EventId, Room>,
}

impl RoomSlot {
    /// Whether there is nothing to encode.
    pub(crate) fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }
}

/// A waiting room.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Room {
    pub(super) opens_at: Timestamp,
    pub(super) pass_ms: u64,
    pub(super) oversubscription_percent: u32,
    pub(super) entries_max: u32,
    pub(super) rate_per_minute: u32,
    pub(super) phase: Phase,
    pub(super) is_paused: bool,
    pub(super) lottery: Lottery,
    /// By number.
    pub(super) entries: CowVec<Entry>,
    /// All ranks before it have been admitted or have left.
    pub(super) next_rank: u32,
    /// In the order of admission; each has ranks of its own, and none ends before an earlier one.
    pub(super) batches: CowVec<Batch>,
    /// So many batches have expired.
    pub(super) batches_expired: u32,
    pub(super) passes_open: u32,
    pub(super) counts: Counts,
    /// How much has been saved up for admissions, as of `credited_at`.
    pub(super) credit: u64,
    pub(super) credited_at: Timestamp,
}

/// What the order of the early ones follows from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Lottery {
    pub(super) commitment: Digest,
    /// `None` while the host withholds it.
    pub(super) secret: Option<Secret>,
    pub(super) salt: Secret,
    /// Of the early ones.
    pub(super) list_digest: Digest,
    /// How many came before the list was sealed; 0 until then.
    pub(super) early: u32,
    pub(super) entropy: Option<Entropy>,
    /// The log entry that sealed the list; 0 until then.
    pub(super) sealed_index: u64,
    pub(super) seed: Option<Digest>,
    /// By rank: the number of an early entry. Filled when the room opens.
    pub(super) order: CowVec<u32>,
}

/// A place in a room: 17 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) user: UserId,
    pub(super) stage: Stage,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    Waiting,
    Left,
    Admitted,
    Bought,
    Expired,
    GivenBack,
}

/// Ranks that were admitted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Batch {
    pub(super) first_rank: u32,
    /// The first that is not of it.
    pub(super) end_rank: u32,
    pub(super) passes: u32,
    pub(super) expires_at: Timestamp,
}

impl Room {
    /// The number of the entry with this rank, once the room is open.
    pub(super) fn number_of(&self, rank: u32) -> u32 {
        let early = self.lottery.order.get(rank as usize);
        early.copied().unwrap_or(rank)
    }

    pub(super) fn entry(&self, number: u32) -> Option<&Entry> {
        self.entries.get(number as usize)
    }

    pub(super) fn set_stage(&mut self, number: u32, stage: Stage) {
        if let Some(entry) = self.entries.get_mut(number as usize) {
            entry.stage = stage;
        }
    }

    /// The batch in which a rank was admitted.
    pub(super) fn batch_of(&self, rank: u32) -> Option<&Batch> {
        let (mut low, mut high) = (0, self.batches.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.batches.get(middle)?.end_rank <= rank {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        self.batches.get(low)
    }

    /// How many passes may be open for so many seats.
    pub(super) fn passes_open_max(&self, unsold: u32, seats_per_pass: u32) -> u32 {
        let seats = u64::from(unsold) * u64::from(self.oversubscription_percent);
        let passes = seats.div_ceil(100 * u64::from(seats_per_pass.max(1)));
        u32::try_from(passes).unwrap_or(u32::MAX)
    }

    /// The credit at some time, and how much it may be.
    pub(super) fn credit_at(&self, now: Timestamp) -> u64 {
        let elapsed_ms = now.as_millis().saturating_sub(self.credited_at.as_millis());
        let rate = u64::from(self.rate_per_minute);
        let most = CREDIT_OF_ONE.max(rate * CREDIT_MS_MAX);
        let earned = elapsed_ms.min(most / rate.max(1) + 1) * rate;
        self.credit.saturating_add(earned).min(most)
    }
}

/// The room for writing; a shared one is copied first. `None` never makes a slot.
pub(super) fn room_mut(slots: &mut SlotMap<RoomSlot>, event_id: EventId) -> Option<&mut Room> {
    let slot = Slot::of(event_id.0);
    slots.get(slot)?;
    let room = slots.get_mut(slot).rooms.get_mut(&event_id)?;
    Some(Arc::make_mut(room))
}

impl SlotState for RoomSlot {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        codec::encode_into(&(self.rooms.len() as u64), out)?;
        encode_entities(&self.rooms, out)
    }

    fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), CodecError> {
        let (rooms, rest): (u64, _) = codec::decode_prefix(bytes)?;
        let (rooms, rest) = decode_entities(rooms, rest)?;
        Ok((Self { rooms }, rest))
    }
}
