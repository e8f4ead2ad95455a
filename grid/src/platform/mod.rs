//! What a node needs of the machine: files, sockets, clocks, randomness, threads to block.
//!
//! Every other module of this crate reaches the machine through here, so that the simulation can put
//! another machine in its place. There are two, one of which is compiled:
//!
//! * [`machine`]: the operating system's, by re-export, at no cost;
//! * `simulated`, with the cargo feature `sim`: files in memory that forget what was not synced,
//!   turmoil's sockets, a wall clock that can jump, randomness from one seed, no threads.
//!
//! Invariants: with the feature, the same seed gives the same run, step by step. That needs two things
//! of the rest: no clock, file, socket or thread is reached but through here, and no logic depends on
//! the order of a randomly seeded map. (tokio's own randomness is seeded by turmoil.)

#[cfg(not(feature = "sim"))]
mod background;
mod delegated;
#[cfg(not(feature = "sim"))]
mod machine;
#[cfg(not(feature = "sim"))]
mod runtime;
#[cfg(feature = "sim")]
pub mod simulated;

#[cfg(not(feature = "sim"))]
pub(crate) use background::{in_background, rest};
#[cfg(not(feature = "sim"))]
pub(crate) use machine::{AsyncFile, Runtime, blocking, fs, net, random};
#[cfg(feature = "sim")]
pub(crate) use simulated::{AsyncFile, Runtime, blocking, fs, in_background, net, random, rest};

#[cfg(not(feature = "sim"))]
pub use runtime::align_timers;
#[cfg(not(feature = "sim"))]
pub(crate) use runtime::pause;

/// Nothing: a simulation's timers ring when they are due.
#[cfg(feature = "sim")]
pub fn align_timers(_heartbeat: Duration) {}

/// Sleeps so long.
#[cfg(feature = "sim")]
pub(crate) async fn pause(about: Duration) {
    tokio::time::sleep(about).await;
}

#[cfg(not(feature = "sim"))]
use machine::wall_clock_ms;
#[cfg(feature = "sim")]
use simulated::wall_clock_ms;

use std::time::{Duration, Instant};

use grid_core::Timestamp;

/// The monotonic clock: the system's, or the paused one of a test or simulation.
pub(crate) fn monotonic_now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A duration's whole milliseconds.
pub(crate) fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The time of day, which may jump.
pub(crate) fn wall_now() -> Timestamp {
    Timestamp::from_millis(wall_clock_ms())
}
