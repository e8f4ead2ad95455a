//! The waiting room before a sale: everybody gathers, a lottery that anybody can check orders those who
//! came early, the others follow in the order of their coming, and as many are admitted as can be served.
//!
//! ```text
//!                opens_at, or `Open`           secret known, or revealed
//!   Gathering ───────────────────────► Sealed ──────────────────────────► Open ⇄ paused
//!
//!   an entry:  Waiting ──► Admitted { pass until } ──► Bought │ Expired │ GivenBack
//!                 └──────► Left
//! ```
//!
//! Numbers count the entries in the order of the log. Those that came before the room was sealed are the
//! *early* ones: their ranks are drawn. An entry that came later has its number as its rank. Admission goes
//! by rank, in batches: no faster than the rate, and never with more passes open than
//! `unsold seats × oversubscription / seats a pass`, rounded up, so that the last seats are sold too. What
//! counts as unsold is free or on hold: the seats that holders of passes have on hold are what their passes
//! are for.
//!
//! A pass is open from its admission until its holder has bought, gives it back, or is too slow; then the
//! next one gets the place. What is on hold then can still be confirmed.
//!
//! The lottery and who could cheat it: `lottery.rs`. An entry takes 17 bytes in a snapshot, and 4 more for
//! its rank if it is early; in memory some 30 more for look-ups. Joining and leaving, a position and an
//! admission cost O(log n) at most; opening sorts once.
//!
//! Invariants: a user has at most one entry that waits or is admitted; ranks are a permutation of numbers;
//! all entries before `next_rank` have been admitted or have left, and none from there on is admitted; no
//! more passes are open than were allowed when the last was given.
//!
//! What it deliberately does not do: sign passes (the gateway does, with a key that never enters the log),
//! tell anybody their position (whoever is interested has the marker, see [`RoomView`]), or let the order be
//! changed by anybody.

mod messages;

pub mod lottery;

mod admission;
mod ahead;
mod index;
mod invariants;
mod query;
mod queueing;
mod space;
mod state;

pub use messages::*;
pub use space::WaitingRoomSpace;

pub(crate) use state::RoomSlot;
