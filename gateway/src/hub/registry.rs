//! One partition's subscribers and what its changes are for them.
//!
//! All of a registry is behind one lock, taken once a batch: a subscriber that registers knows exactly
//! which entries were dispatched before it. Dispatching makes [`Parcel`]s, each a message with those who
//! get it; delivering them is the follower's, without the lock.
//!
//! What was watched stays for a while when nobody watches it any more, so that everybody who is cut off at
//! once and comes back finds the recent past here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use grid_core::{ChangeBatch, Cursor, PartitionId};
use processing_unit::auction::AuctionView;
use processing_unit::box_office::{self, SeatIndex, SeatStates};
use processing_unit::{Change, Currency, UserId, auction};
use uuid::Uuid;

use super::board::Board;
use super::frames::{auction_frame, hold_expired_frame, seats_frame};
use super::ring::Told;
use super::topic::{AuctionTopic, Audience, EventTopic, NoBoard, SubscriberKey, Subscribers};
use crate::convert;
use crate::layout::EventLayout;
use crate::limits::{IDLE_TOPIC_MS_MAX, IDLE_TOPICS_MAX};
use crate::protocol::event::Encoded;
use crate::protocol::message::Topic;
use crate::ws::{Delivery, EndReason, Outlet};

/// A message and those who get it.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) delivery: Arc<Delivery>,
    pub(super) audience: Audience,
}

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
    /// Made, and not yet taken to be delivered.
    parcels: Vec<Parcel>,
}

