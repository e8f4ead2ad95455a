//! What a group starts with: its log and its state machine, brought up to what is known to be committed.

use std::sync::Arc;

use grid_core::{PartitionId, Space};

use super::log_store::LogStore;
use super::state_machine::StateMachine;
use super::types::SnapshotPosition;
use crate::error::StartError;
use crate::replica::ReplicaState;
use crate::snapshot::SnapshotStore;
use crate::wal::{RecoveredGroup, Wal};

/// A group that has not started.
pub(crate) struct GroupStore<S: Space> {
    pub(super) log: LogStore,
    pub(super) machine: StateMachine<S>,
    pub(super) snapshots: SnapshotStore,
}

impl<S: Space> GroupStore<S> {
    /// Takes up a group as recovery found it, with a replica that stands at `restored`.
    ///
    /// # Errors
    /// [`StartError::Damaged`] when the stored vote or positions do not decode.
    pub(crate) fn open(
        wal: Arc<Wal>,
        group: PartitionId,
        recovered: Option<&RecoveredGroup>,
        replica: Arc<ReplicaState<S>>,
        snapshots: SnapshotStore,
        restored: Option<SnapshotPosition>,
    ) -> Result<Self, StartError> {
        let log = LogStore::open(wal, group.0, recovered)
            .map_err(|error| StartError::Damaged(error.to_string()))?;
        Ok(Self {
            log,
            machine: StateMachine::new(replica, snapshots.clone(), restored),
            snapshots,
        })
    }

    /// Applies again what the log holds up to its committed position. Returns how many entries that
    /// were.
    ///
    /// # Errors
    /// [`StartError::Raft`] when the log cannot be read or an entry not be applied.
    pub(crate) fn replay(&mut self) -> Result<u64, StartError> {
        let replayed = self.machine.replay(&self.log);
        replayed.map_err(|error| StartError::Raft(error.to_string()))
    }
}
