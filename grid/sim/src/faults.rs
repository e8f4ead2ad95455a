//! What breaks, when, and for how long.
//!
//! Every so often one of the run's kinds of fault strikes and is undone some time later; several may
//! be at work at once. A change of membership is to become one more kind: it would be begun here and
//! left to the cluster to finish.
//!
//! Only what the grid promises to stand is done to it. Of flipped bits: at most one node a run, since
//! a second damaged copy may be the last one.

use std::collections::BTreeSet;
use std::time::Duration;

use grid::simulation::{self, CrashLoss, DiskFaults};

use crate::cluster::Cluster;
use crate::plan::{FaultMix, Plan};
use crate::random::Random;

/// The time between two faults, in simulated milliseconds.
const PAUSE_MS: (u64, u64) = (150, 2_500);
/// How long a fault lasts.
const LASTS_MS: (u64, u64) = (100, 5_000);
/// How far a wall clock jumps at most; far less than replies are remembered for.
const CLOCK_JUMP_MS_MAX: u64 = 60_000;
/// Disk errors are not yet seen by the node when they are undone; so long it is excused after.
const EXCUSE_MS: u64 = 2_000;

enum What {
    Down(u64),
    Cut(Vec<(u64, u64)>),
    Flapping {
        ways: Vec<(u64, u64)>,
        is_cut: bool,
        next_ms: u64,
    },
    Slow(u64, u64),
    /// Its disk fails: it may stop.
    Disk(u64),
    /// Its disk is full or slow, which is no reason to stop.
    Trouble(u64),
    Clock(u64),
}

struct Active {
    until_ms: u64,
    what: What,
}

/// The faults of a run.
pub(crate) struct Faults {
    random: Random,
    mix: FaultMix,
    next_ms: u64,
    active: Vec<Active>,
    /// The node whose files were tampered with, if one was.
    flipped: Option<u64>,
    /// Nodes that must not start again.
    gone: BTreeSet<u64>,
    excused: Vec<(u64, u64)>,
    pub(crate) count: u64,
}

