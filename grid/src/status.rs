//! What a node says of itself, and what one node knows of all.
//!
//! A status travels between nodes as JSON whose fields may be missing, so that nodes of two versions
//! still understand each other: that is when an operator needs it most.

use std::collections::BTreeMap;

use grid_core::{PartitionId, StateHash};
use serde::{Deserialize, Serialize};

use crate::cluster::GatewayEntry;
use crate::node::NodeId;

/// What a replica is in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "Raft's own words")]
pub enum ReplicaRole {
    Leader,
    Follower,
    Candidate,
    Learner,
    Stopped,
}

/// A replica whose state is not that of the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Divergence {
    /// The log index at which the hashes were compared.
    pub index: u64,
    /// The running state hash of this replica there, in hexadecimal.
    pub own_hash: String,
    /// The running state hash of the others there.
    pub other_hash: String,
    /// When it was noticed, in milliseconds since the Unix epoch.
    pub noticed_at_ms: u64,
    /// Whether more replicas agree with each other than with this one, which has therefore stopped
    /// serving. Otherwise as many say the one as the other: nobody has stopped, and somebody must look.
    pub decided: bool,
}

/// A leader's view of another replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowerStatus {
    /// Where the replica is.
    pub node_id: NodeId,
    /// Its log is known to agree with the leader's up to this index.
    pub matched_index: u64,
    /// How long ago it last answered, in milliseconds; `None` when it never did in this term.
    pub silent_ms: Option<u64>,
}

/// A snapshot on a node's disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotStatus {
    /// The log index it stands at.
    pub index: u64,
    /// Its size.
    pub bytes: u64,
    /// When it was written, in milliseconds since the Unix epoch.
    pub written_at_ms: u64,
}

/// One replica.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain names; indexes are log indexes")]
pub struct ReplicaStatus {
    pub partition: PartitionId,
    pub role: ReplicaRole,
    pub term: u64,
    pub leader: Option<NodeId>,
    pub last_log_index: u64,
    pub applied_index: u64,
    pub snapshot_index: u64,
    pub purged_index: u64,
    /// Everything up to here is in the database.
    pub pumped_index: u64,
    /// The running state hash at `applied_index`, in hexadecimal.
    pub state_hash: String,
    /// Commands remembered for retries.
    pub remembered_commands: u64,
    /// Commands waiting to be proposed.
    pub proposal_queue: u64,
    /// Whether new work is refused just now because commands wait too long.
    #[serde(default)]
    pub refuses_new: bool,
    /// Where this replica stopped, and why, if it did.
    pub fault: Option<String>,
    /// The nodes whose replicas vote, as this replica knows them.
    #[serde(default)]
    pub voters: Vec<NodeId>,
    /// The nodes whose replicas only follow: they are being moved in.
    #[serde(default)]
    pub learners: Vec<NodeId>,
    /// Whether the voters are being changed just now.
    #[serde(default)]
    pub voters_change: bool,
    /// On a leader: how long ago a majority last answered, in milliseconds.
    #[serde(default)]
    pub quorum_silent_ms: Option<u64>,
    /// On a leader: the other replicas.
    #[serde(default)]
    pub followers: Vec<FollowerStatus>,
    /// On a leader: the newest index at which another replica's state was found equal.
    #[serde(default)]
    pub compared_index: Option<u64>,
    /// Whether and where this replica's state differs from the others'.
    #[serde(default)]
    pub divergence: Option<Divergence>,
    /// The snapshots on this node's disk, oldest first.
    #[serde(default)]
    pub snapshots: Vec<SnapshotStatus>,
}

/// Why a node's disk is not fit to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskTrouble {
    /// Less than the reserve is free.
    Full,
    /// Syncs take long, and much longer than on another node.
    Slow,
}

/// A stored file that was found damaged or lost while the node ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedFile {
    /// Its path on the node.
    pub file: String,
    /// What is wrong with it.
    pub what: String,
    /// When it was found, in milliseconds since the Unix epoch.
    pub found_at_ms: u64,
    /// When it was no longer needed: a newer snapshot had taken its place. `None` while it is.
    pub repaired_at_ms: Option<u64>,
}

/// What reading the stored files again has found since the node started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScrubStatus {
    /// How often all files were read.
    pub passes: u64,
    /// When the last of them ended, in milliseconds since the Unix epoch.
    pub last_pass_at_ms: Option<u64>,
    /// Bytes read in all.
    pub checked_bytes: u64,
    /// Files that were damaged or lost, in all.
    pub damaged_total: u64,
    /// The latest of them.
    pub damaged: Vec<DamagedFile>,
}

/// Whether new work is taken in spite of what waits for the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BacklogState {
    /// As fast as it comes.
    #[default]
    Open,
    /// About as fast as the database takes it.
    Slowed,
    /// Not at all; work that drains is.
    Refusing,
}

