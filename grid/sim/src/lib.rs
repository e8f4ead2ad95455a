//! A whole cluster in one thread, decided by one number.
//!
//! The real grid code with real Raft, on a simulated network, disk and clock. The seed decides how
//! many nodes there are, what their clients do, what breaks and when; the same seed gives the same
//! run, step by step, so that what was found once can be looked at as often as one likes.
//!
//! ```text
//!   seed ─► Plan ─► Faults ──► Cluster (turmoil, grid/sim feature) ──► what replicas apply ─┐
//!             └───► Clients ─► commands and queries ─► replies ─► History ◄─────────────────┘
//!                                                                   └─► invariants, one a file
//! ```
//!
//! A run has two phases. In the first one things break and nothing must be wrong; in the second all is
//! healed and the cluster must converge: every partition serves, every replica stands at the same
//! place, every command whose fate was unknown is settled by a retry under its key.
//!
//! A failed command is *unknown*, not absent: the oracle takes the log, as the first replica applied
//! it, for the truth, and holds every reply, every read, every feed and every other replica against
//! it. Since each reply and each answer carries its log position, this checks linearizability in one
//! pass: what was acknowledged before a request began lies before its position, and the reply is the
//! one that the rules give at that position.
//!
//! The simulation needs the cargo feature `cluster`; without it this crate is empty.
//!
//! What it deliberately does not do: real sockets, files, processes (the end-to-end tests do), SQL, the
//! WebSocket protocol.

#![cfg(feature = "cluster")]

#[cfg(not(tokio_unstable))]
compile_error!("without --cfg tokio_unstable no run can be repeated; use scripts/simulate");

mod clients;
mod cluster;
pub mod faults;
mod history;
pub mod invariants;
mod model;
mod node;
mod plan;
mod random;
mod requests;
mod run;

pub use plan::Plan;
pub use run::{Outcome, Summary, run};
