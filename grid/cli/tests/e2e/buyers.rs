//! Buyers at every gateway while the grid suffers, and the oracle that judges afterwards what they were
//! told.
//!
//! A buyer holds one seat after another, each under a key of its own, and asks under the same key until
//! it is told; some stay at their gateway, some go on to the next one. Watchers read how many seats are
//! held. What is required, whatever happened to the grid:
//!
//! * every hold that was acknowledged is there, asked for again under its key it is the same, and the
//!   number of seats held is the number of holds: none lost, none twice;
//! * a read reflects every hold acknowledged before it began, none that began after it ended, and never
//!   less than an earlier read did: the history of the count is linearizable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{PATIENCE, person, text, wait_for};

/// Buyers at each gateway; every other one goes to the next gateway when it gets no answer.
const BUYERS_EACH: usize = 4;
/// Between two requests of one of them, so that the tests leave each other some of the machine.
const PACE: Duration = Duration::from_millis(20);
/// A little longer than the gateway's own patience.
const ANSWER_WAIT: Duration = Duration::from_secs(6);
/// Holds that are asked for again at the end.
const ASKED_AGAIN_MAX: usize = 150;

/// A request under a key.
#[derive(Clone, Debug)]
struct Wish {
    number: u64,
    /// When it was first sent.
    begun: Instant,
}

impl Wish {
    fn buyer(&self) -> String {
        person(5_000 + u128::from(self.number)).to_string()
    }

    fn key(&self) -> String {
        format!("wish-{}", self.number)
    }
}

/// A hold that was acknowledged.
#[derive(Clone, Debug)]
struct Hold {
    wish: Wish,
    /// When the request that was answered was sent.
    asked: Instant,
    ended: Instant,
    /// The node whose gateway said so.
    node: u64,
    hold_id: String,
    seats: Vec<String>,
}

/// How many seats were held, as someone was told.
#[derive(Clone, Copy, Debug)]
struct Seen {
    begun: Instant,
    ended: Instant,
    node: u64,
    held: u64,
}

/// What everybody was told.
#[derive(Debug, Default)]
pub(crate) struct History {
    holds: Vec<Hold>,
    reads: Vec<Seen>,
    /// When a request was sent that a gateway answered with `unavailable`.
    refused: Vec<(u64, Instant)>,
    unanswered: Vec<Wish>,
}

impl History {
    /// Answers that a node's gateway gave to requests that were sent and answered between two moments.
    pub(crate) fn answered(&self, node: u64, from: Instant, until: Instant) -> usize {
        let within = |begun: Instant, ended: Instant| begun > from && ended < until;
        let holds = self.holds.iter().filter(|hold| hold.node == node);
        let reads = self.reads.iter().filter(|read| read.node == node);
        holds.filter(|hold| within(hold.asked, hold.ended)).count()
            + reads.filter(|read| within(read.begun, read.ended)).count()
    }

    /// The longest time between two acknowledged holds.
    pub(crate) fn longest_gap(&self) -> Duration {
        let mut ends: Vec<Instant> = self.holds.iter().map(|hold| hold.ended).collect();
        ends.sort();
        let gaps = ends.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or_default()
    }

    fn check_reads(&self) {
        let mut begun: Vec<Instant> = self.holds.iter().map(|hold| hold.wish.begun).collect();
        let mut ended: Vec<Instant> = self.holds.iter().map(|hold| hold.ended).collect();
        begun.sort();
        ended.sort();
        for read in &self.reads {
            let least = ended.partition_point(|at| *at < read.begun) as u64;
            let most = begun.partition_point(|at| *at < read.ended) as u64;
            assert!(
                (least..=most).contains(&read.held),
                "node {} said that {} seats are held, but at least {least} and at most {most} were",
                read.node,
                read.held
            );
        }
        let mut by_end = self.reads.clone();
        by_end.sort_by_key(|read| read.ended);
        let mut by_begin = self.reads.clone();
        by_begin.sort_by_key(|read| read.begun);
        let mut earlier = by_end.iter().peekable();
        let mut most = (0, 0);
        for read in &by_begin {
            while let Some(seen) = earlier.next_if(|seen| seen.ended < read.begun) {
                most = most.max((seen.held, seen.node));
            }
            assert!(
                read.held >= most.0,
                "node {} said {} after node {} had said {}",
                read.node,
                read.held,
                most.1,
                most.0
            );
        }
    }
}

