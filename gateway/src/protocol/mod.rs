//! The wire protocol, version 1: what clients send and what they get, as types of their own.
//!
//! Nothing here knows the domain's types; [`crate::convert`] is the one place where the two meet.
//! Fields may be added to what is sent and to what is accepted; none is renamed or removed.

pub(crate) mod amount;
pub(crate) mod body;
pub(crate) mod code;
pub(crate) mod event;
pub(crate) mod frame;
pub(crate) mod message;
pub(crate) mod shape;
pub(crate) mod text;
pub(crate) mod view;

/// The WebSocket subprotocol of this version.
pub const SUBPROTOCOL: &str = "grid.v1.json";
