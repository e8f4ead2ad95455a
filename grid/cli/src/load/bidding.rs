//! Bidding: every auction has its bidders, every bid is the next step of its auction's price.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::pace::Pace;
use super::recorder::Kind;
use super::session::{Answer, Session};
use super::wire::{BidReply, Request};
use super::{Plan, Recorder, START_PAUSE};
use crate::api::Api;
use crate::output::Output;

/// The rise from bid to bid, in minor units; also where bidding begins.
const INCREMENT: u64 = 100;
/// How long the auctions stay open after the run, for the check.
const OPEN_AFTER_HOURS: i64 = 24;
const CREATES_IN_FLIGHT_MAX: usize = 16;

/// An accepted bid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accepted {
    /// The bid.
    pub(crate) bid_id: Uuid,
    /// In minor units.
    pub(crate) amount: u64,
}

/// An auction and what its bidders were told.
#[derive(Debug)]
pub(crate) struct Lot {
    /// The auction.
    pub(crate) auction_id: Uuid,
    /// The next bid's step.
    step: AtomicU64,
    accepted: Mutex<Vec<Accepted>>,
    unknown: AtomicU64,
}

impl Lot {
    /// Every bid that was accepted.
    pub(crate) fn accepted(&self) -> Vec<Accepted> {
        self.accepted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Bids whose outcome nobody was told.
    pub(crate) fn unknown(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
    }
}

#[derive(Deserialize)]
struct Created {
    auction_id: Uuid,
}

#[derive(Deserialize)]
struct AuctionView {
    minimum_next: crate::api::Money,
}

/// Creates auctions that are open now.
async fn create(api: &Api, count: usize, plan: &Plan) -> anyhow::Result<Vec<Lot>> {
    let start = Timestamp::now();
    let open =
        SignedDuration::try_from(plan.duration)? + SignedDuration::from_hours(OPEN_AFTER_HOURS);
    let end = start.checked_add(open)?;
    let creating = (1..=count).map(|number| {
        let body = json!({
            "item": {"name": format!("Load lot {number}"), "category": "load"},
            "category": "load", "currency": "EUR", "starting_price": "1.00", "increment": "1.00",
            "start_time": start.to_string(), "end_time": end.to_string(),
        });
        async move {
            let created: Created = api.post("/v1/auctions", &body, None).await?;
            anyhow::Ok(Lot::new(created.auction_id, 1))
        }
    });
    stream::iter(creating)
        .buffered(CREATES_IN_FLIGHT_MAX)
        .try_collect()
        .await
}

/// Takes auctions that exist, from where they stand.
async fn join(api: &Api, auctions: &[Uuid]) -> anyhow::Result<Vec<Lot>> {
    let mut lots = Vec::with_capacity(auctions.len());
    for auction_id in auctions {
        let view: AuctionView = api.get(&format!("/v1/auctions/{auction_id}")).await?;
        let minimum = u64::try_from(view.minimum_next.minor()?)?;
        lots.push(Lot::new(*auction_id, minimum.div_ceil(INCREMENT)));
    }
    Ok(lots)
}

impl Lot {
    fn new(auction_id: Uuid, step: u64) -> Self {
        Self {
            auction_id,
            step: AtomicU64::new(step),
            accepted: Mutex::default(),
            unknown: AtomicU64::new(0),
        }
    }
}

async fn bid(mut session: Session, lot: Arc<Lot>, mut pace: Pace) {
    while let Some(due) = pace.next().await {
        let amount = lot.step.fetch_add(1, Ordering::Relaxed) * INCREMENT;
        let request = Request::Bid {
            auction_id: lot.auction_id,
            amount,
        };
        match session.ask::<BidReply>(Kind::Bid, request, due).await {
            Answer::Reply(reply) => {
                let mut accepted = lot.accepted.lock().unwrap_or_else(PoisonError::into_inner);
                accepted.push(Accepted {
                    bid_id: reply.bid_id,
                    amount,
                });
            }
            Answer::Unknown => {
                lot.unknown.fetch_add(1, Ordering::Relaxed);
            }
            Answer::Refused => {}
        }
    }
}

/// Bids and returns what was accepted. Without auctions, `count` new ones are made.
pub(crate) async fn run(
    output: Output,
    plan: &Plan,
    api: &Api,
    auctions: &[Uuid],
    count: usize,
) -> anyhow::Result<(Arc<Recorder>, Vec<Arc<Lot>>)> {
    let lots = match auctions {
        [] => create(api, count.min(plan.connections).max(1), plan).await?,
        auctions => join(api, auctions).await?,
    };
    let lots: Vec<Arc<Lot>> = lots.into_iter().map(Arc::new).collect();
    let warm_up = Arc::new(Recorder::new(Instant::now(), plan.duration, 1)?);
    let sessions = plan.connect(&warm_up).await?;
    let start = Instant::now() + START_PAUSE;
    let recorder = Arc::new(Recorder::new(start, plan.duration, lots.len())?);
    let mut tasks = JoinSet::new();
    for (number, session) in sessions.into_iter().enumerate() {
        let lot = Arc::clone(&lots[number % lots.len()]);
        let session = session.counted_by(Arc::clone(&recorder));
        tasks.spawn(bid(session, lot, plan.pace(number, start)));
    }
    plan.watch(output, "bidding, seconds", start, tasks).await?;
    Ok((recorder, lots))
}