struct Shared {
    http: reqwest::Client,
    event_id: String,
    urls: BTreeMap<u64, String>,
    is_over: AtomicBool,
    next: AtomicU64,
    history: Mutex<History>,
}

/// What a gateway said.
enum Answer {
    Hold {
        hold_id: String,
        seats: Vec<String>,
    },
    Unavailable,
    /// Nothing.
    Silence,
}

impl Shared {
    fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node after this one.
    fn next_node(&self, node: u64) -> u64 {
        let later = self.urls.range(node + 1..).next();
        let (next, _) = later.or_else(|| self.urls.first_key_value()).expect("some");
        *next
    }

    async fn ask(&self, node: u64, wish: &Wish) -> Answer {
        let sent = self
            .http
            .post(format!(
                "{}/v1/events/{}/holds",
                self.urls[&node], self.event_id
            ))
            .header("x-user-id", wish.buyer())
            .header("idempotency-key", wish.key())
            .header("content-type", "application/json")
            .body(json!({"quantity": 1, "best_available": true}).to_string())
            .timeout(ANSWER_WAIT)
            .send();
        let Ok(response) = sent.await else {
            return Answer::Silence;
        };
        let status = response.status();
        let Ok(body) = response.bytes().await else {
            return Answer::Silence;
        };
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        match status {
            StatusCode::CREATED => Answer::Hold {
                hold_id: text(&body["hold_id"]).to_owned(),
                seats: body["seats"]
                    .as_array()
                    .expect("seats")
                    .iter()
                    .map(|seat| text(seat).to_owned())
                    .collect(),
            },
            StatusCode::SERVICE_UNAVAILABLE => Answer::Unavailable,
            other => panic!("node {node} answered {other}: {body}"),
        }
    }

    /// Asks once, and notes what comes of it.
    async fn attempt(&self, node: u64, wish: &Wish) -> bool {
        let asked = Instant::now();
        match self.ask(node, wish).await {
            Answer::Hold { hold_id, seats } => {
                let hold = Hold {
                    wish: wish.clone(),
                    asked,
                    ended: Instant::now(),
                    node,
                    hold_id,
                    seats,
                };
                self.history().holds.push(hold);
                true
            }
            Answer::Unavailable => {
                self.history().refused.push((node, asked));
                false
            }
            Answer::Silence => false,
        }
    }

    async fn read(&self, node: u64) {
        let begun = Instant::now();
        if let Some(held) = self.held(node).await {
            let seen = Seen {
                begun,
                ended: Instant::now(),
                node,
                held,
            };
            self.history().reads.push(seen);
        }
    }

    async fn held(&self, node: u64) -> Option<u64> {
        let url = format!("{}/v1/events/{}/seats", self.urls[&node], self.event_id);
        let sent = self
            .http
            .get(url)
            .header("x-user-id", person(1).to_string())
            .timeout(ANSWER_WAIT)
            .send();
        let response = sent.await.ok()?;
        if response.status() != StatusCode::OK {
            return None;
        }
        let body = response.bytes().await.ok()?;
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        let sections = body["sections"].as_array().expect("sections").iter();
        Some(
            sections
                .filter_map(|section| section["held"].as_u64())
                .sum(),
        )
    }

    async fn buy(self: Arc<Self>, home: u64, roams: bool) {
        let mut node = home;
        while !self.is_over.load(Ordering::Relaxed) {
            let wish = Wish {
                number: self.next.fetch_add(1, Ordering::Relaxed),
                begun: Instant::now(),
            };
            while !self.attempt(node, &wish).await {
                if self.is_over.load(Ordering::Relaxed) {
                    self.history().unanswered.push(wish);
                    return;
                }
                if roams {
                    node = self.next_node(node);
                }
                tokio::time::sleep(PACE).await;
            }
            tokio::time::sleep(PACE).await;
        }
    }

    async fn watch(self: Arc<Self>, node: u64) {
        while !self.is_over.load(Ordering::Relaxed) {
            self.read(node).await;
            tokio::time::sleep(PACE).await;
        }
    }
}

