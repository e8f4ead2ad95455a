//! The closed loop: every connection holds one fresh seat after the other, all of one event at a time.
//!
//! Seats are handed out by one counter. When an event's seats are used up, the next copy of it takes its
//! place; copies are made ahead of need.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::pace::Pace;
use super::recorder::Kind;
use super::session::{Answer, Session};
use super::venue::{EventView, SeatMap, create};
use super::wire::{HoldReply, Request};
use super::{Plan, Recorder, START_PAUSE};
use crate::api::Api;
use crate::output::Output;

/// Copies that are ready before they are needed.
const COPIES_AHEAD: u64 = 3;
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// What is known of a seat.
const ASKED_UNKNOWN: u8 = 1;
const ACKNOWLEDGED: u8 = 2;

/// One copy of the event.
#[derive(Debug)]
pub(crate) struct Stage {
    /// The event.
    pub(crate) event_id: Uuid,
    seats: Vec<AtomicU8>,
}

impl Stage {
    /// Seats whose hold was acknowledged.
    pub(crate) fn acknowledged(&self) -> impl Iterator<Item = usize> {
        self.in_state(ACKNOWLEDGED)
    }

    /// Seats whose hold has an unknown outcome.
    pub(crate) fn unknown(&self) -> impl Iterator<Item = usize> {
        self.in_state(ASKED_UNKNOWN)
    }

    fn in_state(&self, wanted: u8) -> impl Iterator<Item = usize> {
        let seats = self.seats.iter().enumerate();
        seats
            .filter(move |(_, seat)| seat.load(Ordering::Relaxed) == wanted)
            .map(|(place, _)| place)
    }
}

#[derive(Debug)]
struct Rush {
    /// As JSON strings, the same in all copies.
    labels: Vec<String>,
    next: AtomicU64,
    stages: RwLock<Vec<Arc<Stage>>>,
    more: Notify,
    failed: AtomicBool,
}

impl Rush {
    /// The next seat: which copy, and its place there.
    fn take(&self) -> (usize, usize) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let seats = self.labels.len() as u64;
        ((number / seats) as usize, (number % seats) as usize)
    }

    async fn stage(&self, number: usize) -> Option<Arc<Stage>> {
        loop {
            let made = self.more.notified();
            if let Some(stage) = self.made_stage(number) {
                return Some(stage);
            }
            if self.failed.load(Ordering::Relaxed) {
                return None;
            }
            made.await;
        }
    }

    fn made_stage(&self, number: usize) -> Option<Arc<Stage>> {
        let stages = self.stages.read().unwrap_or_else(PoisonError::into_inner);
        stages.get(number).cloned()
    }

    fn add(&self, event_id: Uuid) {
        let seats = self.labels.iter().map(|_| AtomicU8::new(0)).collect();
        let stage = Arc::new(Stage { event_id, seats });
        self.stages
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(stage);
        self.more.notify_waiters();
    }

    fn made(&self) -> u64 {
        self.stages
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len() as u64
    }

    fn needed(&self) -> u64 {
        self.next.load(Ordering::Relaxed) / self.labels.len() as u64 + COPIES_AHEAD
    }
}

async fn hold_on(mut session: Session, rush: Arc<Rush>, mut pace: Pace) {
    let mut present: Option<(usize, Arc<Stage>)> = None;
    while let Some(due) = pace.next().await {
        let (number, place) = rush.take();
        let stage = match &present {
            Some((known, stage)) if *known == number => Arc::clone(stage),
            _ => match rush.stage(number).await {
                Some(stage) => stage,
                None => return,
            },
        };
        let request = Request::HoldSeats {
            event_id: stage.event_id,
            labels: &[&rush.labels[place]],
        };
        match session.ask::<HoldReply>(Kind::Hold, request, due).await {
            Answer::Reply(_) => stage.seats[place].store(ACKNOWLEDGED, Ordering::Relaxed),
            Answer::Unknown => stage.seats[place].store(ASKED_UNKNOWN, Ordering::Relaxed),
            Answer::Refused => {}
        }
        present = Some((number, stage));
    }
}

/// Makes copies until the end, always some ahead.
async fn make_copies(
    api: &Api,
    rush: &Rush,
    event: &EventView,
    map: &SeatMap,
    end: Instant,
) -> anyhow::Result<()> {
    while Instant::now() < end {
        if rush.made() >= rush.needed() {
            tokio::time::sleep(LOOK_PAUSE).await;
            continue;
        }
        let number = u32::try_from(rush.made() + 1).unwrap_or(u32::MAX);
        match create(api, &event.copy(map, number, false)).await {
            Ok(event_id) => rush.add(event_id),
            Err(error) => {
                rush.failed.store(true, Ordering::Relaxed);
                rush.more.notify_waiters();
                return Err(error.context("a copy of the event could not be made"));
            }
        }
    }
    Ok(())
}

/// Holds seats as fast as the grid allows and returns the events that were used.
pub(crate) async fn run(
    output: Output,
    plan: &Plan,
    api: &Api,
    event: &EventView,
    map: &SeatMap,
) -> anyhow::Result<(Arc<Recorder>, Vec<Arc<Stage>>)> {
    let rush = Arc::new(Rush {
        labels: map.json_labels(),
        next: AtomicU64::new(0),
        stages: RwLock::default(),
        more: Notify::new(),
        failed: AtomicBool::new(false),
    });
    for number in 1..=COPIES_AHEAD as u32 {
        rush.add(create(api, &event.copy(map, number, false)).await?);
    }
    let warm_up = Arc::new(Recorder::new(Instant::now(), plan.duration, 1)?);
    let sessions = plan.connect(&warm_up).await?;
    let start = Instant::now() + START_PAUSE;
    let recorder = Arc::new(Recorder::new(start, plan.duration, 1)?);
    let mut tasks = JoinSet::new();
    for (number, session) in sessions.into_iter().enumerate() {
        let session = session.counted_by(Arc::clone(&recorder));
        tasks.spawn(hold_on(
            session,
            Arc::clone(&rush),
            plan.pace(number, start),
        ));
    }
    let copying = make_copies(api, &rush, event, map, start + plan.duration);
    let watching = plan.watch(output, "closed loop, seconds", start, tasks);
    tokio::try_join!(copying, watching)?;
    let used = rush.next.load(Ordering::Relaxed).div_ceil(map.len() as u64) as usize;
    let mut stages = rush
        .stages
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    stages.truncate(used);
    Ok((recorder, stages))
}
