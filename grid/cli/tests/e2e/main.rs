//! The built binary, from outside: real processes, real sockets, a real database where the machine has
//! one. Every wait is for a state, and fails the test after `PATIENCE`.

#![expect(
    clippy::print_stdout,
    reason = "a test that leaves something out says so"
)]

mod audit;
mod backups;
mod browser;
mod buyers;
mod clients;
mod disk;
mod doctor;
mod faults;
mod faulty_disk;
mod files;
mod identity;
mod link;
mod loads;
mod members;
mod moves;
mod namespaces;
mod nodes;
mod once;
mod outposts;
mod pages;
mod partitions;
mod pauses;
mod pump;
mod pump_faults;
mod pump_loads;
mod replays;
mod restarts;
mod restores;
mod security;
mod session;
mod snapshots;
mod sql_proxy;
mod support;
mod tracing;
mod waiting;
