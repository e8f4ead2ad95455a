//! What is derived from a room's state and kept beside it for speed: never in a snapshot, rebuilt by a
//! restore, compared with a recount by the invariants' check.

use grid_core::{ShardedMap, Timestamp};

use super::ahead::GoneRanks;
use super::messages::Phase;
use super::state::{Room, Stage};
use crate::ids::UserId;

/// One room's look-ups.
#[derive(Debug, Default)]
pub(super) struct RoomIndex {
    /// The number of each user's newest entry.
    pub(super) numbers: ShardedMap<UserId, u32>,
    /// By number: the rank of an early entry. Filled when the room opens.
    pub(super) ranks: Vec<u32>,
    /// Filled when the room opens.
    pub(super) gone: GoneRanks,
    pub(super) waiting: u32,
    /// When the room is to do something by itself, as the space's deadlines have it.
    pub(super) due: Option<Timestamp>,
}

impl RoomIndex {
    /// The index of a room in any state, `due` aside.
    pub(super) fn new(room: &Room) -> Self {
        let mut index = Self::default();
        for (number, entry) in (0..).zip(room.entries.iter()) {
            index.numbers.insert(entry.user, number);
            index.waiting += u32::from(entry.stage == Stage::Waiting);
        }
        if room.phase == Phase::Open {
            index.open(room);
        }
        index
    }

    /// Takes the ranks in.
    pub(super) fn open(&mut self, room: &Room) {
        self.ranks = vec![0; room.lottery.order.len()];
        for (rank, number) in (0..).zip(room.lottery.order.iter()) {
            if let Some(of_number) = self.ranks.get_mut(*number as usize) {
                *of_number = rank;
            }
        }
        self.gone = GoneRanks::default();
        for rank in 0..room.entries.len() as u32 {
            self.gone.push();
            let entry = room.entry(room.number_of(rank));
            if entry.is_some_and(|entry| entry.stage == Stage::Left) {
                self.gone.leave(rank);
            }
        }
    }

    /// The rank of an entry, where it is known.
    pub(super) fn rank_of(&self, room: &Room, number: u32) -> Option<u32> {
        match room.phase {
            Phase::Open => Some(self.ranks.get(number as usize).copied().unwrap_or(number)),
            Phase::Sealed => (number >= room.lottery.early).then_some(number),
            Phase::Gathering => None,
        }
    }
}
