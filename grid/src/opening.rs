//! Opens and closes the replicas of a node while it runs.
//!
//! A replica is opened as its disk has it (see `restoring`), and closed when the cluster map no longer
//! has it here; then its files and its part of the log go too, so that should it come back it comes as
//! a learner. What remains is what others may count on: its vote, and how far its log had come.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use grid_config::{ClusterSettings, NodeSettings};
use grid_core::{PartitionId, Space};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{Admission, AdmissionLimits};
use crate::backlog::Backlog;
use crate::client::Leadership;
use crate::clock::GridClock;
use crate::cluster::META;
use crate::error::StartError;
use crate::feed::ReplaySlots;
use crate::files;
use crate::identity::in_file;
use crate::members::Member;
use crate::node::NodeId;
use crate::platform::{self, monotonic_now};
use crate::proposer::{Proposer, ProposerMetrics};
use crate::raft::{Group, GroupOptions, LogStore};
use crate::restoring::{Restored, Restoring};
use crate::status::ReplicaRole;
use crate::transport::Transport;
use crate::wal::{Recovered, Wal};

/// What replicas are opened with.
pub(crate) struct Opener {
    pub(crate) node: NodeId,
    pub(crate) grid_id: u128,
    pub(crate) directory: PathBuf,
    pub(crate) cluster: ClusterSettings,
    pub(crate) settings: NodeSettings,
    pub(crate) wal: Arc<Wal>,
    pub(crate) backlog: Arc<Backlog>,
    pub(crate) clock: Arc<GridClock>,
    /// The rules that the grid follows, as this node has heard; see [`grid_core::Space::RULES`].
    pub(crate) rules: Arc<AtomicU16>,
    /// What recovery found of groups that are not open yet.
    pub(crate) recovered: Mutex<Recovered>,
    pub(crate) transport: Transport,
    pub(crate) replays: ReplaySlots,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    pub(crate) failure: watch::Sender<Option<String>>,
    /// Entries of the log that were applied again when their replicas were opened.
    pub(crate) replayed_entries: AtomicU64,
}

impl Opener {
    fn snapshots(&self, partition: PartitionId) -> PathBuf {
        let name = if partition == META {
            "meta".to_owned()
        } else {
            format!("p{partition}")
        };
        self.directory.join("snapshots").join(name)
    }

    /// The groups that the log knows and that are not open.
    pub(crate) fn unopened(&self) -> Vec<PartitionId> {
        let recovered = self.recovered.lock();
        recovered
            .groups
            .keys()
            .map(|group| PartitionId(*group))
            .collect()
    }

