//! Buyers and bidders: each does one thing after another, tries again under the same key when it does
//! not know what became of it, and now and then gives up.

use std::collections::BTreeMap;

use grid::{CommandRequest, Executed, GridError, Read};
use grid_core::{Cursor, IdempotencyKey, PartitionId, SlotLayout};
use processing_unit::{Command, EventId, HoldId, Query, Reply, UserId, box_office};
use uuid::Uuid;

use crate::cluster::Cluster;
use crate::history::History;
use crate::invariants::{Fact, Violation};
use crate::plan::Plan;
use crate::random::Random;
use crate::requests::{Asked, Request, Result as Ended, Ticket};

mod shows;

use shows::Shows;

/// Pauses between requests of one client, in simulated milliseconds.
const PAUSE_MS_MAX: u64 = 60;
/// Pauses before a retry.
const RETRY_MS_MAX: u64 = 300;
/// Of a hundred clients that do not know what became of a command, so many leave it at that.
const GIVE_UP_PERCENT: u64 = 15;
/// Of a hundred commands that were answered, so many are sent again all the same.
const REPEAT_PERCENT: u64 = 10;
/// Of a hundred commands of a run with duplicates, so many reach a second node as well.
const ECHO_PERCENT: u64 = 25;

/// What a check of a fact gives.
pub(crate) type Checked = Result<(), Violation>;

/// Something that a client wants done.
#[derive(Clone, Debug)]
struct Job {
    partition: PartitionId,
    asked: Asked,
    /// What was acknowledged to anybody when it was first asked.
    floor: u64,
    /// Whether each attempt so far was refused for certain.
    is_certain: bool,
    /// It is tried until it is done.
    must_succeed: bool,
    is_repeat: bool,
}

impl Job {
    fn key(&self) -> Option<IdempotencyKey> {
        match &self.asked {
            Asked::Execute(request) => Some(request.key),
            Asked::Query(..) | Asked::Pumped(_) | Asked::Order(_) => None,
        }
    }

    /// What its reply says, where it is a command's.
    fn executed<'a>(&self, executed: &'a Executed<Reply>) -> Option<Fact<'a>> {
        Some(Fact::Executed {
            partition: self.partition,
            key: self.key()?,
            executed,
            floor: self.floor,
        })
    }
}

enum State {
    Idle { until_ms: u64 },
    Waiting(Job),
    Retry { job: Job, at_ms: u64 },
}

struct Client {
    user: UserId,
    state: State,
    holds: Vec<(EventId, HoldId)>,
    last_seen: BTreeMap<PartitionId, u64>,
}

/// Figures of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) commands: u64,
    pub(crate) queries: u64,
    pub(crate) unknown: u64,
}

/// All clients of a run.
pub(crate) struct Clients {
    random: Random,
    shows: Shows,
    clients: Vec<Client>,
    waiting: BTreeMap<Ticket, usize>,
    /// Requests that were sent to a second node as well; nobody waits for their answers, which must be
    /// right all the same.
    echoes: BTreeMap<Ticket, Job>,
    /// Of a hundred commands, so many reach two nodes.
    echo_percent: u64,
    /// Commands given up without knowing.
    given_up: Vec<Job>,
    to_create: Vec<Job>,
    next_ticket: Ticket,
    next_key: u128,
    layout: SlotLayout,
    is_closing: bool,
    pub(crate) counts: Counts,
}

impl Clients {
    pub(crate) fn new(plan: &Plan, layout: SlotLayout) -> Self {
        let mut random = Random::new(plan.seed, 2);
        let shows = Shows::of(&mut random);
        let client = |number| Client {
            user: UserId(Uuid::from_u128(0x100 + number)),
            state: State::Idle { until_ms: 0 },
            holds: Vec::new(),
            last_seen: BTreeMap::new(),
        };
        let mut clients = Self {
            random,
            clients: (0..plan.clients as u128).map(client).collect(),
            waiting: BTreeMap::new(),
            echoes: BTreeMap::new(),
            echo_percent: if plan.faults.duplicates {
                ECHO_PERCENT
            } else {
                0
            },
            given_up: Vec::new(),
            to_create: Vec::new(),
            next_ticket: 1,
            next_key: 1,
            layout,
            is_closing: false,
            counts: Counts::default(),
            shows,
        };
        for (key, command) in clients.shows.creations() {
            let partition = layout.partition_of(key);
            let mut job = clients.command(partition, command, 0);
            job.must_succeed = true;
            clients.to_create.push(job);
        }
        clients
    }

