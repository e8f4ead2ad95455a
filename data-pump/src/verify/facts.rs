//! Whether the facts in the database are whole: each once, in an order that can have happened, and none
//! missing between two others.
//!
//! Two checks. Of every log entry the places run from 0 on without a gap: an entry is written whole or not
//! at all. And the facts of a sale, gone through in the order of the log, must be possible: a seat is held
//! only when it is free, and let go or sold only by the hold that has it. A fact that is missing, there
//! twice, or in another order breaks that chain; what stands at its end must be what the tables of seats
//! and tickets say.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use processing_unit::Change;
use processing_unit::box_office::Change as Fact;
use serde::Serialize;
use uuid::Uuid;

use super::Verifier;

/// Contradictions that are told in words.
const EXAMPLES_MAX: usize = 5;

/// What the facts of one sale come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SaleFacts {
    /// Holds that were made.
    pub holds: u64,
    /// Holds that were let go or ran out.
    pub releases: u64,
    /// Holds that were paid.
    pub sales: u64,
    /// Tickets of those.
    pub tickets: u64,
    /// Facts that cannot have happened after those before them.
    pub contradictions: u64,
    /// The first of them.
    pub examples: Vec<String>,
    /// Seats whose row says something else than the facts come to.
    pub other_rows: u64,
}

impl SaleFacts {
    /// Whether nothing is missing, doubled or out of order.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.contradictions == 0 && self.other_rows == 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seat {
    Held(Uuid),
    Sold,
}

/// Goes through facts in the order of the log.
#[derive(Debug, Default)]
struct Chain {
    facts: SaleFacts,
    /// Seats that are not free.
    seats: BTreeMap<u32, Seat>,
}

impl Chain {
    fn contradiction(&mut self, place: (i64, i32), what: &str) {
        self.facts.contradictions += 1;
        if self.facts.examples.len() < EXAMPLES_MAX {
            let (log_index, seq) = place;
            self.facts
                .examples
                .push(format!("{log_index}:{seq}: {what}"));
        }
    }

    fn held(&mut self, place: (i64, i32), seat: u32, hold: Uuid) {
        if let Some(before) = self.seats.insert(seat, Seat::Held(hold)) {
            self.contradiction(place, &format!("seat {seat} is held, and was {before:?}"));
        }
    }

    fn let_go(&mut self, place: (i64, i32), seat: u32, hold: Uuid) {
        let before = self.seats.remove(&seat);
        if before != Some(Seat::Held(hold)) {
            self.contradiction(place, &format!("seat {seat} is let go, and was {before:?}"));
        }
    }

    fn sold(&mut self, place: (i64, i32), seat: u32, hold: Uuid) {
        let before = self.seats.insert(seat, Seat::Sold);
        if before != Some(Seat::Held(hold)) {
            self.contradiction(place, &format!("seat {seat} is sold, and was {before:?}"));
        }
    }

    fn add(&mut self, place: (i64, i32), fact: &Fact) {
        match fact {
            Fact::EventCreated { .. } => {}
            Fact::SeatsHeld { hold_id, seats, .. } => {
                self.facts.holds += 1;
                for seat in seats {
                    self.held(place, *seat, hold_id.0);
                }
            }
            Fact::SeatsReleased { hold_id, seats, .. } => {
                self.facts.releases += 1;
                for seat in seats {
                    self.let_go(place, *seat, hold_id.0);
                }
            }
            Fact::SeatsSold {
                hold_id, tickets, ..
            } => {
                self.facts.sales += 1;
                self.facts.tickets += tickets.len() as u64;
                for ticket in tickets {
                    self.sold(place, ticket.seat, hold_id.0);
                }
            }
        }
    }

    /// Compares the end with the rows of the seats, a letter each.
    fn close(mut self, rows: &[u8]) -> SaleFacts {
        let other = (0_u32..).zip(rows).filter(|(seat, row)| {
            let expected = match self.seats.get(seat) {
                None => b'a',
                Some(Seat::Held(_)) => b'h',
                Some(Seat::Sold) => b's',
            };
            **row != expected
        });
        self.facts.other_rows = other.count() as u64;
        self.facts
    }
}

impl Verifier {
    /// Goes through the facts of a sale. Reads the whole log of the event's partition.
    ///
    /// # Errors
    /// As [`Self::checkpoints`]; [`sqlx::Error::Decode`] when a fact cannot be read, because it was edited
    /// or is of a newer build.
    pub async fn sale_facts(&mut self, event_id: Uuid) -> Result<SaleFacts, sqlx::Error> {
        let mut chain = Chain::default();
        {
            let connection = self.connected().await?;
            let mut rows = sqlx::query_as::<_, (i64, i32, String)>(
                "SELECT log_index, seq, payload::text FROM changes
                 WHERE entity = $1
                       AND partition = (SELECT partition FROM events WHERE event_id = $1)
                 ORDER BY log_index, seq",
            )
            .bind(event_id)
            .fetch(connection);
            while let Some((log_index, seq, payload)) = rows.try_next().await? {
                let change: Change = serde_json::from_str(&payload)
                    .map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
                if let Change::BoxOffice(fact) = &change {
                    chain.add((log_index, seq), fact);
                }
            }
        }
        let rows = self.seat_states(event_id).await?;
        Ok(chain.close(&rows))
    }

