//! The lines in which a gateway tells operators the changes of one auction or event.
//!
//! `GET /admin/v1/history/{id}` answers with one JSON document a line: [`HistoryLine::Begin`], then the
//! changes in the log's order with a word now and then on how far the log has been read, then
//! [`HistoryLine::End`]. An answer without an end was cut off: ask again from the last place that was
//! covered.
//!
//! What it deliberately does not do: hide anything. Changes hold user ids, reserves and payment
//! references, so only holders of the admin token get them.

use grid_core::PartitionId;
use processing_unit::Change;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryLine {
    /// Always the first.
    Begin {
        /// Whose history it is.
        grid_id: Uuid,
        /// Where the auction or event lives.
        partition: PartitionId,
        /// The log entries after this one are told...
        after_index: u64,
        /// ... up to this one, which was the last when the request came.
        upto_index: u64,
    },
    /// Something happened to the auction or event.
    Change(Box<HistoryChange>),
    /// Every change up to this entry has been told.
    Covered {
        /// The entry.
        index: u64,
    },
    /// Always the last.
    End(HistoryEnd),
}

/// A change with its place in the log and its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryChange {
    /// The log entry.
    pub index: u64,
    /// Its place among the entry's changes.
    pub seq: u32,
    /// The entry's time, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What happened.
    pub change: Change,
}

/// How a history ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryEnd {
    /// All that was asked for has been told.
    Complete,
    /// The node's log begins later than what was asked for. Ask the database, or for later entries.
    LogTooShort,
    /// The node's replica ended or cannot be reached. Ask again from the last place covered.
    Stopped,
}

impl HistoryEnd {
    /// Whether asking again, from the last place covered, may succeed.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Stopped)
    }
}
