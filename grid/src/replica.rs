//! One replica's state in memory, shared by the group that applies to it and all who read it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use grid_core::snapshot::PartitionView;
use grid_core::{
    ApplyError, ChangeBatch, Cursor, Outcome, PartitionId, PartitionState, Space, StateHash,
    Timestamp,
};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::client::REQUEST_LOG;
use crate::commit_delay::CommitDelay;
use crate::platform::monotonic_now;
use crate::replay_cost::{ReplayCost, ReplayMark};
use crate::status::Divergence;
use crate::trail::HashTrail;

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
    trail: Mutex<HashTrail>,
    divergence: Mutex<Option<Divergence>>,
    /// Asked on every read and submission.
    has_diverged: AtomicBool,
    /// The newest index at which another replica had the same hash; 0 for none.
    compared_index: AtomicU64,
    apply_seconds: metrics::Histogram,
    commit_delay: CommitDelay,
    replay_cost: ReplayCost,
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
        let mut trail = HashTrail::default();
        trail.restart(index, state.hash());
        Self {
            partition: state.partition(),
            trail: Mutex::new(trail),
            divergence: Mutex::default(),
            has_diverged: AtomicBool::new(false),
            compared_index: AtomicU64::new(0),
            apply_seconds: metrics::histogram!("grid_apply_seconds"),
            applied: watch::Sender::new(index),
            deadline: watch::Sender::new(state.next_deadline()),
            state: RwLock::new(state),
            ring: Mutex::new(ring),
            fault: Mutex::new(None),
            commit_delay: CommitDelay::default(),
            replay_cost: ReplayCost::default(),
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
        let started = monotonic_now();
        let (applied, deadline) = {
            let mut state = self.state.write();
            let applied = state.apply(index, bytes)?;
            self.trail.lock().push(index, state.hash());
            (applied, state.next_deadline())
        };
        self.replay_cost.applied(bytes.len());
        let took = monotonic_now().saturating_duration_since(started);
        self.apply_seconds.record(took.as_secs_f64());
        if tracing::enabled!(target: REQUEST_LOG, tracing::Level::DEBUG) {
            self.log_commands(index, bytes);
        }
        {
            let mut ring = self.ring.lock();
            ring.push(applied.batch, bytes.len() + BATCH_OVERHEAD_BYTES);
        }
        #[cfg(feature = "sim")]
        self.observe(Some(Some(bytes)));
        self.publish(index, deadline);
        Ok(applied.outcomes)
    }

    /// Names each command of an entry, so that a request can be followed to where it was applied.
    fn log_commands(&self, index: u64, bytes: &[u8]) {
        let Ok(entry) = grid_core::Entry::decode(bytes) else {
            return;
        };
        for record in &entry.commands {
            tracing::debug!(
                target: REQUEST_LOG,
                command = %format_args!("{:032x}", record.key.0),
                partition = %self.partition,
                index,
                "applied"
            );
        }
    }

    /// Notes an entry without anything for the space.
    ///
    /// # Errors
    /// See [`ApplyError`]; the replica must stop.
    pub(crate) fn apply_blank(&self, index: u64) -> Result<(), ApplyError> {
        let deadline = {
            let mut state = self.state.write();
            state.apply_blank(index)?;
            self.trail.lock().push(index, state.hash());
            state.next_deadline()
        };
        self.replay_cost.applied(0);
        self.ring.lock().upto = index;
        #[cfg(feature = "sim")]
        self.observe(Some(None));
        self.publish(index, deadline);
        Ok(())
    }

    /// Puts a snapshot's state in place of the present one.
    pub(crate) fn replace(&self, state: PartitionState<S>) {
        let (index, deadline) = (state.applied_index(), state.next_deadline());
        self.replace_in(&mut self.state.write(), state);
        // It comes from a snapshot that is on this disk.
        self.replay_cost.covered(self.replay_cost.mark());
        self.replaced(index, deadline);
    }

    /// Puts another state in place of the present one, at the same position: `advance` brings it to
    /// the index it is given, while nothing is applied here.
    ///
    /// # Errors
    /// What `advance` returns; the present state stays then.
    pub(crate) fn replace_at_present<E>(
        &self,
        mut state: PartitionState<S>,
        advance: impl FnOnce(&mut PartitionState<S>, u64) -> Result<(), E>,
    ) -> Result<u64, E> {
        let (index, deadline) = {
            let mut present = self.state.write();
            let index = present.applied_index();
            advance(&mut state, index)?;
            let deadline = state.next_deadline();
            self.replace_in(&mut present, state);
            (index, deadline)
        };
        self.replaced(index, deadline);
        Ok(index)
    }

    fn replace_in(&self, present: &mut PartitionState<S>, state: PartitionState<S>) {
        let index = state.applied_index();
        self.trail.lock().restart(index, state.hash());
        *present = state;
        let mut ring = self.ring.lock();
        ring.batches.clear();
        ring.bytes = 0;
        (ring.floor, ring.upto) = (index, index);
    }

    fn replaced(&self, index: u64, deadline: Option<Timestamp>) {
        #[cfg(feature = "sim")]
        self.observe(None);
        self.publish(index, deadline);
    }

    /// The running hash after an entry, if it is still known.
    pub(crate) fn hash_at(&self, index: u64) -> Option<StateHash> {
        self.trail.lock().at(index)
    }

    /// The newest index at or before another that all replicas keep the hash of for long.
    pub(crate) fn mark_before(&self, index: u64) -> Option<u64> {
        self.trail.lock().mark_before(index)
    }

    /// Whether this replica differs from the others and therefore does not serve.
    pub(crate) fn has_diverged(&self) -> bool {
        self.has_diverged.load(Ordering::Relaxed)
    }

    /// Whether and where this replica differs, or may differ.
    pub(crate) fn divergence(&self) -> Option<Divergence> {
        self.divergence.lock().clone()
    }

    /// Notes that this replica differs; where that is decided it stops serving.
    pub(crate) fn set_divergence(&self, divergence: Divergence) {
        let mut present = self.divergence.lock();
        // The first place is where to look; a doubt gives way to certainty.
        let is_news = present
            .as_ref()
            .is_none_or(|known| divergence.decided && !known.decided);
        if is_news {
            self.has_diverged
                .store(divergence.decided, Ordering::Relaxed);
            *present = Some(divergence);
        }
    }

    /// Notes that the replica is as the others again.
    pub(crate) fn clear_divergence(&self) {
        *self.divergence.lock() = None;
        self.has_diverged.store(false, Ordering::Relaxed);
    }

    /// Forgets a difference that was not decided.
    pub(crate) fn forget_undecided(&self) {
        let mut present = self.divergence.lock();
        if present.as_ref().is_some_and(|found| !found.decided) {
            *present = None;
        }
    }

    /// Notes that all replicas asked had this replica's hash at an index.
    pub(crate) fn note_compared(&self, index: u64) {
        self.forget_undecided();
        self.compared_index.fetch_max(index, Ordering::Relaxed);
    }

    /// The newest index at which another replica's hash was found equal.
    pub(crate) fn compared_index(&self) -> Option<u64> {
        Some(self.compared_index.load(Ordering::Relaxed)).filter(|index| *index > 0)
    }

    #[cfg(feature = "sim")]
    fn observe(&self, entry: Option<Option<&[u8]>>) {
        // The simulation's model is one of the partitions, and does not know the cluster map.
        if self.partition == crate::cluster::META {
            return;
        }
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

    /// What a restart would apply again, in bytes; see [`ReplayCost`].
    pub(crate) fn replay_cost(&self) -> &ReplayCost {
        &self.replay_cost
    }

    /// A view for a snapshot, with its place in the account of what a restart would apply again. To be
    /// called between two entries.
    pub(crate) fn marked_view(&self) -> (PartitionView<S::View>, ReplayMark) {
        let state = self.state.read();
        (state.view(), self.replay_cost.mark())
    }

    /// A view for a digest.
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

    /// Notes that the replica is here no more, and wakes its readers so that they look elsewhere.
    pub(crate) fn retire(&self, fault: &str) {
        self.set_fault(fault.to_owned());
        self.applied.send_modify(|_| {});
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
