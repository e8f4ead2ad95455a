//! A node: the replicas that live in one process.
//!
//! Start: identity ─► log ─► newest snapshots ─► transport ─► groups ─► proposers, retention. A group
//! that ends, or a log that fails, ends the node: [`GridNode::failed`] says why.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use grid_config::{ClusterSettings, NodeSettings, WalSync};
use grid_core::{PartitionId, PartitionState, SlotLayout, Space};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{Admission, AdmissionLimits};
use crate::balancer;
use crate::client::{GridClient, Leadership};
use crate::divergence;
use crate::error::StartError;
use crate::feed::REPLAYS_MAX;
use crate::handover::{self, Handover};
use crate::members::{Member, Members, place};
use crate::platform::net::Listener;
use crate::platform::{self, fs};
use crate::proposer::{Proposer, ProposerMetrics};
use crate::raft::{Group, GroupOptions};
use crate::replica::ReplicaState;
use crate::retention::{self, RetentionPolicy};
use crate::service::Services;
use crate::snapshot::SnapshotStore;
use crate::transport::{Transport, TransportOptions};
use crate::wal::{Recovered, Wal, WalError, WalOptions};

/// A node's number, from 1.
pub type NodeId = u64;

/// The layout of a node's directory.
const DATA_FORMAT: u32 = 1;

/// What a node needs to start.
#[derive(Debug)]
pub struct NodeOptions {
    /// The grid it belongs to.
    pub grid_id: u128,
    /// Its number.
    pub node_id: NodeId,
    /// Every node of the grid, itself included, with its address for other nodes.
    pub members: BTreeMap<NodeId, String>,
    /// The bound socket for other nodes.
    pub listener: Listener,
    /// Settings that all nodes share.
    pub cluster: ClusterSettings,
    /// Its own.
    pub settings: NodeSettings,
    /// Whether a pump reads the changes, so that the log is kept until it has passed.
    pub keep_for_pump: bool,
}

/// Whose directory this is, in `node.json`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    format: u32,
    grid_id: String,
    node_id: NodeId,
    partitions: u32,
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

fn in_file(what: &str, path: &Path) -> impl Fn(io::Error) -> StartError {
    let what = format!("{what} {}", path.display());
    move |source| StartError::Io {
        what: what.clone(),
        source,
    }
}

/// Writes a file and syncs it.
fn keep(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Checks that the directory is this node's, or makes it so.
fn claim(directory: &Path, identity: &Identity) -> Result<(), StartError> {
    fs::create_dir_all(directory).map_err(in_file("cannot make", directory))?;
    let path = directory.join("node.json");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = serde_json::to_vec_pretty(identity)
                .map_err(|error| StartError::Options(error.to_string()))?;
            let temporary = directory.join("node.json.part");
            keep(&temporary, &text).map_err(in_file("cannot write", &temporary))?;
            fs::rename(&temporary, &path).map_err(in_file("cannot write", &path))?;
            let opened = fs::File::open(directory).and_then(|opened| opened.sync_all());
            return opened.map_err(in_file("cannot sync", directory));
        }
        Err(error) => return Err(in_file("cannot read", &path)(error)),
    };
    let found: Identity = serde_json::from_slice(&text)
        .map_err(|error| StartError::Damaged(format!("{}: {error}", path.display())))?;
    if found.format > DATA_FORMAT {
        return Err(StartError::NewerFormat {
            path,
            found: found.format,
            supported: DATA_FORMAT,
        });
    }
    if found != *identity {
        let words = |identity: &Identity| {
            format!(
                "node {} of grid {} with {} partitions",
                identity.node_id, identity.grid_id, identity.partitions
            )
        };
        return Err(StartError::ForeignData {
            path,
            found: words(&found),
            expected: words(identity),
        });
    }
    Ok(())
}

