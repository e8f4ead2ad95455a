//! The change feed: a partition's changes in order, from memory for recent ones, by replaying the log
//! for older ones, from a peer where this node has no replica.
//!
//! A replay restores the newest snapshot at or before the cursor (or starts empty, where the log
//! still has its beginning) and applies the log to it, on a blocking thread; when it reaches what the
//! ring in memory covers, the reader goes on there.
//!
//! Invariants: a reader sees every change after its cursor once and in order, or an error; at most
//! [`REPLAYS_MAX`] replays run on a node at a time, each with one partition's state in memory.

use std::sync::Arc;

use grid_core::codec;
use grid_core::{ChangeBatch, Cursor, PartitionId, PartitionState, Space};
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::platform;
use crate::raft::Group;
use crate::replay::{self, ReplayError};
use crate::replica::{Recent, ReplicaState, resume_after};
use crate::service::FeedMessage;
use crate::snapshot::SnapshotStore;
use crate::transport::{StreamReceiver, StreamSender};

/// Replays at a time on one node; the next waits.
pub(crate) const REPLAYS_MAX: usize = 2;

/// A run of consecutive entries' changes.
#[derive(Clone, Debug)]
pub struct FeedSlice<C> {
    /// Batches in log order. Entries without changes have none. The first may begin with changes at
    /// or before the cursor's `seq`: compare.
    pub batches: Vec<Arc<ChangeBatch<C>>>,
    /// Every entry up to this index is covered.
    pub upto_index: u64,
}

/// Why the feed cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum FeedError {
    /// The log no longer reaches back to the cursor. Take a snapshot and follow from there.
    #[error("the log no longer reaches back to the cursor")]
    CursorTooOld,
    /// The cursor is beyond the log's end, so it is of another history. Take a snapshot.
    #[error("the cursor is beyond the end of the log")]
    CursorAhead,
    /// The replica stopped or cannot be reached. Follow again later from the same place.
    #[error("the replica has stopped")]
    Stopped,
}

impl FeedError {
    /// Whether following again from the same cursor may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Stopped)
    }
}

/// What a local reader needs of the node.
pub(crate) struct FeedSource<S: Space> {
    pub(crate) replica: Arc<ReplicaState<S>>,
    pub(crate) group: Group<S>,
    pub(crate) snapshots: SnapshotStore,
    pub(crate) replays: Arc<tokio::sync::Semaphore>,
}

impl<S: Space> Clone for FeedSource<S> {
    fn clone(&self) -> Self {
        Self {
            replica: Arc::clone(&self.replica),
            group: self.group.clone(),
            snapshots: self.snapshots.clone(),
            replays: Arc::clone(&self.replays),
        }
    }
}

enum Place<S: Space> {
    Local {
        source: FeedSource<S>,
        applied: watch::Receiver<u64>,
        replay: Option<Box<Replay<S>>>,
    },
    Remote {
        sender: StreamSender,
        receiver: StreamReceiver,
    },
    Nowhere,
}

/// A reader of one partition's changes.
pub struct Feed<S: Space> {
    place: Place<S>,
    cursor: Cursor,
    /// The cursor is not known yet: the peer says it with the first slice.
    unplaced: bool,
}

impl<S: Space> std::fmt::Debug for Feed<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Feed({})", self.cursor)
    }
}

impl<S: Space> Feed<S> {
    /// A reader of this node's replica.
    pub(crate) fn local(source: FeedSource<S>, from: Option<Cursor>) -> Self {
        let partition = source.replica.partition();
        let applied = source.replica.applied();
        let present = *applied.borrow();
        let cursor = from.unwrap_or(Cursor::after_entry(partition, present));
        Self {
            place: Place::Local {
                source,
                applied,
                replay: None,
            },
            cursor,
            unplaced: false,
        }
    }

    /// A reader over a stream from a peer; without a place it begins where the peer is.
    pub(crate) fn remote(
        (sender, receiver): (StreamSender, StreamReceiver),
        partition: PartitionId,
        from: Option<Cursor>,
    ) -> Self {
        Self {
            place: Place::Remote { sender, receiver },
            cursor: from.unwrap_or(Cursor::after_entry(partition, 0)),
            unplaced: from.is_none(),
        }
    }

    /// A reader that finds no replica.
    pub(crate) fn nowhere(partition: PartitionId, from: Option<Cursor>) -> Self {
        Self {
            place: Place::Nowhere,
            cursor: from.unwrap_or(Cursor::after_entry(partition, 0)),
            unplaced: from.is_none(),
        }
    }

    /// Whether the reader follows from now on and does not know yet where that is: the first slice,
    /// which is then empty, says it.
    #[must_use]
    pub fn is_unplaced(&self) -> bool {
        self.unplaced
    }

