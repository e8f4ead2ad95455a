//! `grid load rush`: many people arrive at once in the waiting room before a sale; whoever is admitted buys.
//!
//! ```text
//!   arrivals on a fixed schedule ──► POST …/queue ──► number, pseudonym
//!   the marker says who is next  ──► GET …/queue ──► pass ──► POST …/holds ──► …/confirm
//!   afterwards: every number is there, the order is the lottery's, no seat has two tickets
//! ```
//!
//! Open loop: an arrival's time is counted from its place in the schedule, and whoever is admitted buys at
//! once. People come over a fixed number of HTTP connections, each request naming its own person, since one
//! process may not open 50,000 sockets here; live positions over WebSockets are measured elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::fault::Fault;
use crate::api::Api;
use crate::draw::{self, Room};
use crate::output::Output;
use crate::sequence::Sequence;

/// People who buy at the same time, at most; the next ones wait for them.
const BUYING_MAX: usize = 2_000;
/// How often the marker is read.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
const RETRY_PAUSE: Duration = Duration::from_millis(50);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one request is tried for.
const PATIENCE: Duration = Duration::from_secs(60);
/// A run in which nothing happens for so long is given up.
const STALL: Duration = Duration::from_secs(120);

/// How to rush.
#[derive(Debug)]
pub(crate) struct CrowdPlan {
    /// Where requests go, in turn.
    pub(crate) gateways: Vec<String>,
    /// The sale, which has a waiting room.
    pub(crate) event_id: Uuid,
    /// People.
    pub(crate) arrivals: usize,
    /// How long they take to arrive.
    pub(crate) over: Duration,
    /// HTTP connections, at most so many joins under way.
    pub(crate) connections: usize,
    /// Makes people differ from run to run.
    pub(crate) seed: u64,
    /// A node to kill meanwhile.
    pub(crate) fault: Option<Arc<Fault>>,
}