async fn open_log(options: &NodeOptions) -> Result<(Wal, Recovered), StartError> {
    let wal_options = WalOptions {
        directory: options.settings.data_dir.join("wal"),
        grid_id: options.grid_id,
        node_id: options.node_id,
        sync: options.cluster.wal_sync == WalSync::Always,
        ..WalOptions::default()
    };
    let opened = platform::blocking(move || Wal::open(wal_options)).await;
    let opened = opened.map_err(|error| StartError::Damaged(error.to_string()))?;
    let (wal, recovered) = opened.map_err(|error| match error {
        WalError::ForeignLog { .. } | WalError::NewerFormat { .. } => {
            StartError::Options(error.to_string())
        }
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

/// Founds the groups whose first holder this node is, unless they exist. Only once the peers can be
/// answered.
async fn found_groups<S: Space>(members: &Members<S>) -> Result<(), StartError> {
    for (partition, member) in &members.replicas {
        let holders = &members.placement[partition];
        if holders.first() == Some(&members.node) {
            member
                .group
                .initialize(holders.iter().copied().collect())
                .await?;
        }
    }
    Ok(())
}

impl<S: Space> GridNode<S> {
    /// Opens the log, restores the replicas, joins the groups.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(options: NodeOptions) -> Result<Self, StartError> {
        let node = options.node_id;
        let nodes: Vec<NodeId> = options.members.keys().copied().collect();
        if !nodes.contains(&node) {
            return Err(StartError::Options(format!(
                "node {node} is not among the members"
            )));
        }
        let layout = SlotLayout::new(options.cluster.partitions)
            .ok_or_else(|| StartError::Options("between 1 and 4096 partitions".to_owned()))?;
        let directory = options.settings.data_dir.clone();
        let identity = Identity {
            format: DATA_FORMAT,
            grid_id: format!("{:032x}", options.grid_id),
            node_id: node,
            partitions: options.cluster.partitions,
        };
        claim(&directory, &identity)?;
        let (wal, recovered) = open_log(&options).await?;
        let wal = Arc::new(wal);
        let services = Arc::new(Services::<S>::default());
        let transport = Transport::start(TransportOptions {
            node_id: node,
            grid_id: options.grid_id,
            fingerprint: options.cluster.fingerprint(),
            listener: options.listener,
            members: options.members.clone(),
            handler: Arc::clone(&services) as Arc<dyn crate::transport::Handler>,
        })
        .map_err(|source| StartError::Io {
            what: "cannot listen".to_owned(),
            source,
        })?;

        let placement: BTreeMap<PartitionId, Vec<NodeId>> = layout
            .iter()
            .map(|id| (id, place(id, &nodes, options.cluster.replicas as usize)))
            .collect();
        let mut starting = Starting {
            node,
            grid_id: options.grid_id,
            directory: &directory,
            cluster: &options.cluster,
            settings: &options.settings,
            wal: Arc::clone(&wal),
            recovered,
            transport: transport.clone(),
            replays: Arc::new(Semaphore::new(REPLAYS_MAX)),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            failure: watch::Sender::new(None),
        };
        let mut replicas = BTreeMap::new();
        for (partition, holders) in &placement {
            if holders.contains(&node) {
                let member = starting.replica::<S>(*partition, holders).await?;
                replicas.insert(*partition, member);
            }
        }
        let members = Arc::new(Members {
            node,
            grid_id: options.grid_id,
            started: platform::monotonic_now(),
            layout,
            placement,
            nodes,
            replicas,
            transport,
            wal,
            data_dir: directory.clone(),
            lease_ms: options.cluster.election_timeout_max_ms,
            rebuilding: Semaphore::new(1),
            attached: parking_lot::RwLock::default(),
            draining: AtomicBool::new(false),
        });
        services.open(Arc::clone(&members));
        found_groups(&members).await?;
        let Starting {
            tasks,
            stop,
            failure,
            ..
        } = starting;
        watch_over(
            &members,
            &options.settings,
            options.keep_for_pump,
            &tasks,
            &stop,
        );
        Ok(Self {
            members,
            failure: failure.subscribe(),
            tasks,
            stop,
        })
    }

    /// A handle for this process.
    #[must_use]
    pub fn client(&self) -> GridClient<S> {
        GridClient::new(Arc::clone(&self.members))
    }

    /// Waits until the node must stop: its log failed, or a replica would have diverged. Returns why.
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.clone();
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
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
        let stopping = self
            .members
            .replicas
            .values()
            .map(|member| member.group.shutdown());
        futures_util::future::join_all(stopping).await;
        self.members.transport.shutdown().await;
        self.tasks.close();
        self.tasks.wait().await;
        // They may hold handles on the node itself.
        self.members.attached.write().clear();
        self.members.wal.close();
    }
}

/// Starts what looks after the replicas from outside.
fn watch_over<S: Space>(
    members: &Arc<Members<S>>,
    settings: &NodeSettings,
    keep_for_pump: bool,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    let policy = RetentionPolicy {
        snapshot_every_entries: settings.snapshot_every_entries,
        keep_for_pump,
    };
    tasks.spawn(retention::run(Arc::clone(members), policy, stop.clone()));
    tasks.spawn(divergence::run(Arc::clone(members), stop.clone()));
    if settings.balance_leaders {
        tasks.spawn(balancer::run(
            GridClient::new(Arc::clone(members)),
            Arc::clone(members),
            stop.clone(),
        ));
    }
}

/// What the replicas are started from.
struct Starting<'a> {
    node: NodeId,
    grid_id: u128,
    directory: &'a Path,
    cluster: &'a ClusterSettings,
    settings: &'a NodeSettings,
    wal: Arc<Wal>,
    recovered: Recovered,
    transport: Transport,
    replays: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
    failure: watch::Sender<Option<String>>,
}

