//! The next step of one group towards the replicas that the map wants. Pure: a function of the group's
//! own membership, so that whoever goes on after a crash needs to remember nothing.
//!
//! ```text
//!   add learner ─► catch up ─► promote ─► hand the leadership over, if it goes ─► demote ─► settle
//! ```
//!
//! Invariants: a membership is proposed only while a majority of its voters answers; a leader is not
//! voted out, it hands over first.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::node::NodeId;

/// A learner this close to the leader's log, in entries, is made a voter: it catches up with the rest
/// while it is one.
const CATCH_UP_ENTRIES_MAX: u64 = 256;

/// A group as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GroupView {
    pub(crate) leader: NodeId,
    pub(crate) voters: BTreeSet<NodeId>,
    pub(crate) learners: BTreeSet<NodeId>,
    /// A change of voters is under way or was left half done.
    pub(crate) is_joint: bool,
    pub(crate) last_index: u64,
    /// How far each follower has the leader's log.
    pub(crate) matched: BTreeMap<NodeId, u64>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Finish a change of voters that was left half done.
    Flatten,
    AddLearner(NodeId),
    /// Nothing but waiting: so many entries are missing.
    CatchUp {
        node: NodeId,
        behind: u64,
    },
    Promote(NodeId),
    TransferLeader(NodeId),
    /// Make these the only voters.
    SetVoters(BTreeSet<NodeId>),
    DropLearner(NodeId),
    /// The membership is the wanted one.
    Settle,
    /// The next change would leave no majority that answers.
    NoQuorum,
}

fn has_quorum(voters: &BTreeSet<NodeId>, down: &BTreeSet<NodeId>) -> bool {
    voters.difference(down).count() > voters.len() / 2
}

