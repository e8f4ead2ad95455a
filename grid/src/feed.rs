//! The change feed: a partition's changes in order, from memory for recent ones, by replaying the log
//! for older ones, from a peer where this node has no replica.
//!
//! A replay ([`past`]) restores the newest snapshot at or before the cursor (or starts empty, where the
//! log still has its beginning) and applies the log to it, on a blocking thread; when it reaches what
//! the ring in memory covers, the reader goes on there.
//!
//! Invariants: a reader sees every change after its cursor once and in order, or an error, also when
//! it stops waiting for the next ones and asks again; few replays run on a node at a time, each with
//! one partition's state in memory.

mod past;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use grid_core::codec;
use grid_core::{ChangeBatch, Cursor, PartitionId, Space};
use tokio::sync::watch;

use crate::raft::Group;
use crate::replica::{Recent, ReplicaState, resume_after};
use crate::service::FeedMessage;
use crate::snapshot::SnapshotStore;
use crate::transport::{StreamReceiver, StreamSender};

use past::Past;
pub(crate) use past::{ReplayPace, ReplaySlots};

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
    pub(crate) replays: ReplaySlots,
    pub(crate) pace: ReplayPace,
}

impl<S: Space> Clone for FeedSource<S> {
    fn clone(&self) -> Self {
        Self {
            replica: Arc::clone(&self.replica),
            group: self.group.clone(),
            snapshots: self.snapshots.clone(),
            replays: self.replays.clone(),
            pace: self.pace,
        }
    }
}

enum Place<S: Space> {
    Local {
        source: FeedSource<S>,
        applied: watch::Receiver<u64>,
        replaying: Replaying<S>,
    },
    Remote {
        sender: StreamSender,
        receiver: StreamReceiver,
        /// The last slice has not been acknowledged yet.
        owes: bool,
    },
    Nowhere,
}

/// A replay's step and what it comes to.
type Step<S> = BoxFuture<'static, Result<(Past<S>, FeedSlice<<S as Space>::Change>), FeedError>>;

/// A local reader's replay between two calls. A step that nobody waits for any more is kept: the next
/// call goes on waiting for it instead of beginning from the snapshot again.
enum Replaying<S: Space> {
    No,
    Resting(Box<Past<S>>),
    Working(Step<S>),
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
                replaying: Replaying::No,
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
            place: Place::Remote {
                sender,
                receiver,
                owes: false,
            },
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

    /// The next changes; waits until there are some. At most 4,096 batches a slice. Dropping the future
    /// loses nothing: the next call goes on where it was.
    ///
    /// # Errors
    /// See [`FeedError`].
    pub async fn next(&mut self) -> Result<FeedSlice<S::Change>, FeedError> {
        let after = resume_after(self.cursor);
        let slice = match &mut self.place {
            Place::Local {
                source,
                applied,
                replaying,
            } => next_local(source, applied, replaying, after).await?,
            Place::Remote {
                sender,
                receiver,
                owes,
            } => next_remote(sender, receiver, owes).await?,
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
    replaying: &mut Replaying<S>,
    after: u64,
) -> Result<FeedSlice<S::Change>, FeedError> {
    loop {
        if source.replica.has_diverged() {
            return Err(FeedError::Stopped);
        }
        let present = *applied.borrow_and_update();
        match source.replica.recent(after) {
            Recent::Slice(batches, upto_index) => {
                *replaying = Replaying::No;
                return Ok(FeedSlice {
                    batches,
                    upto_index,
                });
            }
            Recent::Ahead => return Err(FeedError::CursorAhead),
            Recent::TooOld => return next_of_past(source, replaying, after, present).await,
            Recent::Nothing => {
                if source.replica.fault().is_some() || applied.changed().await.is_err() {
                    return Err(FeedError::Stopped);
                }
            }
        }
    }
}

async fn next_of_past<S: Space>(
    source: &FeedSource<S>,
    replaying: &mut Replaying<S>,
    after: u64,
    present: u64,
) -> Result<FeedSlice<S::Change>, FeedError> {
    let step = match std::mem::replace(replaying, Replaying::No) {
        Replaying::Working(step) => step,
        Replaying::Resting(past) if past.is_at(after) => Box::pin(past.step(after, present)),
        Replaying::Resting(_) | Replaying::No => {
            let source = source.clone();
            Box::pin(async move { Past::begin(source, after).await?.step(after, present).await })
        }
    };
    *replaying = Replaying::Working(step);
    let done = match replaying {
        Replaying::Working(step) => step.await,
        Replaying::Resting(_) | Replaying::No => return Err(FeedError::Stopped),
    };
    *replaying = Replaying::No;
    let (past, slice) = done?;
    *replaying = Replaying::Resting(Box::new(past));
    Ok(slice)
}

async fn next_remote<C: serde::de::DeserializeOwned>(
    sender: &StreamSender,
    receiver: &mut StreamReceiver,
    owes: &mut bool,
) -> Result<FeedSlice<C>, FeedError> {
    // The acknowledgement opens the sender's window for one more slice. It comes before the next slice
    // and not after the last, so that nothing is waited for once a slice has been taken.
    if *owes {
        let acknowledged = sender.send(bytes::Bytes::new()).await;
        acknowledged.map_err(|_| FeedError::Stopped)?;
        *owes = false;
    }
    let message = receiver.recv().await.ok_or(FeedError::Stopped)?;
    let message = message.map_err(|_| FeedError::Stopped)?;
    *owes = true;
    let message: FeedMessage<C> = codec::decode(&message).map_err(|_| FeedError::Stopped)?;
    let (batches, upto_index) = message?;
    Ok(FeedSlice {
        batches: batches.into_iter().map(Arc::new).collect(),
        upto_index,
    })
}
