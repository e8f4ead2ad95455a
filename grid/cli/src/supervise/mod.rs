//! What `grid up` looks after: its nodes as child processes.
//!
//! A node reads its standard input: a line may say where the database is, another that the whole grid
//! stops; its end means that `grid up` is gone, however it went. So nodes never outlive it, and the
//! database's address is on no command line. A node that ends for another reason is started again; one
//! that was sent a SIGTERM hands its leaderships over first (see `grid restart`).

mod child;
mod node_log;
mod ports;

pub(crate) use child::{NodeProcess, NodeSpec};
pub(crate) use ports::{becomes_free, reserve_ports};

use serde::{Deserialize, Serialize};

/// A line on a node's standard input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// The whole grid stops, so there is nobody to hand leaderships to.
    Stop,
    /// Where to write.
    Database(DatabaseAddress),
}

/// A database, as a node needs to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DatabaseAddress {
    /// Its URL.
    pub(crate) url: String,
    /// Whether it answers one connection at a time.
    pub(crate) single_connection: bool,
    /// Whether it runs on this machine, beside the nodes.
    pub(crate) is_private: bool,
}
