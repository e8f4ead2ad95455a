//! What must hold, one property a file.
//!
//! Each is shown every [`Fact`] as it becomes known, together with the [`History`] so far, and says
//! what is wrong. They do not know of each other, nor of the faults.

mod accepted_is_kept;
mod feed_is_the_log;
mod linearizable;
mod nodes_stand;
mod once;
mod one_leader;
mod one_owner;
mod refused_is_not_done;
mod replicas_agree;
mod seats_and_bids;
mod space_rules;
mod time_is_kept;

use grid::{Answered, ClusterMap, Executed, GridError, NodeStatus, Read};
use grid_core::{IdempotencyKey, PartitionId, StateHash};
use processing_unit::{Answer, Query, Reply};

use crate::history::{Committed, History};
use crate::requests::Fed;

/// Something that became known.
pub(crate) enum Fact<'a> {
    /// A node applied an entry, perhaps not as the first.
    Applied {
        node: u64,
        partition: PartitionId,
        index: u64,
        entry: Option<&'a [u8]>,
        hash: StateHash,
    },
    /// A node opened a replica; what it knew of an earlier one under that number no longer counts.
    Opened { node: u64, partition: PartitionId },
    /// A node showed its cluster map.
    Map { node: u64, map: &'a ClusterMap },
    /// A node took over a snapshot.
    Restored {
        node: u64,
        partition: PartitionId,
        index: u64,
        hash: StateHash,
    },
    /// An entry was applied for the first time.
    Committed(&'a Committed),
    /// A client got its reply.
    Executed {
        partition: PartitionId,
        key: IdempotencyKey,
        executed: &'a Executed<Reply>,
        /// What was acknowledged to anybody when the client first asked.
        floor: u64,
    },
    /// A client was told that its command was certainly not carried out, on every attempt.
    CertainlyRefused {
        partition: PartitionId,
        key: IdempotencyKey,
    },
    /// A client got an error.
    Failed(&'a GridError),
    /// A client got its answer.
    Answered {
        partition: PartitionId,
        query: &'a Query,
        read: Read,
        answered: &'a Answered<Answer>,
        floor: u64,
    },
    /// A node said where it stands.
    Status { node: u64, status: &'a NodeStatus },
    /// A node's state was looked at; its own rules' verdict.
    Inspected {
        node: u64,
        partition: PartitionId,
        verdict: Result<(), String>,
    },
    /// A feed went on.
    Fed { node: u64, fed: &'a Fed },
    /// A node was switched off.
    Crashed { node: u64 },
    /// A node stopped by itself; whether its disk had been tampered with.
    Stopped {
        node: u64,
        reason: &'a str,
        is_excused: bool,
    },
    /// The run has ended, all is healed and at rest.
    Settled { standing: &'a [Standing] },
}

/// Where a replica stands at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) node: u64,
    pub(crate) partition: PartitionId,
    pub(crate) index: u64,
    pub(crate) hash: StateHash,
    /// Over the whole encoded state.
    pub(crate) digest: StateHash,
}

/// A property.
pub(crate) trait Invariant {
    /// Its name, as violations give it.
    fn name(&self) -> &'static str;

    /// Looks at a fact.
    ///
    /// # Errors
    /// What is wrong, in words.
    fn check(&mut self, history: &History, fact: &Fact<'_>) -> Result<(), String>;
}

/// A broken property.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{invariant}: {detail}")]
pub struct Violation {
    /// Which property.
    pub invariant: &'static str,
    /// What is wrong.
    pub detail: String,
}

/// All of them.
pub(crate) struct Invariants(Vec<Box<dyn Invariant>>);

impl Default for Invariants {
    fn default() -> Self {
        Self(vec![
            Box::new(replicas_agree::ReplicasAgree::default()),
            Box::new(accepted_is_kept::AcceptedIsKept),
            Box::new(refused_is_not_done::RefusedIsNotDone::default()),
            Box::new(once::Once),
            Box::new(seats_and_bids::SeatsAndBids::default()),
            Box::new(linearizable::Linearizable::default()),
            Box::new(feed_is_the_log::FeedIsTheLog::default()),
            Box::new(one_leader::OneLeader::default()),
            Box::new(one_owner::OneOwner::default()),
            Box::new(space_rules::SpaceRules),
            Box::new(time_is_kept::TimeIsKept::default()),
            Box::new(nodes_stand::NodesStand),
        ])
    }
}

impl Invariants {
    /// Shows a fact to all.
    ///
    /// # Errors
    /// The first that is broken.
    pub(crate) fn check(&mut self, history: &History, fact: &Fact<'_>) -> Result<(), Violation> {
        for invariant in &mut self.0 {
            invariant.check(history, fact).map_err(|detail| Violation {
                invariant: invariant.name(),
                detail,
            })?;
        }
        Ok(())
    }
}
