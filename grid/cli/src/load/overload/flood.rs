//! One connection that asks for what the schedule wants as long as it has a free seat to ask for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_tungstenite::tungstenite::Utf8Bytes;
use uuid::Uuid;

use super::super::session::Target;
use super::super::socket::{Socket, SocketError};
use super::super::wire::{self, Code, HoldReply, Incoming, Request};
use super::meter::Meter;

/// Requests that are due are sent together this often, so that thousands of connections cost little.
const TICK: Duration = Duration::from_millis(20);
/// Requests under way on a connection in the closed loop.
const CLOSED_IN_FLIGHT: usize = 2;
/// The pause before an unanswered request is sent again, and before connecting again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause that a gateway is obeyed in.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);
/// How long the last answers of a phase are awaited.
const DRAIN_WAIT: Duration = Duration::from_secs(10);

/// When to ask.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    pub(super) start: Instant,
    pub(super) end: Instant,
    /// Of this connection; `None` for the closed loop.
    pub(super) rate_per_s: Option<f64>,
    pub(super) meter: Arc<Meter>,
}

/// A seat that this connection holds and lets go in turns.
#[derive(Debug)]
struct Seat {
    label: String,
    hold: Option<Uuid>,
    /// The request under way, with the time when it was due. Kept to be sent again.
    asked: Option<(Utf8Bytes, Instant)>,
}

/// A connection with its seats. A request's id says which seat it is about.
#[derive(Debug)]
pub(super) struct Flood {
    target: Arc<Target>,
    gateway: usize,
    number: usize,
    user: Uuid,
    event_id: Uuid,
    seats: Vec<Seat>,
    /// Seats that can be asked for.
    free: VecDeque<usize>,
    /// Seats that wait, and until when.
    resting: Vec<(Instant, usize)>,
    socket: Option<Socket>,
    next_number: u64,
    pub(super) is_impatient: bool,
}

impl Flood {
    pub(super) fn new(
        target: Arc<Target>,
        number: usize,
        user: Uuid,
        event_id: Uuid,
        labels: Vec<String>,
    ) -> Self {
        Self {
            target,
            gateway: number,
            number,
            user,
            event_id,
            free: (0..labels.len()).collect(),
            seats: labels
                .into_iter()
                .map(|label| Seat {
                    label,
                    hold: None,
                    asked: None,
                })
                .collect(),
            resting: Vec::new(),
            socket: None,
            next_number: 1,
            is_impatient: false,
        }
    }

    pub(super) async fn open(&mut self) -> Result<(), SocketError> {
        self.socket = Some(Socket::open(self.target.authority(self.gateway), self.user).await?);
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.seats
            .iter()
            .filter(|seat| seat.asked.is_some())
            .count()
    }

    /// Follows the schedule to its end, waits for the last answers, and gives itself back.
    pub(super) async fn run(mut self, schedule: Schedule) -> Self {
        tokio::time::sleep_until(schedule.start.into()).await;
        let mut issued = 0;
        // Connections take turns within one interval of the schedule.
        let turn = self.number as f64 * 0.618_034 % 1.0;
        loop {
            let now = Instant::now();
            if now >= schedule.end + DRAIN_WAIT || (now >= schedule.end && self.in_flight() == 0) {
                return self;
            }
            if let Err(error) = self.step(&schedule, now, turn, &mut issued).await {
                tracing::debug!(%error, connection = self.number, "a connection was lost");
                let after = schedule.start.elapsed();
                schedule.meter.count(after, |second| second.errors += 1);
                self.come_back().await;
            }
        }
    }

    async fn step(
        &mut self,
        schedule: &Schedule,
        now: Instant,
        turn: f64,
        issued: &mut u64,
    ) -> Result<(), SocketError> {
        if self.socket.is_none() {
            self.open().await?;
        }
        self.wake(now).await?;
        if now < schedule.end {
            let wanted = match schedule.rate_per_s {
                Some(rate) => {
                    let elapsed = (now - schedule.start).as_secs_f64();
                    let due = (elapsed * rate + turn) as u64;
                    let wanted = due - *issued;
                    *issued = due;
                    wanted
                }
                None => CLOSED_IN_FLIGHT.saturating_sub(self.in_flight()) as u64,
            };
            let sent = self.ask(wanted, now).await?;
            let unsent = match schedule.rate_per_s {
                Some(_) => wanted - sent,
                None => 0,
            };
            if wanted > 0 {
                let after = now - schedule.start;
                schedule.meter.count(after, |second| {
                    second.sent += sent;
                    second.unsent += unsent;
                });
            }
        }
        let Some(socket) = &mut self.socket else {
            return Err(SocketError::Closed);
        };
        tokio::select! {
            message = socket.receive() => {
                let message = message?;
                self.hear(message.as_str(), schedule)
            }
            () = tokio::time::sleep_until((now + TICK).into()) => Ok(()),
        }
    }

