//! A partition's state as a sequence of self-contained sections.
//!
//! ```text
//!   Head │ Idempotency chunk … │ Slot … (ascending) │ End
//! ```
//!
//! The sections are what a snapshot file frames with checksums and what a state digest hashes. Equal
//! states give equal sections. Writing them to a file is not done here.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError};
use crate::idempotency::Chunk;
use crate::key::{PartitionId, Slot};
use crate::partition::PartitionState;
use crate::space::{Space, SpaceView};
use crate::state_hash::StateHash;
use crate::time::Timestamp;

/// The version of the sections' layout, the first field of the head.
pub const SNAPSHOT_FORMAT: u16 = 2;

/// An immutable view of a partition at one log position.
#[derive(Debug)]
pub struct PartitionView<V> {
    pub(crate) partition: PartitionId,
    pub(crate) applied_index: u64,
    pub(crate) clock: Timestamp,
    pub(crate) hash: StateHash,
    pub(crate) pumped_index: u64,
    pub(crate) rules: u16,
    pub(crate) idempotency: Vec<Arc<Chunk>>,
    pub(crate) space: V,
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    format: u16,
    partition: PartitionId,
    applied_index: u64,
    clock: Timestamp,
    hash: StateHash,
    pumped_index: u64,
    rules: u16,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum SectionKind {
    Head,
    Idempotency,
    Slot(Slot),
    End,
}

/// Sections that do not make a partition's state. The snapshot is unusable; the replica needs
/// another one.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A section's bytes do not decode.
    #[error("section {number}: {source}")]
    Section {
        /// The section's place, from 0.
        number: usize,
        /// What is wrong.
        source: CodecError,
    },
    /// The state follows newer rules than this build knows. Use a newer build.
    #[error("the state follows rules {needed}, this build knows them up to {known}")]
    NewerRules {
        /// The state's rules.
        needed: u16,
        /// The newest rules of this build.
        known: u16,
    },
    /// The sections come in an impossible order or are incomplete.
    #[error("section {number}: {what}")]
    Shape {
        /// The section's place, from 0.
        number: usize,
        /// What was expected.
        what: &'static str,
    },
}

/// Where a snapshot stands, by its first section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotSummary {
    /// The last entry in it.
    pub index: u64,
    /// That entry's time.
    pub at: Timestamp,
    /// The running state hash after it.
    pub state_hash: StateHash,
}

/// Reads where a snapshot stands, without restoring it.
///
/// # Errors
/// When it is not a snapshot's first section, or of another format.
pub fn summary(first_section: &[u8]) -> Result<SnapshotSummary, RestoreError> {
    let in_section = |source| RestoreError::Section { number: 0, source };
    let (kind, body): (SectionKind, _) = codec::decode_prefix(first_section).map_err(in_section)?;
    if kind != SectionKind::Head {
        return Err(RestoreError::Shape {
            number: 0,
            what: "the head must come first",
        });
    }
    let head = read_head(body).map_err(in_section)?;
    Ok(SnapshotSummary {
        index: head.applied_index,
        at: head.clock,
        state_hash: head.hash,
    })
}

fn read_head(body: &[u8]) -> Result<Head, CodecError> {
    let head: Head = codec::decode(body)?;
    if head.format == SNAPSHOT_FORMAT {
        return Ok(head);
    }
    Err(CodecError::Version {
        found: head.format,
        supported: SNAPSHOT_FORMAT,
    })
}

/// Whether a section is the one that every complete snapshot ends with.
#[must_use]
pub fn is_end(section: &[u8]) -> bool {
    let mut end = Vec::new();
    codec::encode_into(&SectionKind::End, &mut end).is_ok() && section == end
}

impl<V: SpaceView> PartitionView<V> {
    /// The log index the view stands at.
    #[must_use]
    pub fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// The running hash at that index.
    #[must_use]
    pub fn hash(&self) -> StateHash {
        self.hash
    }