impl Registry {
    pub(crate) fn new(partition: PartitionId) -> Self {
        Self {
            partition,
            position: 0,
            auctions: BTreeMap::new(),
            events: BTreeMap::new(),
            untold: BTreeSet::new(),
            parcels: Vec::new(),
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
        for outlet in all.flat_map(Subscribers::into_outlets) {
            outlet.end(EndReason::Resync);
        }
        self.untold.clear();
        self.parcels.clear();
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
        let position = self.cursor();
        self.auctions
            .entry(auction_id)
            .or_insert_with(|| AuctionTopic::new(currency, position))
            .subscribers
            .insert(key, outlet);
        position
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
        let subscribers = match topic {
            Topic::Auction(id) => self
                .auctions
                .get_mut(&id)
                .map(|topic| &mut topic.subscribers),
            Topic::Event(id) => self.events.get_mut(&id).map(|topic| &mut topic.subscribers),
        };
        let Some(subscribers) = subscribers else {
            return;
        };
        subscribers.remove(key);
        if subscribers.idle_since().is_some() {
            self.forget_idle();
        }
    }

    /// Lets go of what nobody has watched for long, and of what was left first where that is too much.
    fn forget_idle(&mut self) {
        let now = Instant::now();
        let is_kept = |since: Option<Instant>| {
            since.is_none_or(|since| {
                now.duration_since(since) < Duration::from_millis(IDLE_TOPIC_MS_MAX)
            })
        };
        self.auctions
            .retain(|_, topic| is_kept(topic.subscribers.idle_since()));
        self.events
            .retain(|_, topic| is_kept(topic.subscribers.idle_since()));
        let auctions = self
            .auctions
            .iter()
            .filter_map(|(id, topic)| Some((topic.subscribers.idle_since()?, Topic::Auction(*id))));
        let events = self
            .events
            .iter()
            .filter_map(|(id, topic)| Some((topic.subscribers.idle_since()?, Topic::Event(*id))));
        let mut idle: Vec<(Instant, Topic)> = auctions.chain(events).collect();
        if idle.len() <= IDLE_TOPICS_MAX {
            return;
        }
        idle.sort_unstable();
        for (_, topic) in idle.iter().take(idle.len() - IDLE_TOPICS_MAX) {
            match topic {
                Topic::Auction(id) => drop(self.auctions.remove(id)),
                Topic::Event(id) => drop(self.events.remove(id)),
            }
        }
    }

    /// The events of an auction after a cursor, as that person gets them, and the cursor up to which that
    /// is all; `None` when this gateway does not have them all.
    pub(crate) fn auction_since(
        &self,
        auction_id: Uuid,
        from: Cursor,
        user: UserId,
    ) -> Option<(Vec<Bytes>, Cursor)> {
        let present = self.cursor();
        if from > present {
            return None;
        }
        let events = self.auctions.get(&auction_id)?.ring.since(from)?;
        Some((events.map(|told| told.payload_for(user)).collect(), present))
    }

    /// Takes what the grid told of an auction's past: every event after `from` and up to `upto`.
    pub(super) fn extend_back(
        &mut self,
        auction_id: Uuid,
        (from, upto): (Cursor, Cursor),
        older: &[Told],
    ) {
        if let Some(topic) = self.auctions.get_mut(&auction_id) {
            topic.ring.extend_back(from, upto, older);
        }
    }

    /// Keeps an auction as it stood at a cursor, for the next who subscribes.
    pub(crate) fn keep_view(&mut self, auction_id: Uuid, view: Arc<AuctionView>, position: Cursor) {
        if let Some(topic) = self.auctions.get_mut(&auction_id) {
            topic.keep_view(view, position);
        }
    }

    /// An auction as it stands at a cursor, if that is known here.
    pub(crate) fn view(&self, auction_id: Uuid) -> Option<(Arc<AuctionView>, Cursor)> {
        let (view, position) = self.auctions.get(&auction_id)?.view()?;
        Some((view, position.max(self.cursor())))
    }

    /// The seats of an event after a cursor: a message about those that changed, as they stand at the
    /// returned cursor, and what that person was told in between. `None` when that is not known here.
    pub(crate) fn event_since(
        &self,
        event_id: Uuid,
        from: Cursor,
        user: UserId,
    ) -> Option<(Vec<Bytes>, Cursor)> {
        let topic = self.events.get(&event_id)?;
        let (seats, mut messages) = topic.since(from, user)?;
        let board = topic.board.as_ref()?;
        let present = self.board_cursor(topic);
        if !seats.is_empty() {
            let update = seats_frame(event_id, board, &seats, present, None);
            messages.insert(0, update);
        }
        Some((messages, present))
    }

    /// What a slow subscriber has missed of an event's seats, as one message; it goes on from there.
    pub(crate) fn catch_up(&self, event_id: Uuid, outlet: &Outlet) -> Option<Bytes> {
        let topic = self.events.get(&event_id)?;
        let board = topic.board.as_ref()?;
        let present = self.board_cursor(topic);
        let since = outlet.catch_up(Topic::Event(event_id), present)?;
        let seats = board.changed_since(since);
        Some(seats_frame(event_id, board, &seats, present, None))
    }

    fn board_cursor(&self, topic: &EventTopic) -> Cursor {
        Cursor::after_entry(self.partition, self.position.max(topic.loaded_at))
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
        Ok(read(board, self.board_cursor(topic)))
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

    /// What is to be delivered, in this order.
    pub(super) fn take_parcels(&mut self) -> Vec<Parcel> {
        std::mem::take(&mut self.parcels)
    }

    fn dispatch_auction(&mut self, change: &auction::Change, cursor: Cursor, at_ms: u64) {
        let Some(auction_id) = change.auction_id() else {
            return;
        };
        let Some(topic) = self.auctions.get_mut(&auction_id.0) else {
            return;
        };
        topic.change(cursor);
        let Some(told) = told(change, topic.currency, cursor, at_ms) else {
            return;
        };
        topic.ring.push(told.clone());
        if topic.subscribers.idle_since().is_some() {
            return;
        }
        // Their own comes first, after which the one for everybody is nothing new to them.
        if let Some((owner, own)) = told.own {
            self.parcels.push(Parcel {
                delivery: own,
                audience: topic.subscribers.of(owner),
            });
        }
        self.parcels.push(Parcel {
            delivery: told.shared,
            audience: topic.subscribers.all(),
        });
    }

    fn dispatch_box_office(&mut self, change: &box_office::Change, cursor: Cursor) {
        let event_id = change.event_id();
        let Some(topic) = self.events.get_mut(&event_id.0) else {
            return;
        };
        if matches!(change, box_office::Change::EventCreated { .. }) {
            return;
        }
        convert::each_seat(change, |seat: SeatIndex, state| {
            topic.set(cursor.index, seat, state);
        });
        if let Some((buyer, frame)) = hold_expired_frame(change, &topic.layout) {
            self.parcels.push(Parcel {
                delivery: Arc::new(Delivery {
                    topic: Topic::Event(event_id.0),
                    cursor,
                    message: Encoded::text(&frame),
                    merges: false,
                }),
                audience: topic.subscribers.of(buyer),
            });
            topic.expire(cursor, buyer, frame);
        }
        if topic.board.is_some() && topic.subscribers.idle_since().is_none() {
            self.untold.insert(event_id.0);
        }
    }

    /// Tells the subscribers of every changed event where its seats stand now: one message an event.
    pub(crate) fn tell(&mut self) {
        for event_id in std::mem::take(&mut self.untold) {
            let Some(topic) = self.events.get_mut(&event_id) else {
                continue;
            };
            let cursor = Cursor::after_entry(self.partition, self.position.max(topic.loaded_at));
            let Some(board) = &mut topic.board else {
                continue;
            };
            let touched = board.take_touched();
            if touched.is_empty() {
                continue;
            }
            let message = seats_frame(event_id, board, &touched, cursor, None);
            self.parcels.push(Parcel {
                delivery: Arc::new(Delivery {
                    topic: Topic::Event(event_id),
                    cursor,
                    message: Encoded::text(&message),
                    merges: true,
                }),
                audience: topic.subscribers.all(),
            });
        }
    }
}

/// An auction's change as its subscribers are told; `None` when they are not.
pub(super) fn told(
    change: &auction::Change,
    currency: Currency,
    cursor: Cursor,
    at_ms: u64,
) -> Option<Told> {
    let topic = Topic::Auction(change.auction_id()?.0);
    let delivery = |is_own| {
        let json = auction_frame(change, currency, cursor, at_ms, is_own)?;
        Some(Arc::new(Delivery {
            topic,
            cursor,
            message: Encoded::text(&json),
            merges: false,
        }))
    };
    Some(Told {
        shared: delivery(false)?,
        own: convert::owner(change).and_then(|owner| Some((owner, delivery(true)?))),
    })
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
            .map(|delivery| serde_json::from_slice(&delivery.message.payload()).expect("JSON"))
            .collect()
    }

    /// The outlet of somebody who watches both topics from the beginning.
    fn outlet() -> Arc<Outlet> {
        let outlet = Arc::new(Outlet::detached(16));
        for topic in [Topic::Auction(ID), Topic::Event(ID)] {
            let generation = outlet.begin(topic).expect("room");
            let start = Cursor::after_entry(PartitionId(0), 0);
            outlet.opened(topic, generation, start).expect("current");
        }
        assert!(outlet.rest_pen());
        outlet
    }

    fn deliver(registry: &mut Registry) {
        for parcel in registry.take_parcels() {
            for outlet in parcel.audience.iter() {
                outlet.push(&parcel.delivery);
            }
        }
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
        deliver(&mut registry);
        let (for_anna, for_ben) = (taken(&anna), taken(&ben));
        assert_eq!(for_anna[0]["data"]["own"], true);
        assert_eq!(for_ben[0]["data"].get("own"), None);
        assert_eq!(for_ben[0]["cursor"], "3:8:1");
        assert_eq!(for_ben[0]["timestamp"], 1_008);

        registry.unregister(Topic::Auction(ID), (BEN, 2));
        registry.dispatch(&batch(9, vec![bid(ID)]));
        deliver(&mut registry);
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
        deliver(&mut registry);
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
        assert_eq!(kinds, [r#""hold_expired""#]);
        assert_eq!(
            anna.behind(),
            Some(Topic::Event(ID)),
            "her seats follow what waited"
        );
        registry.tell();
        deliver(&mut registry);
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

    #[test]
    fn those_who_come_back_find_the_recent_past_though_everybody_was_gone() {
        let mut registry = Registry::new(PartitionId(0));
        let euro = Currency::from_code("EUR").expect("known");
        let from = registry.register_auction(ID, euro, (BEN, 1), outlet());
        registry.dispatch(&batch(1, vec![bid(ID)]));
        registry.unregister(Topic::Auction(ID), (BEN, 1));
        registry.dispatch(&batch(2, vec![bid(ID)]));
        assert_eq!(registry.take_parcels().len(), 2, "nobody gets the second");
        registry.register_auction(ID, euro, (ANNA, 2), outlet());
        let (events, upto) = registry.auction_since(ID, from, ANNA).expect("known");
        assert_eq!((events.len(), upto.index), (2, 2));
        let event: Value = serde_json::from_slice(&events[1]).expect("JSON");
        assert_eq!(event["data"]["own"], true, "as Anna gets it");
        let before = Cursor::after_entry(PartitionId(0), 0);
        let unknown = Cursor { seq: 0, ..before };
        assert_eq!(registry.auction_since(ID, unknown, ANNA), None);
    }

    #[test]
    fn what_nobody_watches_is_kept_within_bounds() {
        let mut registry = Registry::new(PartitionId(0));
        let euro = Currency::from_code("EUR").expect("known");
        for number in 0..IDLE_TOPICS_MAX as u128 + 2 {
            let id = Uuid::from_u128(100 + number);
            registry.register_auction(id, euro, (ANNA, 1), outlet());
            registry.unregister(Topic::Auction(id), (ANNA, 1));
        }
        assert_eq!(registry.auctions.len(), IDLE_TOPICS_MAX);
        assert!(!registry.auctions.contains_key(&Uuid::from_u128(100)));
    }

    #[test]
    fn a_slow_watcher_gets_one_update_about_all_it_missed() {
        let mut registry = Registry::new(PartitionId(0));
        let layout = Arc::new(two_sections());
        let ben = outlet();
        let (from, _) = registry.register_event(ID, &layout, (BEN, 1), Arc::clone(&ben));
        registry
            .load_board(ID, states("aaaaa"), from)
            .expect("complete");
        let told = |registry: &mut Registry, index, change| {
            registry.dispatch(&batch(index, vec![change]));
            registry.tell();
            deliver(registry);
        };
        told(&mut registry, 1, held(0));
        told(&mut registry, 2, held(1));
        told(&mut registry, 3, expired(1));
        assert_eq!(taken(&ben).len(), 1, "the first waits in its queue");
        assert_eq!(ben.behind(), Some(Topic::Event(ID)));
        let merged = registry.catch_up(ID, &ben).expect("behind");
        let merged: Value = serde_json::from_slice(&merged).expect("JSON");
        assert_eq!(
            merged["data"]["seats"],
            serde_json::json!([["A-1-2", "available"]])
        );
        assert_eq!(merged["cursor"], "0:3:4294967295");
        assert!(ben.rest_pen());
        told(&mut registry, 4, held(2));
        assert_eq!(taken(&ben).len(), 1);
    }

    #[test]
    fn a_buyer_who_comes_back_is_told_of_the_seats_and_of_the_hold() {
        let mut registry = Registry::new(PartitionId(0));
        let layout = Arc::new(two_sections());
        let (from, _) = registry.register_event(ID, &layout, (BEN, 1), outlet());
        assert_eq!(registry.event_since(ID, from, ANNA), None, "no board yet");
        registry
            .load_board(ID, states("aaaaa"), from)
            .expect("complete");
        registry.dispatch(&batch(1, vec![held(0), held(1)]));
        registry.dispatch(&batch(2, vec![expired(0)]));
        let (messages, upto) = registry.event_since(ID, from, ANNA).expect("known");
        assert_eq!((messages.len(), upto.index), (2, 2));
        let (messages, _) = registry.event_since(ID, from, BEN).expect("known");
        assert_eq!(messages.len(), 1);
        let (messages, _) = registry.event_since(ID, upto, BEN).expect("known");
        assert!(messages.is_empty());
    }
}
