//! A node: the replicas that live in one process.
//!
//! Start: identity ─► log ─► transport ─► the last map's replicas ─► founding, or joining, where there
//! is no map ─► what works from then on. A group that ends, or a log that fails, ends the node:
//! [`GridNode::failed`] says why.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use grid_config::{ClusterSettings, NodeSettings, PARTITIONS_MAX, WalSync};
use grid_core::entry::RULES_FIRST;
use grid_core::{SlotLayout, Space};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backlog::{self, Backlog, BacklogBounds};
use crate::balancer;
use crate::client::GridClient;
use crate::clock::GridClock;
use crate::cluster::{self, ClusterMap, Founding, NodeInfo, Reconciling};
use crate::disk_guard::{self, GuardPolicy};
use crate::divergence;
use crate::error::StartError;
use crate::feed::ReplaySlots;
use crate::handover::{self, Handover};
use crate::identity::{Claimed, NodeDirectory};
use crate::members::Members;
use crate::opening::Opener;
use crate::outlook::Outlook;
use crate::platform;
use crate::platform::net::Listener;
use crate::retention::{self, RetentionPolicy};
use crate::scrubber::{self, ScrubPolicy};
use crate::service::Services;
use crate::status::StartStatus;
use crate::succession;
use crate::transport::{
    PeerSpec, PeerTable, Role, Security, SecurityError, Transport, TransportOptions,
};
use crate::wal::{Recovered, RoomLevel, Wal, WalError, WalOptions};

/// A segment of the log is not made ready when it would leave less than this part of the reserve.
const SEGMENT_RESERVE_DIVISOR: u64 = 4;

/// A node's number, from 1.
pub type NodeId = u64;

/// What a node needs to start.
#[derive(Debug)]
pub struct NodeOptions {
    /// The grid it belongs to.
    pub grid_id: u128,
    /// Its number.
    pub node_id: NodeId,
    /// The nodes that the grid begins with, each with its address for other nodes. A node among them
    /// founds the grid together with the others; one that is not joins it. For a node with a place in
    /// the grid already they are addresses to try beside those it knows.
    pub members: BTreeMap<NodeId, String>,
    /// Further addresses of running nodes, to join through.
    pub seeds: Vec<String>,
    /// Where other nodes reach this one; unless given, as in `members`, else where it listens.
    pub peer_address: Option<String>,
    /// Where clients reach its gateway, as a URL; empty without one.
    pub gateway_address: String,
    /// The bound socket for other nodes.
    pub listener: Listener,
    /// Settings that all nodes share.
    pub cluster: ClusterSettings,
    /// Its own.
    pub settings: NodeSettings,
    /// Whether a pump reads the changes, so that the log is kept until it has passed.
    pub keep_for_pump: bool,
}

/// A running node.
pub struct GridNode<S: Space> {
    members: Arc<Members<S>>,
    failure: watch::Receiver<Option<String>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl<S: Space> std::fmt::Debug for GridNode<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GridNode({})", self.members.node)
    }
}

/// What secures the connections to other nodes, checked.
fn secure(options: &NodeOptions) -> Result<Security, StartError> {
    let wrong = |error: SecurityError| StartError::Options(error.to_string());
    let security = Security::open(&options.settings).map_err(wrong)?;
    let listen = options
        .listener
        .local_addr()
        .map_err(|source| StartError::Io {
            what: "the address for other nodes".to_owned(),
            source,
        })?;
    security
        .check_start(options.node_id, listen)
        .map_err(wrong)?;
    Ok(security)
}