    /// How many log entries are in the database with a gap among their changes, parked ones counted in.
    ///
    /// # Errors
    /// As [`Self::checkpoints`].
    pub async fn torn_entries(&mut self) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar(
            "SELECT count(*) FROM (
                 SELECT FROM (
                     SELECT partition, log_index, seq FROM changes
                     UNION ALL SELECT partition, log_index, seq FROM dead_letter
                     WHERE reason <> 'seat_sold_twice'
                     UNION ALL SELECT partition, log_index, seq FROM dead_letter_dropped
                     WHERE reason <> 'seat_sold_twice'
                 ) AS known
                 GROUP BY partition, log_index
                 HAVING min(seq) <> 0 OR max(seq) + 1 <> count(*)
             ) AS torn",
        )
        .fetch_one(self.connected().await?)
        .await
    }

    /// The last log entry of each partition that has changes in the database.
    ///
    /// # Errors
    /// As [`Self::checkpoints`].
    pub async fn last_changes(&mut self) -> Result<Vec<(i32, i64)>, sqlx::Error> {
        sqlx::query_as("SELECT partition, max(log_index) FROM changes GROUP BY partition")
            .fetch_all(self.connected().await?)
            .await
    }

    /// How many changes there are of log entries after these indexes, by partition.
    ///
    /// # Errors
    /// As [`Self::checkpoints`].
    pub async fn changes_after(&mut self, indexes: &[(i32, i64)]) -> Result<i64, sqlx::Error> {
        let (partitions, indexes): (Vec<i32>, Vec<i64>) = indexes.iter().copied().unzip();
        sqlx::query_scalar(
            "SELECT count(*) FROM UNNEST($1::integer[], $2::bigint[]) AS u (partition, log_index)
             JOIN changes c ON c.partition = u.partition AND c.log_index > u.log_index",
        )
        .bind(partitions)
        .bind(indexes)
        .fetch_one(self.connected().await?)
        .await
    }
}

#[cfg(test)]
mod tests {
    use processing_unit::box_office::{ReleaseReason, SoldSeat};
    use processing_unit::{EventId, HoldId, TicketId, UserId};

    use super::*;

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn held(hold: u128, seat: u32) -> Fact {
        Fact::SeatsHeld {
            event_id: EventId(id(1)),
            hold_id: HoldId(id(hold)),
            buyer: UserId(id(2)),
            seats: [seat].into_iter().collect(),
            expires_at: grid_core::Timestamp::from_millis(1),
        }
    }

    fn released(hold: u128, seat: u32) -> Fact {
        Fact::SeatsReleased {
            event_id: EventId(id(1)),
            hold_id: HoldId(id(hold)),
            buyer: UserId(id(2)),
            seats: [seat].into_iter().collect(),
            reason: ReleaseReason::Released,
        }
    }

    fn sold(hold: u128, seat: u32) -> Fact {
        Fact::SeatsSold {
            event_id: EventId(id(1)),
            hold_id: HoldId(id(hold)),
            buyer: UserId(id(2)),
            payment_reference: "paid".into(),
            tickets: [SoldSeat {
                ticket_id: TicketId(id(9)),
                seat,
                price: 1,
            }]
            .into_iter()
            .collect(),
        }
    }

    fn check(facts: &[Fact], rows: &[u8]) -> SaleFacts {
        let mut chain = Chain::default();
        for (place, fact) in (1..).zip(facts) {
            chain.add((place, 0), fact);
        }
        chain.close(rows)
    }

    #[test]
    fn a_chain_that_can_have_happened_is_whole() {
        let facts = [
            held(1, 0),
            released(1, 0),
            held(2, 0),
            sold(2, 0),
            held(3, 1),
        ];
        let whole = check(&facts, b"sha");
        assert!(whole.is_whole(), "{whole:?}");
        let counts = (whole.holds, whole.releases, whole.sales, whole.tickets);
        assert_eq!(counts, (3, 1, 1, 1));
        assert_eq!(check(&facts, b"sHa").other_rows, 1);
    }

    #[test]
    fn a_fact_that_is_missing_doubled_or_misplaced_is_found() {
        let facts = [held(1, 0), released(1, 0), held(2, 0), sold(2, 0)];
        for place in 0..facts.len() {
            let mut lacking = facts.to_vec();
            lacking.remove(place);
            assert!(!check(&lacking, b"s").is_whole(), "without {place}");
            let mut doubled = facts.to_vec();
            doubled.insert(place, facts[place].clone());
            assert!(!check(&doubled, b"s").is_whole(), "{place} twice");
        }
        for place in 1..facts.len() {
            let mut misplaced = facts.to_vec();
            misplaced.swap(place - 1, place);
            assert!(!check(&misplaced, b"s").is_whole(), "{place} too early");
        }
    }
}
