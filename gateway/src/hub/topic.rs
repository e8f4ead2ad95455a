//! One auction or event with those who watch it on this node.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use processing_unit::box_office::{SeatIndex, SeatStates};
use processing_unit::{Currency, UserId};

use super::board::Board;
use crate::layout::EventLayout;
use crate::limits::BOARD_BACKLOG_MAX;
use crate::ws::Outlet;

/// A subscriber: a person's connection.
pub(crate) type SubscriberKey = (UserId, u64);

pub(super) type Subscribers = BTreeMap<SubscriberKey, Arc<Outlet>>;

/// The keys of a person's connections.
pub(super) fn connections_of(user: UserId) -> RangeInclusive<SubscriberKey> {
    (user, 0)..=(user, u64::MAX)
}

/// Whether a person watches.
pub(super) fn is_among(subscribers: &Subscribers, user: UserId) -> bool {
    subscribers.range(connections_of(user)).next().is_some()
}

#[derive(Debug)]
pub(super) struct AuctionTopic {
    pub(super) currency: Currency,
    pub(super) subscribers: Subscribers,
}

#[derive(Debug)]
pub(super) struct EventTopic {
    pub(super) layout: Arc<EventLayout>,
    /// `None` while it is being loaded; changes then wait in `backlog`.
    pub(super) board: Option<Board>,
    backlog: Vec<(u64, SeatIndex, u8)>,
    /// The backlog has every change after this index.
    backlog_from: u64,
    /// The board has every change up to this index, which may be ahead of the dispatch.
    pub(super) loaded_at: u64,
    pub(super) subscribers: Subscribers,
}

/// The board of an event cannot be had just now; the client should try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoBoard;

impl EventTopic {
    /// An event that is watched from `position` on.
    pub(super) fn new(layout: Arc<EventLayout>, position: u64) -> Self {
        Self {
            layout,
            board: None,
            backlog: Vec::new(),
            backlog_from: position,
            loaded_at: 0,
            subscribers: Subscribers::new(),
        }
    }

    /// Takes the board: `seats` as they stood at `index`, then what waited. `position` is how far the
    /// dispatch is.
    pub(super) fn load(
        &mut self,
        seats: SeatStates,
        index: u64,
        position: u64,
    ) -> Result<(), NoBoard> {
        if self.board.is_some() {
            return Ok(());
        }
        if self.backlog.len() >= BOARD_BACKLOG_MAX {
            self.backlog = Vec::new();
            self.backlog_from = position;
        }
        if index < self.backlog_from {
            return Err(NoBoard);
        }
        let mut board = Board::new(Arc::clone(&self.layout), seats).ok_or(NoBoard)?;
        for (changed_at, seat, state) in std::mem::take(&mut self.backlog) {
            if changed_at > index {
                board.set(seat, state);
            }
        }
        // Whoever waits for this board is told everything by its snapshot.
        board.take_touched();
        self.board = Some(board);
        self.loaded_at = index;
        Ok(())
    }

    /// Notes that the entry at `index` put a seat into a state.
    pub(super) fn set(&mut self, index: u64, seat: SeatIndex, state: u8) {
        match &mut self.board {
            Some(_) if index <= self.loaded_at => {}
            Some(board) => board.set(seat, state),
            None if self.backlog.len() < BOARD_BACKLOG_MAX => {
                self.backlog.push((index, seat, state));
            }
            None => {}
        }
    }
}