/// A person's place, as they were told.
#[derive(Clone, Debug, Deserialize)]
struct Place {
    number: u32,
    pseudonym: String,
    state: String,
    pass: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Held {
    hold_id: Uuid,
}

#[derive(Debug, Deserialize)]
struct Bought {
    tickets: Vec<Ticket>,
}

#[derive(Debug, Deserialize)]
struct Ticket {
    seat: String,
}

/// What the run came to.
#[derive(Debug, Default)]
pub(crate) struct CrowdFigures {
    /// How long joining took, from its time in the schedule, in microseconds.
    pub(crate) joins_us: Vec<u64>,
    /// How long holding took for those who were admitted, in microseconds.
    pub(crate) holds_us: Vec<u64>,
    /// Seats that buyers were told they have.
    seats: Vec<String>,
    /// People whose request never got an answer.
    pub(crate) unanswered: u64,
    /// People who were admitted and refused a seat, by the code.
    pub(crate) refused: BTreeMap<String, u64>,
}

/// One rush.
#[derive(Debug)]
struct Crowd {
    http: reqwest::Client,
    gateways: Vec<String>,
    turn: AtomicUsize,
    queue: String,
    holds: String,
    retries: AtomicU64,
    figures: Mutex<CrowdFigures>,
}

/// A request that got no good answer.
#[derive(Debug)]
enum NoAnswer {
    /// The grid said no, with this code.
    Refused(String),
    /// Nobody answered for a long time.
    Silence,
}

impl Crowd {
    fn figures(&self) -> MutexGuard<'_, CrowdFigures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks one gateway after the other until one answers for good. `key` makes that safe.
    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        user: Uuid,
        body: Option<Value>,
        key: &str,
    ) -> Result<T, NoAnswer> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            let gateway = &self.gateways[turn % self.gateways.len()];
            let mut request = self
                .http
                .request(method.clone(), format!("{gateway}{path}"))
                .header("x-user-id", user.to_string())
                .header("idempotency-key", key)
                .timeout(ATTEMPT_TIMEOUT);
            if let Some(body) = &body {
                request = request
                    .header("content-type", "application/json")
                    .body(body.to_string());
            }
            if let Ok(response) = request.send().await {
                let status = response.status().as_u16();
                match (status, response.bytes().await) {
                    (200..=299, Ok(bytes)) => {
                        if let Ok(value) = serde_json::from_slice(&bytes) {
                            return Ok(value);
                        }
                    }
                    (400..=428 | 430..=499, Ok(bytes)) => {
                        let problem: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                        let code = problem["code"].as_str().unwrap_or("unknown");
                        return Err(NoAnswer::Refused(code.to_owned()));
                    }
                    _ => {}
                }
            }
            self.retries.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        Err(NoAnswer::Silence)
    }

    async fn join(&self, user: Uuid, due: Instant) -> Option<Place> {
        tokio::time::sleep_until(due.into()).await;
        let joined = self
            .ask(Method::POST, &self.queue, user, None, "join")
            .await;
        let mut figures = self.figures();
        match joined {
            Ok(place) => {
                figures.joins_us.push(micros(due.elapsed()));
                Some(place)
            }
            Err(error) => {
                figures.note(error);
                None
            }
        }
    }

    /// What an admitted person does: gets the pass, holds the best seat, pays.
    async fn buy(&self, user: Uuid) {
        if let Err(error) = self.try_to_buy(user).await {
            self.figures().note(error);
        }
    }

    async fn try_to_buy(&self, user: Uuid) -> Result<(), NoAnswer> {
        let place: Place = self
            .ask(Method::GET, &self.queue, user, None, "look")
            .await?;
        let Some(pass) = place.pass else {
            return Err(NoAnswer::Refused(format!("not_admitted_{}", place.state)));
        };
        let body = json!({"quantity": 1, "best_available": true, "pass": pass});
        let started = Instant::now();
        let held: Held = self
            .ask(Method::POST, &self.holds, user, Some(body), "hold")
            .await?;
        let took_us = micros(started.elapsed());
        self.figures().holds_us.push(took_us);
        let path = format!("{}/{}/confirm", self.holds, held.hold_id);
        let body = json!({"payment_reference": "rush"});
        let bought: Bought = self
            .ask(Method::POST, &path, user, Some(body), "confirm")
            .await?;
        let seats = bought.tickets.into_iter().map(|ticket| ticket.seat);
        self.figures().seats.extend(seats);
        Ok(())
    }
}

