//! A connection to a grid from a process that is no node: a gateway of its own.
//!
//! ```text
//!   addresses given ─ visit ─► any node: which grid, its map, who leads ─► a connection to every node
//!        ▲                                                                       │ each second: a report,
//!        └── when no node of the map can be reached any more ◄───────────────────┘ answered by what is new
//! ```
//!
//! It knows what a node without replicas knows, and later by at most a second; the routing client bears
//! that, for every node says whom to ask instead. It may ask what gateways may ask (see `cluster::gateways`).
//!
//! Invariants: it holds no replica, writes nothing to a disk, and is of one grid for its life: when the nodes
//! turn out to be of another, or to follow newer rules than this build knows, it says so and ends.
//!
//! What it deliberately does not do: listen, or count for anything in the grid; it may vanish at any time.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use grid_config::{NodeSettings, PARTITIONS_MAX};
use grid_core::{SlotLayout, Space, codec};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::client::RoutingClient;
use crate::cluster::{Briefing, ClusterMap, Report, SERVICE_REPORT, peer_specs};
use crate::error::StartError;
use crate::outlook::Outlook;
use crate::platform::{self, monotonic_now, random};
use crate::transport::{
    Handler, PeerTable, RefusalReason, Replier, Role, Security, StreamReceiver, StreamSender,
    Transport, TransportOptions, VisitError, WHICHEVER_GRID,
};

/// How often every node is told that this one is there, and asked what is new.
const PERIOD: Duration = Duration::from_millis(1_000);
/// And while the leader of some group is not known.
const URGENT_PERIOD: Duration = Duration::from_millis(100);
/// How long a node may take to answer.
const ANSWER_WAIT: Duration = Duration::from_millis(1_000);
/// The pause before the given addresses are tried again.
const VISIT_PAUSE: Duration = Duration::from_millis(200);
/// With no node reachable for so long, the given addresses are tried: the nodes may have moved.
const LOST_AFTER: Duration = Duration::from_millis(3_000);
/// How long saying goodbye may take.
const GOODBYE_WAIT: Duration = Duration::from_millis(500);
/// Set in the numbers of those who are no nodes; nodes count from 1.
const OUTSIDE: u64 = 1 << 63;

/// What a connection needs.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Addresses of nodes, as `host:port`; one that answers is enough, and tells of the others.
    pub nodes: Vec<String>,
    /// The grid that it must be; without it, the one that answers.
    pub grid_id: Option<u128>,
    /// Its certificates are used, and whether plain text is in order; nothing else of it.
    pub settings: NodeSettings,
}

/// Why there is no connection. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The options contradict each other, or a certificate cannot be used. Correct them.
    #[error("{0}")]
    Options(String),
    /// A node does not let this process in: another grid, version or certificate. Correct that.
    #[error("the node at {address} refuses: {why}")]
    Refused {
        /// Where.
        address: String,
        /// In its words.
        why: String,
    },
    /// The grid follows rules that came after this build. Start a newer one.
    #[error(transparent)]
    Build(#[from] StartError),
    /// No node has answered in time. Try again.
    #[error("no node of a grid has answered: {0}")]
    Unreachable(String),
    /// The operating system said no.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
}

impl ConnectError {
    /// Whether trying again may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

/// A connection to a grid. Dropping it closes it at once; see [`GridConnection::shutdown`].
pub struct GridConnection<S: Space> {
    outlook: Arc<Outlook>,
    announced: watch::Sender<String>,
    failure: watch::Receiver<Option<String>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    space: PhantomData<fn() -> S>,
}

impl<S: Space> std::fmt::Debug for GridConnection<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GridConnection(grid {:032x})", self.outlook.grid_id)
    }
}

