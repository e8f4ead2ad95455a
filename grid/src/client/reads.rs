//! Queries, as fresh as is asked for, and changes as they come.

use std::time::Instant;

use grid_core::{Cursor, PartitionId, Space, codec};

use super::{ATTEMPT_TIMEOUT, GridClient};
use crate::error::GridError;
use crate::feed::{Feed, ReplayPace};
use crate::members::remaining;
use crate::platform::whole_ms;
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

impl<S: Space> GridClient<S> {
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
                Some(node) if node == self.members.node => match self.members.get(partition) {
                    Some(member) => member.answer(&request.query, freshness, deadline).await,
                    None => QueryReply::UnknownPartition,
                },
                Some(node) => {
                    let timeout = remaining(deadline).min(ATTEMPT_TIMEOUT);
                    request.remaining_ms = whole_ms(timeout);
                    let reply = self.members.ask(node, SERVICE_QUERY, &request, timeout);
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

    /// Reads a partition's changes after `from`, for work that nobody waits for: where memory no longer
    /// has them and this node has the partition, they are derived again by a thread that gives way to
    /// all others, and no client's or pump's replay waits for this one.
    #[must_use]
    pub fn follow_in_background(&self, partition: PartitionId, from: Cursor) -> Feed<S> {
        self.follow_at(partition, Some(from), ReplayPace::Background)
    }

    fn follow_at(&self, partition: PartitionId, from: Option<Cursor>, pace: ReplayPace) -> Feed<S> {
        // A replica that differs from the others has nothing to tell.
        if let Some(member) = self.members.get(partition)
            && member.is_serving()
            && !member.replica.has_diverged()
        {
            return member.feed(from, pace);
        }
        let node = match self.nearest(partition) {
            Ok(Some(node)) if node != self.members.node => node,
            _ => return Feed::nowhere(partition, from),
        };
        let opened = codec::encode(&FeedHeader { partition, from })
            .ok()
            .and_then(|header| {
                let transport = &self.members.transport;
                transport
                    .open_stream(node, Lane::Bulk, SERVICE_FEED, header.into())
                    .ok()
            });
        match opened {
            Some(stream) => Feed::remote(stream, partition, from),
            None => Feed::nowhere(partition, from),
        }
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
