//! What verifying finds.

use serde::Serialize;
use uuid::Uuid;

/// The most findings that a partition's report holds; what is beyond is counted.
const FINDINGS_MAX: usize = 100;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// A fact is not as it was written.
    Altered,
    /// A fact is gone.
    Missing,
    /// A row is not one of the facts.
    Added,
    /// What is written at a place belongs to another one.
    Reordered,
    /// A block, or the chain of blocks, is not as it was written.
    BlockAltered,
    /// Blocks are gone.
    BlockMissing,
    /// A signed root is not as it was signed, or does not fit the facts.
    RootAltered,
    /// Signed roots are gone.
    RootMissing,
    /// A root is signed by a key that is not among those to be trusted.
    ForeignKey,
    /// The end is cut off: something says that there was more.
    Truncated,
    /// The record of what was dropped for its age is not as it was signed.
    CutAltered,
}

impl Fault {
    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Altered => "altered",
            Self::Missing => "missing",
            Self::Added => "added",
            Self::Reordered => "reordered",
            Self::BlockAltered => "block altered",
            Self::BlockMissing => "block missing",
            Self::RootAltered => "root altered",
            Self::RootMissing => "root missing",
            Self::ForeignKey => "foreign key",
            Self::Truncated => "truncated",
            Self::CutAltered => "cut altered",
        }
    }
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub fault: Fault,
    /// `partition:log_index:seq` of a fact.
    pub place: Option<String>,
    /// The fact's kind, if it is known.
    pub kind: Option<String>,
    /// What the fact is about, if it is known.
    pub entity: Option<Uuid>,
    /// What exactly, for people.
    pub detail: String,
    /// By which findings are ordered: the log index, or that of the block.
    #[serde(skip)]
    pub(super) order: (i64, i32),
}

/// The findings of a partition, the first ones.
#[derive(Debug, Default)]
pub(super) struct Findings {
    kept: Vec<Finding>,
    pub(super) in_all: u64,
}

impl Findings {
    pub(super) fn push(&mut self, finding: Finding) {
        self.in_all += 1;
        if self.kept.len() < FINDINGS_MAX {
            self.kept.push(finding);
        }
    }

    /// About blocks, roots, the checkpoint.
    pub(super) fn general(&mut self, fault: Fault, order: i64, detail: String) {
        self.push(Finding {
            fault,
            place: None,
            kind: None,
            entity: None,
            detail,
            order: (order, 0),
        });
    }

    /// In the order of the log; where a fact and a block are of one place, the fact first.
    pub(super) fn sorted(mut self) -> Vec<Finding> {
        self.kept
            .sort_by_key(|finding| (finding.order, finding.place.is_none(), finding.fault));
        self.kept
    }
}
