//! Whoever bids: two people by turns, each bid's amount being the moment at which it was to be made.

use std::time::{Duration, Instant, SystemTime};

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::frames::FIRST_AMOUNT;
use crate::api::{Api, random_uuid};
use crate::failure::Failure;
use crate::load::session::Target;
use crate::load::socket::Socket;
use crate::load::wire::{self, Incoming, Request};

/// How long the auction stays open.
const OPEN_HOURS: i64 = 24;
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Publisher {
    auction: Uuid,
    bidders: Vec<Socket>,
    epoch: SystemTime,
    last_ms: u64,
    next_id: u64,
}

#[derive(Deserialize)]
struct Created {
    auction_id: Uuid,
}

impl Publisher {
    /// Creates an auction that is open now.
    pub(super) async fn create(api: &Api) -> anyhow::Result<Self> {
        let start = Timestamp::now();
        let end = start.checked_add(SignedDuration::from_hours(OPEN_HOURS))?;
        let body = json!({
            "item": {"name": "A lot that many watch", "category": "load"},
            "category": "load", "currency": "EUR", "starting_price": "0.01", "increment": "0.01",
            "start_time": start.to_string(), "end_time": end.to_string(),
        });
        let created: Created = api.post("/v1/auctions", &body, None).await?;
        let target = Target::new(api.gateways())?;
        let mut bidders = Vec::new();
        for _ in 0..2 {
            let opened = Socket::open(target.authority(0), random_uuid()?).await;
            bidders.push(opened.map_err(|error| Failure::Unreachable(error.to_string()))?);
        }
        Ok(Self {
            auction: created.auction_id,
            bidders,
            epoch: SystemTime::now(),
            last_ms: 0,
            next_id: 1,
        })
    }

    /// What is watched.
    pub(super) fn auction(&self) -> Uuid {
        self.auction
    }

    /// The moment that amounts count from.
    pub(super) fn epoch_ms(&self) -> u64 {
        let since = self.epoch.duration_since(SystemTime::UNIX_EPOCH);
        u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(0)
    }

    /// Since then.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().unwrap_or_default().as_millis()).unwrap_or(0)
    }

    /// Makes `rate` bids a second; returns how many were accepted.
    pub(super) async fn publish(&mut self, rate: f64, duration: Duration) -> anyhow::Result<u64> {
        let (start, start_ms) = (Instant::now(), self.now_ms());
        let mut accepted = 0;
        for number in 0..(duration.as_secs_f64() * rate) as u64 {
            let offset = Duration::from_secs_f64(number as f64 / rate);
            tokio::time::sleep_until((start + offset).into()).await;
            let due_ms = start_ms + u64::try_from(offset.as_millis())?;
            accepted += u64::from(self.bid(due_ms).await?);
        }
        Ok(accepted)
    }

    /// Makes one bid.
    pub(super) async fn publish_now(&mut self) -> anyhow::Result<()> {
        match self.bid(self.now_ms()).await? {
            true => Ok(()),
            false => anyhow::bail!("the auction refuses a bid"),
        }
    }

    async fn bid(&mut self, due_ms: u64) -> anyhow::Result<bool> {
        let due_ms = due_ms.max(self.last_ms + 1);
        self.last_ms = due_ms;
        let id = self.next_id;
        self.next_id += 1;
        let bid = Request::Bid {
            auction_id: self.auction,
            amount: FIRST_AMOUNT + due_ms,
        };
        let bidder = &mut self.bidders[usize::from(id.is_multiple_of(2))];
        bidder.send(bid.write(id).into()).await?;
        let answered = tokio::time::timeout(ANSWER_WAIT, async {
            loop {
                let text = bidder.receive().await?;
                match wire::read(&text) {
                    Incoming::Reply { id: of, .. } if of == id => return anyhow::Ok(true),
                    Incoming::Refused { id: of, .. } if of == id => return Ok(false),
                    _ => {}
                }
            }
        });
        answered.await?
    }
}
