//! What breaks, when, and for how long.
//!
//! Every so often one of the run's kinds of fault strikes and is undone some time later; several may
//! be at work at once. Orders about the members ([`orders`]) come beside them and are not undone.
//!
//! Only what the grid promises to stand is done to it. Of flipped bits and of lost disks: at most one
//! node a run, since a second damaged copy may be the last one. Of wrong clocks: fewer than half.
//!
//! On the wire only what TCP permits happens: within a connection nothing is lost, doubled or out of
//! order, but whole connections are late, and overtake each other. A request that comes twice is
//! therefore a client's doing (`clients`).

mod clocks;
mod orders;

use std::collections::BTreeSet;
use std::time::Duration;

use grid::simulation::{self, CrashLoss, DiskFaults};

use crate::cluster::Cluster;
use crate::plan::{FaultMix, Plan};
use crate::random::Random;
use clocks::Clocks;
use orders::Orders;

/// The time between two faults, in simulated milliseconds.
const PAUSE_MS: (u64, u64) = (150, 2_500);
/// How long a fault lasts.
const LASTS_MS: (u64, u64) = (100, 5_000);
/// Of a hundred faults of one node's clock or disk, so many are of a node that leads something.
const LEADER_PERCENT: u64 = 60;
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
    Jitter(u64, u64),
    Held(u64, u64),
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
    /// The node that has lost its disk, if one has.
    wiped: Option<u64>,
    clocks: Clocks,
    orders: Orders,
    /// Nodes that must not start again.
    gone: BTreeSet<u64>,
    excused: Vec<(u64, u64)>,
    count: u64,
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
            wiped: None,
            clocks: Clocks::new(plan),
            orders: Orders::new(plan),
            gone: BTreeSet::new(),
            excused: Vec::new(),
            count: 0,
        }
    }

    /// How many have struck, orders included.
    pub(crate) fn count(&self) -> u64 {
        self.count + self.orders.count()
    }

    /// Whether the grid was told to let a node go.
    pub(crate) fn has_ordered_out(&self, node: u64) -> bool {
        self.orders.has_ordered_out(node)
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
        if self.mix.membership {
            self.orders.act(cluster, now_ms);
        }
        if now_ms < self.next_ms {
            return;
        }
        self.next_ms = now_ms + self.random.between(PAUSE_MS.0, PAUSE_MS.1);
        let mix = self.mix;
        let kinds: [(bool, Strike); 11] = [
            (mix.crashes || mix.bit_flips, Self::crash),
            (mix.power_cuts, Self::power_cut),
            (mix.partitions, Self::partition),
            (mix.delays, Self::slow_link),
            (mix.reordering, Self::overtaking),
            (mix.reordering, Self::keep_back),
            (mix.clock_jumps, Self::clock_jump),
            (mix.slow_disks, Self::slow_disk),
            (mix.failing_disks, Self::failing_disk),
            (mix.full_disks, Self::full_disk),
            (mix.wiped_disks, Self::wipe),
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

    /// Switches a node off that stopped by itself; for good if its files are damaged or the grid has
    /// removed it.
    pub(crate) fn retire(
        &mut self,
        cluster: &mut Cluster<'_>,
        node: u64,
        for_good: bool,
        now: u64,
    ) {
        cluster.crash(node, CrashLoss::Some);
        if for_good {
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
            What::Jitter(a, b) => cluster.jitter(a, b, None),
            What::Held(a, b) => cluster.release(a, b),
            What::Disk(node) => {
                self.excused.push((node, now_ms + EXCUSE_MS));
                simulation::disk_faults(node, DiskFaults::default());
            }
            What::Trouble(node) => simulation::disk_faults(node, DiskFaults::default()),
            What::Clock(node) => self.clocks.set_right(node, now_ms),
        }
    }

    fn any_up(&mut self, cluster: &Cluster<'_>) -> Option<u64> {
        self.random.pick(&cluster.up()).copied()
    }

    /// A node that is up, rather one that leads.
    fn leader_mostly(&mut self, cluster: &Cluster<'_>) -> Option<u64> {
        let leaders = cluster.leaders();
        if !leaders.is_empty() && self.random.chance(LEADER_PERCENT) {
            return self.random.pick(&leaders).copied();
        }
        self.any_up(cluster)
    }

    fn any_two(&mut self, cluster: &Cluster<'_>) -> Option<(u64, u64)> {
        let nodes = cluster.node_ids();
        let (a, b) = (*self.random.pick(&nodes)?, *self.random.pick(&nodes)?);
        (a != b).then_some((a, b))
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
        if let Some((a, b)) = self.any_two(cluster) {
            let delay = Duration::from_millis(self.random.between(20, 1_500));
            cluster.delay(a, b, Some(delay));
            self.keep(What::Slow(a, b), now_ms);
        }
    }

    fn overtaking(&mut self, cluster: &mut Cluster<'_>, now_ms: u64) {
        if let Some((a, b)) = self.any_two(cluster) {
            let most = Duration::from_millis(self.random.between(20, 600));
            cluster.jitter(a, b, Some(most));
            self.keep(What::Jitter(a, b), now_ms);
        }
    }

    fn keep_back(&mut self, cluster: &mut Cluster<'_>, now_ms: u64) {
        if let Some((a, b)) = self.any_two(cluster) {
            cluster.hold(a, b);
            self.keep(What::Held(a, b), now_ms);
        }
    }

    /// Takes a node's disk away, as when it is replaced by an empty one. Only when all others are
    /// there: what a minority has promised may rest on this copy.
    fn wipe(&mut self, cluster: &mut Cluster<'_>, now_ms: u64) {
        let up = cluster.up();
        let is_whole = up.len() + self.gone.len() == cluster.node_ids().len()
            && up.iter().all(|node| cluster.map_of(*node).is_some());
        let Some(node) = self.any_up(cluster) else {
            return;
        };
        if !is_whole || self.wiped.is_some() {
            return;
        }
        cluster.crash(node, CrashLoss::All);
        simulation::trace_note(&format!("wipe {node}"));
        simulation::wipe_disk(node);
        self.wiped = Some(node);
        self.keep(What::Down(node), now_ms);
    }

    fn clock_jump(&mut self, cluster: &mut Cluster<'_>, now_ms: u64) {
        let Some(node) = self.leader_mostly(cluster) else {
            return;
        };
        if self.clocks.jump(&mut self.random, node, now_ms) {
            self.keep(What::Clock(node), now_ms);
        }
    }

    fn disk(
        &mut self,
        cluster: &mut Cluster<'_>,
        now_ms: u64,
        (what, faults): (fn(u64) -> What, DiskFaults),
    ) {
        if let Some(node) = self.leader_mostly(cluster) {
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
