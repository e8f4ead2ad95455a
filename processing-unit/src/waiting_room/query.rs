//! Answers from the present state.

use super::index::RoomIndex;
use super::lottery;
use super::messages::{
    Answer, GONE_CHUNK_RANKS, Marker, OrderRow, PlaceView, Query, ROWS_MAX, Revealed, RoomView,
    Standing,
};
use super::space::WaitingRoomSpace;
use super::state::{Room, Stage};
use crate::box_office::{BoxOfficeSpace, SaleFacts};
use crate::ids::{EventId, UserId};

/// Over how long the pace of admission is measured.
const PACE_MS: u64 = 60_000;

impl WaitingRoomSpace {
    /// Answers a question, with the sales as they stand.
    #[must_use]
    pub fn query(&self, sales: &BoxOfficeSpace, query: &Query) -> Answer {
        let found = |event_id: &EventId| {
            let (room, index) = self.room(*event_id)?;
            Some((room, index, sales.sale_facts(*event_id)?))
        };
        match query {
            Query::Marker { event_id } => {
                Answer::Marker(found(event_id).map(|(room, index, sale)| {
                    Box::new(Marker {
                        room: room.view(index, *event_id, &sale),
                        gone: room.gone_by_chunk(index),
                    })
                }))
            }
            Query::Places { event_id, users } => {
                Answer::Places(found(event_id).map(|(room, index, sale)| {
                    let place = |user: &UserId| {
                        let number = *index.numbers.get(user)?;
                        Some(room.place(index, *event_id, number, *user))
                    };
                    let places = users.iter().take(ROWS_MAX).map(place).collect();
                    (Box::new(room.view(index, *event_id, &sale)), places)
                }))
            }
            Query::Order {
                event_id,
                after,
                limit,
            } => Answer::Order(found(event_id).map(|(room, index, _)| {
                let first = after.map_or(0, |after| after.saturating_add(1));
                room.rows(index, *event_id, first, (*limit).min(ROWS_MAX))
            })),
        }
    }
}

impl Room {
    fn view(&self, index: &RoomIndex, event_id: EventId, sale: &SaleFacts) -> RoomView {
        let is_open = self.lottery.seed.is_some();
        RoomView {
            event_id,
            phase: self.phase,
            is_paused: self.is_paused,
            opens_at: self.opens_at,
            rate_per_minute: self.rate_per_minute,
            pass_ms: self.pass_ms,
            oversubscription_percent: self.oversubscription_percent,
            entries_max: self.entries_max,
            seats_per_pass: sale.seats_per_buyer,
            unsold: sale.unsold,
            entries: self.entries.len() as u32,
            early: self.lottery.early,
            waiting: index.waiting,
            next_rank: self.next_rank,
            passes_open: self.passes_open,
            passes_open_max: self.passes_open_max(sale.unsold, sale.seats_per_buyer),
            counts: self.counts,
            admitted_last_minute: self.pace(),
            commitment: self.lottery.commitment,
            list_digest: self.lottery.list_digest,
            entropy: self.lottery.entropy,
            revealed: match (self.lottery.secret, self.lottery.seed) {
                (Some(secret), Some(seed)) if is_open => Some(Revealed { secret, seed }),
                _ => None,
            },
        }
    }

    /// How many got passes in the minute before the newest batch, that one included; `None` while there is not
    /// a minute to look back to.
    fn pace(&self) -> Option<u32> {
        let newest = self.batches.last()?.expires_at.as_millis();
        let first = self.batches.get(0)?.expires_at.as_millis();
        let begin = newest
            .checked_sub(PACE_MS)
            .filter(|begin| first <= *begin)?;
        // Batches are apart by an interval at least, so this looks at a few hundred.
        let (mut low, mut high) = (0, self.batches.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.batches.get(middle)?.expires_at.as_millis() <= begin {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Some(self.batches.iter_from(low).map(|batch| batch.passes).sum())
    }

    fn gone_by_chunk(&self, index: &RoomIndex) -> Vec<u32> {
        let entries = self.entries.len() as u32;
        let first_chunk = self.next_rank / GONE_CHUNK_RANKS;
        (first_chunk..entries.div_ceil(GONE_CHUNK_RANKS))
            .map(|chunk| {
                let start = (chunk * GONE_CHUNK_RANKS).max(self.next_rank);
                let end = (chunk + 1) * GONE_CHUNK_RANKS;
                index.gone.before(end) - index.gone.before(start)
            })
            .collect()
    }

    pub(super) fn place(
        &self,
        index: &RoomIndex,
        event_id: EventId,
        number: u32,
        user: UserId,
    ) -> PlaceView {
        let rank = index.rank_of(self, number);
        let stage = self.entry(number).map_or(Stage::Left, |entry| entry.stage);
        let standing = match stage {
            Stage::Waiting => Standing::Waiting,
            Stage::Left => Standing::Left,
            Stage::Bought => Standing::Bought,
            Stage::Expired => Standing::Expired,
            Stage::GivenBack => Standing::GivenBack,
            Stage::Admitted => match rank.and_then(|rank| self.batch_of(rank)) {
                Some(batch) => Standing::Admitted {
                    expires_at: batch.expires_at,
                },
                None => Standing::Expired,
            },
        };
        let ahead = rank.filter(|_| stage == Stage::Waiting).map(|rank| {
            let gone = index.gone.before(rank) - index.gone.before(self.next_rank);
            rank.saturating_sub(self.next_rank).saturating_sub(gone)
        });
        PlaceView {
            number,
            pseudonym: lottery::pseudonym(&self.lottery.salt, event_id.0, user.0),
            rank,
            standing,
            ahead,
        }
    }

    fn rows(
        &self,
        index: &RoomIndex,
        event_id: EventId,
        first: u32,
        limit: usize,
    ) -> Vec<OrderRow> {
        let early = match self.lottery.entropy {
            Some(_) => self.lottery.early,
            None => self.entries.len() as u32,
        };
        let row = |number| {
            let user = self.entry(number)?.user;
            Some(OrderRow {
                number,
                pseudonym: lottery::pseudonym(&self.lottery.salt, event_id.0, user.0),
                rank: index.rank_of(self, number),
            })
        };
        (first..early).take(limit).filter_map(row).collect()
    }
}