    /// Hands every section's bytes to `sink`, in order.
    ///
    /// # Errors
    /// What `sink` returns, or a codec error turned into it.
    pub fn write_sections<E: From<CodecError>>(
        &self,
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut section = Vec::new();
        codec::encode_into(&SectionKind::Head, &mut section)?;
        let head = Head {
            format: SNAPSHOT_FORMAT,
            partition: self.partition,
            applied_index: self.applied_index,
            clock: self.clock,
            hash: self.hash,
            pumped_index: self.pumped_index,
            rules: self.rules,
        };
        codec::encode_into(&head, &mut section)?;
        sink(&section)?;
        for chunk in &self.idempotency {
            section.clear();
            codec::encode_into(&SectionKind::Idempotency, &mut section)?;
            codec::encode_into(&**chunk, &mut section)?;
            sink(&section)?;
        }
        for slot in self.space.slots() {
            section.clear();
            codec::encode_into(&SectionKind::Slot(slot), &mut section)?;
            self.space.encode_slot(slot, &mut section)?;
            sink(&section)?;
        }
        section.clear();
        codec::encode_into(&SectionKind::End, &mut section)?;
        sink(&section)
    }

    /// A hash over the whole state: equal on two replicas at the same index exactly when their states
    /// are equal. Costs a full encoding.
    ///
    /// # Errors
    /// When a value cannot be encoded, a bug of the domain's types.
    pub fn digest(&self) -> Result<StateHash, CodecError> {
        let mut hash = StateHash::default();
        let mut number = 0;
        self.write_sections(|section| {
            hash = hash.chain(number, 0, section);
            number += 1;
            Ok::<(), CodecError>(())
        })?;
        Ok(hash)
    }
}

/// Builds a state from sections handed over one at a time.
#[derive(Debug)]
pub struct Restore<S: Space> {
    state: Option<PartitionState<S>>,
    sections: usize,
    complete: bool,
}

impl<S: Space> Default for Restore<S> {
    fn default() -> Self {
        Self {
            state: None,
            sections: 0,
            complete: false,
        }
    }
}

impl<S: Space> Restore<S> {
    /// Takes the next section.
    ///
    /// # Errors
    /// [`RestoreError`]; the restore is then useless.
    pub fn section(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        let number = self.sections;
        self.sections += 1;
        let in_section = |source| RestoreError::Section { number, source };
        let shape = |what| RestoreError::Shape { number, what };
        let (kind, body): (SectionKind, _) = codec::decode_prefix(bytes).map_err(in_section)?;
        if self.complete {
            return Err(shape("nothing may follow the end"));
        }
        match (&mut self.state, kind) {
            (None, SectionKind::Head) => {
                let head = read_head(body).map_err(in_section)?;
                if head.rules > S::RULES {
                    return Err(RestoreError::NewerRules {
                        needed: head.rules,
                        known: S::RULES,
                    });
                }
                let mut state = PartitionState::new(head.partition);
                state.rules = head.rules;
                state.applied_index = head.applied_index;
                state.clock = head.clock;
                state.hash = head.hash;
                state.pumped_index = head.pumped_index;
                self.state = Some(state);
                Ok(())
            }
            (None, _) => Err(shape("the head must come first")),
            (Some(_), SectionKind::Head) => Err(shape("a second head")),
            (Some(state), SectionKind::Idempotency) => {
                state
                    .idempotency
                    .restore_chunk(codec::decode(body).map_err(in_section)?);
                Ok(())
            }
            (Some(state), SectionKind::Slot(slot)) => {
                state.space.restore_slot(slot, body).map_err(in_section)
            }
            (Some(_), SectionKind::End) => {
                self.complete = true;
                Ok(())
            }
        }
    }

    /// The restored state.
    ///
    /// # Errors
    /// [`RestoreError::Shape`] unless the end section was taken.
    pub fn finish(self) -> Result<PartitionState<S>, RestoreError> {
        match self.state {
            Some(state) if self.complete => Ok(state),
            _ => Err(RestoreError::Shape {
                number: self.sections,
                what: "the end is missing",
            }),
        }
    }
}