impl Starting<'_> {
    async fn replica<S: Space>(
        &mut self,
        partition: PartitionId,
        holders: &[NodeId],
    ) -> Result<Member<S>, StartError> {
        let directory = self
            .directory
            .join("snapshots")
            .join(format!("p{partition}"));
        let snapshots = SnapshotStore::open(directory.clone(), self.grid_id, partition)
            .map_err(in_file("cannot open", &directory))?;
        let (state, restored) = match snapshots.restore_newest::<S>() {
            Some((state, position)) => (state, Some(position)),
            None => (PartitionState::new(partition), None),
        };
        let recovered = self.recovered.groups.get(&partition.0);
        let purged = recovered
            .and_then(|group| group.purged.as_ref())
            .map(|(index, _)| *index);
        if let Some(purged) = purged
            && purged > state.applied_index()
        {
            return Err(StartError::Damaged(format!(
                "partition {partition} has no snapshot at or after log entry {purged}, before which \
                 the log is gone"
            )));
        }
        if let Some(purged) = purged {
            snapshots.forget_before(purged);
        }
        let replica = Arc::new(ReplicaState::new(state, self.settings.feed_bytes_max));
        let group = Group::start(GroupOptions {
            group: partition.0,
            node: self.node,
            cluster: self.cluster,
            wal: Arc::clone(&self.wal),
            recovered,
            transport: self.transport.clone(),
            replica: Arc::clone(&replica),
            snapshots: snapshots.clone(),
            restored,
        })
        .await?;
        if let Some(divergence) = snapshots
            .diverged()
            .map_err(in_file("cannot read", &directory))?
        {
            tracing::error!(
                %partition,
                index = divergence.index,
                "this replica differed from the others and does not serve until it is rebuilt"
            );
            replica.set_divergence(divergence);
            group.set_may_lead(false);
        }
        // One more, for the pump's checkpoint.
        let (submissions, queue) = mpsc::channel(self.settings.proposal_queue_max + 1);
        let admission = Arc::new(Admission::new(AdmissionLimits {
            commands_max: self.settings.proposal_queue_max,
            bytes_max: self.settings.proposal_queue_bytes_max,
            delay_target: Duration::from_millis(self.settings.queue_delay_target_ms),
        }));
        let leadership = watch::Sender::new(Leadership::default());
        let proposer = Proposer {
            group: group.clone(),
            replica: Arc::clone(&replica),
            submissions: queue,
            admission: Arc::clone(&admission),
            leadership: leadership.subscribe(),
            stop: self.stop.clone(),
            metrics: ProposerMetrics::new(partition),
        };
        self.tasks.spawn(proposer.run());
        let watched = leadership.subscribe();
        self.watch(partition, group.clone(), leadership);
        tracing::debug!(%partition, ?holders, "a replica has started");
        Ok(Member {
            group,
            replica,
            snapshots,
            submissions,
            admission,
            leadership: watched,
            replays: Arc::clone(&self.replays),
            wal: Arc::clone(&self.wal),
        })
    }

    /// Follows the group's leadership, and ends the node when the group ends by itself.
    fn watch<S: Space>(
        &self,
        partition: PartitionId,
        group: Group<S>,
        leadership: watch::Sender<Leadership>,
    ) {
        let stop = self.stop.clone();
        let failure = self.failure.clone();
        self.tasks.spawn(async move {
            let mut leaderless_since: Option<Instant> = None;
            let leaderless_seconds = metrics::histogram!("grid_leaderless_seconds");
            let watching = group.watch_leadership(|present| {
                match (present.leader, leaderless_since) {
                    (None, None) => leaderless_since = Some(Instant::now()),
                    (Some(_), Some(since)) => {
                        leaderless_seconds.record(since.elapsed().as_secs_f64());
                        leaderless_since = None;
                    }
                    _ => {}
                }
                leadership.send_if_modified(|known| {
                    let changed = *known != present;
                    if changed {
                        metrics::counter!("grid_leader_changes_total").increment(1);
                    }
                    *known = present;
                    changed
                });
            });
            if stop.run_until_cancelled(watching).await.is_some() && !stop.is_cancelled() {
                let fault = group.state().fault.unwrap_or_else(|| "it ended".to_owned());
                failure.send_replace(Some(format!("partition {partition}: {fault}")));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            format: DATA_FORMAT,
            grid_id: "1".to_owned(),
            node_id: 1,
            partitions: 4,
        }
    }

    #[test]
    fn a_directory_of_another_grid_or_newer_format_is_refused() {
        let directory = tempfile::tempdir().expect("temporary directory");
        claim(directory.path(), &identity()).expect("empty");
        claim(directory.path(), &identity()).expect("its own");

        let other = Identity {
            grid_id: "2".to_owned(),
            ..identity()
        };
        let refused = claim(directory.path(), &other);
        assert!(
            matches!(refused, Err(StartError::ForeignData { .. })),
            "{refused:?}"
        );

        let newer = Identity {
            format: DATA_FORMAT + 1,
            ..identity()
        };
        let text = serde_json::to_vec(&newer).expect("plain");
        std::fs::write(directory.path().join("node.json"), text).expect("written");
        let refused = claim(directory.path(), &identity());
        assert!(
            matches!(refused, Err(StartError::NewerFormat { .. })),
            "{refused:?}"
        );
    }
}
