//! The leader's side of a partition: packs waiting commands into entries and proposes them.
//!
//! One task a replica. It takes everything that waits, up to a bound, stamps it with time and entropy
//! and hands it to the group, a few entries in flight at a time; meanwhile the next batch gathers (see
//! [`gathering`]). When a deadline in the state is due it proposes a tick.
//!
//! Invariants: a command whose caller no longer waits is not proposed; a command that is not proposed
//! here is answered so, certainly not carried out; nothing is proposed before the time is known, and the
//! time is the grid's ([`GridClock`]), not this machine's.

mod gathering;

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use grid_core::entry::{ENTRY_COMMANDS_MAX, ENTRY_FORMAT};
use grid_core::{CommandRecord, Entry, IdempotencyKey, Outcome, Space, Timestamp};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use gathering::{ENTRIES_IN_FLIGHT_MAX, entry_spacing, gather};

use crate::admission::Admission;
use crate::client::{Leadership, REQUEST_LOG};
use crate::clock::GridClock;
use crate::platform::{monotonic_now, random};
use crate::raft::{Group, Outcomes, ProposalError};
use crate::replica::ReplicaState;

/// The most bytes of commands in one entry; a single larger command still gets its own.
const ENTRY_BYTES_MAX: usize = 4 << 20;
/// A tick that did not take effect is proposed again after this.
const TICK_RETRY: Duration = Duration::from_millis(200);
/// How far ahead a sleep for a deadline goes at most, so that a changed time is noticed.
const DEADLINE_SLEEP_MAX: Duration = Duration::from_secs(5);

/// Counts an entry as in flight for as long as it lives, also when its group stops meanwhile.
struct InFlight(metrics::Gauge);

impl InFlight {
    fn new(gauge: &metrics::Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// What became of a command, with the log index of its entry.
pub(crate) type Decision<R> = Result<(Outcome<R>, u64), ProposalError>;

/// Something to be proposed.
pub(crate) enum Submission<R> {
    /// A client's command.
    Command {
        key: IdempotencyKey,
        fingerprint: u64,
        body: Bytes,
        deadline: Instant,
        queued: Instant,
        decided: Box<dyn FnOnce(Decision<R>) + Send>,
    },
    /// The pump's checkpoint.
    Pumped {
        index: u64,
        decided: Box<dyn FnOnce(Result<(), ProposalError>) + Send>,
    },
}

/// What a proposer works with.
pub(crate) struct Proposer<S: Space> {
    pub(crate) group: Group<S>,
    pub(crate) replica: Arc<ReplicaState<S>>,
    pub(crate) submissions: mpsc::Receiver<Submission<S::Reply>>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) clock: Arc<GridClock>,
    /// The rules that the grid follows.
    pub(crate) rules: Arc<AtomicU16>,
    pub(crate) stop: CancellationToken,
    pub(crate) metrics: ProposerMetrics,
}

/// Handles made once, so that an entry pays for a few additions only.
pub(crate) struct ProposerMetrics {
    /// In the queue, of the command of a take that waited longest.
    queue_delay_seconds: metrics::Histogram,
    /// From the queue to the proposal, of the command of an entry that waited longest.
    queue_seconds: metrics::Histogram,
    /// From the proposal to the reply: replicated, synced by a majority, applied here.
    commit_seconds: metrics::Histogram,
    entry_commands: metrics::Histogram,
    in_flight: metrics::Gauge,
}

impl ProposerMetrics {
    pub(crate) fn new(partition: grid_core::PartitionId) -> Self {
        Self {
            queue_delay_seconds: metrics::histogram!("grid_queue_delay_seconds"),
            queue_seconds: metrics::histogram!("grid_queue_seconds"),
            commit_seconds: metrics::histogram!("grid_commit_seconds"),
            entry_commands: metrics::histogram!("grid_entry_commands"),
            in_flight: metrics::gauge!(
                "grid_entries_in_flight",
                "partition" => partition.to_string()
            ),
        }
    }
}

type Waiting<R> = Vec<Box<dyn FnOnce(Decision<R>) + Send>>;
type PumpWaiting = Vec<Box<dyn FnOnce(Result<(), ProposalError>) + Send>>;

/// What goes into one entry, and who waits for it.
struct Batch<R> {
    bodies: Vec<(IdempotencyKey, u64, Bytes)>,
    waiting: Waiting<R>,
    pumped_index: Option<u64>,
    pump_waiting: PumpWaiting,
    /// When the command was queued that waited longest.
    oldest: Option<Instant>,
}

impl<R> Batch<R> {
    /// Answers those whose callers no longer wait and keeps the rest.
    fn sort_out(taken: Vec<Submission<R>>, present: Instant) -> Self {
        let mut batch = Self {
            bodies: Vec::with_capacity(taken.len()),
            waiting: Vec::with_capacity(taken.len()),
            pumped_index: None,
            pump_waiting: Vec::new(),
            oldest: None,
        };
        for submission in taken {
            match submission {
                Submission::Command {
                    deadline, decided, ..
                } if deadline <= present => {
                    decided(Err(ProposalError::NotLeader(None)));
                }
                Submission::Command {
                    key,
                    fingerprint,
                    body,
                    queued,
                    decided,
                    ..
                } => {
                    let oldest = batch.oldest.get_or_insert(queued);
                    *oldest = queued.min(*oldest);
                    batch.bodies.push((key, fingerprint, body));
                    batch.waiting.push(decided);
                }
                Submission::Pumped { index, decided } => {
                    batch.pumped_index = batch.pumped_index.max(Some(index));
                    batch.pump_waiting.push(decided);
                }
            }
        }
        batch
    }

