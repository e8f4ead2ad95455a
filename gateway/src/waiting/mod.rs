//! Waiting rooms at the gateway: what buyers and hosts ask of them, passes, and live positions.
//!
//! ```text
//!   join_queue / POST …/queue ──► the event's partition ──► number, rank, pass
//!                    │
//!                    └─► Lobby: who waits on this node ◄── once a second: one marker an event
//!                             └─► Mailbox ──► queue_position, admitted
//! ```
//!
//! A place is kept by the event's partition, so a gateway that is lost takes nobody's place with it: whoever
//! comes back, here or elsewhere, joins again and has the place they had. Positions are worked out here, from
//! the room's marker and the person's own rank; nothing is written when somebody is admitted.
//!
//! Invariants: what waits for a connection is one message an event at most; a round tells at most
//! [`limits::TELLS_PER_ROUND_MAX`](crate::limits) people; a pass is told only to the person it is for.
//!
//! What it deliberately does not do: decide who is admitted, or who may hold seats. The partition does, by who
//! asks; a pass lets a gateway say no to everybody else without asking it.

mod lobby;
mod mailbox;
mod operations;
mod pass;
mod teller;
mod view;

pub(crate) use lobby::Lobby;
pub(crate) use mailbox::Queues;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use operations::RoomBody;
pub(crate) use operations::{
    RoomStep, check_pass, create, join, leave, marker, order, place, step,
};
pub(crate) use teller::tell_positions;
pub(crate) use view::{QueueView, RoomStateView};
