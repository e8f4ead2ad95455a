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
//! row, best row first, leaving no single free seat where an alternative exists); a buyer holds and
//! owns at most `max_seats_per_buyer` seats of an event; nothing is held before the on-sale time; a
//! hold that has expired cannot be confirmed.
//!
//! What it deliberately does not do: sign ticket codes (the gateway does, with a key that never enters
//! the log), take payments, sell the same seat at several prices.

mod messages;

pub use messages::*;
