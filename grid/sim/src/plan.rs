//! What a seed decides before the run begins.

use crate::random::Random;

/// The shape of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The seed it came from.
    pub seed: u64,
    /// How many nodes there are: 3 or 5.
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
    /// A node's wall clock jumps.
    pub clock_jumps: bool,
    /// Syncs take long.
    pub slow_disks: bool,
    /// Writes or syncs fail.
    pub failing_disks: bool,
    /// Disks are full for a while.
    pub full_disks: bool,
    /// A bit of an older file flips while the node is down; at most one node a run.
    pub bit_flips: bool,
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed, 1);
        let faults = FaultMix {
            crashes: random.chance(75),
            power_cuts: random.chance(40),
            partitions: random.chance(60),
            delays: random.chance(40),
            clock_jumps: random.chance(40),
            slow_disks: random.chance(35),
            failing_disks: random.chance(25),
            full_disks: random.chance(20),
            bit_flips: random.chance(15),
        };
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
}
