//! Commands: carried out exactly once, wherever their partition is led.

use std::time::Instant;

use bytes::Bytes;
use grid_core::{Cursor, IdempotencyKey, Outcome, PartitionId, Space, codec};
use tokio::sync::oneshot;

use super::{ATTEMPT_TIMEOUT, GridClient, RoutingClient};
use crate::admission::CommandClass;
use crate::error::GridError;
use crate::members::remaining;
use crate::node::NodeId;
use crate::platform::whole_ms;
use crate::proposer::Submission;
use crate::service::{ExecuteReply, ExecuteRequest, SERVICE_EXECUTE};
use crate::transport::TransportError;

/// What a refused client is told to wait when the way to the leader's node is full.
const FORWARDING_RETRY_AFTER_MS: u64 = 100;
/// And a pump when the proposer's channel is.
const CHECKPOINT_RETRY_AFTER_MS: u64 = 100;

/// A command with what makes it safe to repeat.
#[derive(Clone, Debug)]
pub struct CommandRequest<C> {
    /// Who asks, under which key.
    pub key: IdempotencyKey,
    /// A hash of the client's own words (not of minted ids), to tell a retry from another request.
    pub fingerprint: u64,
    /// What to do.
    pub command: C,
}

/// A command's reply.
#[derive(Clone, Debug)]
pub struct Executed<R> {
    /// What the space said.
    pub reply: R,
    /// Whether it is the remembered reply of an earlier attempt.
    pub replayed: bool,
    /// The log position of this attempt's entry.
    pub position: Cursor,
}

/// What one attempt came to.
enum Attempt<T> {
    Done(T),
    /// Certainly not carried out there; perhaps this node leads.
    Elsewhere(Option<NodeId>),
    /// It may have been carried out.
    Unknown,
    Failed(GridError),
}

impl<S: Space> RoutingClient<S> {
    /// Carries a command out exactly once, wherever the partition's leader is, retrying under the
    /// same key until `deadline`.
    ///
    /// # Errors
    /// See [`GridError`].
    pub async fn execute(
        &self,
        partition: PartitionId,
        request: CommandRequest<S::Command>,
        deadline: Instant,
    ) -> Result<Executed<S::Reply>, GridError> {
        self.execute_as(CommandClass::New, partition, request, deadline)
            .await
    }

    /// The same for a command of another class.
    ///
    /// # Errors
    /// See [`GridError`].
    pub async fn execute_as(
        &self,
        class: CommandClass,
        partition: PartitionId,
        request: CommandRequest<S::Command>,
        deadline: Instant,
    ) -> Result<Executed<S::Reply>, GridError> {
        let body = codec::encode(&request.command).map_err(|_| GridError::Malformed)?;
        let body = Bytes::from(body);
        let mut unknown = false;
        loop {
            let attempt = match self.leader(partition)? {
                Some(node) if node == self.outlook.node => {
                    self.execute_here(partition, class, &request, body.clone(), deadline)
                        .await
                }
                Some(node) => {
                    self.execute_there(node, partition, class, &request, &body, deadline)
                        .await
                }
                None => Attempt::Elsewhere(None),
            };
            match attempt {
                Attempt::Done((outcome, index)) => return executed(partition, outcome, index),
                Attempt::Failed(error) => return Err(error),
                Attempt::Unknown => unknown = true,
                Attempt::Elsewhere(leader) => self.hint(partition, leader),
            }
            if remaining(deadline).is_zero() {
                let error = if unknown {
                    GridError::OutcomeUnknown
                } else {
                    GridError::Unavailable
                };
                return Err(error);
            }
            self.pause(partition, deadline).await;
        }
    }

    async fn execute_here(
        &self,
        partition: PartitionId,
        class: CommandClass,
        request: &CommandRequest<S::Command>,
        body: Bytes,
        deadline: Instant,
    ) -> Attempt<(Outcome<S::Reply>, u64)> {
        let Some(member) = self.replica(partition) else {
            return Attempt::Elsewhere(None);
        };
        let executing = member.execute(request.key, request.fingerprint, class, body, deadline);
        attempt_of(ExecuteReply::from(executing.await))
    }

