//! What the database says, for comparison with what the grid says.
//!
//! Read-only. Whoever compares waits first until the checkpoints have reached the grid's positions.

mod facts;

pub use facts::SaleFacts;

use serde::Serialize;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

/// Why the database could not be asked, for callers that do not know its driver.
pub type DatabaseError = sqlx::Error;

/// How many seats of an event are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, sqlx::FromRow)]
#[expect(missing_docs, reason = "plain names")]
pub struct SeatCounts {
    pub available: i64,
    pub held: i64,
    pub sold: i64,
}

/// A ticket as written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
#[expect(missing_docs, reason = "plain names; the price in minor units")]
pub struct WrittenTicket {
    pub seat_index: i32,
    pub ticket_id: Uuid,
    pub buyer: Uuid,
    pub price: i64,
}

/// An auction as written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
#[expect(missing_docs, reason = "plain names; amounts in minor units")]
pub struct WrittenAuction {
    pub auction_id: Uuid,
    pub status: String,
    /// Accepted bids, withdrawn ones included.
    pub bids: i64,
    /// The highest standing bid among them.
    pub highest: Option<i64>,
    pub outcome: Option<String>,
    pub winner: Option<Uuid>,
    pub winning_amount: Option<i64>,
}

/// How far a partition is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct WrittenCheckpoint {
    /// The partition.
    pub partition: i32,
    /// Every change up to this log index is in the database.
    pub applied_index: i64,
    /// The term of the leader whose pump wrote last.
    pub epoch: i64,
}

/// A change that is parked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
#[expect(missing_docs, reason = "plain names")]
pub struct DeadLetter {
    pub partition: i32,
    pub log_index: i64,
    pub seq: i32,
    pub kind: String,
    pub entity: Uuid,
    /// `rejected` or `seat_sold_twice`.
    pub reason: String,
    pub error: String,
}

impl std::fmt::Display for DeadLetter {
    /// The change and its place in the log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} of {} at {}:{}:{}",
            self.kind, self.entity, self.partition, self.log_index, self.seq
        )
    }
}

/// A reader of the database, for verifying.
///
/// A database that answers one connection at a time keeps its pump waiting while this one is open:
/// [`Self::pause`] lets go of it, and the next question connects anew.
#[derive(Debug)]
pub struct Verifier {
    database_url: String,
    connection: Option<PgConnection>,
}

impl Verifier {
    /// Connects.
    ///
    /// # Errors
    /// When the database is away. Retry.
    pub async fn connect(database_url: &str) -> Result<Self, sqlx::Error> {
        let mut verifier = Self {
            database_url: database_url.to_owned(),
            connection: None,
        };
        verifier.connected().await?;
        Ok(verifier)
    }

    /// As [`Self::connect`], but a server that cannot be reached now is asked again with each question.
    ///
    /// # Errors
    /// See [`Self::connect`]; none when nothing answers at the address.
    pub async fn connect_when_there(database_url: &str) -> Result<Self, sqlx::Error> {
        match Self::connect(database_url).await {
            Err(sqlx::Error::Io(error)) => {
                tracing::debug!(%error, "the database is away");
                Ok(Self {
                    database_url: database_url.to_owned(),
                    connection: None,
                })
            }
            other => other,
        }
    }

