//! The simulated world: every node's disk and clock, the source of randomness, what was observed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use grid_core::{PartitionId, StateHash};
use parking_lot::Mutex;
use tokio::runtime::{Handle, Id};

use super::disk::{CrashLoss, Disk, DiskFaults};

/// When every simulation begins: 2026-01-01.
pub const WALL_EPOCH_MS: u64 = 1_767_225_600_000;

/// Something that a replica did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// It applied an entry.
    Applied {
        /// The node.
        node: u64,
        /// The partition.
        partition: PartitionId,
        /// The log index.
        index: u64,
        /// The entry's bytes; `None` for one that carries nothing for the space.
        entry: Option<Vec<u8>>,
        /// The state hash after it.
        hash: StateHash,
    },
    /// It stands at an index without having applied the entries before it just now: after a start or
    /// from a peer's snapshot.
    Restored {
        /// The node.
        node: u64,
        /// The partition.
        partition: PartitionId,
        /// The log index.
        index: u64,
        /// The state hash there.
        hash: StateHash,
    },
    /// It was opened, as new or from the node's files.
    Opened {
        /// The node.
        node: u64,
        /// The partition.
        partition: PartitionId,
    },
    /// Its power was cut.
    SwitchedOff {
        /// The node.
        node: u64,
    },
}

#[derive(Default)]
struct Node {
    disk: Arc<Mutex<Disk>>,
    wall_skew_ms: i64,
}

