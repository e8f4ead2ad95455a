//! What `grid load` measures of the way to the database: how far it is behind under load and what that
//! costs the sale, what a database that is away costs, how fast it is caught up with, and that kills
//! lose nothing.

pub(crate) mod away;
pub(crate) mod faults;
pub(crate) mod lag;
mod watch;
