//! Brings a replica's state back from this node's disk: the newest snapshot, then the log up to the
//! position that is known to be committed.
//!
//! ```text
//!   snapshots ─► the newest that can be read ─► does the log go on from it? ─► apply what is committed
//! ```
//!
//! All of it blocks, so it runs on a thread for such work: several replicas at a time, and none of them
//! on a thread that serves replicas which are open already.
//!
//! What it deliberately does not do: anything that others would see. A replica that is restored takes
//! part in nothing before its group starts.

use std::path::PathBuf;
use std::sync::Arc;

use grid_core::{PartitionId, PartitionState, Space};

use crate::error::StartError;
use crate::identity::in_file;
use crate::raft::{GroupStore, SnapshotPosition};
use crate::replica::ReplicaState;
use crate::snapshot::SnapshotStore;
use crate::wal::{RecoveredGroup, Wal};

/// What a replica is restored from.
pub(crate) struct Restoring {
    pub(crate) partition: PartitionId,
    /// Where its snapshots are.
    pub(crate) directory: PathBuf,
    pub(crate) grid_id: u128,
    pub(crate) wal: Arc<Wal>,
    /// What the log's recovery found of its group.
    pub(crate) recovered: Option<RecoveredGroup>,
    /// Memory for recent changes.
    pub(crate) feed_bytes_max: usize,
}

/// A replica as it stood.
pub(crate) struct Restored<S: Space> {
    pub(crate) replica: Arc<ReplicaState<S>>,
    pub(crate) snapshots: SnapshotStore,
    /// For its group to start with.
    pub(crate) store: GroupStore<S>,
    /// Entries that were applied again.
    pub(crate) replayed: u64,
}

impl Restoring {
    /// Reads, checks and applies.
    ///
    /// # Errors
    /// [`StartError::Damaged`] when the snapshots and the log do not make a state together, others when
    /// they cannot be read.
    pub(crate) fn run<S: Space>(self) -> Result<Restored<S>, StartError> {
        let (partition, directory) = (self.partition, &self.directory);
        let snapshots = SnapshotStore::open(directory.clone(), self.grid_id, partition)
            .map_err(in_file("cannot open", directory))?;
        let (state, position) = match snapshots.restore_newest::<S>() {
            Some((state, position)) => (state, Some(position)),
            None => (PartitionState::new(partition), None),
        };
        self.join_to_log(&snapshots, position.as_ref())?;
        let replica = Arc::new(ReplicaState::new(state, self.feed_bytes_max));
        #[cfg(feature = "sim")]
        if partition != crate::cluster::META {
            crate::platform::simulated::observe_opened(partition);
        }
        let mut store = GroupStore::open(
            self.wal,
            partition,
            self.recovered.as_ref(),
            Arc::clone(&replica),
            snapshots.clone(),
            position,
        )?;
        let replayed = store.replay()?;
        Ok(Restored {
            replica,
            snapshots,
            store,
            replayed,
        })
    }

    /// Checks that the log goes on from the snapshot restored, and forgets the snapshots from which it
    /// doesn't.
    fn join_to_log(
        &self,
        snapshots: &SnapshotStore,
        restored: Option<&SnapshotPosition>,
    ) -> Result<(), StartError> {
        let restored_index = restored.map_or(0, SnapshotPosition::index);
        let purged = self.recovered.as_ref();
        let purged = purged.and_then(|group| group.purged.as_ref());
        if let Some(&(purged, _)) = purged {
            if purged > restored_index {
                return Err(StartError::Damaged(format!(
                    "partition {} has no snapshot at or after log entry {purged}, before which the \
                     log is gone",
                    self.partition
                )));
            }
            snapshots.forget_before(purged);
        }
        // A snapshot from a peer ended a gap of the log, and the machine stopped before the older ones
        // were gone for good: from those nothing leads across the gap.
        let last = self.wal.last_index(self.partition.0);
        if restored.is_some() && last.is_none_or(|last| last < restored_index) {
            snapshots.forget_before(restored_index);
        }
        Ok(())
    }
}
