//! The gateway: HTTP and WebSocket in front of the grid.
//!
//! ```text
//!   client ──HTTP──► http/* ──┐                       ┌─► GridClient::execute / query
//!   client ──WS────► ws/*  ───┴─► operations, state ──┘
//!          ◄──────── ws/*  ◄── hub/* ◄── the grid's change feed
//! ```
//!
//! Invariants: domain types never reach a client, only [`protocol`] types do, converted in one module;
//! every command carries an idempotency key; every queue, cache and message is bounded; a client that is
//! slow, silent or wrong costs itself, not others.
//!
//! It lives in a node's process, or in one of its own ([`Place`]) and then serves everything but operators.
//!
//! What it deliberately does not do: decide anything about bids or seats, keep state that matters (a
//! gateway can be lost at any time), or terminate the TLS of clients (a later step).

mod admin_token;
mod admission;
mod cache;
mod convert;
mod edge;
mod failure;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod gateway;
mod history;
mod http;
mod hub;
mod identity;
mod layout;
mod limits;
mod observe;
mod operations;
mod pages;
mod protocol;
mod refusals;
mod retelling;
mod state;
mod tickets;
mod waiting;
mod ws;

pub use admin_token::{AdminToken, AdminTokenError};
pub use edge::tls::{TlsError, TlsOptions};
pub use gateway::{Gateway, GatewayError, GatewayOptions, Place};
pub use history::{HistoryChange, HistoryEnd, HistoryLine};
pub use identity::audit::AUDIT_LOG;
pub use identity::{
    IdentityKey, IdentityPublicKey, IdentityPublicKeyError, KeysError, Mode, TokenOrder,
};
pub use protocol::SUBPROTOCOL;
pub use retelling::{NoBeginning, Retelling};
pub use tickets::{VerifiedTicket, verify_ticket_code};
