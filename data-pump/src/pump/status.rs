//! What a lane says of itself.

use grid_core::PartitionId;
use serde::Serialize;

/// One partition's pump on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
    /// Whether somebody must act: the lane cannot go on by itself.
    pub stuck: bool,
    /// The time of the oldest change seen and not written, milliseconds since the Unix epoch.
    #[serde(skip)]
    pub(super) oldest_unwritten_at_ms: Option<u64>,
}

impl LaneStatus {
    pub(super) fn new(partition: PartitionId) -> Self {
        Self {
            partition,
            active: false,
            checkpoint_index: None,
            behind_entries: None,
            behind_ms: 0,
            parked: 0,
            last_error: None,
            stuck: false,
            oldest_unwritten_at_ms: None,
        }
    }
}
