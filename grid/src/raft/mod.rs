//! The consensus library behind one door: openraft's traits implemented over this crate's log,
//! snapshots and transport. No other module names openraft's types.
//!
//! ```text
//!   proposer ─► Group::propose ─► openraft ─► LogStore ─► WAL
//!                                    │  └───► PeerNetwork ─► transport ─► the peers' Group::serve_*
//!                                    └──────► StateMachine ─► PartitionState::apply ─► feed
//! ```
//!
//! Invariants: votes and entries reach the disk in the order in which openraft hands them over; an
//! entry's reply is produced by the same `apply` that changes the state; a replica that cannot apply
//! an entry ends its group rather than skip it.
//!
//! What it deliberately does not do: decide when to take a snapshot or to purge the log (see
//! `retention`), choose what to propose (see `proposer`), decide who is a member (see `cluster`).

mod group;
mod group_store;
mod leadership;
mod log_store;
mod membership;
mod network;
mod purge_delay;
mod serving;
mod standing;
mod state_machine;
mod types;

pub(crate) use group::{Group, GroupOptions, ReadRefusal};
pub(crate) use group_store::GroupStore;
pub(crate) use log_store::LogStore;
pub(crate) use membership::{MembershipChange, MembershipError};
pub(crate) use network::{SERVICE_APPEND_STREAM, SERVICE_RAFT, SERVICE_SNAPSHOT, SnapshotHeader};
pub(crate) use serving::open_envelope;
pub(crate) use standing::GroupState;
pub(crate) use types::{Outcomes, ProposalError, SnapshotPosition};