impl CrowdFigures {
    fn note(&mut self, error: NoAnswer) {
        match error {
            NoAnswer::Refused(code) => *self.refused.entry(code).or_default() += 1,
            NoAnswer::Silence => self.unanswered += 1,
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A percentile in milliseconds; 0 of nothing.
pub(crate) fn percentile_ms(times_us: &mut [u64], percent: usize) -> f64 {
    times_us.sort_unstable();
    let place = (times_us.len() * percent).div_ceil(100).max(1) - 1;
    times_us
        .get(place)
        .map_or(0.0, |time_us| *time_us as f64 / 1_000.0)
}

/// Lets them come, buy, and go; then checks.
pub(crate) async fn run(output: Output, plan: &CrowdPlan, api: &Api) -> anyhow::Result<Value> {
    let http = reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(plan.connections)
        .build()?;
    let crowd = Arc::new(Crowd {
        http,
        gateways: plan.gateways.clone(),
        turn: AtomicUsize::new(0),
        queue: format!("/v1/events/{}/queue", plan.event_id),
        holds: format!("/v1/events/{}/holds", plan.event_id),
        retries: AtomicU64::new(0),
        figures: Mutex::default(),
    });
    let mut sequence = Sequence::new(plan.seed);
    let people: Arc<Vec<Uuid>> = Arc::new((0..plan.arrivals).map(|_| sequence.uuid()).collect());
    let start = Instant::now();
    let fault = plan.fault.clone();
    let striking = tokio::spawn(async move {
        match fault {
            Some(fault) => fault.strike(start).await,
            None => Ok(()),
        }
    });
    let joined = arrive(output, plan, &crowd, &people, start).await?;
    let arrived_s = start.elapsed().as_secs_f64();
    let event = plan.event_id.to_string();
    let served = serve(output, api, &event, &crowd, &people, &joined).await?;
    striking.await??;
    let room = Room::read(api, &event).await?;
    let rows = draw::read_order(api, &event).await?;
    let proof = draw::verify(&room, &rows)?;
    let checks = check(api, &event, &crowd, &joined, &room, &rows).await?;
    let mut figures = std::mem::take(&mut *crowd.figures());
    let p99_hold_ms = percentile_ms(&mut figures.holds_us, 99);
    let is_ok = proof.ok && checks.values().all(|count| *count == 0) && figures.unanswered == 0;
    Ok(json!({
        "ok": is_ok,
        "event_id": plan.event_id,
        "way": "HTTP, each request naming its own person; no WebSockets",
        "connections": plan.connections,
        "arrivals": plan.arrivals,
        "over_s": plan.over.as_secs_f64(),
        "arrived_s": arrived_s,
        "joined": figures.joins_us.len(),
        "join_p50_ms": percentile_ms(&mut figures.joins_us, 50),
        "join_p99_ms": percentile_ms(&mut figures.joins_us, 99),
        "early": room.early,
        "admitted": room.admitted,
        "served_s": served.as_secs_f64(),
        "held": figures.holds_us.len(),
        "hold_p50_ms": percentile_ms(&mut figures.holds_us, 50),
        "hold_p99_ms": p99_hold_ms,
        "hold_p99_goal_ms": 100,
        "hold_p99_reached": p99_hold_ms < 100.0,
        "sold": figures.seats.len(),
        "unsold": room.unsold,
        "retries": crowd.retries.load(Ordering::Relaxed),
        "unanswered": figures.unanswered,
        "refused": figures.refused,
        "order": proof,
        "check": checks,
        "killed": plan.fault.as_ref().and_then(|fault| fault.killed()),
    }))
}

/// Everybody joins on schedule. Returns each person's place, by person.
async fn arrive(
    output: Output,
    plan: &CrowdPlan,
    crowd: &Arc<Crowd>,
    people: &Arc<Vec<Uuid>>,
    start: Instant,
) -> anyhow::Result<Vec<Option<Place>>> {
    let bar = output.bar(plan.arrivals as u64, "arrivals");
    let mut tasks = JoinSet::new();
    for lane in 0..plan.connections.min(plan.arrivals) {
        let (crowd, people, bar) = (Arc::clone(crowd), Arc::clone(people), bar.clone());
        let (step, over) = (plan.connections, plan.over);
        tasks.spawn(async move {
            let mut places = Vec::new();
            for number in (lane..people.len()).step_by(step) {
                let due = start + over.mul_f64(number as f64 / people.len() as f64);
                places.push((number, crowd.join(people[number], due).await));
                bar.inc(1);
            }
            places
        });
    }
    let mut joined = vec![None; people.len()];
    while let Some(lane) = tasks.join_next().await {
        for (number, place) in lane? {
            joined[number] = place;
        }
    }
    bar.finish_and_clear();
    Ok(joined)
}

/// Lets everybody buy whose turn it is, until the seats are sold or nobody waits. Returns how long it took.
async fn serve(
    output: Output,
    api: &Api,
    event: &str,
    crowd: &Arc<Crowd>,
    people: &[Uuid],
    joined: &[Option<Place>],
) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let mut by_rank: Option<Vec<Option<Uuid>>> = None;
    let mut next = 0;
    let mut moved = Instant::now();
    let room_for = Arc::new(Semaphore::new(BUYING_MAX));
    let mut buying = JoinSet::new();
    let bar = output.bar(people.len() as u64, "admitted");
    loop {
        let room = Room::read(api, event).await?;
        if by_rank.is_none() && room.phase == "open" {
            by_rank = Some(ranks(api, event, &room, people, joined).await?);
        }
        let line = by_rank.as_deref().unwrap_or_default();
        while next < (room.next_rank as usize).min(line.len()) {
            if let Some(user) = line[next] {
                let permit = Arc::clone(&room_for).acquire_owned().await?;
                let crowd = Arc::clone(crowd);
                buying.spawn(async move {
                    crowd.buy(user).await;
                    drop(permit);
                });
            }
            next += 1;
            moved = Instant::now();
        }
        while buying.try_join_next().is_some() {}
        bar.set_position(next as u64);
        let is_over = room.unsold == 0 || room.waiting == 0;
        if is_over && buying.is_empty() {
            break;
        }
        anyhow::ensure!(
            moved.elapsed() < STALL,
            "nobody was admitted for a long time"
        );
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    bar.finish_and_clear();
    Ok(started.elapsed())
}

/// Who has which rank: drawn for the early ones, the number for the others.
async fn ranks(
    api: &Api,
    event: &str,
    room: &Room,
    people: &[Uuid],
    joined: &[Option<Place>],
) -> anyhow::Result<Vec<Option<Uuid>>> {
    let mut rank_of: Vec<u32> = (0..room.entries).collect();
    for row in draw::read_order(api, event).await? {
        if let (Some(slot), Some(rank)) = (rank_of.get_mut(row.number as usize), row.rank) {
            *slot = rank;
        }
    }
    let mut line = vec![None; room.entries as usize];
    for (user, place) in people.iter().zip(joined) {
        let number = place.as_ref().map(|place| place.number as usize);
        let rank = number.and_then(|number| rank_of.get(number)).copied();
        if let Some(slot) = rank.and_then(|rank| line.get_mut(rank as usize)) {
            *slot = Some(*user);
        }
    }
    Ok(line)
}

/// Counts what must not be: each is 0 when all is well.
async fn check(
    api: &Api,
    event: &str,
    crowd: &Crowd,
    joined: &[Option<Place>],
    room: &Room,
    rows: &[draw::Row],
) -> anyhow::Result<BTreeMap<&'static str, usize>> {
    let mut numbers = BTreeSet::new();
    let (mut lost, mut two_people) = (0, 0);
    for place in joined.iter().flatten() {
        two_people += usize::from(!numbers.insert(place.number));
        let is_there = match rows.get(place.number as usize) {
            Some(row) => row.pseudonym == place.pseudonym,
            None => place.number < room.entries,
        };
        lost += usize::from(!is_there);
    }
    let tickets: Vec<Ticket> = api.list(&format!("/v1/events/{event}/tickets")).await?;
    let mut listed = BTreeSet::new();
    let twice = tickets
        .iter()
        .filter(|ticket| !listed.insert(ticket.seat.as_str()))
        .count();
    let figures = crowd.figures();
    let mut told = BTreeSet::new();
    let told_twice = figures
        .seats
        .iter()
        .filter(|seat| !told.insert(seat.as_str()))
        .count();
    let missing = told.iter().filter(|seat| !listed.contains(**seat)).count();
    Ok([
        ("places_lost", lost),
        ("places_given_twice", two_people),
        (
            "never_joined",
            joined.iter().filter(|place| place.is_none()).count(),
        ),
        ("seats_sold_twice", twice + told_twice),
        ("acknowledged_but_missing", missing),
    ]
    .into_iter()
    .collect())
}

#[cfg(test)]
mod tests {
    use super::percentile_ms;

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let mut times: Vec<u64> = (1..=200).rev().map(|ms| ms * 1_000).collect();
        assert_eq!(percentile_ms(&mut times, 99), 198.0);
        assert_eq!(percentile_ms(&mut times, 50), 100.0);
        assert_eq!(percentile_ms(&mut [7_000], 99), 7.0);
        assert_eq!(percentile_ms(&mut [], 99), 0.0);
    }
}