#[derive(Default)]
struct World {
    random: u64,
    nodes: BTreeMap<u64, Node>,
    runtimes: Vec<(Id, u64)>,
    observations: Vec<Observation>,
    trace: u64,
    lines: Option<Vec<String>>,
    planted: Option<String>,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

fn with<T>(use_it: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(use_it)
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Begins a simulation on this thread; of what was before it only the planted bug and the wish for a
/// trace remain.
pub fn begin(seed: u64) {
    with(|world| {
        *world = World {
            random: seed,
            trace: 0xcbf2_9ce4_8422_2325,
            lines: world.lines.take(),
            planted: world.planted.take(),
            ..World::default()
        }
    });
}

/// The next number of the nodes' randomness.
pub fn draw() -> u64 {
    with(|world| next(&mut world.random))
}

/// Makes the current tokio runtime that of a node, and switches its machine on.
pub fn enter(node: u64) {
    let id = Handle::current().id();
    with(|world| {
        world.runtimes.retain(|(_, known)| *known != node);
        world.runtimes.push((id, node));
        world.nodes.entry(node).or_default().disk.lock().is_on = true;
    });
}

/// The node whose runtime this is.
fn current_node() -> Option<u64> {
    let id = Handle::try_current().ok()?.id();
    with(|world| {
        let found = world.runtimes.iter().find(|(known, _)| *known == id);
        found.map(|(_, node)| *node)
    })
}

fn disk(node: u64) -> Arc<Mutex<Disk>> {
    with(|world| Arc::clone(&world.nodes.entry(node).or_default().disk))
}

/// The disk that a path `/node-N/…` is on.
pub(super) fn disk_of(path: &Path) -> io::Result<Arc<Mutex<Disk>>> {
    let first = path
        .components()
        .find_map(|component| match component {
            Component::Normal(name) => name.to_str(),
            _ => None,
        })
        .and_then(|name| name.strip_prefix("node-")?.parse().ok());
    let node = first
        .ok_or_else(|| io::Error::other(format!("{} is on no simulated disk", path.display())))?;
    Ok(disk(node))
}

/// Changes what is wrong with a node's disk.
pub fn disk_faults(node: u64, faults: DiskFaults) {
    disk(node).lock().faults = faults;
}

/// Cuts a node's power: to be followed by the crash of its host, and by [`enter`] at its restart.
pub fn crash_disk(node: u64, loss: CrashLoss) {
    note_off(node);
    disk(node).lock().crash(loss, draw);
}

/// Notes that a node is off; in order with what it did before.
fn note_off(node: u64) {
    with(|world| world.observations.push(Observation::SwitchedOff { node }));
}

/// Empties a node's disk.
pub fn wipe_disk(node: u64) {
    *disk(node).lock() = Disk::default();
}

/// Flips a bit in one of a node's files with this extension; returns where, if there is such a file.
pub fn corrupt_disk(node: u64, extension: &str) -> Option<(PathBuf, u64)> {
    disk(node).lock().flip_bit(extension, draw)
}

/// How long a sync of this node's log takes.
pub(crate) fn sync_delay(path: &Path) -> Duration {
    let delay_ms = disk_of(path).map_or(0, |disk| disk.lock().faults.sync_delay_ms);
    Duration::from_millis(delay_ms)
}

/// Sets how far a node's wall clock is from the true time.
pub fn set_wall_skew(node: u64, skew_ms: i64) {
    with(|world| world.nodes.entry(node).or_default().wall_skew_ms = skew_ms);
}

/// Milliseconds since the Unix epoch, as the current node sees it.
pub(crate) fn wall_clock_ms() -> u64 {
    let elapsed = turmoil::sim_elapsed().unwrap_or_default();
    let true_ms = WALL_EPOCH_MS + elapsed.as_millis() as u64;
    let skew_ms = current_node().map_or(0, |node| {
        with(|world| world.nodes.get(&node).map_or(0, |node| node.wall_skew_ms))
    });
    true_ms.saturating_add_signed(skew_ms)
}

/// Notes what a replica of the current node did.
pub(crate) fn observe(
    partition: PartitionId,
    index: u64,
    hash: StateHash,
    entry: Option<Option<&[u8]>>,
) {
    let Some(node) = current_node() else {
        return;
    };
    let observation = match entry {
        Some(entry) => Observation::Applied {
            node,
            partition,
            index,
            entry: entry.map(<[u8]>::to_vec),
            hash,
        },
        None => Observation::Restored {
            node,
            partition,
            index,
            hash,
        },
    };
    trace_note(&format!(
        "node {node} partition {partition} at {index} {hash}"
    ));
    with(|world| world.observations.push(observation));
}

/// Notes that the current node opened a replica.
pub(crate) fn observe_opened(partition: PartitionId) {
    let Some(node) = current_node() else {
        return;
    };
    trace_note(&format!("node {node} opens partition {partition}"));
    let opened = Observation::Opened { node, partition };
    with(|world| world.observations.push(opened));
}

/// What was observed since the last call.
pub fn take_observations() -> Vec<Observation> {
    with(|world| std::mem::take(&mut world.observations))
}

/// Keeps the trace's lines from now on; returns those kept so far.
pub fn trace_to_memory() -> Vec<String> {
    with(|world| world.lines.replace(Vec::new()).unwrap_or_default())
}

/// A hash of everything that happened so far.
#[must_use]
pub fn trace_hash() -> u64 {
    with(|world| world.trace)
}

/// Adds a line to the trace.
pub fn trace_note(line: &str) {
    with(|world| {
        world.add_to_trace(line.as_bytes());
        if let Some(lines) = &mut world.lines {
            let at_ms = turmoil::sim_elapsed().unwrap_or_default().as_millis();
            lines.push(format!("{at_ms} {line}"));
        }
    });
}

pub(super) fn trace_disk(what: &str, path: &Path, offset: u64, bytes: &[u8]) {
    let sum = crc32c::crc32c(bytes);
    let length = bytes.len();
    trace_note(&format!(
        "{what} {} {offset} {length} {sum:08x}",
        path.display()
    ));
}

impl World {
    /// FNV-1a: it only has to differ when the lines do.
    fn add_to_trace(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().chain(b"\n") {
            self.trace = (self.trace ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// Plants a bug by its name.
pub fn plant(bug: &str) {
    with(|world| world.planted = Some(bug.to_owned()));
}

/// Whether a bug is planted.
#[must_use]
pub fn is_planted(bug: &str) -> bool {
    with(|world| world.planted.as_deref() == Some(bug))
}

/// Randomness from the simulation's seed.
pub(crate) mod random {
    /// There is none.
    pub(crate) type Error = std::convert::Infallible;

    #[expect(clippy::unnecessary_wraps, reason = "the machine's can fail")]
    pub(crate) fn fill(bytes: &mut [u8]) -> Result<(), Error> {
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&super::draw().to_le_bytes()[..part.len()]);
        }
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "the machine's can fail")]
    pub(crate) fn u64() -> Result<u64, Error> {
        Ok(super::draw())
    }
}