/// See the module.
pub(crate) fn next_step(
    wanted: &BTreeSet<NodeId>,
    view: &GroupView,
    down: &BTreeSet<NodeId>,
) -> Step {
    if view.is_joint {
        return Step::Flatten;
    }
    let behind = |node: &NodeId| {
        let matched = view.matched.get(node).copied().unwrap_or(0);
        view.last_index.saturating_sub(matched)
    };
    if let Some(node) = wanted.difference(&view.voters).next().copied() {
        if !view.learners.contains(&node) {
            return Step::AddLearner(node);
        }
        if down.contains(&node) || behind(&node) > CATCH_UP_ENTRIES_MAX {
            return Step::CatchUp {
                node,
                behind: behind(&node),
            };
        }
        let mut after = view.voters.clone();
        after.insert(node);
        return if has_quorum(&after, down) {
            Step::Promote(node)
        } else {
            Step::NoQuorum
        };
    }
    if view.voters != *wanted {
        if !has_quorum(wanted, down) {
            return Step::NoQuorum;
        }
        if wanted.contains(&view.leader) {
            return Step::SetVoters(wanted.clone());
        }
        let heir = wanted
            .iter()
            .filter(|node| !down.contains(node))
            .min_by_key(|node| behind(node));
        return match heir.copied() {
            None => Step::NoQuorum,
            Some(node) if behind(&node) > CATCH_UP_ENTRIES_MAX => Step::CatchUp {
                node,
                behind: behind(&node),
            },
            Some(node) => Step::TransferLeader(node),
        };
    }
    match view.learners.difference(wanted).next() {
        Some(node) => Step::DropLearner(*node),
        None => Step::Settle,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(nodes: &[NodeId]) -> BTreeSet<NodeId> {
        nodes.iter().copied().collect()
    }

    fn view(leader: NodeId, voters: &[NodeId], learners: &[NodeId]) -> GroupView {
        GroupView {
            leader,
            voters: set(voters),
            learners: set(learners),
            is_joint: false,
            last_index: 1_000,
            matched: voters.iter().map(|node| (*node, 1_000)).collect(),
        }
    }

    #[test]
    fn a_replica_moves_step_by_step() {
        let wanted = set(&[1, 2, 4]);
        let none = set(&[]);
        let mut now = view(3, &[1, 2, 3], &[]);
        assert_eq!(next_step(&wanted, &now, &none), Step::AddLearner(4));
        now.learners.insert(4);
        let caught_up = next_step(&wanted, &now, &none);
        assert_eq!(
            caught_up,
            Step::CatchUp {
                node: 4,
                behind: 1_000
            }
        );
        now.matched.insert(4, 990);
        assert_eq!(next_step(&wanted, &now, &none), Step::Promote(4));
        now = view(3, &[1, 2, 3, 4], &[]);
        assert_eq!(next_step(&wanted, &now, &none), Step::TransferLeader(1));
        now.leader = 1;
        assert_eq!(
            next_step(&wanted, &now, &none),
            Step::SetVoters(wanted.clone())
        );
        now = view(1, &[1, 2, 4], &[3]);
        assert_eq!(next_step(&wanted, &now, &none), Step::DropLearner(3));
        now.learners.clear();
        assert_eq!(next_step(&wanted, &now, &none), Step::Settle);
    }

    #[test]
    fn a_dead_voter_is_replaced_and_a_dead_learner_is_waited_for() {
        let down = set(&[3]);
        let now = view(1, &[1, 2, 3, 4], &[]);
        let wanted = set(&[1, 2, 4]);
        assert_eq!(
            next_step(&wanted, &now, &down),
            Step::SetVoters(wanted.clone())
        );
        let now = view(1, &[1, 2, 3], &[4]);
        let waits = next_step(&wanted, &now, &set(&[4]));
        assert!(matches!(waits, Step::CatchUp { node: 4, .. }), "{waits:?}");
    }

    #[test]
    fn half_a_change_is_finished_first() {
        let mut now = view(1, &[1, 2, 3, 4], &[]);
        now.is_joint = true;
        assert_eq!(next_step(&set(&[1, 2, 4]), &now, &set(&[])), Step::Flatten);
    }

    proptest! {
        /// From any membership with a majority up, the steps end at the wanted one, and no membership
        /// on the way lacks a majority that answers.
        #[test]
        fn steps_end_and_keep_a_majority(
            voters in proptest::collection::btree_set(1_u64..6, 1..4),
            wanted in proptest::collection::btree_set(1_u64..6, 1..4),
            learners in proptest::collection::btree_set(1_u64..6, 0..3),
            down in proptest::collection::btree_set(1_u64..6, 0..2),
        ) {
            let leader = voters.iter().find(|node| !down.contains(node)).copied();
            prop_assume!(leader.is_some() && has_quorum(&voters, &down));
            let mut now = GroupView {
                leader: leader.unwrap_or_default(),
                learners: learners.difference(&voters).copied().collect(),
                voters,
                is_joint: false,
                last_index: 0,
                matched: BTreeMap::new(),
            };
            for _ in 0..32 {
                match next_step(&wanted, &now, &down) {
                    Step::Flatten => now.is_joint = false,
                    Step::AddLearner(node) => { now.learners.insert(node); }
                    Step::CatchUp { node, .. } => {
                        prop_assert!(down.contains(&node));
                        return Ok(());
                    }
                    Step::Promote(node) => {
                        now.learners.remove(&node);
                        now.voters.insert(node);
                    }
                    Step::TransferLeader(node) => {
                        prop_assert!(now.voters.contains(&node) && !down.contains(&node));
                        now.leader = node;
                    }
                    Step::SetVoters(voters) => {
                        prop_assert!(voters.contains(&now.leader));
                        now.voters = voters;
                    }
                    Step::DropLearner(node) => { now.learners.remove(&node); }
                    Step::Settle => {
                        prop_assert_eq!(&now.voters, &wanted);
                        prop_assert!(now.learners.is_empty());
                        return Ok(());
                    }
                    Step::NoQuorum => return Ok(()),
                }
                prop_assert!(has_quorum(&now.voters, &down));
            }
            prop_assert!(false, "the steps do not end");
        }
    }
}