    /// Whether nothing is left to be written.
    fn is_empty(&self) -> bool {
        self.bodies.is_empty() && self.pumped_index.is_none()
    }
}

fn entropy() -> u128 {
    let mut bytes = [0; 16];
    // Without the system's randomness ids would repeat; an entry's time and index still tell them
    // apart, so going on is safe.
    if let Err(error) = random::fill(&mut bytes) {
        tracing::error!(%error, "the system gives no random bytes");
    }
    u128::from_le_bytes(bytes)
}

impl<S: Space> Proposer<S> {
    /// Works until stopped.
    pub(crate) async fn run(mut self) {
        let in_flight = Arc::new(Semaphore::new(ENTRIES_IN_FLIGHT_MAX));
        let mut deadline = self.replica.deadline();
        let mut waiting: Vec<Submission<S::Reply>> = Vec::new();
        let mut ticked: Option<(Timestamp, Instant)> = None;
        let mut not_before = None;
        loop {
            let Ok(permit) = Arc::clone(&in_flight).acquire_owned().await else {
                return;
            };
            let mut tick = false;
            while waiting.is_empty() && !tick {
                let due = *deadline.borrow_and_update();
                let due = due.filter(|_| self.leadership.borrow().is_local);
                // In the order of how seldom each is ready, so that none keeps another from its turn.
                // An entry with commands fires what is due as well, so a tick may come last.
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return,
                    changed = self.leadership.changed() => if changed.is_err() { return },
                    changed = deadline.changed() => if changed.is_err() { return },
                    taken = self.submissions.recv_many(&mut waiting, ENTRY_COMMANDS_MAX) => {
                        if taken == 0 {
                            return;
                        }
                        count_out(&self.admission, &self.metrics, &waiting);
                    }
                    () = until_due(&self.clock, due, ticked) => tick = is_due(&self.clock, due),
                }
                if tick {
                    ticked = due.map(|due| (due, monotonic_now()));
                }
            }
            if !self.leadership.borrow().is_local {
                let leader = self.leadership.borrow().leader;
                refuse(waiting.drain(..), leader);
                continue;
            }
            if self.clock.now().is_none() {
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return,
                    changed = self.leadership.changed() => if changed.is_err() { return },
                    () = self.clock.known() => {}
                }
                continue;
            }
            let taken = |taken: &[_]| count_out(&self.admission, &self.metrics, taken);
            let submissions = &mut self.submissions;
            if !gather(submissions, &mut waiting, &in_flight, not_before, taken).await {
                return;
            }
            let batch = take_batch(&mut waiting);
            let delay = self.replica.commit_delay().present();
            not_before = entry_spacing(batch.len(), delay).map(|pause| monotonic_now() + pause);
            self.propose(batch, permit).await;
        }
    }

    /// Proposes what was taken; nothing, for a tick. Where nobody waits for any of it any more, there is no
    /// entry.
    async fn propose(
        &self,
        batch: Vec<Submission<S::Reply>>,
        permit: tokio::sync::OwnedSemaphorePermit,
    ) {
        let present = monotonic_now();
        let is_tick = batch.is_empty();
        let batch = Batch::sort_out(batch, present);
        if batch.is_empty() && !is_tick {
            return;
        }
        let Batch {
            bodies,
            waiting,
            pumped_index,
            pump_waiting,
            oldest,
        } = batch;
        let entry = Entry {
            format: ENTRY_FORMAT,
            rules: self.rules.load(Ordering::Relaxed).min(S::RULES),
            // Known since before the first proposal; without it time stands still.
            now: self
                .clock
                .now()
                .unwrap_or_else(|| self.replica.read(grid_core::PartitionState::clock)),
            entropy: entropy(),
            pumped_index,
            commands: bodies
                .iter()
                .map(|(key, fingerprint, body)| CommandRecord {
                    key: *key,
                    fingerprint: *fingerprint,
                    body,
                })
                .collect(),
        };
        let bytes = match entry.encode() {
            Ok(bytes) => Bytes::from(bytes),
            Err(error) => {
                tracing::error!(%error, "an entry could not be encoded");
                return;
            }
        };
        self.metrics.entry_commands.record(bodies.len() as f64);
        if let Some(oldest) = oldest {
            let waited = present.saturating_duration_since(oldest);
            self.metrics.queue_seconds.record(waited.as_secs_f64());
        }
        if tracing::enabled!(target: REQUEST_LOG, tracing::Level::DEBUG) {
            for (key, ..) in &bodies {
                tracing::debug!(
                    target: REQUEST_LOG,
                    command = %format_args!("{:032x}", key.0),
                    partition = %self.replica.partition(),
                    "proposed"
                );
            }
        }
        let in_flight = InFlight::new(&self.metrics.in_flight);
        let commit_seconds = self.metrics.commit_seconds.clone();
        let partition = self.replica.partition();
        let replica = Arc::clone(&self.replica);
        let ended = move |result: Result<(u64, Option<Outcomes>), _>| {
            drop(permit);
            drop(in_flight);
            let took = monotonic_now().saturating_duration_since(present);
            if result.is_ok() {
                commit_seconds.record(took.as_secs_f64());
            }
            replica.commit_delay().note(took);
            let result = result.map(|(index, outcomes)| {
                let outcomes =
                    outcomes.and_then(|any| any.downcast::<Vec<Outcome<S::Reply>>>().ok());
                (
                    index,
                    outcomes.map(|outcomes| *outcomes).unwrap_or_default(),
                )
            });
            answer(waiting, pump_waiting, result, partition);
        };
        // When the group has stopped the callbacks are dropped, which their callers see.
        if self.group.propose(bytes, ended).await.is_err() {
            tracing::debug!(%partition, "the group takes no proposals");
        }
    }
}