/// The log that a node keeps because the database has not got it yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BacklogStatus {
    /// What that means for new work.
    pub state: BacklogState,
    /// About how much it is.
    pub bytes: u64,
    /// From here on new work is slowed; 0 for never.
    pub soft_bytes: u64,
    /// From here on it is refused; 0 for never.
    pub max_bytes: u64,
    /// How fast it drains, of the partitions that this node leads, smoothed.
    pub drained_bytes_per_s: u64,
    /// How fast new work is taken; `None` for as fast as it comes.
    pub allowed_bytes_per_s: Option<u64>,
    /// Commands that wait for their turn.
    pub delayed: u64,
}

/// A node's write-ahead log, and the disk it is on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "plain names")]
pub struct WalStatus {
    pub segments: u64,
    pub bytes: u64,
    pub syncs: u64,
    pub last_sync_us: u64,
    /// The slowest sync of the last ten to twenty seconds.
    pub slowest_sync_us: u64,
    /// The group whose old entries keep the oldest segment.
    pub pinned_by: Option<u32>,
    /// Whether new commands are taken: the log works and has room.
    pub writable: bool,
    /// Whether the next segment lies ready.
    pub spare_ready: bool,
    /// The size of a segment.
    pub segment_bytes: u64,
    /// Room on the disk for unprivileged users; `None` where the system does not say.
    pub disk_free_bytes: Option<u64>,
    /// The disk's size.
    pub disk_total_bytes: Option<u64>,
    /// With less than this free, writes are refused; 0 from a node that does not say.
    pub disk_reserve_bytes: u64,
    /// Half of the latest syncs took at most this; `None` while there were few.
    pub usual_sync_us: Option<u64>,
    /// Why the node leads nothing while others can, if so.
    pub trouble: Option<DiskTrouble>,
    /// What reading the stored files again has found.
    pub scrub: ScrubStatus,
}

/// How a node came up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StartStatus {
    /// How long reading the log took, in milliseconds.
    pub log_ms: u64,
    /// How long it then took to read the snapshots and to apply again what the log has beyond them, in
    /// milliseconds.
    pub replicas_ms: u64,
    /// Entries that were applied again.
    pub replayed_entries: u64,
}

/// One node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain names")]
pub struct NodeStatus {
    pub node_id: NodeId,
    pub grid_id: String,
    pub version: String,
    /// The newest rules that its build knows; 0 from a node that does not say.
    #[serde(default)]
    pub rules_known: u16,
    /// The rules that it has heard the grid follows.
    #[serde(default)]
    pub rules_followed: u16,
    pub uptime_ms: u64,
    /// The node's clock, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub clock_ms: u64,
    /// How long a leader may go without its majority before another may be elected.
    #[serde(default)]
    pub lease_ms: u64,
    /// Whether it gives its leaderships away and takes no more, because it is about to stop.
    #[serde(default)]
    pub draining: bool,
    /// How it came up; `None` from a node that does not say.
    #[serde(default)]
    pub start: Option<StartStatus>,
    pub wal: WalStatus,
    /// What waits for the database.
    #[serde(default)]
    pub backlog: BacklogStatus,
    pub replicas: Vec<ReplicaStatus>,
    /// Peers that cannot be reached just now.
    pub unreachable: Vec<NodeId>,
    /// Peers that refuse this node or that it refuses, and why.
    pub refusals: Vec<String>,
    /// Whether connections to other nodes are under mutual TLS.
    #[serde(default)]
    pub encrypted: bool,
    /// Connections refused, by this node or its peer, or dropped because they were not a node's, since
    /// the start, by reason.
    #[serde(default)]
    pub refused_connections: BTreeMap<String, u64>,
    /// The gateways that are processes of their own and have told this node of themselves lately.
    #[serde(default)]
    pub gateways: Vec<GatewayEntry>,
    /// What the rest of the process says of itself, such as its pump; see
    /// [`GridClient::attach`](crate::GridClient::attach).
    #[serde(default)]
    pub attached: BTreeMap<String, serde_json::Value>,
}

/// What one node learnt of another, or of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeReport {
    /// The node asked.
    pub node_id: NodeId,
    /// What it said; `None` when it did not answer in time.
    pub status: Option<NodeStatus>,
    /// How long the answer took.
    #[serde(default)]
    pub round_trip_ms: Option<u64>,
    /// By how much its clock is ahead of the asking node's, give or take half the round trip.
    #[serde(default)]
    pub clock_ahead_ms: Option<i64>,
}

/// A replica's whole state in one hash.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReplicaDigest {
    /// The node.
    pub node_id: NodeId,
    /// The log index it stands at.
    pub applied_index: u64,
    /// The running hash at that index.
    pub running_hash: StateHash,
    /// The hash over the whole encoded state; costs a full encoding.
    pub digest: StateHash,
}
