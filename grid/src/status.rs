//! What a node says of itself.

use std::collections::BTreeMap;

use grid_core::{PartitionId, StateHash};
use serde::{Deserialize, Serialize};

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
    pub refuses_new: bool,
    /// Where this replica stopped, and why, if it did.
    pub fault: Option<String>,
}

/// A node's write-ahead log.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain names")]
pub struct WalStatus {
    pub segments: u64,
    pub bytes: u64,
    pub syncs: u64,
    pub last_sync_us: u64,
    /// The group whose old entries keep the oldest segment.
    pub pinned_by: Option<u32>,
}

/// One node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "plain names")]
pub struct NodeStatus {
    pub node_id: NodeId,
    pub grid_id: String,
    pub version: String,
    pub uptime_ms: u64,
    /// Whether it gives its leaderships away and takes no more, because it is about to stop.
    pub draining: bool,
    pub wal: WalStatus,
    pub replicas: Vec<ReplicaStatus>,
    /// Peers that cannot be reached just now.
    pub unreachable: Vec<NodeId>,
    /// Peers that refuse this node or that it refuses, and why.
    pub refusals: Vec<String>,
    /// Whether connections to other nodes are under mutual TLS.
    pub encrypted: bool,
    /// Connections refused, by this node or its peer, or dropped because they were not a node's, since
    /// the start, by reason.
    pub refused_connections: BTreeMap<String, u64>,
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