    /// Opens a replica; `is_first` says that it is one of those that the group began with.
    ///
    /// # Errors
    /// See [`StartError`].
    pub(crate) async fn open<S: Space>(
        &self,
        partition: PartitionId,
        leadership: watch::Sender<Leadership>,
        is_first: bool,
    ) -> Result<Member<S>, StartError> {
        let directory = self.snapshots(partition);
        let restoring = Restoring {
            partition,
            directory: directory.clone(),
            grid_id: self.grid_id,
            wal: Arc::clone(&self.wal),
            recovered: self.recovered.lock().groups.remove(&partition.0),
            feed_bytes_max: self.settings.feed_bytes_max,
        };
        let restored = platform::blocking(move || restoring.run::<S>()).await;
        let Restored {
            replica,
            snapshots,
            store,
            replayed,
        } = restored.map_err(|error| StartError::Damaged(error.to_string()))??;
        self.replayed_entries.fetch_add(replayed, Ordering::Relaxed);
        let group = Group::start(GroupOptions {
            node: self.node,
            cluster: &self.cluster,
            transport: self.transport.clone(),
            store,
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
        let stop = self.stop.child_token();
        let proposer = Proposer {
            group: group.clone(),
            replica: Arc::clone(&replica),
            submissions: queue,
            admission: Arc::clone(&admission),
            leadership: leadership.subscribe(),
            clock: Arc::clone(&self.clock),
            rules: Arc::clone(&self.rules),
            stop: stop.clone(),
            metrics: ProposerMetrics::new(partition),
        };
        self.tasks.spawn(proposer.run());
        let (started, ended) = (group.clone(), stop.clone());
        self.tasks
            .spawn(async move { ended.run_until_cancelled(started.become_free()).await });
        let watched = leadership.subscribe();
        let serving = Arc::new(AtomicBool::new(is_first));
        self.watch(
            partition,
            group.clone(),
            (leadership, Arc::clone(&serving)),
            stop.clone(),
        );
        tracing::debug!(%partition, "a replica has started");
        Ok(Member {
            group,
            replica,
            snapshots,
            submissions,
            admission,
            backlog: Arc::clone(&self.backlog),
            leadership: watched,
            replays: self.replays.clone(),
            wal: Arc::clone(&self.wal),
            serving,
            stop,
        })
    }

    /// Follows the group's leadership, and ends the node when the group ends by itself.
    fn watch<S: Space>(
        &self,
        partition: PartitionId,
        group: Group<S>,
        (leadership, serving): (watch::Sender<Leadership>, Arc<AtomicBool>),
        stop: CancellationToken,
    ) {
        let failure = self.failure.clone();
        let log_failure = self.wal.failure();
        self.tasks.spawn(async move {
            let mut leaderless_since: Option<Instant> = None;
            let leaderless_seconds = metrics::histogram!("grid_leaderless_seconds");
            let watching = group.watch_leadership(|present, role| {
                let has_vote = !matches!(role, ReplicaRole::Learner | ReplicaRole::Stopped);
                serving.fetch_or(has_vote, Ordering::Relaxed);
                // A replica that nobody has told anything yet knows less than this node did without it.
                if present.leader.is_none() && !serving.load(Ordering::Relaxed) {
                    return;
                }
                match (present.leader, leaderless_since) {
                    (None, None) => leaderless_since = Some(monotonic_now()),
                    (Some(_), Some(since)) => {
                        let took = monotonic_now().saturating_duration_since(since);
                        leaderless_seconds.record(took.as_secs_f64());
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
            let ended = stop.run_until_cancelled(watching).await.is_some();
            if ended && !stop.is_cancelled() {
                let fault = group.state().fault.unwrap_or_else(|| "it ended".to_owned());
                // Where the log failed, that is the cause, and said in its own words.
                let words = log_failure.borrow().clone();
                let words = words.unwrap_or_else(|| format!("partition {partition}: {fault}"));
                failure.send_replace(Some(words));
            }
            leadership.send_replace(Leadership::default());
        });
    }

    /// Stops a replica and removes all that the node has of it.
    ///
    /// # Errors
    /// When the log or the files do not let go; the replica is stopped all the same.
    pub(crate) async fn close<S: Space>(
        &self,
        partition: PartitionId,
        member: &Member<S>,
    ) -> std::io::Result<()> {
        member.stop.cancel();
        member.group.shutdown().await;
        member
            .replica
            .retire("the replica has moved to another node");
        let remains = member.group.leave_log().await?;
        self.recovered.lock().groups.insert(partition.0, remains);
        self.remove_files(partition).await.map(drop)
    }

    /// Removes what is left of a group that is not open. Returns whether that was anything.
    ///
    /// # Errors
    /// When the log or the files do not let go.
    pub(crate) async fn close_unopened(&self, partition: PartitionId) -> std::io::Result<bool> {
        let recovered = self.recovered.lock().groups.get(&partition.0).cloned();
        let log = LogStore::open(Arc::clone(&self.wal), partition.0, recovered.as_ref())?;
        let has_left = log.has_left();
        if !has_left {
            let remains = log.leave().await?;
            self.recovered.lock().groups.insert(partition.0, remains);
        }
        // The node may have stopped between the log and the files.
        let had_files = self.remove_files(partition).await?;
        Ok(!has_left || had_files)
    }

    /// Removes a group's snapshots. Returns whether there were any.
    async fn remove_files(&self, partition: PartitionId) -> std::io::Result<bool> {
        let directory = self.snapshots(partition);
        let removed = platform::blocking(move || files::remove_all(&directory));
        removed.await.map_err(std::io::Error::other)?
    }
}
