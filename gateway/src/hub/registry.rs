//! One partition's subscribers and the dispatch of its changes to them.
//!
//! All of a registry is behind one lock, taken once a batch: a subscriber that registers knows exactly
//! which entries were dispatched before it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use grid_core::{ChangeBatch, Cursor, PartitionId};
use processing_unit::box_office::{self, SeatStates};
use processing_unit::{Change, Currency, auction};
use uuid::Uuid;

use super::board::Board;
use super::frames::{auction_frame, hold_expired_frame, seats_frame};
use super::topic::{
    AuctionTopic, EventTopic, NoBoard, SubscriberKey, Subscribers, connections_of, is_among,
};
use crate::convert;
use crate::layout::EventLayout;
use crate::protocol::message::Topic;
use crate::ws::{Delivery, EndReason, Outlet};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Registry {
    partition: PartitionId,
    /// Every entry up to this index has been dispatched.
    position: u64,
    auctions: BTreeMap<Uuid, AuctionTopic>,
    events: BTreeMap<Uuid, EventTopic>,
    /// Events whose boards have untold changes.
    untold: BTreeSet<Uuid>,
}

impl Registry {
    pub(crate) fn new(partition: PartitionId) -> Self {
        Self {
            partition,
            position: 0,
            auctions: BTreeMap::new(),
            events: BTreeMap::new(),
            untold: BTreeSet::new(),
        }
    }