    /// From now on nothing new is begun, and what is unknown is asked for until it is known.
    pub(crate) fn close(&mut self) {
        self.is_closing = true;
        for (partition, event) in self.shows.last_words(self.layout) {
            let job = self.command(partition, event, 0);
            self.to_create.push(job);
        }
    }

    /// Whether every command's fate is known.
    pub(crate) fn is_settled(&self) -> bool {
        let idle = |client: &Client| matches!(client.state, State::Idle { .. });
        self.clients.iter().all(idle) && self.given_up.is_empty() && self.to_create.is_empty()
    }

    fn command(&mut self, partition: PartitionId, command: Command, floor: u64) -> Job {
        // Spread over all residues, as the keys of real clients are.
        let key = IdempotencyKey(self.next_key);
        self.next_key += 1;
        Job {
            partition,
            asked: Asked::Execute(CommandRequest {
                key,
                fingerprint: 1,
                command,
            }),
            floor,
            is_certain: true,
            must_succeed: false,
            is_repeat: false,
        }
    }

    /// Lets every client that may do something do it.
    pub(crate) fn act(&mut self, cluster: &mut Cluster<'_>, history: &History, now_ms: u64) {
        for number in 0..self.clients.len() {
            let client = &mut self.clients[number];
            let idle = State::Idle { until_ms: now_ms };
            let job = match std::mem::replace(&mut client.state, idle) {
                State::Idle { until_ms } if until_ms <= now_ms => self.next_job(number, history),
                State::Retry { job, at_ms } if at_ms <= now_ms => Some(job),
                other => {
                    self.clients[number].state = other;
                    continue;
                }
            };
            let Some(mut job) = job else {
                continue;
            };
            self.echo(cluster, &mut job);
            let ticket = self.next_ticket;
            let request = Request {
                ticket,
                partition: job.partition,
                asked: job.asked.clone(),
            };
            let node = self.random.pick(&cluster.node_ids()).copied();
            if node.is_some_and(|node| cluster.ask(node, request)) {
                self.next_ticket += 1;
                self.waiting.insert(ticket, number);
                self.clients[number].state = State::Waiting(job);
            } else {
                // Nobody was there: a connection refused.
                let at_ms = now_ms + self.random.between(5, RETRY_MS_MAX);
                self.clients[number].state = State::Retry { job, at_ms };
            }
        }
    }

    /// Sends a command to a node that the client does not wait for.
    fn echo(&mut self, cluster: &mut Cluster<'_>, job: &mut Job) {
        if job.key().is_none() || !self.random.chance(self.echo_percent) {
            return;
        }
        let Some(node) = self.random.pick(&cluster.node_ids()).copied() else {
            return;
        };
        let request = Request {
            ticket: self.next_ticket,
            partition: job.partition,
            asked: job.asked.clone(),
        };
        if cluster.ask(node, request) {
            // Whatever the node that is waited for says, the other may have carried it out.
            job.is_certain = false;
            self.echoes.insert(self.next_ticket, job.clone());
            self.next_ticket += 1;
        }
    }

    fn next_job(&mut self, number: usize, history: &History) -> Option<Job> {
        if let Some(job) = self.to_create.pop() {
            return Some(job);
        }
        if self.is_closing {
            let mut job = self.given_up.pop()?;
            job.must_succeed = true;
            return Some(job);
        }
        let client = &self.clients[number];
        if self.random.chance(25) {
            let (key, query) = self.shows.query(&mut self.random);
            let partition = self.layout.partition_of(key);
            let read = match self.random.between(0, 9) {
                0..=6 => Read::Linearizable,
                7..=8 => Read::Stale,
                _ => {
                    let seen = client.last_seen.get(&partition).copied().unwrap_or(0);
                    Read::AtLeast(Cursor::after_entry(partition, seen))
                }
            };
            return Some(query_job(partition, query, read, history));
        }
        let (key, command) = self
            .shows
            .command(&mut self.random, client.user, &client.holds);
        let partition = self.layout.partition_of(key);
        let floor = history.get(partition).map_or(0, |log| log.acknowledged);
        Some(self.command(partition, command, floor))
    }