impl<S: Space> GridConnection<S> {
    /// Connects, waiting until a node answers or for `patience`. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn open(options: ConnectOptions, patience: Duration) -> Result<Self, ConnectError> {
        if options.nodes.is_empty() {
            let text = "the address of at least one node is needed".to_owned();
            return Err(ConnectError::Options(text));
        }
        let number = random::u64().map_err(|error| ConnectError::Io {
            what: "random bytes",
            source: std::io::Error::other(error.to_string()),
        })? | OUTSIDE;
        let briefing = first_briefing(&options, number, monotonic_now() + patience).await?;
        let Some(map) = briefing.news.map.clone() else {
            return Err(ConnectError::Unreachable("there is no map".to_owned()));
        };
        map.check_build::<S>()?;
        let layout = SlotLayout::new(map.partitions)
            .filter(|layout| layout.partitions() <= PARTITIONS_MAX)
            .ok_or_else(|| {
                let text = format!("a grid has between 1 and {PARTITIONS_MAX} partitions");
                ConnectError::Options(text)
            })?;
        let peers = peers_of(&map, number);
        let transport = dial(&options, number, briefing.grid_id, peers)?;
        let outlook = Arc::new(Outlook::new(number, briefing.grid_id, layout, transport));
        let (failed, failure) = watch::channel(None);
        let (announced, announcing) = watch::channel(String::new());
        let mut keeper = Keeper {
            outlook: Arc::clone(&outlook),
            nodes: options.nodes,
            announced: announcing,
            failed,
            dialled_epoch: map.epoch,
            reached: monotonic_now(),
        };
        keeper.take(briefing);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(keeper.run::<S>(stop.clone()));
        Ok(Self {
            outlook,
            announced,
            failure,
            tasks,
            stop,
            space: PhantomData,
        })
    }

    /// A handle for this process.
    #[must_use]
    pub fn client(&self) -> RoutingClient<S> {
        RoutingClient::outside(Arc::clone(&self.outlook))
    }

    /// Tells the nodes, and by them the other gateways, where clients reach this process, as a URL; empty for
    /// not any more.
    pub fn announce(&self, url: &str) {
        self.announced.send_replace(url.to_owned());
    }

    /// Waits until the connection is of no use any more; returns why.
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.clone();
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Says goodbye and closes every connection. Open requests end with an error.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        let nodes = self.outlook.reachable();
        let goodbye = Report::default();
        let telling = nodes.into_iter().map(|node| {
            self.outlook
                .ask::<Briefing>(node, SERVICE_REPORT, &goodbye, GOODBYE_WAIT)
        });
        // Whoever does not hear of it notices within a few seconds.
        futures_util::future::join_all(telling).await;
        self.outlook.transport.shutdown().await;
    }
}

impl<S: Space> Drop for GridConnection<S> {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn peers_of(map: &ClusterMap, own: u64) -> PeerTable {
    peer_specs(map, own, &BTreeMap::new())
}

/// Nobody dials this process.
struct Nothing;

impl Handler for Nothing {
    fn on_request(&self, _: u64, _: u8, _: Bytes, _: Replier) {}

    fn on_stream(&self, _: u64, _: u8, _: Bytes, _: StreamSender, _: StreamReceiver) {}
}

fn dial(
    options: &ConnectOptions,
    number: u64,
    grid_id: u128,
    peers: PeerTable,
) -> Result<Transport, ConnectError> {
    let wrong = |error: crate::transport::SecurityError| ConnectError::Options(error.to_string());
    let security = Security::open(&options.settings).map_err(wrong)?;
    security.check_gateway().map_err(wrong)?;
    Transport::start(TransportOptions {
        node_id: number,
        role: Role::Gateway,
        incarnation: number,
        grid_id,
        fingerprint: String::new(),
        listener: None,
        peers,
        security,
        handler: Arc::new(Nothing),
    })
    .map_err(|source| ConnectError::Io {
        what: "cannot connect",
        source,
    })
}

/// Asks the given addresses in turn until a node tells of a grid.
async fn first_briefing(
    options: &ConnectOptions,
    number: u64,
    deadline: Instant,
) -> Result<Briefing, ConnectError> {
    let grid_id = options.grid_id.unwrap_or(WHICHEVER_GRID);
    let transport = dial(options, number, grid_id, PeerTable::default())?;
    let found = ask_in_turn(&transport, &options.nodes, deadline).await;
    transport.shutdown().await;
    found
}

async fn ask_in_turn(
    transport: &Transport,
    nodes: &[String],
    deadline: Instant,
) -> Result<Briefing, ConnectError> {
    loop {
        let mut refused = None;
        let mut why = String::new();
        for address in nodes {
            match visit(transport, address).await {
                Ok(Some(briefing)) => return Ok(briefing),
                Ok(None) => why = format!("the grid of {address} is not founded yet"),
                Err(VisitError::Refused(refusal)) => {
                    refused = Some(ConnectError::Refused {
                        address: address.clone(),
                        why: refusal.detail,
                    });
                }
                Err(error) => why = error.to_string(),
            }
        }
        // A node that refuses will go on doing so; the others may come.
        match refused {
            Some(refused) if why.is_empty() || monotonic_now() >= deadline => return Err(refused),
            None if monotonic_now() >= deadline => return Err(ConnectError::Unreachable(why)),
            _ => {}
        }
        tracing::debug!(why, "no node has told of a grid yet");
        platform::pause(VISIT_PAUSE).await;
    }
}

/// What the node at an address tells; `None` when it knows of no grid.
async fn visit(transport: &Transport, address: &str) -> Result<Option<Briefing>, VisitError> {
    let odd = |why: &str| VisitError::Unreachable {
        address: address.to_owned(),
        why: why.to_owned(),
    };
    let report = codec::encode(&Report::default()).map_err(|_| odd("it cannot be asked"))?;
    let reply = transport
        .visit(address, SERVICE_REPORT, report.into(), ANSWER_WAIT)
        .await?;
    let briefing: Briefing = codec::decode(&reply)
        .map_err(|_| odd("it answers in words that this build does not know"))?;
    Ok(briefing.news.map.is_some().then_some(briefing))
}

/// Keeps what is known fresh.
struct Keeper {
    outlook: Arc<Outlook>,
    /// The given addresses.
    nodes: Vec<String>,
    announced: watch::Receiver<String>,
    failed: watch::Sender<Option<String>>,
    /// The epoch of the map whose nodes are dialled.
    dialled_epoch: u64,
    /// When a node last answered.
    reached: Instant,
}

impl Keeper {
    /// Works until stopped, or until it is of no more use.
    async fn run<S: Space>(mut self, stop: CancellationToken) {
        loop {
            let outlook = Arc::clone(&self.outlook);
            let mut leaders = outlook.leaderships.values();
            let leaderless = leaders.any(|known| known.borrow().leader.is_none());
            let period = if leaderless { URGENT_PERIOD } else { PERIOD };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = self.announced.changed() => {}
                () = platform::pause(period) => {}
            }
            let Some(lost) = stop.run_until_cancelled(self.turn::<S>()).await else {
                return;
            };
            if let Some(why) = lost {
                self.failed.send_replace(Some(why));
                return;
            }
        }
    }

