//! Opening a room, and what it does by itself: sealing the list, admitting by rate and by seats, ending
//! passes that were not used.

use grid_core::{ApplyContext, CowVec, Timestamp};

use super::lottery::{self, Secret};
use super::messages::{ADMISSION_INTERVAL_MS, BATCH_MAX, Change, Phase, Refusal, Reply};
use super::space::{RoomWriter, WaitingRoomSpace, check_rate};
use super::state::{Batch, CREDIT_OF_ONE, Room, Stage};
use crate::box_office::SaleFacts;
use crate::ids::{EventId, UserId};

impl WaitingRoomSpace {
    pub(super) fn open_now<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        sale: &SaleFacts,
        event_id: EventId,
        secret: Option<Secret>,
    ) -> Result<Reply, Refusal> {
        if context.now() < sale.on_sale_at {
            let rule = "a room opens when the sale has begun, not before".to_owned();
            return Err(Refusal::Invalid(rule));
        }
        let mut writer = self.writer(event_id).ok_or(Refusal::RoomNotFound)?;
        let lottery = &writer.room.lottery;
        match (writer.room.phase, secret) {
            (Phase::Open, _) => return Err(Refusal::AlreadyOpen),
            (Phase::Gathering, Some(_)) => return Err(Refusal::NotSealed),
            (Phase::Gathering, None) => writer.seal(context, event_id),
            // The leader that drew the entropy of this entry had the secret before its eyes.
            (Phase::Sealed, Some(_)) if lottery.sealed_index == context.index() => {
                return Err(Refusal::NotSealed);
            }
            (Phase::Sealed, Some(secret)) if lottery::commitment(&secret) == lottery.commitment => {
                writer.open(context, event_id, secret);
            }
            (Phase::Sealed, Some(_)) => return Err(Refusal::WrongSecret),
            (Phase::Sealed, None) => {
                let missing = "secret: the list is sealed, and the secret is awaited".to_owned();
                return Err(Refusal::Invalid(missing));
            }
        }
        Ok(writer.room.changed())
    }

    pub(super) fn set_paused<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        event_id: EventId,
        by: UserId,
        is_paused: bool,
    ) -> Result<Reply, Refusal> {
        let writer = self.writer(event_id).ok_or(Refusal::RoomNotFound)?;
        let room = writer.room;
        if room.is_paused != is_paused {
            room.is_paused = is_paused;
            context.emit(C::from(if is_paused {
                Change::Paused { event_id, by }
            } else {
                // Nothing is saved up in a pause.
                room.credit = 0;
                room.credited_at = context.now();
                Change::Resumed { event_id, by }
            }));
        }
        Ok(room.changed())
    }

    pub(super) fn set_rate<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        event_id: EventId,
        by: UserId,
        rate_per_minute: u32,
    ) -> Result<Reply, Refusal> {
        check_rate(rate_per_minute)?;
        let writer = self.writer(event_id).ok_or(Refusal::RoomNotFound)?;
        let room = writer.room;
        if room.rate_per_minute != rate_per_minute {
            room.credit = room.credit_at(context.now());
            room.credited_at = context.now();
            room.rate_per_minute = rate_per_minute;
            context.emit(C::from(Change::RateChanged {
                event_id,
                by,
                rate_per_minute,
            }));
        }
        Ok(room.changed())
    }

    /// Does one thing that is due.
    pub(super) fn step<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        sale: &SaleFacts,
        event_id: EventId,
    ) {
        let Some(mut writer) = self.writer(event_id) else {
            return;
        };
        let now = context.now();
        if writer.room.phase == Phase::Gathering {
            if writer.room.opens_at <= now {
                writer.seal(context, event_id);
            }
        } else if writer.room.next_expiry().is_some_and(|at| at <= now) {
            writer.expire_batch(context, event_id);
        } else {
            writer.admit(context, sale, event_id);
        }
    }
}

