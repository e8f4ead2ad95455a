//! One auction or event with those who watch it on this node.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use grid_core::Cursor;
use processing_unit::auction::AuctionView;

use processing_unit::box_office::{SeatIndex, SeatStates};
use processing_unit::{Currency, UserId};

use super::board::Board;
use super::ring::Ring;
use crate::layout::EventLayout;
use crate::limits::{BOARD_BACKLOG_MAX, EXPIRED_HOLDS_MAX};
use crate::ws::Outlet;

/// A subscriber: a person's connection.
pub(crate) type SubscriberKey = (UserId, u64);

/// Everybody who gets an event, in no particular order.
pub(super) type Audience = Arc<[Arc<Outlet>]>;

/// Those who watch a topic. Whoever delivers to them does so from a list that is made when it is needed,
/// so that nobody who comes or goes is waited for meanwhile.
#[derive(Debug, Default)]
pub(super) struct Subscribers {
    outlets: BTreeMap<SubscriberKey, Arc<Outlet>>,
    audience: Option<Audience>,
    /// Since when nobody watches.
    idle_since: Option<Instant>,
}

impl Subscribers {
    pub(super) fn insert(&mut self, key: SubscriberKey, outlet: Arc<Outlet>) {
        self.audience = None;
        self.idle_since = None;
        self.outlets.insert(key, outlet);
    }

    pub(super) fn remove(&mut self, key: SubscriberKey) {
        if self.outlets.remove(&key).is_some() {
            self.audience = None;
        }
        if self.outlets.is_empty() {
            self.idle_since.get_or_insert_with(Instant::now);
        }
    }

    pub(super) fn idle_since(&self) -> Option<Instant> {
        self.idle_since
    }

    /// The connections of one person.
    pub(super) fn of(&self, user: UserId) -> Audience {
        let own = self.outlets.range(connections_of(user));
        own.map(|(_, outlet)| Arc::clone(outlet)).collect()
    }

    pub(super) fn all(&mut self) -> Audience {
        let outlets = &self.outlets;
        let audience = self
            .audience
            .get_or_insert_with(|| outlets.values().cloned().collect());
        Arc::clone(audience)
    }

    pub(super) fn into_outlets(self) -> impl Iterator<Item = Arc<Outlet>> {
        self.outlets.into_values()
    }
}

/// The keys of a person's connections.
fn connections_of(user: UserId) -> RangeInclusive<SubscriberKey> {
    (user, 0)..=(user, u64::MAX)
}

#[derive(Debug)]
pub(super) struct AuctionTopic {
    pub(super) currency: Currency,
    pub(super) subscribers: Subscribers,
    pub(super) ring: Ring,
    /// The auction as it stood at a cursor.
    view: Option<(Arc<AuctionView>, Cursor)>,
    /// Its last change, as far as it was seen here.
    changed: Cursor,
}

impl AuctionTopic {
    /// An auction that is watched from `position` on.
    pub(super) fn new(currency: Currency, position: Cursor) -> Self {
        Self {
            currency,
            subscribers: Subscribers::default(),
            ring: Ring::new(position),
            view: None,
            changed: position,
        }
    }

    /// Notes a change, whether or not anybody is told of it.
    pub(super) fn change(&mut self, cursor: Cursor) {
        self.changed = cursor.max(self.changed);
    }

    /// Keeps the auction as it stood at a cursor.
    pub(super) fn keep_view(&mut self, view: Arc<AuctionView>, position: Cursor) {
        if self.view.as_ref().is_none_or(|(_, kept)| *kept < position) {
            self.view = Some((view, position));
        }
    }

    /// The auction as it stands: what was kept, unless something has happened since.
    pub(super) fn view(&self) -> Option<(Arc<AuctionView>, Cursor)> {
        let (view, position) = self.view.as_ref()?;
        (self.changed <= *position).then(|| (Arc::clone(view), *position))
    }
}

/// A buyer's hold that has run out, as they are told.
#[derive(Debug)]
struct Expired {
    cursor: Cursor,
    buyer: UserId,
    message: Bytes,
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
    /// The last holds that have run out...
    expired: VecDeque<Expired>,
    /// ... all those after this index.
    expired_from: u64,
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
            subscribers: Subscribers::default(),
            expired: VecDeque::new(),
            expired_from: position,
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
                board.set(changed_at, seat, state);
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
            // The board has it already; who watches may not.
            Some(board) if index <= self.loaded_at => board.touch(index, seat),
            Some(board) => board.set(index, seat, state),
            None if self.backlog.len() < BOARD_BACKLOG_MAX => {
                self.backlog.push((index, seat, state));
            }
            None => {}
        }
    }

    /// Remembers that a hold has run out.
    pub(super) fn expire(&mut self, cursor: Cursor, buyer: UserId, message: Bytes) {
        if self.expired.len() >= EXPIRED_HOLDS_MAX
            && let Some(oldest) = self.expired.pop_front()
        {
            self.expired_from = oldest.cursor.index;
        }
        self.expired.push_back(Expired {
            cursor,
            buyer,
            message,
        });
    }

    /// The seats that changed after a cursor and what the person was told since; `None` when that is not
    /// known here.
    pub(super) fn since(
        &self,
        from: Cursor,
        user: UserId,
    ) -> Option<(BTreeSet<SeatIndex>, Vec<Bytes>)> {
        let board = self.board.as_ref()?;
        if from.index < self.loaded_at.max(self.expired_from) {
            return None;
        }
        // A cursor within an entry is followed by that entry's changes again, which does no harm.
        let after = match from.seq {
            u32::MAX => from.index,
            _ => from.index.saturating_sub(1),
        };
        let own = self.expired.iter();
        let own = own.filter(|expired| expired.cursor > from && expired.buyer == user);
        let messages = own.map(|expired| expired.message.clone()).collect();
        Some((board.changed_since(after), messages))
    }
}