type Strike = fn(&mut Faults, &mut Cluster<'_>, u64);

impl Faults {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            random: Random::new(plan.seed, 3),
            mix: plan.faults,
            // The cluster may come up in peace, mostly.
            next_ms: 1_500,
            active: Vec::new(),
            flipped: None,
            gone: BTreeSet::new(),
            excused: Vec::new(),
            count: 0,
        }
    }

    /// Undoes what is over and does what is due.
    pub(crate) fn act(&mut self, cluster: &mut Cluster<'_>, now_ms: u64) {
        let (over, active) = std::mem::take(&mut self.active)
            .into_iter()
            .partition(|fault| fault.until_ms <= now_ms);
        self.active = active;
        for fault in over {
            self.undo(cluster, fault.what, now_ms);
        }
        for fault in &mut self.active {
            if let What::Flapping {
                ways,
                is_cut,
                next_ms,
            } = &mut fault.what
                && *next_ms <= now_ms
            {
                *is_cut = !*is_cut;
                *next_ms = now_ms + self.random.between(50, 800);
                for (from, to) in ways {
                    if *is_cut {
                        cluster.cut(*from, *to);
                    } else {
                        cluster.mend(*from, *to);
                    }
                }
            }
        }
        if now_ms < self.next_ms {
            return;
        }
        self.next_ms = now_ms + self.random.between(PAUSE_MS.0, PAUSE_MS.1);
        let mix = self.mix;
        let kinds: [(bool, Strike); 8] = [
            (mix.crashes || mix.bit_flips, Self::crash),
            (mix.power_cuts, Self::power_cut),
            (mix.partitions, Self::partition),
            (mix.delays, Self::slow_link),
            (mix.clock_jumps, Self::clock_jump),
            (mix.slow_disks, Self::slow_disk),
            (mix.failing_disks, Self::failing_disk),
            (mix.full_disks, Self::full_disk),
        ];
        let kinds: Vec<Strike> = kinds
            .into_iter()
            .filter_map(|(happens, strike)| happens.then_some(strike))
            .collect();
        if let Some(strike) = self.random.pick(&kinds).copied() {
            self.count += 1;
            strike(self, cluster, now_ms);
        }
    }

    /// Undoes everything; nodes whose files are damaged stay down.
    pub(crate) fn heal(&mut self, cluster: &mut Cluster<'_>, now_ms: u64) {
        for fault in std::mem::take(&mut self.active) {
            self.undo(cluster, fault.what, now_ms);
        }
    }

    /// A node stopped by itself: whether its disk gave it reason to.
    pub(crate) fn excuses(&self, node: u64, now_ms: u64) -> bool {
        let at_work = |fault: &Active| matches!(fault.what, What::Disk(of) if of == node);
        self.flipped == Some(node)
            || self.active.iter().any(at_work)
            || self
                .excused
                .iter()
                .any(|(of, until_ms)| *of == node && now_ms <= *until_ms)
    }

    /// Switches a node off that stopped by itself; for good if its files are damaged.
    pub(crate) fn retire(&mut self, cluster: &mut Cluster<'_>, node: u64, damaged: bool, now: u64) {
        cluster.crash(node, CrashLoss::Some);
        if damaged {
            self.gone.insert(node);
        } else {
            self.keep(What::Down(node), now);
        }
    }

    fn keep(&mut self, what: What, now_ms: u64) {
        let until_ms = now_ms + self.random.between(LASTS_MS.0, LASTS_MS.1);
        self.active.push(Active { until_ms, what });
    }

    fn undo(&mut self, cluster: &mut Cluster<'_>, what: What, now_ms: u64) {
        match what {
            What::Down(node) => {
                if !self.gone.contains(&node) {
                    cluster.restart(node);
                }
            }
            What::Cut(ways) | What::Flapping { ways, .. } => {
                for (from, to) in ways {
                    cluster.mend(from, to);
                }
            }
            What::Slow(a, b) => cluster.delay(a, b, None),
            What::Disk(node) => {
                self.excused.push((node, now_ms + EXCUSE_MS));
                simulation::disk_faults(node, DiskFaults::default());
            }
            What::Trouble(node) => simulation::disk_faults(node, DiskFaults::default()),
            What::Clock(node) => simulation::set_wall_skew(node, 0),
        }
    }

    fn any_up(&mut self, cluster: &Cluster<'_>) -> Option<u64> {
        self.random.pick(&cluster.up()).copied()
    }

    fn crash(&mut self, cluster: &mut Cluster<'_>, now_ms: u64) {
        let Some(node) = self.any_up(cluster) else {
            return;
        };
        let losses = [CrashLoss::All, CrashLoss::Some, CrashLoss::Nothing];
        let loss = losses[self.random.next() as usize % losses.len()];
        cluster.crash(node, loss);
        if self.mix.bit_flips && self.flipped.is_none_or(|flipped| flipped == node) {
            let extension = if self.random.chance(60) {
                "seg"
            } else {
                "snap"
            };
            if let Some((path, at)) = simulation::corrupt_disk(node, extension) {
                simulation::trace_note(&format!("flip {} {at}", path.display()));
                self.flipped = Some(node);
            }
        }
        self.keep(What::Down(node), now_ms);
    }

    fn power_cut(&mut self, cluster: &mut Cluster<'_>, now_ms: u64) {
        for node in cluster.up() {
            cluster.crash(node, CrashLoss::All);
            self.keep(What::Down(node), now_ms);
        }
    }

    /// Splits the nodes in two, one way or both, once or again and again.
    fn partition(&mut self, cluster: &mut Cluster<'_>, now_ms: u64) {
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for node in cluster.node_ids() {
            if self.random.chance(40) {
                left.push(node);
            } else {
                right.push(node);
            }
        }
        let one_way = self.random.chance(35);
        let mut ways = Vec::new();
        for a in &left {
            for b in &right {
                ways.push((*a, *b));
                if !one_way {
                    ways.push((*b, *a));
                }
            }
        }
        if self.random.chance(30) {
            let flapping = What::Flapping {
                ways,
                is_cut: false,
                next_ms: now_ms,
            };
            return self.keep(flapping, now_ms);
        }
        for (from, to) in &ways {
            cluster.cut(*from, *to);
        }
        self.keep(What::Cut(ways), now_ms);
    }

    fn slow_link(&mut self, cluster: &mut Cluster<'_>, now_ms: u64) {
        let nodes = cluster.node_ids();
        let (Some(a), Some(b)) = (
            self.random.pick(&nodes).copied(),
            self.random.pick(&nodes).copied(),
        ) else {
            return;
        };
        if a != b {
            let delay = Duration::from_millis(self.random.between(20, 1_500));
            cluster.delay(a, b, Some(delay));
            self.keep(What::Slow(a, b), now_ms);
        }
    }

    fn clock_jump(&mut self, cluster: &mut Cluster<'_>, now_ms: u64) {
        if let Some(node) = self.any_up(cluster) {
            let skew_ms = self.random.between(0, 2 * CLOCK_JUMP_MS_MAX) as i64;
            let skew_ms = skew_ms - CLOCK_JUMP_MS_MAX as i64;
            simulation::trace_note(&format!("clock {node} {skew_ms}"));
            simulation::set_wall_skew(node, skew_ms);
            self.keep(What::Clock(node), now_ms);
        }
    }

    fn disk(
        &mut self,
        cluster: &mut Cluster<'_>,
        now_ms: u64,
        (what, faults): (fn(u64) -> What, DiskFaults),
    ) {
        if let Some(node) = self.any_up(cluster) {
            simulation::trace_note(&format!("disk {node} {faults:?}"));
            simulation::disk_faults(node, faults);
            self.keep(what(node), now_ms);
        }
    }

    fn slow_disk(&mut self, cluster: &mut Cluster<'_>, now_ms: u64) {
        let faults = DiskFaults {
            sync_delay_ms: self.random.between(5, 700),
            ..DiskFaults::default()
        };
        self.disk(cluster, now_ms, (What::Trouble, faults));
    }

    fn failing_disk(&mut self, cluster: &mut Cluster<'_>, now_ms: u64) {
        let fail_writes = self.random.chance(50);
        let faults = DiskFaults {
            fail_writes,
            fail_syncs: !fail_writes,
            ..DiskFaults::default()
        };
        self.disk(cluster, now_ms, (What::Disk, faults));
    }

    fn full_disk(&mut self, cluster: &mut Cluster<'_>, now_ms: u64) {
        let faults = DiskFaults {
            is_full: true,
            ..DiskFaults::default()
        };
        self.disk(cluster, now_ms, (What::Trouble, faults));
    }
}
