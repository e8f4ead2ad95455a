//! The change feed: a partition's changes in order, from memory for recent ones, by replaying the log
//! for older ones.

use std::marker::PhantomData;
use std::sync::Arc;

use grid_core::{ChangeBatch, Cursor, Space};

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
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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

/// A reader of one partition's changes.
#[derive(Debug)]
pub struct Feed<S: Space> {
    space: PhantomData<Arc<S>>,
}

impl<S: Space> Feed<S> {
    /// The reader's place: what it has returned so far.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        unimplemented!()
    }

    /// The next changes; waits until there are some. At most 4,096 batches a slice.
    ///
    /// # Errors
    /// See [`FeedError`].
    pub async fn next(&mut self) -> Result<FeedSlice<S::Change>, FeedError> {
        unimplemented!()
    }
}
