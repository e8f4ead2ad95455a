//! An on-sale as buyers make it: hold, then pay or let go, and the next in line comes.
//!
//! The share of holds that are paid follows the clock, so that the event sells out over the run. Buyers
//! choose among the seats that they do not know to be sold, as on a seat map; that others hold one
//! they find out by being refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

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
    duration_s: f64,
    /// Seats to be sold over the run.
    for_sale: u64,
    /// Seats paid or being paid.
    selling: AtomicU64,
}

impl Sale {
    /// Whether the buyer of so many seats pays, to keep to the pace.
    fn takes(&self, seats: u64) -> bool {
        let elapsed = self.start.elapsed().as_secs_f64() / (self.duration_s * SOLD_OUT_AT);
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

/// Sells an event and returns what was acknowledged.
pub(crate) async fn run(
    output: Output,
    plan: &Plan,
    event_id: Uuid,
    limit: u32,
    map: SeatMap,
) -> anyhow::Result<(Arc<Recorder>, Account)> {
    // Opening takes its time, so the recorder that counts begins afterwards.
    let warm_up = Arc::new(Recorder::new(Instant::now(), plan.duration, 1)?);
    let sessions = plan.connect(&warm_up).await?;
    let start = Instant::now() + START_PAUSE;
    let recorder = Arc::new(Recorder::new(start, plan.duration, 1)?);
    let ledger = Ledger::new(map.len());
    for (seat, state) in (0u32..).zip(&map.states) {
        if *state == b's' {
            ledger.mark_sold(seat);
        }
    }
    let sale = Arc::new(Sale {
        event_id,
        labels: map.json_labels(),
        places: map.places(),
        ledger,
        limit,
        start,
        duration_s: plan.duration.as_secs_f64(),
        for_sale: map.count(b'a'),
        selling: AtomicU64::new(0),
        map,
    });
    let mut tasks = JoinSet::new();
    for (number, session) in sessions.into_iter().enumerate() {
        let buyer = Buyer {
            session: session.counted_by(Arc::clone(&recorder)),
            sale: Arc::clone(&sale),
            sequence: Sequence::new(plan.seed.rotate_left(17) ^ (number as u64 + 1)),
            held: None,
        };
        tasks.spawn(buyer.run(plan.pace(number, start)));
    }
    plan.watch(output, "on sale, seconds", start, tasks).await?;
    Ok((recorder, sale.ledger.close()))
}