/// Buyers and watchers at every gateway.
pub(crate) struct Crowd {
    shared: Arc<Shared>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Crowd {
    /// Lets them come to an event that nobody else buys seats of.
    pub(crate) fn come(urls: &BTreeMap<u64, String>, event_id: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().build();
        let shared = Arc::new(Shared {
            http: http.expect("a client"),
            event_id: event_id.to_owned(),
            urls: urls.clone(),
            is_over: AtomicBool::new(false),
            next: AtomicU64::new(0),
            history: Mutex::default(),
        });
        let mut tasks = Vec::new();
        for node in urls.keys() {
            for number in 0..BUYERS_EACH {
                let buying = Arc::clone(&shared).buy(*node, number % 2 == 1);
                tasks.push(tokio::spawn(buying));
            }
            tasks.push(tokio::spawn(Arc::clone(&shared).watch(*node)));
        }
        Self { shared, tasks }
    }

    /// Waits until the gateways of some nodes have acknowledged so many holds that were asked for after
    /// now, and returns when they had.
    pub(crate) async fn holds(&self, nodes: &[u64], count: usize) -> Instant {
        let since = Instant::now();
        let first = self.shared.history().holds.len();
        wait_for(
            &format!("{count} holds through nodes {nodes:?}"),
            async || {
                let history = self.shared.history();
                let new = history.holds[first..].iter();
                let made = new
                    .filter(|hold| hold.asked > since && nodes.contains(&hold.node))
                    .count();
                (made >= count).then_some(())
            },
        )
        .await;
        Instant::now()
    }

    /// Waits until a node's gateway has refused a hold that was asked for after now.
    pub(crate) async fn refusal(&self, node: u64) {
        let since = Instant::now();
        wait_for(&format!("node {node} refuses"), async || {
            let history = self.shared.history();
            let mut refused = history.refused.iter().rev();
            refused
                .any(|(by, asked)| *by == node && *asked > since)
                .then_some(())
        })
        .await;
    }

    /// Many reads of one node at once, which may be answered late.
    pub(crate) fn read_later(&mut self, node: u64, count: usize) {
        for _ in 0..count {
            let shared = Arc::clone(&self.shared);
            self.tasks
                .push(tokio::spawn(async move { shared.read(node).await }));
        }
    }

    /// Sends everybody home, finds out what became of what was never answered, and checks everything.
    /// Every gateway must be up again.
    pub(crate) async fn close(self) -> History {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("nothing that is no answer");
        }
        let shared = self.shared;
        let unanswered = std::mem::take(&mut shared.history().unanswered);
        let first = *shared.urls.first_key_value().expect("some").0;
        for wish in unanswered {
            let mut node = first;
            wait_for("an unanswered hold is found out about", async || {
                node = shared.next_node(node);
                shared.attempt(node, &wish).await.then_some(())
            })
            .await;
        }
        let history = std::mem::take(&mut *shared.history());
        shared.check_holds(&history).await;
        history.check_reads();
        history
    }
}

impl Shared {
    async fn check_holds(&self, history: &History) {
        let ids: BTreeSet<&str> = history.holds.iter().map(|hold| &*hold.hold_id).collect();
        assert_eq!(ids.len(), history.holds.len(), "every hold is another");
        let seats = history.holds.iter().flat_map(|hold| &hold.seats);
        let seats: BTreeSet<&String> = seats.collect();
        assert_eq!(seats.len(), history.holds.len(), "no seat has two holders");
        let first = *self.urls.first_key_value().expect("some").0;
        let held = wait_for("the seats are counted", async || self.held(first).await).await;
        assert_eq!(held, history.holds.len() as u64, "none lost, none twice");
        let step = history.holds.len().div_ceil(ASKED_AGAIN_MAX).max(1);
        let deadline = Instant::now() + PATIENCE;
        for hold in history.holds.iter().step_by(step) {
            let mut node = hold.node;
            loop {
                if let Answer::Hold { hold_id, .. } = self.ask(node, &hold.wish).await {
                    assert_eq!(hold_id, hold.hold_id, "the first reply");
                    break;
                }
                assert!(Instant::now() < deadline, "asked again in vain");
                node = self.next_node(node);
                tokio::time::sleep(PACE).await;
            }
        }
    }
}
