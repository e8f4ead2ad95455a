//! What a seed decides before the run begins.

use crate::random::Random;

/// The shape of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The seed it came from.
    pub seed: u64,
    /// How many nodes the grid begins with: 3 or 5.
    pub nodes: u64,
    /// How many partitions.
    pub partitions: u32,
    /// Clients that each have one request under way.
    pub clients: usize,
    /// How long things break, in simulated milliseconds.
    pub safety_ms: u64,
    /// A replica takes a snapshot after this many entries.
    pub snapshot_every_entries: u64,
    /// What a replica's feed keeps in memory; when little, feeds are replayed from the log.
    pub feed_bytes_max: usize,
    /// Whether a pump reads the feeds and the log is kept for it.
    pub has_pump: bool,
    /// Which faults happen. Each run has a part of them only: together they would hide each other.
    pub faults: FaultMix,
}

/// Which kinds of faults a run has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultMix {
    /// Single nodes stop and start again, with or without a part of what was not synced.
    pub crashes: bool,
    /// All nodes stop at once and lose all that was not synced.
    pub power_cuts: bool,
    /// Groups of nodes lose each other; also in one direction only, also again and again.
    pub partitions: bool,
    /// Messages between two nodes take long.
    pub delays: bool,
    /// Messages overtake each other, or are kept back and come all at once.
    pub reordering: bool,
    /// A request reaches two nodes.
    pub duplicates: bool,
    /// A node's wall clock jumps by up to an hour, on leaders mostly; it may stay wrong to the end.
    pub clock_jumps: bool,
    /// Syncs take long, on leaders as on others.
    pub slow_disks: bool,
    /// Writes or syncs fail.
    pub failing_disks: bool,
    /// Disks are full for a while.
    pub full_disks: bool,
    /// A bit of an older file flips while the node is down; at most one node a run.
    pub bit_flips: bool,
    /// Nodes join, drain, are removed and replaced.
    pub membership: bool,
    /// A node loses its disk and comes back with an empty one; at most one node a run.
    pub wiped_disks: bool,
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed, 1);
        let mut faults = FaultMix {
            crashes: random.chance(75),
            power_cuts: random.chance(35),
            partitions: random.chance(60),
            delays: random.chance(30),
            reordering: random.chance(40),
            duplicates: random.chance(40),
            clock_jumps: random.chance(40),
            slow_disks: random.chance(35),
            failing_disks: random.chance(25),
            full_disks: random.chance(20),
            bit_flips: random.chance(15),
            membership: random.chance(35),
            wiped_disks: random.chance(20),
        };
        // Each takes a node's copy away; only one a run may go, since the next could be the last.
        if faults.membership || faults.wiped_disks {
            faults.bit_flips = false;
        }
        Self {
            seed,
            nodes: if random.chance(70) { 3 } else { 5 },
            partitions: random.between(1, 3) as u32,
            clients: random.between(3, 8) as usize,
            safety_ms: random.between(10_000, 20_000),
            snapshot_every_entries: random.between(10, 200),
            feed_bytes_max: random.between(1_000, 60_000) as usize,
            has_pump: random.chance(50),
            faults,
        }
    }

    /// How many nodes' clocks may be wrong at a time.
    #[must_use]
    pub fn wrong_clocks_max(&self) -> usize {
        // The grid never has fewer nodes than three, and may shrink to them.
        let nodes = if self.faults.membership {
            3
        } else {
            self.nodes
        };
        (nodes as usize).saturating_sub(1) / 2
    }
}