    /// The reader's place: what it has returned so far.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The next changes; waits until there are some. At most 4,096 batches a slice.
    ///
    /// # Errors
    /// See [`FeedError`].
    pub async fn next(&mut self) -> Result<FeedSlice<S::Change>, FeedError> {
        let after = resume_after(self.cursor);
        let slice = match &mut self.place {
            Place::Local {
                source,
                applied,
                replay,
            } => next_local(source, applied, replay, after).await?,
            Place::Remote { sender, receiver } => next_remote(sender, receiver).await?,
            Place::Nowhere => return Err(FeedError::Stopped),
        };
        self.cursor = Cursor::after_entry(self.cursor.partition, slice.upto_index);
        self.unplaced = false;
        Ok(slice)
    }
}

async fn next_local<S: Space>(
    source: &FeedSource<S>,
    applied: &mut watch::Receiver<u64>,
    replay: &mut Option<Box<Replay<S>>>,
    after: u64,
) -> Result<FeedSlice<S::Change>, FeedError> {
    loop {
        if source.replica.has_diverged() {
            return Err(FeedError::Stopped);
        }
        let present = *applied.borrow_and_update();
        match source.replica.recent(after) {
            Recent::Slice(batches, upto_index) => {
                *replay = None;
                return Ok(FeedSlice {
                    batches,
                    upto_index,
                });
            }
            Recent::Ahead => return Err(FeedError::CursorAhead),
            Recent::TooOld => {
                let at_hand = match replay.take() {
                    Some(replay) if replay.state.applied_index() >= after => *replay,
                    _ => Replay::begin(source.clone(), after).await?,
                };
                let (at_hand, slice) = at_hand.step(after, present).await?;
                *replay = Some(Box::new(at_hand));
                return Ok(slice);
            }
            Recent::Nothing => {
                if source.replica.fault().is_some() || applied.changed().await.is_err() {
                    return Err(FeedError::Stopped);
                }
            }
        }
    }
}

async fn next_remote<C: serde::de::DeserializeOwned>(
    sender: &StreamSender,
    receiver: &mut StreamReceiver,
) -> Result<FeedSlice<C>, FeedError> {
    let message = receiver.recv().await.ok_or(FeedError::Stopped)?;
    let message = message.map_err(|_| FeedError::Stopped)?;
    let message: FeedMessage<C> = codec::decode(&message).map_err(|_| FeedError::Stopped)?;
    // The acknowledgement opens the sender's window for one more slice.
    sender
        .send(bytes::Bytes::new())
        .await
        .map_err(|_| FeedError::Stopped)?;
    let (batches, upto_index) = message?;
    Ok(FeedSlice {
        batches: batches.into_iter().map(Arc::new).collect(),
        upto_index,
    })
}

/// A copy of the partition's past, on its way to the present.
struct Replay<S: Space> {
    state: PartitionState<S>,
    source: FeedSource<S>,
    _permit: OwnedSemaphorePermit,
}

impl<S: Space> Replay<S> {
    /// Restores the state at or before `after`.
    async fn begin(source: FeedSource<S>, after: u64) -> Result<Self, FeedError> {
        let permit = Arc::clone(&source.replays).acquire_owned().await;
        let permit = permit.map_err(|_| FeedError::Stopped)?;
        metrics::counter!("grid_feed_replays_total").increment(1);
        let snapshots = source.snapshots.clone();
        let restored = platform::blocking(move || snapshots.restore_before::<S>(after)).await;
        let restored = restored.map_err(|_| FeedError::Stopped)?;
        let state = restored.unwrap_or_else(|| PartitionState::new(source.replica.partition()));
        Ok(Self {
            state,
            source,
            _permit: permit,
        })
    }

    /// Applies the next run of entries, up to `present`, and returns the changes after `after`.
    async fn step(
        mut self,
        after: u64,
        present: u64,
    ) -> Result<(Self, FeedSlice<S::Change>), FeedError> {
        let stepped = platform::blocking(move || {
            let slice = self.step_blocking(after, present)?;
            Ok((self, slice))
        });
        stepped.await.map_err(|_| FeedError::Stopped)?
    }

    fn step_blocking(
        &mut self,
        after: u64,
        present: u64,
    ) -> Result<FeedSlice<S::Change>, FeedError> {
        let mut batches = Vec::new();
        while batches.is_empty() && self.state.applied_index() < present {
            let stepped = replay::step(&self.source.group, &mut self.state, present, |batch| {
                if batch.index > after && !batch.changes.is_empty() {
                    batches.push(batch);
                }
            });
            stepped.map_err(|error| match error {
                ReplayError::TooOld(_) => FeedError::CursorTooOld,
                ReplayError::Apply(error) => {
                    tracing::error!(%error, "a replay cannot apply the log");
                    FeedError::Stopped
                }
            })?;
        }
        Ok(FeedSlice {
            batches,
            upto_index: self.state.applied_index().max(after),
        })
    }
}
