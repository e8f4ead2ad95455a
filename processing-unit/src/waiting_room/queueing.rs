//! Joining and leaving a room, and how a pass ends before its time.

use grid_core::{ApplyContext, Timestamp};

use super::index::RoomIndex;
use super::lottery;
use super::messages::{Change, PassEnd, Phase, Refusal, Reply};
use super::space::{RoomWriter, WaitingRoomSpace};
use super::state::{Entry, Room, Stage};
use crate::box_office::{BoxOfficeSpace, SaleFacts};
use crate::ids::{EventId, UserId};

impl WaitingRoomSpace {
    /// A place at the end, or the one that the user has.
    pub(super) fn join<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        sale: &SaleFacts,
        event_id: EventId,
        user: UserId,
    ) -> Result<Reply, Refusal> {
        let RoomWriter { room, index } = self.writer(event_id).ok_or(Refusal::RoomNotFound)?;
        if let Some(&number) = index.numbers.get(&user)
            && let Some(entry) = room.entry(number)
            && matches!(entry.stage, Stage::Waiting | Stage::Admitted)
        {
            return Ok(Reply::Joined(room.place(index, event_id, number, user)));
        }
        if sale.unsold == 0 {
            return Err(Refusal::SoldOut);
        }
        let limit = room.entries_max;
        let number = room.entries.len() as u32;
        if number >= limit {
            return Err(Refusal::RoomFull { limit });
        }
        if room.phase == Phase::Gathering {
            let pseudonym = lottery::pseudonym(&room.lottery.salt, event_id.0, user.0);
            room.lottery.list_digest = lottery::extended(&room.lottery.list_digest, &pseudonym);
        }
        room.entries.push(Entry {
            user,
            stage: Stage::Waiting,
        });
        index.numbers.insert(user, number);
        index.waiting += 1;
        if room.phase == Phase::Open {
            index.gone.push();
        }
        context.emit(C::from(Change::Joined {
            event_id,
            user,
            number,
        }));
        Ok(Reply::Joined(room.place(index, event_id, number, user)))
    }

    /// Gives a place or a pass back.
    pub(super) fn leave<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        event_id: EventId,
        user: UserId,
    ) -> Result<Reply, Refusal> {
        let RoomWriter { room, index } = self.writer(event_id).ok_or(Refusal::RoomNotFound)?;
        let number = *index.numbers.get(&user).ok_or(Refusal::NotInRoom)?;
        match room.entry(number).map(|entry| entry.stage) {
            Some(Stage::Waiting) => {
                room.set_stage(number, Stage::Left);
                room.counts.left += 1;
                index.waiting -= 1;
                if room.phase == Phase::Open
                    && let Some(rank) = index.rank_of(room, number)
                {
                    index.gone.leave(rank);
                }
                context.emit(C::from(Change::Left {
                    event_id,
                    user,
                    number,
                }));
            }
            Some(Stage::Admitted) => {
                room.end_pass(context, event_id, number, user, PassEnd::GivenBack);
            }
            _ => return Err(Refusal::NotInRoom),
        }
        Ok(Reply::Left)
    }

    /// Notes that a buyer has bought: their pass, if they have one, has served.
    pub fn bought<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        sales: &BoxOfficeSpace,
        event_id: EventId,
        buyer: UserId,
    ) {
        let Some(RoomWriter { room, index }) = self.writer(event_id) else {
            return;
        };
        if let Some(&number) = index.numbers.get(&buyer)
            && room.entry(number).map(|entry| entry.stage) == Some(Stage::Admitted)
        {
            room.end_pass(context, event_id, number, buyer, PassEnd::Bought);
        }
        if let Some(sale) = sales.sale_facts(event_id) {
            self.arm(event_id, &sale);
        }
    }
}

impl Room {
    fn end_pass<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        event_id: EventId,
        number: u32,
        user: UserId,
        reason: PassEnd,
    ) {
        let stage = match reason {
            PassEnd::Bought => {
                self.counts.bought += 1;
                Stage::Bought
            }
            PassEnd::GivenBack => {
                self.counts.given_back += 1;
                Stage::GivenBack
            }
        };
        self.set_stage(number, stage);
        self.passes_open -= 1;
        context.emit(C::from(Change::PassEnded {
            event_id,
            user,
            number,
            reason,
        }));
    }

    /// Until when a user's pass lasts; `None` without an open one.
    pub(super) fn pass_of(&self, index: &RoomIndex, user: UserId) -> Option<Timestamp> {
        let number = *index.numbers.get(&user)?;
        match self.entry(number)?.stage {
            Stage::Admitted => {
                let rank = index.rank_of(self, number)?;
                Some(self.batch_of(rank)?.expires_at)
            }
            _ => None,
        }
    }
}