    async fn connected(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => PgConnection::connect(&self.database_url).await?,
        };
        Ok(self.connection.insert(connection))
    }

    /// Lets others at the database until the next question. To be called before waiting for the pump.
    pub async fn pause(&mut self) {
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::debug!(%error, "the database had gone already");
        }
    }

    /// How far every partition is written, by partition.
    ///
    /// # Errors
    /// When the database is away. Retry; so for all that follow.
    pub async fn checkpoints(&mut self) -> Result<Vec<WrittenCheckpoint>, sqlx::Error> {
        sqlx::query_as(
            "SELECT partition, applied_index, epoch FROM pump_checkpoint ORDER BY partition",
        )
        .fetch_all(self.connected().await?)
        .await
    }

    /// Counts an event's seats by state.
    ///
    /// # Errors
    /// As [`Self::checkpoints`].
    pub async fn seat_counts(&mut self, event_id: Uuid) -> Result<SeatCounts, sqlx::Error> {
        sqlx::query_as(
            "SELECT count(*) FILTER (WHERE state = 'available') AS available,
                    count(*) FILTER (WHERE state = 'held') AS held,
                    count(*) FILTER (WHERE state = 'sold') AS sold
             FROM seats WHERE event_id = $1",
        )
        .bind(event_id)
        .fetch_one(self.connected().await?)
        .await
    }

    /// Every seat's state by its index, one letter a seat: `a`vailable, `h`eld, `s`old, as the grid's
    /// own seat query gives them.
    ///
    /// # Errors
    /// As [`Self::checkpoints`].
    pub async fn seat_states(&mut self, event_id: Uuid) -> Result<Vec<u8>, sqlx::Error> {
        let letters: Option<String> = sqlx::query_scalar(
            "SELECT string_agg(left(state, 1), '' ORDER BY seat_index) FROM seats WHERE event_id = $1",
        )
        .bind(event_id)
        .fetch_one(self.connected().await?)
        .await?;
        Ok(letters.unwrap_or_default().into_bytes())
    }

    /// An event's tickets by seat.
    ///
    /// # Errors
    /// As [`Self::checkpoints`].
    pub async fn tickets(&mut self, event_id: Uuid) -> Result<Vec<WrittenTicket>, sqlx::Error> {
        sqlx::query_as(
            "SELECT seat_index, ticket_id, buyer, price FROM tickets
             WHERE event_id = $1 ORDER BY seat_index",
        )
        .bind(event_id)
        .fetch_all(self.connected().await?)
        .await
    }

    /// How many seats of an event were sold more than once, by the log of changes itself rather than by
    /// what was made of it. Reads the whole log of the event's partition.
    ///
    /// # Errors
    /// As [`Self::checkpoints`].
    pub async fn seats_sold_twice(&mut self, event_id: Uuid) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar(
            "SELECT count(*) FROM (
                 SELECT ticket->>'seat'
                 FROM changes c,
                      jsonb_array_elements(c.payload #> '{BoxOffice,SeatsSold,tickets}') AS ticket
                 WHERE c.kind = 'seats_sold' AND c.entity = $1
                   AND c.partition = (SELECT partition FROM events WHERE event_id = $1)
                 GROUP BY ticket->>'seat'
                 HAVING count(*) > 1
             ) AS twice",
        )
        .bind(event_id)
        .fetch_one(self.connected().await?)
        .await
    }

    /// An auction with its bids counted; `None` if it is not written.
    ///
    /// # Errors
    /// As [`Self::checkpoints`].
    pub async fn auction(
        &mut self,
        auction_id: Uuid,
    ) -> Result<Option<WrittenAuction>, sqlx::Error> {
        sqlx::query_as(
            "SELECT a.auction_id, a.status, a.outcome, a.winner, a.winning_amount,
                    count(b.bid_id) AS bids, max(b.amount) FILTER (WHERE NOT b.withdrawn) AS highest
             FROM auctions a LEFT JOIN bids b USING (auction_id)
             WHERE a.auction_id = $1
             GROUP BY a.auction_id",
        )
        .bind(auction_id)
        .fetch_optional(self.connected().await?)
        .await
    }

    /// Whether a pump has made its tables here.
    ///
    /// # Errors
    /// As [`Self::checkpoints`].
    pub async fn has_schema(&mut self) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar("SELECT to_regclass('dead_letter') IS NOT NULL")
            .fetch_one(self.connected().await?)
            .await
    }

    /// The changes parked last, at most `limit`.
    ///
    /// # Errors
    /// As [`Self::checkpoints`].
    pub async fn dead_letters(&mut self, limit: u32) -> Result<Vec<DeadLetter>, sqlx::Error> {
        sqlx::query_as(
            "SELECT partition, log_index, seq, kind, entity, reason, error FROM dead_letter
             ORDER BY parked_at DESC, partition, log_index, seq LIMIT $1",
        )
        .bind(i64::from(limit))
        .fetch_all(self.connected().await?)
        .await
    }
}
