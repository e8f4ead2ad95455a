//! Makes a partition's state anew: an archived state, and the entries after it.
//!
//! The next page of blocks is read from the database while the present one is applied on a thread for such
//! work. The running state hash is compared with the archived one in every block that has one.

use std::fmt;

use grid_core::{Entry, PartitionId, PartitionState, StateHash, Timestamp};
use processing_unit::Unit;

use super::reader::{ArchiveReader, ArchivedBlock};
use super::{ArchiveError, BlockError};

/// How far a state is to be brought: whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Up to this entry.
    pub upto_index: u64,
    /// Up to the last entry stamped at or before this time.
    pub until: Option<Timestamp>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.until {
            Some(until) => write!(f, "{until} since the epoch"),
            None => write!(f, "entry {}", self.upto_index),
        }
    }
}

/// How far a rebuild is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last entry applied.
    pub index: u64,
    /// Entries applied in all.
    pub entries: u64,
    /// Bytes of blocks read in all.
    pub block_bytes: u64,
}

/// A partition's state at the place asked for.
#[derive(Debug)]
pub struct RebuiltPartition {
    /// The state.
    pub state: PartitionState<Unit>,
    /// The entry at which the rebuild began; 0 for the log's beginning.
    pub base_index: u64,
    /// The last entry after which the running hash was compared with the grid's own, and equal.
    pub proven_index: u64,
    /// What was read and applied.
    pub progress: Progress,
}

/// A state on its way.
struct Replay {
    state: PartitionState<Unit>,
    target: Target,
    /// Nothing was applied yet, not even the log's first entry, whose index is 0.
    is_new: bool,
    is_done: bool,
    proven_index: u64,
    progress: Progress,
}

/// Brings a partition to the place asked for. `tell` is called after every page.
///
/// # Errors
/// See [`ArchiveError`]; [`ArchiveError::Gap`] also where the archive ends before that place.
pub async fn rebuild(
    reader: &mut ArchiveReader,
    partition: PartitionId,
    target: Target,
    mut tell: impl FnMut(Progress),
) -> Result<RebuiltPartition, ArchiveError> {
    let state = reader.begin(partition, target).await?;
    let base_index = state.applied_index();
    let mut replay = Replay {
        is_new: base_index == 0,
        is_done: base_index > 0 && base_index >= target.upto_index,
        proven_index: base_index,
        progress: Progress {
            index: base_index,
            ..Progress::default()
        },
        state,
        target,
    };
    let mut page = Vec::new();
    if !replay.is_done {
        page = reader.blocks(partition, base_index).await?;
    }
    while let Some(last) = page.last() {
        let last_index = last.last_index;
        let applying = tokio::task::spawn_blocking(move || {
            replay.apply_page(&page)?;
            Ok::<_, ArchiveError>(replay)
        });
        let next = reader.blocks(partition, last_index).await;
        replay = applying
            .await
            .map_err(|_| ArchiveError::Ended(partition))??;
        tell(replay.progress);
        if replay.is_done {
            break;
        }
        page = next?;
    }
    let applied = replay.state.applied_index();
    if !replay.is_done && applied < target.upto_index {
        return Err(ArchiveError::Gap {
            partition,
            first_missing: applied + 1,
            last_missing: target.upto_index,
        });
    }
    replay
        .state
        .check_invariants()
        .map_err(|what| ArchiveError::Broken { partition, what })?;
    Ok(RebuiltPartition {
        state: replay.state,
        base_index,
        proven_index: replay.proven_index,
        progress: replay.progress,
    })
}

impl Replay {
    fn apply_page(&mut self, page: &[ArchivedBlock]) -> Result<(), ArchiveError> {
        for block in page {
            if self.is_done {
                break;
            }
            self.apply_block(block)?;
            self.progress.block_bytes += block.stored_bytes() as u64;
            self.progress.index = self.state.applied_index();
        }
        Ok(())
    }

    fn apply_block(&mut self, block: &ArchivedBlock) -> Result<(), ArchiveError> {
        let partition = self.state.partition();
        let next_index = self.state.applied_index() + 1;
        if block.first_index > next_index {
            return Err(ArchiveError::Gap {
                partition,
                first_missing: next_index,
                last_missing: block.first_index - 1,
            });
        }
        let failed = |source| ArchiveError::Apply { partition, source };
        for entry in block.entries()? {
            let is_known = entry.index <= self.state.applied_index();
            if is_known && !(self.is_new && entry.index == 0) {
                continue;
            }
            match &entry.payload {
                Some(bytes) => {
                    if let Some(until) = self.target.until {
                        let stamp = Entry::stamp(bytes).map_err(|_| ArchiveError::Block {
                            partition,
                            first_index: block.first_index,
                            last_index: block.last_index,
                            source: BlockError::Damaged("an entry bears no time"),
                        })?;
                        if stamp > until {
                            self.is_done = true;
                            return Ok(());
                        }
                    }
                    self.state.apply(entry.index, bytes).map_err(failed)?;
                }
                None => self.state.apply_blank(entry.index).map_err(failed)?,
            }
            self.is_new = false;
            self.progress.entries += 1;
            self.prove(entry.index, block.state_hash)?;
            if entry.index >= self.target.upto_index {
                self.is_done = true;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Compares the running hash where the grid's own is known.
    fn prove(&mut self, index: u64, known: Option<(u64, StateHash)>) -> Result<(), ArchiveError> {
        match known {
            Some((known_index, hash)) if known_index == index => {
                if self.state.hash() != hash {
                    return Err(ArchiveError::Differs {
                        partition: self.state.partition(),
                        index,
                    });
                }
                self.proven_index = index;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