async fn open_log(options: &NodeOptions) -> Result<(Wal, Recovered), StartError> {
    let wal_options = WalOptions {
        directory: options.settings.data_dir.join("wal"),
        grid_id: options.grid_id,
        node_id: options.node_id,
        sync: options.cluster.wal_sync == WalSync::Always,
        keep_free_bytes: options.settings.disk_reserve_bytes / SEGMENT_RESERVE_DIVISOR,
        ..WalOptions::default()
    };
    let opened = platform::blocking(move || Wal::open(wal_options)).await;
    let opened = opened.map_err(|error| StartError::Damaged(error.to_string()))?;
    let (wal, recovered) = opened.map_err(|error| match error {
        WalError::ForeignLog { .. } | WalError::NewerFormat { .. } => {
            StartError::Options(error.to_string())
        }
        WalError::Io { what, source } => StartError::Io { what, source },
        error => StartError::Damaged(error.to_string()),
    })?;
    if let Some(torn) = &recovered.torn_tail {
        tracing::warn!(
            file = %torn.file.display(),
            offset = torn.offset,
            bytes = torn.bytes,
            "the log ended in the middle of a record, which was cut off"
        );
    }
    Ok((wal, recovered))
}

fn elapsed_ms(began: Instant) -> u64 {
    platform::whole_ms(platform::monotonic_now().saturating_duration_since(began))
}

/// Starts what a node does beside serving its groups: membership, succession, retention, its disk.
fn watch_over<S: Space>(
    members: &Arc<Members<S>>,
    settings: &NodeSettings,
    keep_for_pump: bool,
    level: RoomLevel,
) {
    let Opener { tasks, stop, .. } = &members.opener;
    tasks.spawn(cluster::keep(Arc::clone(members), stop.clone()));
    tasks.spawn(cluster::gather(Arc::clone(members), stop.clone()));
    tasks.spawn(cluster::reconcile(Arc::clone(members), stop.clone()));
    tasks.spawn(cluster::leave(Arc::clone(members), stop.clone()));
    tasks.spawn(divergence::run(Arc::clone(members), stop.clone()));
    tasks.spawn(succession::run(Arc::clone(members), stop.clone()));
    let policy = RetentionPolicy {
        snapshot_every_entries: settings.snapshot_every_entries,
        replay_bytes_max: settings.replay_bytes_max,
        keep_for_pump,
        keep_behind_bytes: settings.log_keep_bytes,
    };
    if keep_for_pump {
        tasks.spawn(backlog::run(Arc::clone(members), stop.clone()));
    }
    tasks.spawn(retention::run(Arc::clone(members), policy, stop.clone()));
    tasks.spawn(stop_with_log(Arc::clone(members), stop.clone()));
    let guard = GuardPolicy {
        reserve_bytes: settings.disk_reserve_bytes,
        slow_sync_ms: settings.slow_sync_ms,
    };
    tasks.spawn(disk_guard::run(
        GridClient::new(Arc::clone(members)),
        Arc::clone(members),
        guard,
        level,
        stop.clone(),
    ));
    let scrub = ScrubPolicy {
        bytes_per_s: settings.scrub_bytes_per_s,
        interval: Duration::from_secs(settings.scrub_interval_s),
    };
    tasks.spawn(scrubber::run(Arc::clone(members), scrub, stop.clone()));
    if settings.balance_leaders {
        tasks.spawn(balancer::run(
            GridClient::new(Arc::clone(members)),
            Arc::clone(members),
            stop.clone(),
        ));
    }
}

/// What this node says of itself.
fn introduce<S: Space>(options: &NodeOptions, incarnation: u64) -> Result<NodeInfo, StartError> {
    let listening = || options.listener.local_addr().map(|bound| bound.to_string());
    let given = options
        .peer_address
        .clone()
        .or_else(|| options.members.get(&options.node_id).cloned());
    let peer_address = match given {
        Some(address) => address,
        None => listening().map_err(|source| StartError::Io {
            what: "the listening address".to_owned(),
            source,
        })?,
    };
    Ok(NodeInfo {
        node: options.node_id,
        incarnation,
        peer_address,
        gateway_address: options.gateway_address.clone(),
        zone: options.settings.zone.clone(),
        rules: S::RULES,
    })
}