    /// Takes in what came of a request.
    pub(crate) fn ended(
        &mut self,
        ticket: Ticket,
        ended: Ended,
        now_ms: u64,
        history: &mut History,
        check: &mut dyn FnMut(&History, &Fact<'_>) -> Checked,
    ) -> Checked {
        let Some(number) = self.waiting.remove(&ticket) else {
            return self.echoed(ticket, &ended, history, check);
        };
        let pause = State::Idle {
            until_ms: now_ms + self.random.between(0, PAUSE_MS_MAX),
        };
        let before = std::mem::replace(&mut self.clients[number].state, pause);
        let State::Waiting(mut job) = before else {
            return Ok(());
        };
        let error = match ended {
            Ended::Executed(Ok(executed)) => {
                return self.executed(number, job, &executed, now_ms, history, check);
            }
            Ended::Answered(Ok(answered)) => {
                self.counts.queries += 1;
                let Asked::Query(query, read) = &job.asked else {
                    return Ok(());
                };
                let fact = Fact::Answered {
                    partition: job.partition,
                    query,
                    read: *read,
                    answered: &answered,
                    floor: job.floor,
                };
                check(history, &fact)?;
                self.acknowledged(number, history, answered.position);
                return Ok(());
            }
            Ended::Answered(Err(error)) => {
                return check(history, &Fact::Failed(&error));
            }
            Ended::Pumped | Ended::Ordered(_) => return Ok(()),
            Ended::Executed(Err(error)) => Some(error),
            Ended::NodeStopped => None,
        };
        if let Some(error) = &error {
            check(history, &Fact::Failed(error))?;
        }
        job.is_certain &= error == Some(GridError::Unavailable);
        let Some(key) = job.key() else {
            return Ok(());
        };
        if !job.must_succeed && self.random.chance(GIVE_UP_PERCENT) {
            if job.is_certain {
                let partition = job.partition;
                return check(history, &Fact::CertainlyRefused { partition, key });
            }
            self.counts.unknown += 1;
            self.given_up.push(job);
            return Ok(());
        }
        let at_ms = now_ms + self.random.between(5, RETRY_MS_MAX);
        self.clients[number].state = State::Retry { job, at_ms };
        Ok(())
    }

    /// Takes in what came of a request that nobody waits for.
    fn echoed(
        &mut self,
        ticket: Ticket,
        ended: &Ended,
        history: &mut History,
        check: &mut dyn FnMut(&History, &Fact<'_>) -> Checked,
    ) -> Checked {
        let Some(job) = self.echoes.remove(&ticket) else {
            return Ok(());
        };
        let Ended::Executed(Ok(executed)) = ended else {
            return Ok(());
        };
        let Some(fact) = job.executed(executed) else {
            return Ok(());
        };
        check(history, &fact)?;
        let log = history.log(job.partition);
        log.acknowledged = log.acknowledged.max(executed.position.index);
        Ok(())
    }

    fn executed(
        &mut self,
        number: usize,
        mut job: Job,
        executed: &Executed<Reply>,
        now_ms: u64,
        history: &mut History,
        check: &mut dyn FnMut(&History, &Fact<'_>) -> Checked,
    ) -> Checked {
        let Some(fact) = job.executed(executed) else {
            return Ok(());
        };
        self.counts.commands += 1;
        check(history, &fact)?;
        self.acknowledged(number, history, executed.position);
        self.remember_hold(number, &job, &executed.reply);
        if !job.is_repeat && !self.is_closing && self.random.chance(REPEAT_PERCENT) {
            job.is_repeat = true;
            job.is_certain = false;
            let at_ms = now_ms + self.random.between(0, 2 * RETRY_MS_MAX);
            self.clients[number].state = State::Retry { job, at_ms };
        }
        Ok(())
    }

    fn acknowledged(&mut self, number: usize, history: &mut History, position: Cursor) {
        let log = history.log(position.partition);
        log.acknowledged = log.acknowledged.max(position.index);
        let seen = &mut self.clients[number].last_seen;
        let seen = seen.entry(position.partition).or_insert(0);
        *seen = position.index.max(*seen);
    }

    fn remember_hold(&mut self, number: usize, job: &Job, reply: &Reply) {
        let holds = &mut self.clients[number].holds;
        let Asked::Execute(request) = &job.asked else {
            return;
        };
        use box_office::Command as C;
        match (&request.command, reply) {
            (
                Command::BoxOffice(
                    C::HoldSeats { event_id, .. } | C::HoldBestAvailable { event_id, .. },
                ),
                Reply::BoxOffice(Ok(box_office::Reply::Held { hold_id, .. })),
            ) => {
                holds.push((*event_id, *hold_id));
            }
            (
                Command::BoxOffice(C::Confirm { hold_id, .. } | C::Release { hold_id, .. }),
                Reply::BoxOffice(_),
            ) => holds.retain(|(_, held)| held != hold_id),
            _ => {}
        }
    }
}

fn query_job(partition: PartitionId, query: Query, read: Read, history: &History) -> Job {
    Job {
        partition,
        asked: Asked::Query(query, read),
        floor: history.get(partition).map_or(0, |log| log.acknowledged),
        is_certain: false,
        must_succeed: false,
        is_repeat: false,
    }
}
