//! A partition's replicated state: a space and what every partition keeps beside it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError};
use crate::entry::{CommandRecord, Entry, RULES_FIRST, TICK_DEADLINES_MAX};
use crate::idempotency::{IdempotencyRecords, Seen};
use crate::key::PartitionId;
use crate::snapshot::PartitionView;
use crate::space::{ApplyContext, Space};
use crate::state_hash::StateHash;
use crate::time::Timestamp;

/// What became of one command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome<R> {
    /// The space's reply. `replayed` when it is the remembered reply of an earlier command.
    Reply {
        /// What the space said.
        reply: R,
        /// Whether it was said before.
        replayed: bool,
    },
    /// The key was used before for another request; nothing was done.
    IdempotencyConflict,
    /// The command's bytes are not one of the commands that the space has under these rules; nothing was done.
    Malformed,
}

/// The changes of one entry, in order; the unit of the change feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeBatch<C> {
    /// The entry's log index.
    pub index: u64,
    /// The entry's time.
    pub at: Timestamp,
    /// The running state hash after the entry.
    pub hash: StateHash,
    /// The changes; a change's sequence number is its place here.
    pub changes: Vec<C>,
}

/// What applying one entry brought about.
#[derive(Debug)]
pub struct Applied<S: Space> {
    /// One outcome a command, in the entry's order.
    pub outcomes: Vec<Outcome<S::Reply>>,
    /// The changes for the feed.
    pub batch: Arc<ChangeBatch<S::Change>>,
}

/// The entry cannot be applied. The replica must stop: going on could make it differ from others.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The entry's bytes are not an entry of a format this build knows.
    #[error("entry {index} is unreadable: {source}")]
    Unreadable {
        /// The log index.
        index: u64,
        /// What is wrong with the bytes.
        source: CodecError,
    },
    /// The entry follows newer rules than this build knows. Start the node with a newer build.
    #[error("entry {index} follows rules {needed}, this build knows them up to {known}")]
    NewerRules {
        /// The log index.
        index: u64,
        /// The entry's rules.
        needed: u16,
        /// The newest rules of this build.
        known: u16,
    },
    /// The entry is not the one that follows.
    #[error("entry {index} does not follow entry {applied}")]
    OutOfOrder {
        /// The log index.
        index: u64,
        /// The last applied index.
        applied: u64,
    },
    /// A reply or a change cannot be encoded: a bug of the space's types.
    #[error("entry {index} gave outputs that cannot be encoded: {source}")]
    Unencodable {
        /// The log index.
        index: u64,
        /// What the codec said.
        source: CodecError,
    },
}

/// One replica's state of one partition.
///
/// Invariants: `applied_index`, `clock` and `rules` never go back; `pumped_index <= applied_index`; `hash` is
/// the chain over all outputs of entries `1..=applied_index`.
#[derive(Debug)]
pub struct PartitionState<S: Space> {
    pub(crate) partition: PartitionId,
    pub(crate) space: S,
    pub(crate) idempotency: IdempotencyRecords,
    pub(crate) applied_index: u64,
    pub(crate) clock: Timestamp,
    pub(crate) hash: StateHash,
    pub(crate) pumped_index: u64,
    /// The newest rules that an entry was stamped with. A leader that has not heard yet that the grid
    /// follows newer ones does not lead its partition back.
    pub(crate) rules: u16,
    outputs: Vec<u8>,
}

impl<S: Space> PartitionState<S> {
    /// The state before the first entry.
    #[must_use]
    pub fn new(partition: PartitionId) -> Self {
        Self {
            partition,
            space: S::default(),
            idempotency: IdempotencyRecords::default(),
            applied_index: 0,
            clock: Timestamp::ZERO,
            hash: StateHash::default(),
            pumped_index: 0,
            rules: RULES_FIRST,
            outputs: Vec::new(),
        }
    }

    /// Applies the entry at `index`: first what is due at its time, then its commands in order.
    ///
    /// # Errors
    /// See [`ApplyError`]; after one, the state must not be used again.
    pub fn apply(&mut self, index: u64, bytes: &[u8]) -> Result<Applied<S>, ApplyError> {
        let unencodable = |source| ApplyError::Unencodable { index, source };
        self.step_to(index)?;
        let entry =
            Entry::decode(bytes).map_err(|source| ApplyError::Unreadable { index, source })?;
        let rules = self.rules.max(entry.rules);
        if rules > S::RULES {
            return Err(ApplyError::NewerRules {
                index,
                needed: rules,
                known: S::RULES,
            });
        }
        self.rules = rules;
        self.clock = self.clock.max(entry.now);
        if let Some(pumped) = entry.pumped_index {
            self.pumped_index = self.pumped_index.max(pumped.min(index));
        }
        self.idempotency.expire(self.clock);

        // Most commands make one change.
        let mut changes = Vec::with_capacity(entry.commands.len());
        let mut outcomes = Vec::with_capacity(entry.commands.len());
        self.outputs.clear();
        let mut context = ApplyContext::new(
            self.rules,
            self.clock,
            self.partition,
            index,
            entry.entropy,
            &mut changes,
        );
        self.space.fire_due(&mut context, TICK_DEADLINES_MAX);
        for record in &entry.commands {
            let outcome = apply_command(
                &mut self.space,
                &mut self.idempotency,
                &mut context,
                &mut self.outputs,
                record,
            )
            .map_err(unencodable)?;
            outcomes.push(outcome);
        }
        for change in &changes {
            codec::encode_into(change, &mut self.outputs).map_err(unencodable)?;
        }
        self.hash = self
            .hash
            .chain(index, self.clock.as_millis(), &self.outputs);
        // The feed keeps it for a while.
        if changes.len() < changes.capacity() / 2 {
            changes.shrink_to_fit();
        }
        let batch = ChangeBatch {
            index,
            at: self.clock,
            hash: self.hash,
            changes,
        };
        Ok(Applied {
            outcomes,
            batch: Arc::new(batch),
        })
    }

