//! The simulated machine, and the controls by which a simulation works it.
//!
//! ```text
//!   the grid ─► fs, net, random, wall clock ─► World (one a thread) ◄─ controls ◄─ grid/sim
//!                                                └─► observations, trace
//! ```
//!
//! One simulation runs on one thread. Its [`world`] holds each node's disk and clock, the one source
//! of randomness, and what the nodes did. A node is told apart by its tokio runtime: the host's first
//! act is [`enter`].
//!
//! What it deliberately does not do: model the network (turmoil does), decide on faults (`grid/sim`
//! does), or make anything faster or simpler than on the real machine.

mod disk;
mod file;
mod runtime;
mod socket;
mod world;

pub use disk::{CrashLoss, DiskFaults};
pub use runtime::SimulatedRuntime;
pub use socket::Listener;
pub use world::{
    Observation, WALL_EPOCH_MS, begin, corrupt_disk, crash_disk, disk_faults, draw, enter,
    is_planted, plant, set_wall_skew, take_observations, trace_hash, trace_note, trace_to_memory,
    wipe_disk,
};

pub(crate) use file::{AsyncFile, fs};
pub(crate) use runtime::{SimulatedRuntime as Runtime, blocking, in_background, rest};
pub(crate) use socket::net;
pub(crate) use world::{observe, observe_opened, random, sync_delay, wall_clock_ms};
