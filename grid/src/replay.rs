//! Brings a copy of a partition's state forward by applying the log to it, off the group's own path.
//!
//! The feed does so for changes that memory no longer holds, a rebuild for the entries after the
//! snapshot it fetched.

use std::sync::Arc;

use grid_core::{ChangeBatch, PartitionState, Space};

use crate::raft::Group;

/// The most bytes of log that one step applies.
const STEP_BYTES: usize = 4 << 20;
/// The most entries that one step applies.
const STEP_ENTRIES: u64 = 4_096;

/// Why a state cannot be brought forward.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    /// The log no longer has the entry that follows. Begin from a newer snapshot.
    #[error("the log no longer has entry {0}")]
    TooOld(u64),
    /// An entry cannot be applied. The state is useless.
    #[error("the log cannot be applied: {0}")]
    Apply(#[from] grid_core::ApplyError),
}

/// Applies the next run of entries, at most up to `upto`, and hands each batch to `sink`. Blocking.
///
/// # Errors
/// See [`ReplayError`].
pub(crate) fn step<S: Space>(
    group: &Group<S>,
    state: &mut PartitionState<S>,
    upto: u64,
    mut sink: impl FnMut(Arc<ChangeBatch<S::Change>>),
) -> Result<(), ReplayError> {
    let applied = state.applied_index();
    if applied >= upto {
        return Ok(());
    }
    // A fresh state has applied nothing, and the log's first index is 0.
    let first = if applied == 0 { 0 } else { applied + 1 };
    let last = upto.min(first + STEP_ENTRIES);
    let entries = group.read_log(first, last, STEP_BYTES).map_err(|error| {
        tracing::warn!(%error, first, "the log cannot be replayed");
        ReplayError::TooOld(first)
    })?;
    if entries.is_empty() {
        return Err(ReplayError::TooOld(first));
    }
    for (index, payload) in entries {
        if index == 0 && applied != 0 {
            continue;
        }
        match payload {
            Some(bytes) => sink(state.apply(index, &bytes)?.batch),
            None => state.apply_blank(index)?,
        }
    }
    Ok(())
}
