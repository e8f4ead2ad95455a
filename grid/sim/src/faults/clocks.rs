//! Wall clocks that jump. Never more of them are wrong at a time than the grid promises to stand: fewer
//! than half; and a clock that was set right counts as wrong until nobody remembers what it said.

use std::collections::{BTreeMap, BTreeSet};

use grid::simulation;

use crate::plan::Plan;
use crate::random::Random;

/// How far a clock jumps at most: an hour, as when somebody gets summer time wrong.
const JUMP_MS_MAX: u64 = 3_600_000;
/// A small jump.
const SMALL_MS_MAX: u64 = 60_000;
/// Of a hundred clocks that jump, so many stay wrong to the end of the run.
const STAY_PERCENT: u64 = 30;
/// How long other nodes go by what a clock said, and some more.
const REMEMBERED_MS: u64 = 12_000;

/// The clocks of a run that are, or lately were, wrong.
pub(super) struct Clocks {
    wrong_max: usize,
    may_stay: bool,
    /// Until when each counts as wrong.
    wrong: BTreeMap<u64, u64>,
    stay: BTreeSet<u64>,
}

impl Clocks {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            wrong_max: plan.wrong_clocks_max(),
            // With a node that is gone for good, a wrong clock is one of two.
            may_stay: !plan.faults.bit_flips,
            wrong: BTreeMap::new(),
            stay: BTreeSet::new(),
        }
    }

    /// Lets a node's clock jump, if it may; whether it did.
    pub(super) fn jump(&mut self, random: &mut Random, node: u64, now_ms: u64) -> bool {
        self.wrong.retain(|_, until_ms| *until_ms > now_ms);
        if !self.wrong.contains_key(&node) && self.wrong.len() >= self.wrong_max {
            return false;
        }
        let far = match random.between(0, 9) {
            0..=4 => JUMP_MS_MAX,
            5..=7 => random.between(0, JUMP_MS_MAX),
            _ => random.between(0, SMALL_MS_MAX),
        } as i64;
        let skew_ms = if random.chance(50) { far } else { -far };
        if self.may_stay && random.chance(STAY_PERCENT) {
            self.stay.insert(node);
        }
        simulation::trace_note(&format!("clock {node} {skew_ms}"));
        simulation::set_wall_skew(node, skew_ms);
        self.wrong.insert(node, u64::MAX);
        true
    }

    /// Sets a node's clock right, unless it is to stay wrong.
    pub(super) fn set_right(&mut self, node: u64, now_ms: u64) {
        if self.stay.contains(&node) {
            return;
        }
        simulation::trace_note(&format!("clock {node} right"));
        simulation::set_wall_skew(node, 0);
        self.wrong.insert(node, now_ms + REMEMBERED_MS);
    }
}
