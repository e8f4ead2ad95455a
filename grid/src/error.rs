//! What can go wrong between a caller and a partition, and what the caller should do about it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Why a command or a query has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GridError {
    /// The partition has no leader just now, or it could not be reached before the deadline, and the
    /// command was certainly not carried out. Retry with the same key.
    #[error("the partition has no reachable leader")]
    Unavailable,
    /// The deadline passed after the command was handed over: it may or may not have been carried
    /// out. Retry with the same key to learn which.
    #[error("no answer before the deadline; the outcome is unknown")]
    OutcomeUnknown,
    /// The partition's queue is full. Retry with the same key after the given time.
    #[error("the partition is overloaded")]
    Overloaded {
        /// How long to wait.
        retry_after_ms: u64,
    },
    /// The idempotency key was used for another request. Do not retry.
    #[error("the idempotency key was used for another request")]
    IdempotencyConflict,
    /// The request is not one the partition's space knows: client and node differ in version.
    #[error("the partition does not understand the request")]
    Malformed,
    /// No such partition or replica. Do not retry.
    #[error("no such partition")]
    UnknownPartition,
}

impl GridError {
    /// Whether the same request with the same key may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Unavailable | Self::OutcomeUnknown | Self::Overloaded { .. }
        )
    }
}

/// Why an operator's order was not carried out. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum OperationError {
    /// The node has no replica of the partition. See `grid partition show`.
    #[error("the node holds no replica of the partition")]
    NotHeld,
    /// The replica leads its partition, so there is nothing better to make it from.
    #[error("the replica leads its partition; give the leadership to another node first")]
    Leads,
    /// The partition has no leader just now. Retry.
    #[error("the partition has no leader just now")]
    NoLeader,
    /// The replica differs from the others, so what it has must not spread. Rebuild it.
    #[error("the replica differs from the others; rebuild it")]
    Diverged,
    /// The node rebuilds another replica. Retry when that is done.
    #[error("the node rebuilds another replica just now")]
    Busy,
    /// The node cannot be reached. Retry, or look after it.
    #[error("node {node} cannot be reached")]
    Unreachable {
        /// The node.
        node: u64,
    },
    /// It took too long. Retry.
    #[error("it took too long")]
    TimedOut,
    /// Something went wrong on the way, in words. Retry.
    #[error("{0}")]
    Failed(String),
}

impl OperationError {
    /// Whether the same order may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NotHeld | Self::Leads | Self::Diverged => false,
            Self::NoLeader
            | Self::Busy
            | Self::Unreachable { .. }
            | Self::TimedOut
            | Self::Failed(_) => true,
        }
    }
}

/// Why a node did not start. Nothing was changed on disk unless the text says so.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory belongs to another grid or node.
    #[error("{path} belongs to {found}, this node is {expected}; choose another data directory")]
    ForeignData {
        /// The file that says so.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who asked.
        expected: String,
    },
    /// The data directory was written by an older version, before grids had a cluster map.
    #[error(
        "{path} has format {found}, this build needs {supported}; start the grid anew, from the database \
         if it has one"
    )]
    OlderFormat {
        /// The file that says so.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The one this build needs.
        supported: u32,
    },
    /// The node was removed from the grid. Its directory is of no more use: empty it to join again.
    #[error("node {node} was removed from the grid; to join again, give it an empty directory")]
    Removed {
        /// The node.
        node: u64,
    },
    /// The grid follows rules that came after this build. Start the node with a newer one.
    #[error(
        "the grid follows rules {followed}, this build knows them up to {known}; start the node with a \
         newer build"
    )]
    OlderBuild {
        /// What the grid follows.
        followed: u16,
        /// The newest rules of this build.
        known: u16,
    },
    /// The data directory was written by a newer version.
    #[error("{path} has format {found}, this build reads up to {supported}; use a newer build")]
    NewerFormat {
        /// The file that says so.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest this build reads.
        supported: u32,
    },
    /// The log or a snapshot is damaged beyond a torn tail. The text names the file and offset.
    #[error(
        "stored data is damaged: {0}; move the directory away and let the node rejoin its peers"
    )]
    Damaged(String),
    /// The operating system said no.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The consensus library did not start.
    #[error("a Raft group did not start: {0}")]
    Raft(String),
    /// The options contradict each other.
    #[error("{0}")]
    Options(String),
}
