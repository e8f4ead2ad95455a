//! The data grid: partitions of a [`grid_core::Space`], replicated by Raft, kept in one write-ahead
//! log a node, read through a change feed, reached through a routing client.
//!
//! ```text
//!   GridClient ──► leader's proposer ──► Raft group ──► WAL of every replica ──► Space::apply
//!       ▲  (local, or framed TCP)                                                   │
//!       └──────────────── reply ◄────────────────────────────── changes ──► feed ──► readers
//! ```
//!
//! Invariants: a positive reply is sent only after a majority has synced the command; a replica whose
//! log is damaged, or that would apply something it does not understand, stops rather than goes on;
//! every queue between the boxes is bounded.
//!
//! What it deliberately does not know: auctions, seats, SQL, HTTP. openraft's types stay behind the
//! private module `raft`.

mod admission;
mod backlog;
pub mod backup;
pub mod balance;
mod balancer;
mod client;
mod clock;
mod cluster;
mod commit_delay;
mod connect;
mod disk;
mod disk_guard;
mod divergence;
mod error;
mod feed;
mod files;
mod fitness;
mod gauges;
mod handover;
pub mod health;
mod held;
mod identity;
mod members;
mod node;
mod opening;
mod operator;
mod outlook;
mod platform;
mod proposer;
mod raft;
mod rebuild;
mod replay;
mod replay_cost;
mod replica;
mod restoring;
mod retention;
mod scrubber;
mod service;
mod snapshot;
mod status;
mod succession;
mod trail;
mod transport;
mod wal;

pub use admission::CommandClass;
pub use client::{
    Answered, CommandRequest, Executed, GridClient, Leadership, LogError, LoggedEntry, REQUEST_LOG,
    Read, RoutingClient,
};
pub use cluster::{
    ClusterMap, GatewayEntry, GroupEntry, META, MemberAction, MemberChange, MembershipStatus, Move,
    MovePlan, MoveReason, NodeEntry, NodeState, Refusal, Revocation, Revocations,
};
pub use connect::{ConnectError, ConnectOptions, GridConnection};
pub use error::{GridError, OperationError, StartError};
pub use feed::{Feed, FeedError, FeedSlice};
pub use handover::Handover;
pub use node::{GridNode, NodeId, NodeOptions};
pub use platform::align_timers;
#[cfg(feature = "sim")]
pub use platform::simulated as simulation;
pub use rebuild::Rebuilt;
pub use status::{
    BacklogState, BacklogStatus, DamagedFile, DiskTrouble, Divergence, FollowerStatus, NodeReport,
    NodeStatus, ReplicaDigest, ReplicaRole, ReplicaStatus, ScrubStatus, SnapshotStatus,
    StartStatus, WalStatus,
};
pub use transport::{certificate_names, gateway_certificate_name};
