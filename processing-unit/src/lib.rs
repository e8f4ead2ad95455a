//! The spaces of Spacegrid: the business state that lives in the grid and the rules that change it.
//!
//! One folder a domain: [`auction`] (timed English auctions), [`box_office`] (reserved seats) and
//! [`waiting_room`] (who may hold seats, and when). The [`Unit`] composes them into the one [`grid_core::Space`] that a partition holds.
//!
//! ```text
//!   Command ──► Unit::apply ──► auction::AuctionSpace │ box_office::BoxOfficeSpace
//!                           │ waiting_room::WaitingRoomSpace ──► Reply + Changes
//! ```
//!
//! Invariants, checked by [`grid_core::Space::check_invariants`] in tests, in simulation and on
//! request in production: no seat has two holders; no accepted bid is below the rule; the winner is
//! the highest valid bid and equal bids go to the earlier; an item has at most one unfinished auction; the
//! order of a waiting room is the one that its published lottery gives.
//!
//! What it deliberately does not do: read a clock, draw random numbers, know of networks, files, SQL
//! or JSON. Time and entropy come with the log entry; the manifest proves the rest.

pub mod auction;
pub mod box_office;
pub mod ids;
pub mod money;
mod slots;
mod unit;
pub mod waiting_room;

pub use ids::{AuctionId, BidId, EventId, HoldId, ItemId, TicketId, UserId};
pub use money::{Currency, Money};
pub use unit::{Answer, Change, Command, Query, RULES_WAITING_ROOM, Reply, Unit, UnitView};
