//! openraft's state machine: applies entries to the partition, feeds the changes on, keeps snapshots.
//!
//! At a start it brings itself up to the committed position before openraft begins: openraft would do
//! it too, but on a thread that serves other groups, and one group after another.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use grid_core::{PartitionState, Space, snapshot::PartitionView};
use openraft::RaftSnapshotBuilder;
use openraft::entry::EntryPayload;
use openraft::storage::{EntryResponder, RaftStateMachine, Snapshot};
use tokio::sync::watch;

use super::log_store::LogStore;
use super::types::SnapshotPosition;
use super::types::{ApplyReply, Entry, LeaderTerm, LogId, Membership, SnapshotMeta, TypeConfig};
use crate::platform;
use crate::replay_cost::ReplayMark;
use crate::replica::ReplicaState;
use crate::snapshot::{SnapshotFile, SnapshotStore};

/// Bytes of entries that are read from the log at once to be applied again.
const REPLAY_READ_BYTES: usize = 1 << 20;

type StoredSnapshot = Snapshot<LeaderTerm, u64, (), SnapshotFile>;

/// One replica's state machine. The state itself is shared with the readers.
pub(crate) struct StateMachine<S: Space> {
    replica: Arc<ReplicaState<S>>,
    snapshots: SnapshotStore,
    last_applied: Option<LogId>,
    membership: Membership,
    snapshots_ended: watch::Sender<u64>,
}

impl<S: Space> StateMachine<S> {
    /// A state machine that stands where `replica` was restored to.
    pub(crate) fn new(
        replica: Arc<ReplicaState<S>>,
        snapshots: SnapshotStore,
        restored: Option<SnapshotPosition>,
    ) -> Self {
        let meta = restored.unwrap_or_default().0;
        Self {
            replica,
            snapshots,
            last_applied: meta.last_log_id,
            membership: meta.last_membership,
            snapshots_ended: watch::Sender::new(0),
        }
    }

    /// Changes with each snapshot that was written, installed, or could not be written.
    pub(crate) fn snapshots_ended(&self) -> watch::Receiver<u64> {
        self.snapshots_ended.subscribe()
    }

    /// Applies what the log holds up to its committed position and returns how many entries that were.
    /// Blocks for as long as it takes.
    ///
    /// # Errors
    /// When the log cannot be read or an entry not be applied.
    pub(crate) fn replay(&mut self, log: &LogStore) -> io::Result<u64> {
        let Some(committed) = log.committed() else {
            return Ok(0);
        };
        let mut replayed = 0;
        loop {
            let next = self.last_applied.map_or(0, |last| last.index + 1);
            if next > committed.index {
                return Ok(replayed);
            }
            let entries = log.read(next..=committed.index, REPLAY_READ_BYTES)?;
            if entries.is_empty() {
                // What is missing, openraft says in its own words.
                return Ok(replayed);
            }
            for entry in entries {
                self.apply_entry(entry)?;
                replayed += 1;
            }
        }
    }

    fn apply_entry(&mut self, entry: Entry) -> io::Result<ApplyReply> {
        let index = entry.log_id.index;
        let reply = match entry.payload {
            EntryPayload::Normal(bytes) => {
                let outcomes = self.replica.apply(index, &bytes.0);
                let outcomes = outcomes.map_err(|error| self.stop(error))?;
                ApplyReply {
                    outcomes: Some(Box::new(outcomes)),
                }
            }
            EntryPayload::Membership(membership) => {
                self.replica
                    .apply_blank(index)
                    .map_err(|error| self.stop(error))?;
                self.membership = Membership::new(Some(entry.log_id), membership);
                ApplyReply::default()
            }
            EntryPayload::Blank => {
                self.replica
                    .apply_blank(index)
                    .map_err(|error| self.stop(error))?;
                ApplyReply::default()
            }
        };
        self.last_applied = Some(entry.log_id);
        Ok(reply)
    }

    fn stop(&self, error: impl std::fmt::Display) -> io::Error {
        let fault = error.to_string();
        tracing::error!(partition = %self.replica.partition(), fault, "the replica stops");
        self.replica.set_fault(fault.clone());
        io::Error::other(fault)
    }
}

impl<S: Space> RaftStateMachine<TypeConfig> for StateMachine<S> {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder<S>;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), io::Error> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<E>(&mut self, mut entries: E) -> Result<(), io::Error>
    where
        E: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + Send,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let reply = self.apply_entry(entry)?;
            if let Some(responder) = responder {
                responder.send(reply);
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Builder<S>> {
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> Builder<S> {
        let meta = SnapshotMeta {
            last_log_id: self.last_applied,
            last_membership: self.membership.clone(),
        };
        Builder {
            view: Some(self.replica.marked_view()),
            meta,
            snapshots: self.snapshots.clone(),
            ended: self.snapshots_ended.clone(),
            replica: Arc::clone(&self.replica),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotFile,
    ) -> Result<(), io::Error> {
        let snapshots = self.snapshots.clone();
        let position = SnapshotPosition(meta.clone());
        let (state, position) = platform::blocking(move || {
            let (state, _) = snapshots.read::<S>(&snapshot)?;
            snapshots.adopt(&snapshot, &position)?;
            Ok::<(PartitionState<S>, SnapshotPosition), io::Error>((state, position))
        })
        .await
        .map_err(io::Error::other)??;
        self.replica.replace(state);
        self.snapshots_ended.send_modify(|ended| *ended += 1);
        self.last_applied = position.0.last_log_id;
        self.membership = position.0.last_membership;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<StoredSnapshot>, io::Error> {
        // The oldest one kept, not the newest: a peer that starts from it has every entry that the
        // pump may still need once that peer leads.
        let Some((position, snapshot)) = self.snapshots.oldest() else {
            return Ok(None);
        };
        Ok(Some(StoredSnapshot {
            meta: position.0,
            snapshot,
        }))
    }
}

/// Writes one view to a file, on a thread that gives way to all others.
pub(crate) struct Builder<S: Space> {
    view: Option<(PartitionView<S::View>, ReplayMark)>,
    meta: SnapshotMeta,
    snapshots: SnapshotStore,
    ended: watch::Sender<u64>,
    replica: Arc<ReplicaState<S>>,
}

impl<S: Space> RaftSnapshotBuilder<TypeConfig> for Builder<S> {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<StoredSnapshot, io::Error> {
        let (view, mark) = self
            .view
            .take()
            .ok_or_else(|| io::Error::other("a builder builds once"))?;
        let position = SnapshotPosition(self.meta.clone());
        let snapshots = self.snapshots.clone();
        let written = platform::in_background(move || snapshots.write(&view, &position)).await;
        self.ended.send_modify(|ended| *ended += 1);
        match written? {
            Ok(snapshot) => {
                self.replica.replay_cost().covered(mark);
                Ok(StoredSnapshot {
                    meta: self.meta.clone(),
                    snapshot,
                })
            }
            // No reason to stop: what there was before is still there, and it is tried again.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                tracing::warn!(%error, "there is no room for a snapshot");
                Ok(self.previous())
            }
            Err(error) => Err(error),
        }
    }
}

impl<S: Space> Builder<S> {
    /// The newest snapshot there is: nothing is new for who is told of it.
    fn previous(&self) -> StoredSnapshot {
        match self.snapshots.newest() {
            Some((position, snapshot)) => StoredSnapshot {
                meta: position.0,
                snapshot,
            },
            None => StoredSnapshot {
                meta: SnapshotMeta::default(),
                snapshot: SnapshotFile {
                    path: PathBuf::new(),
                },
            },
        }
    }
}