    /// Notes an entry that carries nothing for the space (a membership change, a new leader's blank).
    ///
    /// # Errors
    /// [`ApplyError::OutOfOrder`].
    pub fn apply_blank(&mut self, index: u64) -> Result<(), ApplyError> {
        self.step_to(index)?;
        self.hash = self.hash.chain(index, self.clock.as_millis(), &[]);
        Ok(())
    }

    fn step_to(&mut self, index: u64) -> Result<(), ApplyError> {
        // The log of a group starts at index 0 or 1 depending on the consensus library.
        let first = self.applied_index == 0 && index <= 1;
        if !first && index != self.applied_index + 1 {
            return Err(ApplyError::OutOfOrder {
                index,
                applied: self.applied_index,
            });
        }
        self.applied_index = index;
        Ok(())
    }

    /// The space, for queries.
    #[must_use]
    pub fn space(&self) -> &S {
        &self.space
    }

    /// The partition's number.
    #[must_use]
    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    /// The index of the last applied entry, 0 before the first.
    #[must_use]
    pub fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// The time of the last applied entry.
    #[must_use]
    pub fn clock(&self) -> Timestamp {
        self.clock
    }

    /// The running state hash.
    #[must_use]
    pub fn hash(&self) -> StateHash {
        self.hash
    }

    /// The rules that it follows; see [`ApplyContext::rules`].
    #[must_use]
    pub fn rules(&self) -> u16 {
        self.rules
    }

    /// Every change up to this index is in the database.
    #[must_use]
    pub fn pumped_index(&self) -> u64 {
        self.pumped_index
    }

    /// How many commands are remembered for retries.
    #[must_use]
    pub fn remembered_commands(&self) -> usize {
        self.idempotency.len()
    }

    /// The earliest time at which a tick would do something.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.space.next_deadline()
    }

    /// A view of everything at the present position, for a snapshot or a digest.
    #[must_use]
    pub fn view(&self) -> PartitionView<S::View> {
        PartitionView {
            partition: self.partition,
            applied_index: self.applied_index,
            clock: self.clock,
            hash: self.hash,
            pumped_index: self.pumped_index,
            rules: self.rules,
            idempotency: self.idempotency.view(),
            space: self.space.view(),
        }
    }

    /// Checks the space's invariants and this struct's own.
    ///
    /// # Errors
    /// The first broken invariant, in words.
    pub fn check_invariants(&self) -> Result<(), String> {
        if self.pumped_index > self.applied_index {
            return Err(format!(
                "pumped index {} is beyond applied index {}",
                self.pumped_index, self.applied_index
            ));
        }
        self.space.check_invariants()
    }
}

fn apply_command<S: Space>(
    space: &mut S,
    idempotency: &mut IdempotencyRecords,
    context: &mut ApplyContext<'_, S::Change>,
    outputs: &mut Vec<u8>,
    record: &CommandRecord<'_>,
) -> Result<Outcome<S::Reply>, CodecError> {
    match idempotency.look_up(record.key, record.fingerprint) {
        Seen::Before(reply) => {
            outputs.push(b'=');
            return Ok(Outcome::Reply {
                reply: codec::decode(reply)?,
                replayed: true,
            });
        }
        Seen::Conflict => {
            outputs.push(b'!');
            return Ok(Outcome::IdempotencyConflict);
        }
        Seen::Never => {}
    }
    let command = codec::decode::<S::Command>(record.body).ok();
    let Some(command) = command.filter(|command| S::is_known(context.rules(), command)) else {
        outputs.push(b'?');
        return Ok(Outcome::Malformed);
    };
    let reply = space.apply(context, command);
    let start = outputs.len();
    codec::encode_into(&reply, outputs)?;
    idempotency.remember(
        record.key,
        record.fingerprint,
        context.now(),
        &outputs[start..],
    );
    Ok(Outcome::Reply {
        reply,
        replayed: false,
    })
}