    async fn execute_there(
        &self,
        node: NodeId,
        partition: PartitionId,
        class: CommandClass,
        request: &CommandRequest<S::Command>,
        body: &Bytes,
        deadline: Instant,
    ) -> Attempt<(Outcome<S::Reply>, u64)> {
        let timeout = remaining(deadline).min(ATTEMPT_TIMEOUT);
        let message = ExecuteRequest {
            partition,
            key: request.key,
            fingerprint: request.fingerprint,
            class,
            remaining_ms: whole_ms(timeout),
            body,
        };
        let Ok(payload) = codec::encode(&message) else {
            return Attempt::Failed(GridError::Malformed);
        };
        match self
            .outlook
            .request(node, SERVICE_EXECUTE, payload, timeout)
            .await
        {
            Ok(reply) => match codec::decode::<ExecuteReply<S::Reply>>(&reply) {
                Ok(reply) => attempt_of(reply),
                Err(_) => Attempt::Unknown,
            },
            Err(TransportError::TooLarge { .. }) => Attempt::Failed(GridError::Malformed),
            // A full queue on the way is as good a reason as one at the end of it.
            Err(TransportError::Overloaded { .. }) => Attempt::Failed(GridError::Overloaded {
                retry_after_ms: FORWARDING_RETRY_AFTER_MS,
            }),
            Err(error) if error.may_have_been_sent() => Attempt::Unknown,
            Err(_) => Attempt::Elsewhere(None),
        }
    }
}

impl<S: Space> GridClient<S> {
    /// Tells the partition that every change up to `index` is in the database, so that older log may
    /// go. To be called on the leader's node.
    ///
    /// # Errors
    /// See [`GridError`].
    pub async fn record_pumped(
        &self,
        partition: PartitionId,
        index: u64,
        deadline: Instant,
    ) -> Result<(), GridError> {
        let member = self
            .members
            .get(partition)
            .ok_or(GridError::UnknownPartition)?;
        let (sender, receiver) = oneshot::channel();
        let decided = Box::new(move |result| {
            // The pump may have stopped; the checkpoint stands.
            let _ = sender.send(result);
        });
        let submitted = member
            .submissions
            .try_send(Submission::Pumped { index, decided });
        submitted.map_err(|_| GridError::Overloaded {
            retry_after_ms: CHECKPOINT_RETRY_AFTER_MS,
        })?;
        match tokio::time::timeout_at(deadline.into(), receiver).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(_))) => Err(GridError::Unavailable),
            Ok(Err(_)) | Err(_) => Err(GridError::OutcomeUnknown),
        }
    }
}

fn attempt_of<R>(reply: ExecuteReply<R>) -> Attempt<(Outcome<R>, u64)> {
    match reply {
        ExecuteReply::Decided { outcome, index } => Attempt::Done((outcome, index)),
        ExecuteReply::NotLeader(leader) => Attempt::Elsewhere(leader),
        ExecuteReply::Unknown => Attempt::Unknown,
        ExecuteReply::Overloaded { retry_after_ms } => {
            Attempt::Failed(GridError::Overloaded { retry_after_ms })
        }
        // The replica has just moved away from there.
        ExecuteReply::UnknownPartition => Attempt::Elsewhere(None),
    }
}

fn executed<R>(
    partition: PartitionId,
    outcome: Outcome<R>,
    index: u64,
) -> Result<Executed<R>, GridError> {
    match outcome {
        Outcome::Reply { reply, replayed } => Ok(Executed {
            reply,
            replayed,
            position: Cursor::after_entry(partition, index),
        }),
        Outcome::IdempotencyConflict => Err(GridError::IdempotencyConflict),
        Outcome::Malformed => Err(GridError::Malformed),
    }
}
