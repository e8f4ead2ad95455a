//! The types openraft is instantiated with.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use openraft::errors::ClientWriteError;
use openraft::impls::leader_id_std::LeaderId;
use openraft::raft::responder::Responder;
use openraft::raft::{ClientWriteResult, StreamAppendResult};
use openraft::type_config::alias::LogIdOf;
use openraft::vote::leader_id_std::CommittedLeaderId;
use serde::{Deserialize, Serialize};

/// An entry's bytes as the proposer encoded them; never re-encoded on the way to log and peers.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct EntryBytes(pub(crate) Bytes);

impl Serialize for EntryBytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for EntryBytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
        Ok(Self(Bytes::from(bytes.into_vec())))
    }
}

impl fmt::Debug for EntryBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for EntryBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What `apply` hands to the proposer on the leader: the entry's outcomes, whose type only the
/// proposer and the state machine know. Never serialised.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct ApplyReply {
    #[serde(skip)]
    pub(crate) outcomes: Option<Outcomes>,
}

/// A `Vec<Outcome<S::Reply>>` of whatever space the grid is made of.
pub(crate) type Outcomes = Box<dyn Any + Send + Sync>;

impl fmt::Debug for ApplyReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApplyReply")
    }
}

/// Calls back when a write ends, on the task that ended it.
pub(crate) struct Callback<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Callback<T> {
    pub(crate) fn new(call: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(call))
    }
}

impl<T: Send + 'static> Responder<TypeConfig, T> for Callback<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}

/// openraft as this crate uses it: one leader a term, nodes known by number alone.
#[derive(Debug, Clone, Copy, Default, Eq, PartialEq, Ord, PartialOrd)]
pub(crate) struct TypeConfig;

impl openraft::RaftTypeConfig for TypeConfig {
    type D = EntryBytes;
    type R = ApplyReply;
    type NodeId = u64;
    type Node = ();
    type Term = u64;
    type LeaderId = LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Self::D, Self::NodeId, Self::Node>;
    type Entry = openraft::Entry<CommittedLeaderId<u64>, Self::Payload>;
    type AsyncRuntime = crate::platform::Runtime;
    type Responder<T>
        = Callback<T>
    where
        T: openraft::OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: openraft::OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(crate) type LogId = LogIdOf<TypeConfig>;
pub(crate) type LeaderTerm = CommittedLeaderId<u64>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub(crate) type Membership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
pub(crate) type WriteResult = ClientWriteResult<TypeConfig>;
pub(crate) type AppendResult = StreamAppendResult<TypeConfig>;

/// The log position a snapshot stands at, with what consensus needs to know of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotPosition(pub(crate) SnapshotMeta);

impl SnapshotPosition {
    /// The position of a snapshot that a new grid begins from, with these voters: term 0 is below any
    /// that its groups will have.
    pub(crate) fn founding(index: u64, voters: &[u64]) -> Self {
        let log_id = LogId {
            leader_id: LeaderTerm::new(0),
            index,
        };
        let voters: BTreeSet<u64> = voters.iter().copied().collect();
        let membership = openraft::Membership::new_with_defaults(vec![voters], []);
        Self(SnapshotMeta {
            last_log_id: Some(log_id),
            last_membership: Membership::new(Some(log_id), membership),
        })
    }

    /// The index of the last entry in the snapshot.
    pub(crate) fn index(&self) -> u64 {
        self.0.last_log_id.map_or(0, |id| id.index)
    }
}

/// Why a proposal was not applied here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProposalError {
    /// This node does not lead, or has no quorum just now; certainly not carried out.
    NotLeader(Option<u64>),
    /// Proposed, but its fate is not known here: it may yet be carried out.
    Unknown,
    /// There is too much to do; certainly not carried out.
    Overloaded {
        /// How long to wait before asking again.
        retry_after_ms: u64,
    },
}

impl ProposalError {
    pub(crate) fn from_write(error: &ClientWriteError<TypeConfig>) -> Self {
        match error {
            ClientWriteError::ForwardToLeader(forward) => Self::NotLeader(forward.leader_id),
            _ => Self::Unknown,
        }
    }
}

/// A position of term 1.
#[cfg(test)]
pub(super) fn at(index: u64) -> LogId {
    LogId {
        leader_id: LeaderTerm::new(1),
        index,
    }
}
