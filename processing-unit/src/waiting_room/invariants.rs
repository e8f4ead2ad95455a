//! The whole-state check of the waiting rooms; linear in the state but for one sort, for tests and on request.

use std::collections::BTreeSet;

use grid_core::Slot;

use super::index::RoomIndex;
use super::lottery::{self, LIST_DIGEST_START};
use super::messages::{Counts, Phase};
use super::space::WaitingRoomSpace;
use super::state::{Room, Stage};
use crate::box_office::BoxOfficeSpace;
use crate::ids::EventId;

impl WaitingRoomSpace {
    /// Checks every invariant of the waiting rooms.
    ///
    /// # Errors
    /// The first broken invariant, in words.
    pub fn check_invariants(&self, sales: &BoxOfficeSpace) -> Result<(), String> {
        let mut deadlines = BTreeSet::new();
        let mut rooms = 0;
        for (slot, state) in self.slots.iter() {
            for (event_id, room) in &state.rooms {
                let wrong = |what: String| format!("room of {event_id}: {what}");
                if Slot::of(event_id.0) != slot {
                    return Err(wrong(format!("is in slot {slot}, not its own")));
                }
                rooms += 1;
                room.check().map_err(wrong)?;
                room.check_lottery(*event_id).map_err(wrong)?;
                let sale = sales
                    .sale_facts(*event_id)
                    .ok_or_else(|| wrong("has no event".to_owned()))?;
                let index = self
                    .indexes
                    .get(event_id)
                    .ok_or_else(|| wrong("has no index".to_owned()))?;
                index.check_equals(&RoomIndex::new(room)).map_err(wrong)?;
                let due = room.next_due(index.waiting, &sale);
                if due != index.due {
                    return Err(wrong(format!("is due at {:?}, not {due:?}", index.due)));
                }
                deadlines.extend(due.map(|at| (at, *event_id)));
            }
        }
        if deadlines != self.deadlines || rooms != self.indexes.len() {
            return Err("the rooms' deadlines or indexes differ from a recount".to_owned());
        }
        Ok(())
    }
}

impl Room {
    /// What can be said of a room by itself; also of one that was read back.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut live = BTreeSet::new();
        let mut counts = Counts::default();
        let mut admitted = 0;
        for entry in self.entries.iter() {
            let is_live = matches!(entry.stage, Stage::Waiting | Stage::Admitted);
            if is_live && !live.insert(entry.user) {
                return Err("a user has two places".to_owned());
            }
            match entry.stage {
                Stage::Waiting => {}
                Stage::Left => counts.left += 1,
                Stage::Admitted => admitted += 1,
                Stage::Bought => counts.bought += 1,
                Stage::Expired => counts.expired += 1,
                Stage::GivenBack => counts.given_back += 1,
            }
        }
        counts.admitted = admitted + counts.bought + counts.expired + counts.given_back;
        if counts != self.counts || admitted != self.passes_open {
            return Err(format!(
                "counts {:?} and {} open passes, recounted {counts:?} and {admitted}",
                self.counts, self.passes_open
            ));
        }
        if self.entries.len() > self.entries_max as usize {
            return Err("more entries than it may have".to_owned());
        }
        let is_open = self.phase == Phase::Open;
        let drawn = if is_open { self.lottery.early } else { 0 };
        if self.lottery.order.len() != drawn as usize || self.lottery.seed.is_some() != is_open {
            return Err("the lottery is not as far as the room".to_owned());
        }
        if self.lottery.entropy.is_some() == (self.phase == Phase::Gathering)
            || self.lottery.early as usize > self.entries.len()
        {
            return Err("the list is not as far as the room".to_owned());
        }
        self.check_batches()?;
        if !is_open {
            return Ok(());
        }
        for rank in 0..self.entries.len() as u32 {
            let entry = self.entry(self.number_of(rank));
            let stage = entry.map(|entry| entry.stage);
            let is_before = rank < self.next_rank;
            let fits = match stage {
                Some(Stage::Waiting) => !is_before,
                Some(Stage::Left) => true,
                Some(_) => is_before,
                None => false,
            };
            if !fits {
                return Err(format!("rank {rank} is {stage:?}"));
            }
        }
        Ok(())
    }

    fn check_batches(&self) -> Result<(), String> {
        let mut next_rank = 0;
        let mut passes = 0;
        let mut expires_at = grid_core::Timestamp::ZERO;
        for (place, batch) in (0..).zip(self.batches.iter()) {
            if batch.first_rank != next_rank || batch.expires_at < expires_at {
                return Err("the batches do not follow each other".to_owned());
            }
            (next_rank, expires_at) = (batch.end_rank, batch.expires_at);
            passes += batch.passes;
            let is_open = |rank| {
                let entry = self.entry(self.number_of(rank));
                entry.is_some_and(|entry| entry.stage == Stage::Admitted)
            };
            if place < self.batches_expired && (batch.first_rank..batch.end_rank).any(is_open) {
                return Err("a pass outlived its time".to_owned());
            }
        }
        if next_rank != self.next_rank || passes != self.counts.admitted {
            return Err("the batches do not make up what was admitted".to_owned());
        }
        if self.batches_expired as usize > self.batches.len() {
            return Err("more batches expired than there are".to_owned());
        }
        Ok(())
    }

    /// The order is the one that follows from what is published.
    fn check_lottery(&self, event_id: EventId) -> Result<(), String> {
        let lottery = &self.lottery;
        let early = match self.phase {
            Phase::Gathering => self.entries.len(),
            _ => lottery.early as usize,
        };
        let digest = self
            .entries
            .iter()
            .take(early)
            .fold(LIST_DIGEST_START, |digest, entry| {
                let name = lottery::pseudonym(&lottery.salt, event_id.0, entry.user.0);
                lottery::extended(&digest, &name)
            });
        if digest != lottery.list_digest {
            return Err("the list's digest is not that of the list".to_owned());
        }
        if let Some(secret) = &lottery.secret
            && lottery::commitment(secret) != lottery.commitment
        {
            return Err("the secret is not the one committed to".to_owned());
        }
        let (Some(secret), Some(entropy), Some(seed)) =
            (&lottery.secret, &lottery.entropy, &lottery.seed)
        else {
            return Ok(());
        };
        let expected = lottery::seed(secret, entropy, &digest, event_id.0);
        let order = lottery::order(seed, lottery.early);
        if *seed != expected || !lottery.order.iter().eq(order.iter()) {
            return Err("the order does not follow from the lottery".to_owned());
        }
        Ok(())
    }
}

impl RoomIndex {
    fn check_equals(&self, recounted: &Self) -> Result<(), String> {
        let parts = [
            ("numbers", self.numbers == recounted.numbers),
            ("ranks", self.ranks == recounted.ranks),
            ("gone", self.gone == recounted.gone),
            ("waiting", self.waiting == recounted.waiting),
        ];
        match parts.iter().find(|(_, equal)| !equal) {
            Some((name, _)) => Err(format!("index {name} differs from a recount")),
            None => Ok(()),
        }
    }
}
