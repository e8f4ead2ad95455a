//! An on-sale as buyers make it: hold, then pay or let go, and the next in line comes.
//!
//! The share of holds that are paid follows the clock, so that the event sells out over the run. Buyers
//! choose among the seats that they do not know to be sold, as on a seat map; that others hold one
//! they find out by being refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use grid_core::FixedHashMap;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::ledger::{Account, Ledger, Sold};
use super::pace::Pace;
use super::recorder::Kind;
use super::session::{Answer, Session};
use super::venue::SeatMap;
use super::wire::{AnyReply, BestReply, HoldReply, Request, TicketsReply};
use super::{Plan, Recorder, START_PAUSE};
use crate::output::Output;
use crate::sequence::Sequence;

/// Of a hundred holds, how many let the grid choose.
const BEST_AVAILABLE_PERCENT: u64 = 15;
/// How many seats a buyer wants: one draw of these.
const QUANTITIES: [u32; 10] = [1, 1, 2, 2, 2, 2, 3, 3, 4, 4];
/// The part of the run after which the last seat may be sold.
const SOLD_OUT_AT: f64 = 0.95;
/// How often a buyer looks for seats that are not sold before trying any.
const LOOKS_MAX: u32 = 12;

/// A sale under way.
#[derive(Debug)]
struct Sale {
    event_id: Uuid,
    map: SeatMap,
    /// As JSON strings.
    labels: Vec<String>,
    places: FixedHashMap<String, u32>,
    ledger: Ledger,
    limit: u32,
    start: Instant,
    tempo: Tempo,
    /// Seats to be sold over the run.
    for_sale: u64,
    /// Seats paid or being paid.
    selling: AtomicU64,
}

impl Sale {
    fn new(offer: Offer, start: Instant, tempo: Tempo) -> Self {
        let map = offer.map;
        let ledger = Ledger::new(map.len());
        for (seat, state) in (0u32..).zip(&map.states) {
            if *state == b's' {
                ledger.mark_sold(seat);
            }
        }
        Self {
            event_id: offer.event_id,
            labels: map.json_labels(),
            places: map.places(),
            ledger,
            limit: offer.limit,
            start,
            tempo,
            for_sale: (map.count(b'a') as f64 * tempo.share) as u64,
            selling: AtomicU64::new(0),
            map,
        }
    }

    /// Whether the buyer of so many seats pays, to keep to the pace.
    fn takes(&self, seats: u64) -> bool {
        let elapsed = self.start.elapsed().as_secs_f64() / self.tempo.over.as_secs_f64();
        let due = (self.for_sale as f64 * elapsed.min(1.0)) as u64;
        self.selling
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |selling| {
                (selling + seats <= due).then_some(selling + seats)
            })
            .is_ok()
    }

    fn takes_not(&self, seats: u64) {
        self.selling.fetch_sub(seats, Ordering::Relaxed);
    }

    /// Neighbouring seats that are not known to be sold, if a few looks find any.
    fn choose(&self, sequence: &mut Sequence, quantity: u32, chosen: &mut Vec<u32>) {
        for _ in 0..LOOKS_MAX {
            chosen.clear();
            let row = sequence.pick(&self.map.rows);
            let length = row.end - row.start;
            let quantity = quantity.min(length);
            let first = row.start + sequence.below(u64::from(length - quantity) + 1) as u32;
            chosen.extend(first..first + quantity);
            if !chosen.iter().any(|seat| self.ledger.is_sold(*seat)) {
                return;
            }
        }
        if self.ledger.is_sold_out() {
            return;
        }
        // Little is left: any seat will do, if there is one.
        let seats = self.map.len() as u64;
        let from = sequence.below(seats);
        let free = (from..seats).chain(0..from).map(|seat| seat as u32);
        if let Some(seat) = free.into_iter().find(|seat| !self.ledger.is_sold(*seat)) {
            chosen.clear();
            chosen.push(seat);
        }
    }
}

/// A buyer's hold.
#[derive(Debug)]
struct Held {
    hold_id: Uuid,
    seats: Vec<u32>,
}

#[derive(Debug)]
struct Buyer {
    session: Session,
    sale: Arc<Sale>,
    sequence: Sequence,
    held: Option<Held>,
}

impl Buyer {
    async fn run(mut self, mut pace: Pace) {
        while let Some(due) = pace.next().await {
            match self.held.take() {
                None => self.hold(due).await,
                Some(held) => {
                    if self.sale.takes(held.seats.len() as u64) {
                        self.pay(due, held).await;
                        let next_in_line = self.sequence.uuid();
                        self.session.change_user(next_in_line).await;
                    } else {
                        self.release(due, &held).await;
                    }
                }
            }
        }
        if let Some(held) = &self.held {
            self.sale.ledger.outstanding(&held.seats);
        }
    }

