//! A log entry: what the leader packs, every replica stores, and `apply` reads.
//!
//! The proposer encodes each command once, at the edge of the grid; the leader only concatenates the
//! encoded commands behind its own stamp, and nothing re-encodes them on the way to the log and to
//! the followers.

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError};
use crate::idempotency::IdempotencyKey;
use crate::time::Timestamp;

/// The version of the entry's layout, the first field of its encoding.
pub const ENTRY_FORMAT: u16 = 1;

/// The first rules of every space; see [`crate::Space::RULES`].
pub const RULES_FIRST: u16 = 1;

/// The most commands that one entry holds.
pub const ENTRY_COMMANDS_MAX: usize = 1024;

/// The most deadlines that one tick fires.
pub const TICK_DEADLINES_MAX: usize = 1024;

/// One client's command inside an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRecord<'a> {
    /// Who-asked-what, see [`IdempotencyKey`].
    pub key: IdempotencyKey,
    /// A hash of the client's own words, to tell a retry from another request under the same key.
    pub fingerprint: u64,
    /// The command, encoded by [`codec`].
    #[serde(with = "serde_bytes", borrow)]
    pub body: &'a [u8],
}

/// A batch of commands with the leader's stamp on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<'a> {
    /// [`ENTRY_FORMAT`].
    pub format: u16,
    /// The rules that the grid followed when the leader proposed it: `apply` follows them for this entry
    /// and all later ones, on every replica and on every replay.
    pub rules: u16,
    /// The leader's clock; apply never lets it run backwards.
    pub now: Timestamp,
    /// The leader's random number for this entry.
    pub entropy: u128,
    /// The pump has written every change up to this index, when it is news.
    pub pumped_index: Option<u64>,
    /// The clients' commands, in the order in which they are applied.
    #[serde(borrow)]
    pub commands: Vec<CommandRecord<'a>>,
}

impl<'a> Entry<'a> {
    /// An entry without commands: a tick, which lets due deadlines fire.
    #[must_use]
    pub fn tick(now: Timestamp, entropy: u128) -> Self {
        Self {
            format: ENTRY_FORMAT,
            rules: RULES_FIRST,
            now,
            entropy,
            pumped_index: None,
            commands: Vec::new(),
        }
    }

    /// The entry's bytes, as they stand in the log.
    ///
    /// # Errors
    /// None for well-formed commands; see [`codec::encode`].
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(self)
    }

    /// The leader's clock in an encoded entry, without reading its commands.
    ///
    /// # Errors
    /// See [`Self::decode`].
    pub fn stamp(bytes: &[u8]) -> Result<Timestamp, CodecError> {
        let ((format, _rules, now), _): ((u16, u16, Timestamp), _) = codec::decode_prefix(bytes)?;
        if format == ENTRY_FORMAT {
            return Ok(now);
        }
        Err(CodecError::Version {
            found: format,
            supported: ENTRY_FORMAT,
        })
    }

    /// Reads an entry; its commands borrow from `bytes`.
    ///
    /// # Errors
    /// [`CodecError::Version`] for another layout, else a decoding error.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, CodecError> {
        let entry: Self = codec::decode_borrowed(bytes)?;
        if entry.format != ENTRY_FORMAT {
            return Err(CodecError::Version {
                found: entry.format,
                supported: ENTRY_FORMAT,
            });
        }
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_back_what_it_wrote() {
        let body = [1, 2, 3];
        let mut entry = Entry::tick(Timestamp::from_millis(5), 9);
        entry.commands.push(CommandRecord {
            key: IdempotencyKey(7),
            fingerprint: 8,
            body: &body,
        });
        let bytes = entry.encode().expect("plain");
        assert_eq!(Entry::decode(&bytes).expect("same"), entry);
        assert_eq!(Entry::stamp(&bytes).expect("same"), entry.now);
    }

    #[test]
    fn another_layout_is_refused() {
        let mut entry = Entry::tick(Timestamp::ZERO, 0);
        entry.format = 2;
        let bytes = entry.encode().expect("plain");
        assert!(matches!(
            Entry::decode(&bytes),
            Err(CodecError::Version {
                found: 2,
                supported: ENTRY_FORMAT
            })
        ));
        Entry::stamp(&bytes).expect_err("as much as the whole");
    }
}
