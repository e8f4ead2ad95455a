//! One replica's state in memory, shared by the group that applies to it and all who read it.

use std::collections::VecDeque;
use std::sync::Arc;

use grid_core::snapshot::PartitionView;
use grid_core::{
    ApplyError, ChangeBatch, Cursor, Outcome, PartitionId, PartitionState, Space, Timestamp,
};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::commit_delay::CommitDelay;

/// The most batches that one read of the feed returns.
pub(crate) const FEED_BATCHES_MAX: usize = 4_096;

/// What the bookkeeping of a batch costs beside its entry's bytes.
const BATCH_OVERHEAD_BYTES: usize = 128;

/// The recent changes, oldest first.
///
/// Invariant: it holds every batch of entries in `floor + 1 ..= upto`.
struct Ring<C> {
    batches: VecDeque<(Arc<ChangeBatch<C>>, usize)>,
    bytes: usize,
    bytes_max: usize,
    floor: u64,
    upto: u64,
}

/// What the ring has after a place.
pub(crate) enum Recent<C> {
    /// These batches; everything up to the index is covered.
    Slice(Vec<Arc<ChangeBatch<C>>>, u64),
    /// Nothing yet.
    Nothing,
    /// It no longer reaches back that far.
    TooOld,
    /// The place is beyond the end.
    Ahead,
}

/// A replica's state.
pub(crate) struct ReplicaState<S: Space> {
    partition: PartitionId,
    state: RwLock<PartitionState<S>>,
    ring: Mutex<Ring<S::Change>>,
    applied: watch::Sender<u64>,
    deadline: watch::Sender<Option<Timestamp>>,
    fault: Mutex<Option<String>>,
    commit_delay: CommitDelay,
}

impl<S: Space> ReplicaState<S> {
    /// A replica that stands where `state` does.
    pub(crate) fn new(state: PartitionState<S>, feed_bytes_max: usize) -> Self {
        let index = state.applied_index();
        let ring = Ring {
            batches: VecDeque::new(),
            bytes: 0,
            bytes_max: feed_bytes_max,
            floor: index,
            upto: index,
        };
        Self {
            partition: state.partition(),
            applied: watch::Sender::new(index),
            deadline: watch::Sender::new(state.next_deadline()),
            state: RwLock::new(state),
            ring: Mutex::new(ring),
            fault: Mutex::new(None),
            commit_delay: CommitDelay::default(),
        }
    }

    /// The partition.
    pub(crate) fn partition(&self) -> PartitionId {
        self.partition
    }

    /// Applies an entry and publishes its changes.
    ///
    /// # Errors
    /// See [`ApplyError`]; the replica must stop.
    pub(crate) fn apply(
        &self,
        index: u64,
        bytes: &[u8],
    ) -> Result<Vec<Outcome<S::Reply>>, ApplyError> {
        let (applied, deadline) = {
            let mut state = self.state.write();
            let applied = state.apply(index, bytes)?;
            (applied, state.next_deadline())
        };
        {
            let mut ring = self.ring.lock();
            ring.push(applied.batch, bytes.len() + BATCH_OVERHEAD_BYTES);
        }
        #[cfg(feature = "sim")]
        self.observe(Some(Some(bytes)));
        self.publish(index, deadline);
        Ok(applied.outcomes)
    }

    /// Notes an entry without anything for the space.
    ///
    /// # Errors
    /// See [`ApplyError`]; the replica must stop.
    pub(crate) fn apply_blank(&self, index: u64) -> Result<(), ApplyError> {
        let deadline = {
            let mut state = self.state.write();
            state.apply_blank(index)?;
            state.next_deadline()
        };
        self.ring.lock().upto = index;
        #[cfg(feature = "sim")]
        self.observe(Some(None));
        self.publish(index, deadline);
        Ok(())
    }

    /// Puts a snapshot's state in place of the present one.
    pub(crate) fn replace(&self, state: PartitionState<S>) {
        let (index, deadline) = (state.applied_index(), state.next_deadline());
        {
            let mut present = self.state.write();
            *present = state;
            let mut ring = self.ring.lock();
            ring.batches.clear();
            ring.bytes = 0;
            (ring.floor, ring.upto) = (index, index);
        }
        #[cfg(feature = "sim")]
        self.observe(None);
        self.publish(index, deadline);
    }

    #[cfg(feature = "sim")]
    fn observe(&self, entry: Option<Option<&[u8]>>) {
        let (index, hash) = self.read(|state| (state.applied_index(), state.hash()));
        crate::platform::simulated::observe(self.partition, index, hash, entry);
    }

    fn publish(&self, index: u64, deadline: Option<Timestamp>) {
        self.applied.send_replace(index);
        self.deadline.send_if_modified(|present| {
            let changed = *present != deadline;
            *present = deadline;
            changed
        });
    }

    /// Reads the state.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&PartitionState<S>) -> T) -> T {
        read(&self.state.read())
    }

    /// A view for a snapshot or a digest.
    pub(crate) fn view(&self) -> PartitionView<S::View> {
        self.state.read().view()
    }

    /// The index of the last applied entry, as it advances.
    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// The earliest deadline in the state, as it changes.
    pub(crate) fn deadline(&self) -> watch::Receiver<Option<Timestamp>> {
        self.deadline.subscribe()
    }

    /// How long entries proposed here take.
    pub(crate) fn commit_delay(&self) -> &CommitDelay {
        &self.commit_delay
    }

    /// Why the replica stopped, if it did.
    pub(crate) fn fault(&self) -> Option<String> {
        self.fault.lock().clone()
    }

    /// Notes why the replica stops.
    pub(crate) fn set_fault(&self, fault: String) {
        self.fault.lock().get_or_insert(fault);
    }

    /// The recent changes of entries after `index`.
    pub(crate) fn recent(&self, index: u64) -> Recent<S::Change> {
        let ring = self.ring.lock();
        if index > ring.upto {
            return Recent::Ahead;
        }
        if index < ring.floor {
            return Recent::TooOld;
        }
        if index == ring.upto {
            return Recent::Nothing;
        }
        let start = ring
            .batches
            .partition_point(|(batch, _)| batch.index <= index);
        let more = ring.batches.len() - start;
        let batches: Vec<_> = ring
            .batches
            .iter()
            .skip(start)
            .take(FEED_BATCHES_MAX)
            .map(|(batch, _)| Arc::clone(batch))
            .collect();
        let upto = match batches.last() {
            Some(last) if more > FEED_BATCHES_MAX => last.index,
            _ => ring.upto,
        };
        Recent::Slice(batches, upto)
    }
}

impl<C> Ring<C> {
    fn push(&mut self, batch: Arc<ChangeBatch<C>>, bytes: usize) {
        self.upto = batch.index;
        if batch.changes.is_empty() {
            return;
        }
        self.bytes += bytes;
        self.batches.push_back((batch, bytes));
        while self.bytes > self.bytes_max && self.batches.len() > 1 {
            if let Some((oldest, bytes)) = self.batches.pop_front() {
                self.bytes -= bytes;
                self.floor = oldest.index;
            }
        }
    }
}

/// The entry after which a reader at `cursor` goes on: an entry of which only a part was seen is
/// read again.
pub(crate) fn resume_after(cursor: Cursor) -> u64 {
    if cursor.seq == u32::MAX {
        cursor.index
    } else {
        cursor.index.saturating_sub(1)
    }
}
