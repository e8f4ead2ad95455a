//! What `grid up` looks after: its nodes as child processes.
//!
//! A node reads its standard input: the first line may say where the database is, and its end means
//! that `grid up` is gone, however it went. So nodes never outlive it, and the database's address is on
//! no command line.

mod child;
mod ports;

pub(crate) use child::{NodeProcess, NodeSpec};
pub(crate) use ports::{becomes_free, reserve_ports};

use serde::{Deserialize, Serialize};

/// A line on a node's standard input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Where to write.
    Database {
        /// Its address.
        url: String,
        /// Whether it answers one connection at a time.
        single_connection: bool,
        /// Whether it runs on this machine, beside the nodes.
        is_private: bool,
    },
}