    /// Lets go of what has rested; what was asked and not answered is asked again.
    async fn wake(&mut self, now: Instant) -> Result<(), SocketError> {
        let rested: Vec<usize> = self
            .resting
            .extract_if(.., |(until, _)| *until <= now)
            .map(|(_, place)| place)
            .collect();
        for place in rested {
            match &self.seats[place].asked {
                None => self.free.push_back(place),
                Some((text, _)) => {
                    let text = text.clone();
                    self.send(text).await?;
                }
            }
        }
        Ok(())
    }

    async fn send(&mut self, text: Utf8Bytes) -> Result<(), SocketError> {
        match &mut self.socket {
            Some(socket) => socket.send(text).await,
            None => Err(SocketError::Closed),
        }
    }

    /// Asks for up to so many free seats; returns for how many.
    async fn ask(&mut self, wanted: u64, now: Instant) -> Result<u64, SocketError> {
        let mut sent = 0;
        while sent < wanted {
            let Some(place) = self.free.pop_front() else {
                break;
            };
            let id = self.next_number * self.seats.len() as u64 + place as u64;
            self.next_number += 1;
            let seat = &mut self.seats[place];
            let event_id = self.event_id;
            let text = match seat.hold {
                None => Request::HoldSeats {
                    event_id,
                    labels: &[&seat.label],
                }
                .write(id),
                Some(hold_id) => Request::Release { event_id, hold_id }.write(id),
            };
            let text = Utf8Bytes::from(text);
            seat.asked = Some((text.clone(), now));
            sent += 1;
            self.send(text).await?;
        }
        Ok(sent)
    }

    fn hear(&mut self, text: &str, schedule: &Schedule) -> Result<(), SocketError> {
        let after = schedule.start.elapsed();
        match wire::read(text) {
            Incoming::Reply { id, data } => {
                let place = (id % self.seats.len() as u64) as usize;
                let seat = &mut self.seats[place];
                if let Some((_, due)) = seat.asked.take() {
                    schedule.meter.done(after, due.elapsed());
                    seat.hold = match seat.hold {
                        None => serde_json::from_str::<HoldReply>(data)
                            .ok()
                            .map(|reply| reply.hold_id),
                        Some(_) => None,
                    };
                    self.free.push_back(place);
                }
                Ok(())
            }
            Incoming::Refused {
                id,
                code,
                retry_after,
            } => {
                let place = (id % self.seats.len() as u64) as usize;
                self.refused(place, code, retry_after, after, schedule);
                Ok(())
            }
            Incoming::Goodbye { .. } => Err(SocketError::Closed),
            Incoming::Other => Ok(()),
        }
    }

    fn refused(
        &mut self,
        place: usize,
        code: Code,
        retry_after: Option<Duration>,
        after: Duration,
        schedule: &Schedule,
    ) {
        let seat = &mut self.seats[place];
        let Some((_, due)) = &seat.asked else {
            return;
        };
        let latency_us = due.elapsed().as_micros() as u64;
        let is_refusal = code.is_overload();
        schedule.meter.count(after, |second| {
            second.refused += u64::from(is_refusal);
            second.errors += u64::from(!is_refusal);
            second.decided += 1;
            second.latency_us += latency_us;
        });
        let now = Instant::now();
        if is_refusal {
            // Nothing was done, so the next customer's turn is a new request.
            seat.asked = None;
            let wait = retry_after.unwrap_or(RETRY_PAUSE).min(RETRY_AFTER_MAX);
            match self.is_impatient {
                true => self.free.push_back(place),
                false => self.resting.push((now + wait, place)),
            }
        } else if code.is_retryable() {
            self.resting.push((now + RETRY_PAUSE, place));
        } else {
            // What is held is not known; the seat is left alone, except that a hold that is gone may be
            // taken anew.
            seat.asked = None;
            if seat.hold.take().is_some() {
                self.free.push_back(place);
            }
        }
    }

    /// After a lost connection: another gateway, and everything that was not answered once more.
    async fn come_back(&mut self) {
        self.socket = None;
        self.gateway += 1;
        tokio::time::sleep(RETRY_PAUSE).await;
        let now = Instant::now();
        self.resting
            .retain(|(_, place)| self.seats[*place].asked.is_none());
        for (place, seat) in self.seats.iter().enumerate() {
            if seat.asked.is_some() {
                self.resting.push((now, place));
            }
        }
    }
}
