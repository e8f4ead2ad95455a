//! Reserved seating: seats are held for a while, then confirmed into tickets or returned.
//!
//! ```text
//!            hold (chosen or best available)            confirm (payment reference)
//!   Available ───────────────────────────────► Held ───────────────────────────────► Sold
//!       ▲                                        │ release, or expiry at a log position
//!       └────────────────────────────────────────┘
//! ```
//!
//! Rules: a hold is all or nothing; best available is chosen and held in one step (adjacent, same
//! row, best row first, leaving no single free seat where an alternative exists: the
//! ladder is in `best_available.rs`); a buyer holds and owns at most `max_seats_per_buyer` seats of
//! an event; nothing is held before the on-sale time; a hold that has expired cannot be confirmed.
//!
//! A hold is expired from `expires_at` on, also while a tick has not come to returning its seats. The
//! last [`EXPIRED_HOLDS_KEPT`] expired holds of an event are remembered: their buyers are told
//! `HoldExpired`, and `HoldNotFound` when more have expired since.
//!
//! A seat is four bytes; a hold costs its seats, never the event: free seats are counted by row and by
//! section, and only the choice of best available reads rows.
//!
//! What it deliberately does not do: sign ticket codes (the gateway does, with a key that never enters
//! the log), take payments, sell the same seat at several prices.

mod messages;

mod best_available;
mod buyers;
mod free_runs;
mod holding;
mod index;
mod invariants;
mod layout;
mod query;
mod sale;
mod seat;
mod space;
mod state;
mod terms;

pub use messages::*;
pub use space::{BoxOfficeSpace, SaleFacts};
pub use state::EXPIRED_HOLDS_KEPT;

pub(crate) use state::BoxOfficeSlot;