fn answer<R>(
    waiting: Waiting<R>,
    pump_waiting: PumpWaiting,
    result: Result<(u64, Vec<Outcome<R>>), ProposalError>,
    partition: grid_core::PartitionId,
) {
    match result {
        Ok((index, outcomes)) => {
            assert_eq!(
                outcomes.len(),
                waiting.len(),
                "partition {partition}: an entry has one outcome a command"
            );
            for (decided, outcome) in waiting.into_iter().zip(outcomes) {
                decided(Ok((outcome, index)));
            }
            for decided in pump_waiting {
                decided(Ok(()));
            }
        }
        Err(error) => {
            for decided in waiting {
                decided(Err(error));
            }
            for decided in pump_waiting {
                decided(Err(error));
            }
        }
    }
}

fn refuse<R>(submissions: impl Iterator<Item = Submission<R>>, leader: Option<u64>) {
    for submission in submissions {
        match submission {
            Submission::Command { decided, .. } => decided(Err(ProposalError::NotLeader(leader))),
            Submission::Pumped { decided, .. } => decided(Err(ProposalError::NotLeader(leader))),
        }
    }
}

/// Tells admission what has left the queue.
fn count_out<R>(admission: &Admission, metrics: &ProposerMetrics, taken: &[Submission<R>]) {
    let (mut commands, mut bytes) = (0, 0);
    let mut oldest = None;
    for submission in taken {
        if let Submission::Command { body, queued, .. } = submission {
            commands += 1;
            bytes += body.len();
            oldest.get_or_insert(*queued);
        }
    }
    if let Some(oldest) = oldest {
        let now = monotonic_now();
        let waited = now.saturating_duration_since(oldest);
        metrics.queue_delay_seconds.record(waited.as_secs_f64());
        admission.taken(commands, bytes, oldest, now);
    }
}