    /// Asks everybody what is new. Returns why there is no point in going on, if so.
    async fn turn<S: Space>(&mut self) -> Option<String> {
        let report = Report {
            url: self.announced.borrow_and_update().clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            epoch: self.outlook.present_map().map_or(0, |map| map.epoch),
            revocations: self.outlook.revocations.borrow().serial(),
        };
        let outlook = Arc::clone(&self.outlook);
        let ask = |node| outlook.ask(node, SERVICE_REPORT, &report, ANSWER_WAIT);
        let asking = outlook.reachable().into_iter().map(ask);
        let answers: Vec<Option<Briefing>> = futures_util::future::join_all(asking).await;
        for briefing in answers.into_iter().flatten() {
            self.take(briefing);
        }
        if monotonic_now().saturating_duration_since(self.reached) > LOST_AFTER {
            if let Some(why) = self.is_of_another_grid() {
                return Some(why);
            }
            self.look_around().await;
        }
        let map = self.outlook.present_map()?;
        if map.epoch > self.dialled_epoch {
            if let Err(error) = map.check_build::<S>() {
                return Some(error.to_string());
            }
            self.dialled_epoch = map.epoch;
            let peers = peers_of(&map, self.outlook.node);
            self.outlook.transport.set_peers(peers);
        }
        None
    }

    fn take(&mut self, briefing: Briefing) {
        self.reached = monotonic_now();
        let outlook = &self.outlook;
        if let Some(map) = briefing.news.map {
            outlook.learn_map(map);
        }
        for (group, leader, term) in briefing.news.leaders {
            outlook.hear_of_leader(group, Some(leader), term);
        }
        outlook.learn_revocations(briefing.revocations);
        for gateway in briefing.gateways {
            outlook.gateways.note(gateway, self.reached);
        }
    }

    /// Tries the given addresses: by them a map is found whose nodes have moved meanwhile.
    async fn look_around(&mut self) {
        for address in self.nodes.clone() {
            match visit(&self.outlook.transport, &address).await {
                Ok(Some(briefing)) => return self.take(briefing),
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "a node cannot be asked"),
            }
        }
        tracing::warn!("no node of the grid can be reached");
    }

    fn is_of_another_grid(&self) -> Option<String> {
        let refusal = self.outlook.nodes().into_iter().find_map(|node| {
            let refusal = self.outlook.transport.refusal(node)?;
            (refusal.reason == RefusalReason::GridId).then_some(refusal)
        })?;
        Some(format!(
            "the nodes are of another grid by now: {}",
            refusal.detail
        ))
    }
}