impl<S: Space> GridNode<S> {
    /// Opens the log, restores the replicas, joins the groups. A node without a place in a grid yet is
    /// returned at once, and gets it, or fails, in the background.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(options: NodeOptions) -> Result<Self, StartError> {
        let node = options.node_id;
        let layout = SlotLayout::new(options.cluster.partitions)
            .filter(|layout| layout.partitions() <= PARTITIONS_MAX)
            .ok_or_else(|| {
                StartError::Options(format!("between 1 and {PARTITIONS_MAX} partitions"))
            })?;
        if options.members.is_empty() && options.seeds.is_empty() {
            return Err(StartError::Options(format!(
                "node {node} is not among the members and knows nobody to join through"
            )));
        }
        let directory = NodeDirectory::new(options.settings.data_dir.clone());
        let Claimed { incarnation, map } =
            directory.claim(options.grid_id, node, options.cluster.partitions)?;
        if let Some(map) = &map {
            if map.has_removed(node, incarnation) {
                return Err(StartError::Removed { node });
            }
            map.check_build::<S>()?;
        }
        let info = introduce::<S>(&options, incarnation)?;
        let security = secure(&options)?;
        let began = platform::monotonic_now();
        let (wal, recovered) = open_log(&options).await?;
        let log_ms = elapsed_ms(began);
        let services = Arc::new(Services::<S>::default());
        let place = (layout, map.is_some());
        let (options, members) = Self::assemble(
            options,
            place,
            (info, security),
            directory,
            (wal, recovered),
            &services,
        )?;
        let (tasks, stop) = (members.opener.tasks.clone(), members.opener.stop.clone());
        let reserve_bytes = options.settings.disk_reserve_bytes;
        // Before the first command is taken.
        let level = disk_guard::look_at_room(&members, RoomLevel::Plenty, reserve_bytes);
        services.open(Arc::clone(&members));

