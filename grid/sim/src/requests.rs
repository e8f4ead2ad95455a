//! What goes between the simulation and its nodes: requests of clients, and what came of them.
//!
//! The way between a client and a node is not simulated: a request reaches its node at once, or is
//! lost with it.

use grid::{Answered, CommandRequest, Executed, FeedSlice, GridError, MemberAction, Read};
use grid_core::PartitionId;
use processing_unit::{Answer, Change, Command, Query, Reply};

/// A request's number, to tell its result from others.
pub(crate) type Ticket = u64;

/// How long a node may take for a request, in simulated milliseconds.
pub(crate) const REQUEST_TIMEOUT_MS: u64 = 3_000;

/// Something asked of a node.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there are a handful at a time")]
pub(crate) enum Asked {
    /// To carry a command out.
    Execute(CommandRequest<Command>),
    /// To answer a query.
    Query(Query, Read),
    /// To note how far the pump is.
    Pumped(u64),
    /// To give an order about the members.
    Order(MemberAction),
}

/// A request on its way.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) ticket: Ticket,
    pub(crate) partition: PartitionId,
    pub(crate) asked: Asked,
}

/// What came of a request.
#[derive(Clone, Debug)]
pub(crate) enum Result {
    Executed(std::result::Result<Executed<Reply>, GridError>),
    Answered(std::result::Result<Answered<Answer>, GridError>),
    Pumped,
    /// What the grid said to an order, in words.
    #[expect(dead_code, reason = "the trace has it")]
    Ordered(String),
    /// The node stopped with the request in hand.
    NodeStopped,
}

/// Changes that a node's feed gave.
#[derive(Debug)]
pub(crate) struct Fed {
    pub(crate) partition: PartitionId,
    /// The feed's number on its node.
    pub(crate) feed: u64,
    /// It began after this entry.
    pub(crate) began_after: u64,
    pub(crate) slice: FeedSlice<Change>,
}
