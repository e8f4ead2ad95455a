//! A fact: one row of `changes`, as it is hashed.

use std::fmt::Write as _;

use uuid::Uuid;

use super::hash::{Hash, sha256};

/// The first byte of what is hashed for a fact, as in RFC 6962.
const LEAF: &[u8] = &[0];

/// What is known of a fact. It says of itself in which partition and at which place it belongs, so that
/// a row at another place is another fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact<'a> {
    /// The partition.
    pub partition: i32,
    /// The index of its entry in the partition's log.
    pub log_index: i64,
    /// Its place among the entry's changes.
    pub seq: i32,
    /// When it happened, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// What happened.
    pub kind: &'a str,
    /// To what.
    pub entity: Uuid,
    /// Everything about it, in canonical JSON.
    pub payload: &'a str,
}

impl Fact<'_> {
    /// The text that is hashed: `spacegrid-fact-1` and each field, a line each, the payload last.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(128 + self.payload.len());
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "spacegrid-fact-1\n{}\n{}\n{}\n{}\n{}\n{}\n{}",
            self.partition,
            self.log_index,
            self.seq,
            self.at_ms,
            self.kind,
            self.entity,
            self.payload
        );
        text
    }

    /// Its hash.
    #[must_use]
    pub fn leaf(&self) -> Hash {
        sha256(&[LEAF, self.text().as_bytes()])
    }
}
