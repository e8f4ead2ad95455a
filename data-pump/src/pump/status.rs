//! What a lane says of itself.

use grid_core::PartitionId;
use serde::{Deserialize, Serialize};

use super::trouble::LaneTrouble;

/// What a lane does, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaneState {
    /// This node does not lead the partition; another node's lane writes it.
    NotLeading,
    /// It writes, or has nothing to write.
    Running,
    /// It leaves the database alone for a moment, because clients wait for the machine.
    Resting,
    /// The database is away or not ready; it goes on by itself.
    WaitingForDatabase,
    /// Somebody has paused it.
    Paused,
    /// Somebody must act: see the error.
    Stopped,
}

impl std::fmt::Display for LaneState {
    /// The word, for people.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotLeading => "not leading",
            Self::Running => "running",
            Self::Resting => "resting",
            Self::WaitingForDatabase => "waiting for the database",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// Where the database stood each time that a lane opened, against where it was last known to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FenceOutcomes {
    /// There.
    pub equal: u64,
    /// Further: a commit's answer was lost, or another pump wrote.
    pub ahead: u64,
    /// Not so far: it was restored from a backup, or an older replica of it took over.
    pub behind: u64,
}

impl FenceOutcomes {
    /// Counts an opening that found the database at `index`, where this lane left it at `left_at` and the
    /// grid was told that it has everything up to `told`. Returns the outcome's name.
    pub(super) fn count(&mut self, index: u64, left_at: Option<u64>, told: u64) -> &'static str {
        let (count, name) = if index < left_at.unwrap_or(0).max(told) {
            (&mut self.behind, "behind")
        } else if left_at.is_some_and(|left_at| index > left_at) {
            (&mut self.ahead, "ahead")
        } else {
            // Telling the grid lags, so a lane that comes new to the partition finds more than was told.
            (&mut self.equal, "equal")
        };
        *count += 1;
        name
    }
}

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
    /// About how many bytes of the log those are.
    #[serde(default)]
    pub behind_bytes: Option<u64>,
    /// The age of the oldest change that this lane has seen and not yet written; 0 when there is none.
    pub behind_ms: u64,
    /// Changes parked in `dead_letter` by this lane since it started.
    pub parked: u64,
    /// Changes of the partition that were parked when this lane last wrote.
    #[serde(default)]
    pub parked_in_all: u64,
    /// Whether somebody has paused it.
    #[serde(default)]
    pub paused: bool,
    /// Whether it leaves the database alone just now, because clients wait.
    #[serde(default)]
    pub resting: bool,
    /// How the database stood whenever this lane opened.
    #[serde(default)]
    pub fence: FenceOutcomes,
    /// Why the last attempt failed; `None` once one has succeeded.
    pub last_error: Option<String>,
    /// What kind of trouble `last_error` is; `None` with it.
    #[serde(default)]
    pub trouble: Option<LaneTrouble>,
    /// Whether somebody must act: the lane cannot go on by itself.
    pub stuck: bool,
    /// Whether this node has no key to sign the audit trail with.
    #[serde(default)]
    pub roots_unsigned: bool,
    /// Why the audit trail is not signed although there is a key: it was edited in the database.
    #[serde(default)]
    pub audit_trouble: Option<String>,
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
            behind_bytes: None,
            behind_ms: 0,
            parked: 0,
            parked_in_all: 0,
            paused: false,
            resting: false,
            fence: FenceOutcomes::default(),
            last_error: None,
            trouble: None,
            stuck: false,
            roots_unsigned: false,
            audit_trouble: None,
            oldest_unwritten_at_ms: None,
        }
    }

    /// The same lane after its partition went to another leader: what it counted stays.
    pub(super) fn resigned(&self) -> Self {
        Self {
            parked: self.parked,
            fence: self.fence,
            ..Self::new(self.partition)
        }
    }

    /// What it does just now.
    #[must_use]
    pub fn state(&self) -> LaneState {
        match self {
            Self { active: false, .. } => LaneState::NotLeading,
            Self { stuck: true, .. } => LaneState::Stopped,
            Self { paused: true, .. } => LaneState::Paused,
            Self {
                last_error: Some(_),
                ..
            }
            | Self {
                checkpoint_index: None,
                ..
            } => LaneState::WaitingForDatabase,
            Self { resting: true, .. } => LaneState::Resting,
            _ => LaneState::Running,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_is_where_it_was_or_ahead_or_behind() {
        let mut fence = FenceOutcomes::default();
        for (index, left_at, told, name) in [
            (0, None, 0, "equal"),
            (120, None, 100, "equal"),
            (120, Some(120), 100, "equal"),
            (130, Some(120), 100, "ahead"),
            (110, Some(120), 100, "behind"),
            (90, None, 100, "behind"),
        ] {
            assert_eq!(fence.count(index, left_at, told), name, "{index}");
        }
        let counts = (fence.equal, fence.ahead, fence.behind);
        assert_eq!(counts, (3, 1, 2));
    }

    #[test]
    fn a_lane_says_what_it_does() {
        let mut lane = LaneStatus::new(PartitionId(0));
        assert_eq!(lane.state(), LaneState::NotLeading);
        lane.active = true;
        assert_eq!(lane.state(), LaneState::WaitingForDatabase);
        lane.checkpoint_index = Some(1);
        assert_eq!(lane.state(), LaneState::Running);
        lane.resting = true;
        assert_eq!(lane.state(), LaneState::Resting);
        lane.paused = true;
        assert_eq!(lane.state(), LaneState::Paused);
        lane.last_error = Some("in its own words".to_owned());
        lane.paused = false;
        assert_eq!(lane.state(), LaneState::WaitingForDatabase);
        lane.stuck = true;
        assert_eq!(lane.state(), LaneState::Stopped);
    }
}