        let founding = Founding {
            first: options.members,
            seeds: options.seeds,
            partitions: options.cluster.partitions,
            replicas: options.cluster.replicas,
        };
        match map.or_else(|| founding.alone(&members.info)) {
            Some(map) => {
                members.learn_map(ClusterMap::clone(&map));
                let began = platform::monotonic_now();
                cluster::adopt(&members, &Arc::new(map)).await?;
                *members.start.lock() = StartStatus {
                    log_ms,
                    replicas_ms: elapsed_ms(began),
                    replayed_entries: members.opener.replayed_entries.load(Ordering::Relaxed),
                };
            }
            None => {
                tasks.spawn(founding.run(Arc::clone(&members), stop.clone()));
            }
        }
        watch_over(&members, &options.settings, options.keep_for_pump, level);
        Ok(Self {
            failure: members.opener.failure.subscribe(),
            members,
            tasks,
            stop,
        })
    }

    fn assemble(
        options: NodeOptions,
        (layout, has_place): (SlotLayout, bool),
        (info, security): (NodeInfo, Security),
        directory: NodeDirectory,
        (wal, recovered): (Wal, Recovered),
        services: &Arc<Services<S>>,
    ) -> Result<(Options, Arc<Members<S>>), StartError> {
        let node = options.node_id;
        let wal = Arc::new(wal);
        let spec = |address: &String| PeerSpec {
            addresses: vec![address.clone()],
            incarnation: None,
        };
        // A node that has a place already dials whom its map names, one that joins nobody before it
        // has one; the first nodes of a grid dial each other.
        let begins = !has_place && options.members.contains_key(&node);
        let given = options.members.iter().filter(|_| begins);
        let transport = Transport::start(TransportOptions {
            node_id: node,
            incarnation: info.incarnation,
            grid_id: options.grid_id,
            fingerprint: options.cluster.fingerprint(),
            listener: Some(options.listener),
            role: Role::Member,
            peers: PeerTable {
                peers: given
                    .map(|(other, address)| (*other, spec(address)))
                    .collect(),
                removed: BTreeMap::new(),
            },
            security,
            handler: Arc::clone(services) as Arc<dyn crate::transport::Handler>,
        })
        .map_err(|source| StartError::Io {
            what: "cannot listen".to_owned(),
            source,
        })?;
        let started = platform::monotonic_now();
        let backlog = Arc::new(Backlog::new(BacklogBounds {
            soft_bytes: options.settings.pump_backlog_soft_bytes,
            max_bytes: options.settings.pump_backlog_max_bytes,
        }));
        let opener = Opener {
            node,
            grid_id: options.grid_id,
            directory: directory.path().to_owned(),
            cluster: options.cluster.clone(),
            settings: options.settings.clone(),
            wal: Arc::clone(&wal),
            backlog: Arc::clone(&backlog),
            clock: Arc::new(GridClock::new(started)),
            rules: Arc::new(AtomicU16::new(RULES_FIRST)),
            recovered: Mutex::new(recovered),
            transport: transport.clone(),
            replays: ReplaySlots::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            failure: watch::Sender::new(None),
            replayed_entries: AtomicU64::new(0),
        };
        let members = Arc::new(Members {
            outlook: Arc::new(Outlook::new(node, options.grid_id, layout, transport)),
            started,
            replicas: RwLock::default(),
            meta: RwLock::default(),
            info,
            directory,
            opener,
            given_addresses: options.members.clone(),
            reconciling: Mutex::new(Reconciling::default()),
            adopted_epoch: AtomicU64::new(0),
            removed: AtomicBool::new(false),
            wal,
            backlog,
            rebuilding: Semaphore::new(1),
            attached: RwLock::default(),
            leaving: cluster::Leaving::default(),
            draining: AtomicBool::new(false),
            disk_trouble: Mutex::default(),
            scrub: Mutex::default(),
            start: Mutex::default(),
        });
        let rest = Options {
            members: options.members,
            seeds: options.seeds,
            cluster: options.cluster,
            settings: options.settings,
            keep_for_pump: options.keep_for_pump,
        };
        Ok((rest, members))
    }

    /// A handle for this process.
    #[must_use]
    pub fn client(&self) -> GridClient<S> {
        GridClient::new(Arc::clone(&self.members))
    }

    /// Waits until the node must stop: its log failed, a replica would have diverged, the grid does not
    /// let it in or has removed it. Returns why.
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.clone();
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Whether the grid has removed this node: then starting it again is of no use.
    #[must_use]
    pub fn was_removed(&self) -> bool {
        self.members.removed.load(Ordering::Relaxed)
    }

    /// Says that clients are served here: should the node be removed, then not before they are gone.
    pub fn serves_clients(&self) {
        self.members.leaving.set_clients(true);
    }

    /// Waits until the grid has emptied the node and wants it gone. It is time to let its clients go.
    pub async fn leaving(&self) {
        self.members.leaving.wanted().await;
    }

    /// Says that no client is served here any more. A node that was to be removed then is (see
    /// [`Self::failed`]).
    pub fn clients_are_gone(&self) {
        self.members.leaving.set_clients(false);
    }

    /// Gives every leadership to a caught-up follower on another node, one after another, and takes no
    /// more from now on. Returns when none is left, when nobody can take what is left, or at the
    /// deadline. The node serves on as a follower until it is stopped.
    pub async fn hand_over(&self, deadline: Instant) -> Handover {
        handover::drain(&self.client(), &self.members, deadline).await
    }

    /// Stops the groups, syncs the log, closes the connections. Leaderships that are still here are not
    /// handed over (see [`Self::hand_over`]): the peers elect new leaders after their timeout.
    pub async fn shutdown(self) {
        self.stop.cancel();
        let replicas = self.members.replicas();
        let stopping = replicas.iter().map(|(_, member)| member.group.shutdown());
        futures_util::future::join_all(stopping).await;
        if let Some(meta) = self.members.meta() {
            meta.group.shutdown().await;
        }
        self.members.transport.shutdown().await;
        self.tasks.close();
        self.tasks.wait().await;
        // They may hold handles on the node itself.
        self.members.attached.write().clear();
        self.members.wal.close();
    }
}

/// Ends the node when its log fails: what the disk did not take must not be taken for stored.
async fn stop_with_log<S: Space>(members: Arc<Members<S>>, stop: CancellationToken) {
    let mut failure = members.wal.failure();
    let failed = stop.run_until_cancelled(failure.wait_for(Option::is_some));
    if let Some(Ok(text)) = failed.await {
        members.opener.failure.send_replace(text.clone());
    }
}

/// What is left of the options once the sockets are in use.
struct Options {
    members: BTreeMap<NodeId, String>,
    seeds: Vec<String>,
    cluster: ClusterSettings,
    settings: NodeSettings,
    keep_for_pump: bool,
}
