//! From the grid's change feed to PostgreSQL: the data pump, the writer, the readers, and where the
//! database comes from.
//!
//! ```text
//!   feed of a partition ──► lane ──► planner (pure) ──► writer ──► one SQL transaction:
//!   (only on its leader)     │                                      fence, changes, projections
//!                            └◄── reopen at the database's place ◄── anything else than a clean commit
//! ```
//!
//! Invariants: every change is written exactly once, in its partition's order, because its rows and
//! the partition's checkpoint commit together under the expected checkpoint and the leader's term; one
//! log entry is never split over two transactions; what lanes hold unwritten is bounded, so a
//! database that is away costs no memory; a change that the database refuses is parked in
//! `dead_letter` with what follows of the same entity, and stops nothing else.
//!
//! What it deliberately does not do: decide anything about auctions or seats, or make a sale wait.

pub mod archive;
pub mod audit;
pub mod bare_rate;
pub mod database;
pub mod history;
pub mod pump;
pub mod reports;
pub mod schema;
pub mod verify;