impl RoomWriter<'_> {
    /// Closes the list of the early ones, and draws for them where the secret is known.
    fn seal<C: From<Change>>(&mut self, context: &mut ApplyContext<'_, C>, event_id: EventId) {
        let lottery = &mut self.room.lottery;
        let entropy = context.draw().to_be_bytes();
        lottery.early = self.room.entries.len() as u32;
        lottery.entropy = Some(entropy);
        lottery.sealed_index = context.index();
        self.room.phase = Phase::Sealed;
        let secret = lottery.secret;
        context.emit(C::from(Change::Sealed {
            event_id,
            early: lottery.early,
            list_digest: lottery.list_digest,
            entropy,
        }));
        if let Some(secret) = secret {
            self.open(context, event_id, secret);
        }
    }

    /// Draws the order of the early ones.
    fn open<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        event_id: EventId,
        secret: Secret,
    ) {
        let lottery = &mut self.room.lottery;
        let Some(entropy) = lottery.entropy else {
            return;
        };
        let seed = lottery::seed(&secret, &entropy, &lottery.list_digest, event_id.0);
        lottery.secret = Some(secret);
        lottery.seed = Some(seed);
        lottery.order = CowVec::from_iter(lottery::order(&seed, lottery.early));
        self.room.phase = Phase::Open;
        self.room.credit = 0;
        self.room.credited_at = context.now();
        self.index.open(self.room);
        context.emit(C::from(Change::Opened {
            event_id,
            secret,
            seed,
        }));
    }

    fn expire_batch<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        event_id: EventId,
    ) {
        let room = &mut *self.room;
        let Some(batch) = room.batches.get(room.batches_expired as usize).copied() else {
            return;
        };
        room.batches_expired += 1;
        let mut numbers = Vec::new();
        for rank in batch.first_rank..batch.end_rank {
            let number = room.number_of(rank);
            if room.entry(number).map(|entry| entry.stage) == Some(Stage::Admitted) {
                room.set_stage(number, Stage::Expired);
                numbers.push(number);
            }
        }
        room.passes_open -= numbers.len() as u32;
        room.counts.expired += numbers.len() as u32;
        if !numbers.is_empty() {
            context.emit(C::from(Change::PassesExpired {
                event_id,
                numbers: numbers.into(),
            }));
        }
    }

    /// Gives passes to those who are next, as many as rate and seats allow.
    fn admit<C: From<Change>>(
        &mut self,
        context: &mut ApplyContext<'_, C>,
        sale: &SaleFacts,
        event_id: EventId,
    ) {
        let room = &mut *self.room;
        let now = context.now();
        let credit = room.credit_at(now);
        let passes = room
            .places(self.index.waiting, sale)
            .min(BATCH_MAX)
            .min(u32::try_from(credit / CREDIT_OF_ONE).unwrap_or(u32::MAX));
        if room.phase != Phase::Open || room.is_paused || passes == 0 {
            return;
        }
        room.credit = credit - u64::from(passes) * CREDIT_OF_ONE;
        room.credited_at = now;
        let first_rank = room.next_rank;
        let mut given = 0;
        while given < passes && (room.next_rank as usize) < room.entries.len() {
            let number = room.number_of(room.next_rank);
            if room.entry(number).map(|entry| entry.stage) == Some(Stage::Waiting) {
                room.set_stage(number, Stage::Admitted);
                given += 1;
            }
            room.next_rank += 1;
        }
        self.index.waiting -= given;
        room.passes_open += given;
        room.counts.admitted += given;
        let batch = Batch {
            first_rank,
            end_rank: room.next_rank,
            passes: given,
            expires_at: now + room.pass_ms,
        };
        room.batches.push(batch);
        context.emit(C::from(Change::Admitted {
            event_id,
            first_rank,
            end_rank: batch.end_rank,
            passes: given,
            expires_at: batch.expires_at,
        }));
    }
}

impl Room {
    fn changed(&self) -> Reply {
        Reply::Changed {
            phase: self.phase,
            is_paused: self.is_paused,
        }
    }

    /// When the oldest passes end that have not ended yet.
    fn next_expiry(&self) -> Option<Timestamp> {
        let batch = self.batches.get(self.batches_expired as usize)?;
        Some(batch.expires_at)
    }

    /// How many could get passes if it were only for the seats.
    fn places(&self, waiting: u32, sale: &SaleFacts) -> u32 {
        self.passes_open_max(sale.unsold, sale.seats_per_buyer)
            .saturating_sub(self.passes_open)
            .min(waiting)
    }

    /// When the room is to do something by itself.
    pub(super) fn next_due(&self, waiting: u32, sale: &SaleFacts) -> Option<Timestamp> {
        let admission = || {
            if self.phase != Phase::Open || self.is_paused || self.places(waiting, sale) == 0 {
                return None;
            }
            let missing = CREDIT_OF_ONE.saturating_sub(self.credit);
            let wait_ms = missing.div_ceil(u64::from(self.rate_per_minute.max(1)));
            let last = self.batches.last();
            let last_at = last.map(|batch| batch.expires_at.as_millis() - self.pass_ms);
            let spaced_ms = last_at.map_or(0, |at| at + ADMISSION_INTERVAL_MS);
            let credited_ms = self.credited_at.as_millis() + wait_ms;
            Some(Timestamp::from_millis(credited_ms.max(spaced_ms)))
        };
        match self.phase {
            Phase::Gathering => Some(self.opens_at),
            Phase::Sealed => None,
            Phase::Open => [self.next_expiry(), admission()]
                .into_iter()
                .flatten()
                .min(),
        }
    }
}
