//! Where a change stands: partition, log index, and its number within the entry.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::key::PartitionId;

/// A reader's place in a partition's change feed: everything up to and including change `seq` of the
/// entry at `index` has been seen. Written `partition:index:seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cursor {
    /// The partition the place is in.
    pub partition: PartitionId,
    /// The log index of the entry.
    pub index: u64,
    /// The number of the change within the entry, from 0; `u32::MAX` for "all of the entry".
    pub seq: u32,
}

impl Cursor {
    /// After everything that the entry at `index` did.
    #[must_use]
    pub const fn after_entry(partition: PartitionId, index: u64) -> Self {
        Self {
            partition,
            index,
            seq: u32::MAX,
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.partition.0, self.index, self.seq)
    }
}

/// The text is no cursor; the client should subscribe without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cursor is written partition:index:seq")]
pub struct CursorParseError;

impl FromStr for Cursor {
    type Err = CursorParseError;

    fn from_str(text: &str) -> Result<Self, CursorParseError> {
        let mut parts = text.split(':');
        let (Some(partition), Some(index), Some(seq), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(CursorParseError);
        };
        Ok(Self {
            partition: PartitionId(partition.parse().map_err(|_| CursorParseError)?),
            index: index.parse().map_err(|_| CursorParseError)?,
            seq: seq.parse().map_err(|_| CursorParseError)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_what_it_wrote() {
        let cursor = Cursor {
            partition: PartitionId(3),
            index: 12,
            seq: 4,
        };
        assert_eq!("3:12:4".parse(), Ok(cursor));
        assert_eq!(cursor.to_string(), "3:12:4");
        for bad in [
            "",
            "1",
            "1:2",
            "1:2:3:4",
            "a:1:1",
            "1:-1:0",
            "1:1:99999999999",
        ] {
            assert_eq!(bad.parse::<Cursor>(), Err(CursorParseError), "{bad}");
        }
    }
}