/// Takes what fits one entry, in order.
fn take_batch<R>(waiting: &mut Vec<Submission<R>>) -> Vec<Submission<R>> {
    let mut bytes = 0;
    let fits = waiting
        .iter()
        .take_while(|submission| {
            let first = bytes == 0;
            if let Submission::Command { body, .. } = submission {
                bytes += body.len() + 1;
            }
            first || bytes <= ENTRY_BYTES_MAX
        })
        .count();
    let rest = waiting.split_off(fits.max(1).min(waiting.len()));
    std::mem::replace(waiting, rest)
}

fn is_due(clock: &GridClock, due: Option<Timestamp>) -> bool {
    due.zip(clock.now()).is_some_and(|(due, now)| due <= now)
}

async fn until_due(
    clock: &GridClock,
    due: Option<Timestamp>,
    ticked: Option<(Timestamp, Instant)>,
) {
    let Some(due) = due else {
        return std::future::pending().await;
    };
    clock.known().await;
    let now = clock.now().unwrap_or_default();
    let mut wait = Duration::from_millis(due.millis_since(now)).min(DEADLINE_SLEEP_MAX);
    if let Some((last, at)) = ticked
        && last == due
    {
        wait = wait.max(TICK_RETRY.saturating_sub(monotonic_now().saturating_duration_since(at)));
    }
    tokio::time::sleep(wait).await;
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn command(
        number: u128,
        queued: Instant,
        deadline: Instant,
        decided: impl FnOnce(Decision<()>) + Send + 'static,
    ) -> Submission<()> {
        Submission::Command {
            key: IdempotencyKey(number),
            fingerprint: 0,
            body: Bytes::new(),
            deadline,
            queued,
            decided: Box::new(decided),
        }
    }

    #[test]
    fn of_commands_whose_callers_have_gone_nothing_is_written() {
        let present = Instant::now() + Duration::from_secs(10);
        let ago = |seconds| present - Duration::from_secs(seconds);
        let (sender, answers) = mpsc::channel();
        let expired = |number| {
            let sender = sender.clone();
            command(number, ago(3), ago(0), move |decision| {
                sender.send(decision.err()).expect("the test listens");
            })
        };
        let batch = Batch::sort_out(vec![expired(1), expired(2)], present);
        assert!(batch.is_empty(), "there would be an entry of nothing");
        let refused = Some(ProposalError::NotLeader(None));
        assert_eq!(answers.try_iter().collect::<Vec<_>>(), [refused, refused]);

        let later = present + Duration::from_secs(1);
        let waiting = |number, queued| command(number, queued, later, |_| ());
        let taken = vec![waiting(3, ago(1)), expired(4), waiting(5, ago(2))];
        let batch = Batch::sort_out(taken, present);
        let keys: Vec<u128> = batch.bodies.iter().map(|(key, ..)| key.0).collect();
        assert_eq!((keys, batch.oldest), (vec![3, 5], Some(ago(2))));
        assert_eq!(answers.try_iter().count(), 1);

        let pumped = |index| Submission::<()>::Pumped {
            index,
            decided: Box::new(|_| ()),
        };
        let batch = Batch::sort_out(vec![pumped(7), pumped(9), pumped(8)], present);
        assert!(!batch.is_empty());
        assert_eq!(batch.pumped_index, Some(9));
    }
}
