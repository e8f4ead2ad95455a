//! The place of the cluster simulation: one seed decides cluster size, faults and workload, and the
//! real grid runs on a simulated network, disk and clock.
//!
//! There is no simulation yet, and nothing here pretends to be one. Until it stands, faults are
//! covered by tests over real processes (`grid/cli/tests`), by nodes in one process
//! (`grid/tests/cluster.rs`), and by property tests of the log and of the rules. What the simulation
//! will find ready: the pure core (`grid-core`) takes time and entropy from the entry, invariants are
//! one function on the state ([`check_invariants`]), and sockets, files and clocks are touched only in
//! `grid/src/transport`, `grid/src/wal`, `grid/src/snapshot.rs` and `grid/src/proposer.rs`.
//!
//! [`check_invariants`]: grid_core::Space::check_invariants
