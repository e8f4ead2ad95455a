//! Timed English auctions: one open ascending price, ended by time.
//!
//! ```text
//!   Scheduled ──start (time or host)──► Open ──end (time or host)──► Ended { sold | not sold: reason }
//!       └───────────── cancel ────────────┴──► Cancelled
//! ```
//!
//! Rules: an item has at most one unfinished auction; a bid counts only while the auction is open and
//! only from the minimum on (the starting price, then the current price plus its increment); an equal
//! bid is never accepted, so the earlier one keeps the lead; an accepted bid inside the soft-close
//! window, and only such, extends the end, at most `max_extensions` times; below the reserve the
//! auction ends unsold.
//!
//! Whatever is due for an auction happens before a command to that auction is looked at, even when a
//! tick had more deadlines than it could fire: a bid at or after the end is never accepted.
//!
//! What it deliberately does not do: proxy bids, buyer's premium, deposits (later issues).

mod messages;

mod bidding;
mod increment;
mod index;
mod invariants;
mod lifecycle;
mod query;
mod space;
mod state;
mod terms;

pub use messages::*;
pub use space::AuctionSpace;

pub(crate) use state::AuctionSlot;