    async fn hold(&mut self, due: Instant) {
        let event_id = self.sale.event_id;
        let quantity = (*self.sequence.pick(&QUANTITIES)).min(self.sale.limit);
        let is_best = self.sequence.below(100) < BEST_AVAILABLE_PERCENT;
        let held = if is_best {
            let request = Request::HoldBest { event_id, quantity };
            match self
                .session
                .ask::<BestReply>(Kind::Hold, request, due)
                .await
            {
                Answer::Reply(reply) => {
                    let places = &self.sale.places;
                    let seats = reply
                        .seats
                        .iter()
                        .filter_map(|label| places.get(label).copied())
                        .collect();
                    Held {
                        hold_id: reply.hold_id,
                        seats,
                    }
                }
                // Which seats an unknown hold took is unknown too; it runs out by itself.
                Answer::Refused | Answer::Unknown => return,
            }
        } else {
            let mut seats = Vec::with_capacity(quantity as usize);
            self.sale.choose(&mut self.sequence, quantity, &mut seats);
            let labels: Vec<&str> = seats
                .iter()
                .map(|seat| self.sale.labels[*seat as usize].as_str())
                .collect();
            let request = Request::HoldSeats {
                event_id,
                labels: &labels,
            };
            match self
                .session
                .ask::<HoldReply>(Kind::Hold, request, due)
                .await
            {
                Answer::Reply(reply) => Held {
                    hold_id: reply.hold_id,
                    seats,
                },
                Answer::Refused => return,
                Answer::Unknown => return self.sale.ledger.unknown(&seats),
            }
        };
        self.sale.ledger.held(&held.seats, self.session.number());
        self.held = Some(held);
    }

    async fn pay(&mut self, due: Instant, held: Held) {
        let request = Request::Confirm {
            event_id: self.sale.event_id,
            hold_id: held.hold_id,
        };
        let buyer = self.session.user();
        match self
            .session
            .ask::<TicketsReply>(Kind::Confirm, request, due)
            .await
        {
            Answer::Reply(reply) => {
                for ticket in reply.tickets {
                    // A seat that the event does not have shows as one that is missing.
                    let seat = self
                        .sale
                        .places
                        .get(&ticket.seat)
                        .copied()
                        .unwrap_or(u32::MAX);
                    self.sale.ledger.sold(Sold {
                        seat,
                        ticket_id: ticket.ticket_id,
                        buyer,
                    });
                }
            }
            Answer::Refused => {
                self.sale.takes_not(held.seats.len() as u64);
                self.sale.ledger.giving_back(&held.seats);
            }
            Answer::Unknown => self.sale.ledger.unknown(&held.seats),
        }
    }

    async fn release(&mut self, due: Instant, held: &Held) {
        self.sale.ledger.giving_back(&held.seats);
        let request = Request::Release {
            event_id: self.sale.event_id,
            hold_id: held.hold_id,
        };
        if let Answer::Unknown = self
            .session
            .ask::<AnyReply>(Kind::Release, request, due)
            .await
        {
            self.sale.ledger.unknown(&held.seats);
        }
    }
}

/// An event to be sold.
#[derive(Debug)]
pub(crate) struct Offer {
    /// The event.
    pub(crate) event_id: Uuid,
    /// Seats that one buyer may hold and own.
    pub(crate) limit: u32,
    /// Its seats as they stand.
    pub(crate) map: SeatMap,
}

/// How fast seats are paid for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tempo {
    /// The time in which the seats that are for sale go.
    pub(crate) over: Duration,
    /// The part of the house that is for sale; the rest is only held and let go, for ever.
    pub(crate) share: f64,
}

/// Sales under way.
#[derive(Debug)]
pub(crate) struct Selling {
    /// Counts.
    pub(crate) recorder: Arc<Recorder>,
    /// When the first request is due.
    pub(crate) start: Instant,
    sales: Vec<Arc<Sale>>,
    tasks: JoinSet<()>,
}

impl Selling {
    /// Connects the buyers, who take turns at the events, and lets them begin.
    pub(crate) async fn open(
        plan: &Plan,
        offers: Vec<Offer>,
        tempo: Tempo,
    ) -> anyhow::Result<Self> {
        // Opening takes its time, so the recorder that counts begins afterwards.
        let warm_up = Arc::new(Recorder::new(Instant::now(), plan.duration, 1)?);
        let sessions = plan.connect(&warm_up).await?;
        let start = Instant::now() + START_PAUSE;
        let recorder = Arc::new(Recorder::new(start, plan.duration, offers.len())?);
        let sales: Vec<Arc<Sale>> = offers
            .into_iter()
            .map(|offer| Arc::new(Sale::new(offer, start, tempo)))
            .collect();
        let mut tasks = JoinSet::new();
        for (number, session) in sessions.into_iter().enumerate() {
            let buyer = Buyer {
                session: session.counted_by(Arc::clone(&recorder)),
                sale: Arc::clone(&sales[number % sales.len()]),
                sequence: Sequence::new(plan.seed.rotate_left(17) ^ (number as u64 + 1)),
                held: None,
            };
            tasks.spawn(buyer.run(plan.pace(number, start)));
        }
        Ok(Self {
            recorder,
            start,
            sales,
            tasks,
        })
    }

    /// Waits until every buyer has gone home, which they do once the plan's schedule has ended.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<()> {
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a connection's task ended early")?;
        }
        Ok(())
    }

    /// What was acknowledged, by event.
    pub(crate) fn close(&self) -> Vec<(Uuid, Account)> {
        let sales = self.sales.iter();
        sales
            .map(|sale| (sale.event_id, sale.ledger.close()))
            .collect()
    }
}

/// Sells an event and returns what was acknowledged.
pub(crate) async fn run(
    output: Output,
    plan: &Plan,
    offer: Offer,
) -> anyhow::Result<(Arc<Recorder>, Account)> {
    let tempo = Tempo {
        over: plan.duration.mul_f64(SOLD_OUT_AT),
        share: 1.0,
    };
    let mut selling = Selling::open(plan, vec![offer], tempo).await?;
    let tasks = std::mem::take(&mut selling.tasks);
    plan.watch(output, "on sale, seconds", selling.start, tasks)
        .await?;
    let account = selling.close().pop().map(|(_, account)| account);
    Ok((selling.recorder, account.unwrap_or_default()))
}
