//! Queries, as fresh as is asked for, changes as they come, and the entries that brought them.

use std::time::Instant;

use bytes::Bytes;
use grid_core::{Cursor, PartitionId, Space, StateHash, codec};

use super::{ATTEMPT_TIMEOUT, GridClient, RoutingClient};
use crate::error::GridError;
use crate::feed::{Feed, ReplayPace};
use crate::members::remaining;
use crate::platform::{self, whole_ms};
use crate::service::{
    FeedHeader, Freshness, QueryReply, QueryRequest, SERVICE_FEED, SERVICE_QUERY,
};
use crate::transport::Lane;

/// A query's answer.
#[derive(Clone, Debug)]
pub struct Answered<A> {
    /// What the space said.
    pub answer: A,
    /// The log position that the answer reflects.
    pub position: Cursor,
}

/// One entry of a partition's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedEntry {
    /// Its log index.
    pub index: u64,
    /// An encoded [`grid_core::Entry`]; `None` for an entry that carries nothing for the space (a
    /// membership change, a new leader's blank).
    pub payload: Option<Bytes>,
}

/// Why a log cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// This node has no replica of the partition. Ask one that has.
    #[error("this node has no replica of the partition")]
    NotHeld,
    /// The log no longer reaches back so far, or is damaged. Take a snapshot and go on from there.
    #[error("the log cannot be read: {0}")]
    Unreadable(String),
}

/// How fresh a query's answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Reflects every write acknowledged before the query began; asked of the leader.
    Linearizable,
    /// Any replica's state, the nearest's; the answer carries its position.
    Stale,
    /// A replica's state at or after this position.
    AtLeast(Cursor),
}

impl<S: Space> RoutingClient<S> {
    /// Answers a query with the freshness asked for.
    ///
    /// # Errors
    /// See [`GridError`].
    pub async fn query(
        &self,
        partition: PartitionId,
        query: S::Query,
        read: Read,
        deadline: Instant,
    ) -> Result<Answered<S::Answer>, GridError> {
        let freshness = match read {
            Read::Linearizable => Freshness::Linearizable,
            Read::Stale => Freshness::Stale,
            Read::AtLeast(cursor) => Freshness::AtLeast(cursor.index),
        };
        let mut request = QueryRequest {
            partition,
            freshness,
            remaining_ms: 0,
            query,
        };
        loop {
            let target = match read {
                Read::Linearizable => self.leader(partition)?,
                Read::Stale | Read::AtLeast(_) => self.nearest(partition)?,
            };
            let reply = match target {
                Some(node) if node == self.outlook.node => match self.replica(partition) {
                    Some(member) => member.answer(&request.query, freshness, deadline).await,
                    None => QueryReply::UnknownPartition,
                },
                Some(node) => {
                    let timeout = remaining(deadline).min(ATTEMPT_TIMEOUT);
                    request.remaining_ms = whole_ms(timeout);
                    let reply = self.outlook.ask(node, SERVICE_QUERY, &request, timeout);
                    reply.await.unwrap_or(QueryReply::NotLeader(None))
                }
                None => QueryReply::NotLeader(None),
            };
            match reply {
                QueryReply::Answer { answer, index } => {
                    let position = Cursor::after_entry(partition, index);
                    return Ok(Answered { answer, position });
                }
                // The replica has just moved away from there, or not yet arrived.
                QueryReply::UnknownPartition => self.hint(partition, None),
                QueryReply::NotLeader(leader) => self.hint(partition, leader),
                QueryReply::NotYet => {}
            }
            if remaining(deadline).is_zero() {
                return Err(GridError::Unavailable);
            }
            self.pause(partition, deadline).await;
        }
    }

    /// Reads a partition's changes after `from`, or from now on.
    #[must_use]
    pub fn follow(&self, partition: PartitionId, from: Option<Cursor>) -> Feed<S> {
        self.follow_at(partition, from, ReplayPace::Usual)
    }

    fn follow_at(&self, partition: PartitionId, from: Option<Cursor>, pace: ReplayPace) -> Feed<S> {
        // A replica that differs from the others has nothing to tell.
        if let Some(member) = self.replica(partition)
            && member.is_serving()
            && !member.replica.has_diverged()
        {
            return member.feed(from, pace);
        }
        let node = match self.nearest(partition) {
            Ok(Some(node)) if node != self.outlook.node => node,
            _ => return Feed::nowhere(partition, from),
        };
        let opened = codec::encode(&FeedHeader { partition, from })
            .ok()
            .and_then(|header| {
                let transport = &self.outlook.transport;
                transport
                    .open_stream(node, Lane::Bulk, SERVICE_FEED, header.into())
                    .ok()
            });
        match opened {
            Some(stream) => Feed::remote(stream, partition, from),
            None => Feed::nowhere(partition, from),
        }
    }
}

impl<S: Space> GridClient<S> {
    /// Reads a partition's changes after `from`, for work that nobody waits for: where memory no longer
    /// has them and this node has the partition, they are derived again by a thread that gives way to
    /// all others, and no client's or pump's replay waits for this one.
    #[must_use]
    pub fn follow_in_background(&self, partition: PartitionId, from: Cursor) -> Feed<S> {
        self.follow_at(partition, Some(from), ReplayPace::Background)
    }

    /// Entries of this node's own log of a partition from `first` to `last`, which must be applied here:
    /// fewer where `bytes_max` is reached, but at least one. Read from the disk where memory no longer
    /// has them.
    ///
    /// # Errors
    /// See [`LogError`].
    pub async fn read_log(
        &self,
        partition: PartitionId,
        first: u64,
        last: u64,
        bytes_max: usize,
    ) -> Result<Vec<LoggedEntry>, LogError> {
        let member = self.members.get(partition).ok_or(LogError::NotHeld)?;
        let reading = platform::blocking(move || member.group.read_log(first, last, bytes_max));
        let read = reading
            .await
            .map_err(|_| LogError::Unreadable("the reading thread has ended".to_owned()))?;
        let entries = read.map_err(|error| LogError::Unreadable(error.to_string()))?;
        let entries = entries.into_iter();
        Ok(entries
            .map(|(index, payload)| LoggedEntry { index, payload })
            .collect())
    }

    /// The running state hash after an entry, if this node's replica still knows it: that of every recent
    /// entry, and of some older ones.
    #[must_use]
    pub fn state_hash_at(&self, partition: PartitionId, index: u64) -> Option<StateHash> {
        self.members.get(partition)?.replica.hash_at(index)
    }

    /// Looks at this node's replica of a partition.
    #[cfg(feature = "sim")]
    pub fn inspect<T>(
        &self,
        partition: PartitionId,
        look: impl FnOnce(&grid_core::PartitionState<S>) -> T,
    ) -> Option<T> {
        Some(self.members.get(partition)?.replica.read(look))
    }
}
