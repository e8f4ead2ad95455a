//! What a lane says of itself.

use grid_core::PartitionId;
use serde::{Deserialize, Serialize};

use super::trouble::LaneTrouble;

/// One partition's pump on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneStatus {
    /// The partition.
    pub partition: PartitionId,
    /// Whether this node leads the partition, so that its pump is this one.
    pub active: bool,
    /// Everything up to this log index is in the database, as this lane last saw it; `None` before it
    /// has read the database's place.
    pub checkpoint_index: Option<u64>,
    /// Log entries applied here and not yet in the database.
    pub behind_entries: Option<u64>,
    /// The age of the oldest change that this lane has seen and not yet written; 0 when there is none.
    pub behind_ms: u64,
    /// Changes parked in `dead_letter` by this lane since it started.
    pub parked: u64,
    /// Why the last attempt failed; `None` once one has succeeded.
    pub last_error: Option<String>,
    /// What kind of trouble `last_error` is; `None` with it.
    #[serde(default)]
    pub trouble: Option<LaneTrouble>,
    /// Whether somebody must act: the lane cannot go on by itself.
    pub stuck: bool,
    /// The time of the oldest change seen and not written, milliseconds since the Unix epoch.
    #[serde(skip)]
    pub oldest_unwritten_at_ms: Option<u64>,
}

impl LaneStatus {
    /// A lane that has not begun.
    #[must_use]
    pub fn new(partition: PartitionId) -> Self {
        Self {
            partition,
            active: false,
            checkpoint_index: None,
            behind_entries: None,
            behind_ms: 0,
            parked: 0,
            last_error: None,
            trouble: None,
            stuck: false,
            oldest_unwritten_at_ms: None,
        }
    }
}