    /// After everything that has been dispatched.
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor::after_entry(self.partition, self.position)
    }

    pub(crate) fn advance(&mut self, index: u64) {
        self.position = self.position.max(index);
    }

    /// The feed begins elsewhere: every subscriber must resume, nothing of the past can be trusted.
    pub(crate) fn restart(&mut self, index: u64) {
        let auctions = std::mem::take(&mut self.auctions).into_values();
        let events = std::mem::take(&mut self.events).into_values();
        let all = auctions
            .map(|topic| topic.subscribers)
            .chain(events.map(|topic| topic.subscribers));
        for outlet in all.flat_map(Subscribers::into_values) {
            outlet.end(EndReason::Resync);
        }
        self.untold.clear();
        self.position = index;
    }

    /// Returns the cursor after which the subscriber gets every event.
    pub(crate) fn register_auction(
        &mut self,
        auction_id: Uuid,
        currency: Currency,
        key: SubscriberKey,
        outlet: Arc<Outlet>,
    ) -> Cursor {
        self.auctions
            .entry(auction_id)
            .or_insert_with(|| AuctionTopic {
                currency,
                subscribers: Subscribers::new(),
            })
            .subscribers
            .insert(key, outlet);
        self.cursor()
    }

    /// Returns the cursor after which the subscriber gets every event, and whether the board is there.
    pub(crate) fn register_event(
        &mut self,
        event_id: Uuid,
        layout: &Arc<EventLayout>,
        key: SubscriberKey,
        outlet: Arc<Outlet>,
    ) -> (Cursor, bool) {
        let position = self.position;
        let topic = self
            .events
            .entry(event_id)
            .or_insert_with(|| EventTopic::new(Arc::clone(layout), position));
        topic.subscribers.insert(key, outlet);
        let has_board = topic.board.is_some();
        (self.cursor(), has_board)
    }

    pub(crate) fn unregister(&mut self, topic: Topic, key: SubscriberKey) {
        match topic {
            Topic::Auction(id) => {
                if let Some(topic) = self.auctions.get_mut(&id) {
                    topic.subscribers.remove(&key);
                    if topic.subscribers.is_empty() {
                        self.auctions.remove(&id);
                    }
                }
            }
            Topic::Event(id) => {
                if let Some(topic) = self.events.get_mut(&id) {
                    topic.subscribers.remove(&key);
                    if topic.subscribers.is_empty() {
                        self.events.remove(&id);
                    }
                }
            }
        }
    }

    /// Gives an event its board: `seats` as they stood at `position`, then what waited.
    pub(crate) fn load_board(
        &mut self,
        event_id: Uuid,
        seats: SeatStates,
        position: Cursor,
    ) -> Result<(), NoBoard> {
        let topic = self.events.get_mut(&event_id).ok_or(NoBoard)?;
        topic.load(seats, position.index, self.position)
    }

    /// Reads an event's board together with the cursor it stands at.
    pub(crate) fn with_board<T>(
        &self,
        event_id: Uuid,
        read: impl FnOnce(&Board, Cursor) -> T,
    ) -> Result<T, NoBoard> {
        let topic = self.events.get(&event_id).ok_or(NoBoard)?;
        let board = topic.board.as_ref().ok_or(NoBoard)?;
        let index = self.position.max(topic.loaded_at);
        Ok(read(board, Cursor::after_entry(self.partition, index)))
    }

    /// Dispatches a batch. Returns whether there is an update to tell (see [`Self::tell`]).
    pub(crate) fn dispatch(&mut self, batch: &ChangeBatch<Change>) -> bool {
        if !self.auctions.is_empty() || !self.events.is_empty() {
            for (seq, change) in batch.changes.iter().enumerate() {
                let cursor = Cursor {
                    partition: self.partition,
                    index: batch.index,
                    seq: u32::try_from(seq).unwrap_or(u32::MAX),
                };
                match change {
                    Change::Auction(change) => {
                        self.dispatch_auction(change, cursor, batch.at.as_millis());
                    }
                    Change::BoxOffice(change) => self.dispatch_box_office(change, cursor),
                    // Whoever waits is told by the lobby, from the room's marker.
                    Change::WaitingRoom(_) => {}
                }
            }
        }
        self.advance(batch.index);
        !self.untold.is_empty()
    }

    fn dispatch_auction(&mut self, change: &auction::Change, cursor: Cursor, at_ms: u64) {
        let Some(auction_id) = change.auction_id() else {
            return;
        };
        let Some(topic) = self.auctions.get(&auction_id.0) else {
            return;
        };
        let of = Topic::Auction(auction_id.0);
        let delivery = |own| {
            let frame = auction_frame(change, topic.currency, cursor, at_ms, own)?;
            Some(Arc::new(Delivery {
                topic: of,
                cursor,
                frame,
            }))
        };
        let Some(shared) = delivery(false) else {
            return;
        };
        let owner = convert::owner(change).filter(|owner| is_among(&topic.subscribers, *owner));
        let own = owner.and_then(|owner| Some((owner, delivery(true)?)));
        for ((user, _), outlet) in &topic.subscribers {
            match &own {
                Some((owner, own)) if owner == user => outlet.push(Arc::clone(own)),
                _ => outlet.push(Arc::clone(&shared)),
            }
        }
    }

    fn dispatch_box_office(&mut self, change: &box_office::Change, cursor: Cursor) {
        let event_id = change.event_id();
        let Some(topic) = self.events.get_mut(&event_id.0) else {
            return;
        };
        if matches!(change, box_office::Change::EventCreated { .. }) {
            return;
        }
        convert::each_seat(change, |seat, state| topic.set(cursor.index, seat, state));
        if let Some((buyer, frame)) = hold_expired_frame(change, &topic.layout) {
            let delivery = Arc::new(Delivery {
                topic: Topic::Event(event_id.0),
                cursor,
                frame,
            });
            for (_, outlet) in topic.subscribers.range(connections_of(buyer)) {
                outlet.push(Arc::clone(&delivery));
            }
        }
        if topic.board.is_some() {
            self.untold.insert(event_id.0);
        }
    }

    /// Tells the subscribers of every changed event where its seats stand now: one frame an event.
    pub(crate) fn tell(&mut self) {
        for event_id in std::mem::take(&mut self.untold) {
            let Some(topic) = self.events.get_mut(&event_id) else {
                continue;
            };
            let Some(board) = &mut topic.board else {
                continue;
            };
            let touched = board.take_touched();
            if touched.is_empty() {
                continue;
            }
            let cursor = Cursor::after_entry(self.partition, self.position.max(topic.loaded_at));
            let delivery = Arc::new(Delivery {
                topic: Topic::Event(event_id),
                cursor,
                frame: seats_frame(event_id, board, &touched, cursor, None),
            });
            for outlet in topic.subscribers.values() {
                outlet.push(Arc::clone(&delivery));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use grid_core::{StateHash, Timestamp};
    use processing_unit::box_office::{ReleaseReason, SeatIndex};
    use processing_unit::{AuctionId, BidId, EventId, HoldId, UserId};
    use serde_json::Value;
    use smallvec::smallvec;

    use super::*;
    use crate::layout::tests::two_sections;
    use crate::limits::BOARD_BACKLOG_MAX;

    const ID: Uuid = Uuid::from_u128(1);
    const ANNA: UserId = UserId(Uuid::from_u128(10));
    const BEN: UserId = UserId(Uuid::from_u128(11));

    fn batch(index: u64, changes: Vec<Change>) -> ChangeBatch<Change> {
        ChangeBatch {
            index,
            at: Timestamp::from_millis(1_000 + index),
            hash: StateHash::default(),
            changes,
        }
    }

    fn bid(auction: Uuid) -> Change {
        Change::Auction(auction::Change::BidPlaced {
            auction_id: AuctionId(auction),
            bid_id: BidId(ID),
            bidder: ANNA,
            alias: 1,
            amount: 10_000,
            minimum_next: 10_100,
            bids: 1,
            reserve_met: false,
        })
    }

    fn held(seat: SeatIndex) -> Change {
        Change::BoxOffice(box_office::Change::SeatsHeld {
            event_id: EventId(ID),
            hold_id: HoldId(ID),
            buyer: ANNA,
            seats: smallvec![seat],
            expires_at: Timestamp::ZERO,
        })
    }

    fn expired(seat: SeatIndex) -> Change {
        Change::BoxOffice(box_office::Change::SeatsReleased {
            event_id: EventId(ID),
            hold_id: HoldId(ID),
            buyer: ANNA,
            seats: smallvec![seat],
            reason: ReleaseReason::Expired,
        })
    }

    fn taken(outlet: &Outlet) -> Vec<Value> {
        std::iter::from_fn(|| outlet.take())
            .map(|delivery| serde_json::from_slice(&delivery.frame).expect("JSON"))
            .collect()
    }

    fn outlet() -> Arc<Outlet> {
        Arc::new(Outlet::new(16))
    }

    fn states(letters: &str) -> SeatStates {
        SeatStates {
            first: 0,
            states: letters.as_bytes().to_vec(),
            labels: Vec::new(),
        }
    }

    #[test]
    fn everybody_gets_an_auction_event_and_its_owner_their_own() {
        let mut registry = Registry::new(PartitionId(3));
        let euro = Currency::from_code("EUR").expect("known");
        let (anna, ben) = (outlet(), outlet());
        registry.restart(7);
        let from = registry.register_auction(ID, euro, (ANNA, 1), Arc::clone(&anna));
        assert_eq!(from, Cursor::after_entry(PartitionId(3), 7));
        registry.register_auction(ID, euro, (BEN, 2), Arc::clone(&ben));
        let other = Uuid::from_u128(2);
        registry.dispatch(&batch(8, vec![bid(other), bid(ID)]));
        let (for_anna, for_ben) = (taken(&anna), taken(&ben));
        assert_eq!(for_anna[0]["data"]["own"], true);
        assert_eq!(for_ben[0]["data"].get("own"), None);
        assert_eq!(for_ben[0]["cursor"], "3:8:1");
        assert_eq!(for_ben[0]["timestamp"], 1_008);

        registry.unregister(Topic::Auction(ID), (BEN, 2));
        registry.dispatch(&batch(9, vec![bid(ID)]));
        assert_eq!((taken(&anna).len(), taken(&ben).len()), (1, 0));
        assert_eq!(registry.cursor().index, 9);
    }

    #[test]
    fn seat_changes_are_merged_and_an_expired_hold_is_told_to_its_holder() {
        let mut registry = Registry::new(PartitionId(0));
        let layout = Arc::new(two_sections());
        let (anna, ben) = (outlet(), outlet());
        let (from, has_board) = registry.register_event(ID, &layout, (ANNA, 1), Arc::clone(&anna));
        registry.register_event(ID, &layout, (BEN, 2), Arc::clone(&ben));
        assert!(!has_board);
        registry
            .load_board(ID, states("aaaaa"), from)
            .expect("complete");
        registry.dispatch(&batch(1, vec![held(0), held(1)]));
        assert!(registry.dispatch(&batch(2, vec![expired(0)])));
        registry.tell();
        let for_ben = taken(&ben);
        assert_eq!(for_ben.len(), 1);
        assert_eq!(
            for_ben[0]["data"]["seats"],
            serde_json::json!([["A-1-1", "available"], ["A-1-2", "held"]])
        );
        let kinds: Vec<_> = taken(&anna)
            .iter()
            .map(|message| message["type"].to_string())
            .collect();
        assert_eq!(kinds, [r#""hold_expired""#, r#""seats_changed""#]);
        registry.tell();
        assert!(taken(&ben).is_empty());
    }

    #[test]
    fn a_board_that_is_ahead_of_the_dispatch_never_goes_back() {
        let mut registry = Registry::new(PartitionId(0));
        let layout = Arc::new(two_sections());
        registry.register_event(ID, &layout, (ANNA, 1), outlet());
        registry.dispatch(&batch(1, vec![held(0)]));
        // Read at index 3, where seat 0 is free again and seat 4 held; dispatched so far: 1.
        registry
            .load_board(ID, states("aaaah"), Cursor::after_entry(PartitionId(0), 3))
            .expect("complete");
        registry.dispatch(&batch(2, vec![expired(0)]));
        registry.dispatch(&batch(3, vec![held(4)]));
        registry.dispatch(&batch(4, vec![held(1)]));
        let (json, cursor) = registry
            .with_board(ID, |board, cursor| {
                (
                    serde_json::to_value(board.snapshot()).expect("plain"),
                    cursor,
                )
            })
            .expect("there");
        assert_eq!(json["sections"][0]["states"], "aha");
        assert_eq!(json["sections"][1]["states"], "ah");
        assert_eq!(cursor.index, 4);
    }

    #[test]
    fn a_board_that_would_miss_a_change_is_refused() {
        let mut registry = Registry::new(PartitionId(0));
        let layout = Arc::new(two_sections());
        registry.restart(5);
        registry.register_event(ID, &layout, (ANNA, 1), outlet());
        let old = Cursor::after_entry(PartitionId(0), 4);
        assert_eq!(registry.load_board(ID, states("aaaaa"), old), Err(NoBoard));
        for index in 0..BOARD_BACKLOG_MAX as u64 {
            registry.dispatch(&batch(6 + index, vec![held(0)]));
        }
        let position = Cursor::after_entry(PartitionId(0), 5);
        assert_eq!(
            registry.load_board(ID, states("aaaaa"), position),
            Err(NoBoard)
        );
        let present = registry.cursor();
        assert_eq!(registry.load_board(ID, states("haaaa"), present), Ok(()));
    }

    #[test]
    fn a_feed_that_begins_anew_sends_everybody_away() {
        let mut registry = Registry::new(PartitionId(0));
        let euro = Currency::from_code("EUR").expect("known");
        let anna = outlet();
        registry.register_auction(ID, euro, (ANNA, 1), Arc::clone(&anna));
        registry.restart(100);
        assert_eq!(anna.ended(), Some(EndReason::Resync));
        assert_eq!(registry.cursor().index, 100);
    }
}
