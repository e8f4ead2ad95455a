//! Who waits on this node, with what they were told last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use processing_unit::waiting_room::{Marker, Phase, PlaceView, RoomView, Standing};
use processing_unit::{EventId, UserId};

use super::mailbox::Mailbox;
use super::view::{Position, PositionData, pass_of, state_of, waiting_state};
use crate::cache::Cache;
use crate::limits::{
    PASS_LOOK_MS, ROOMS_CACHED_MAX, TELLS_PER_ROUND_MAX, TOLD_FAR_MS, TOLD_MIDDLE_MS, TOLD_NEAR_MS,
};
use crate::protocol::frame;
use crate::protocol::message::Topic;
use crate::tickets::TicketSigner;

/// Whoever has fewer ahead is told every round.
const NEAR_RANKS: u32 = 200;
/// Whoever has fewer ahead is told every few rounds; the others less often.
const MIDDLE_RANKS: u32 = 2_000;

/// A person's connection.
pub(crate) type WaiterKey = (UserId, u64);

/// The waiting rooms with somebody on this node.
#[derive(Debug)]
pub(crate) struct Lobby {
    rooms: Mutex<BTreeMap<EventId, Waiters>>,
    /// Events that have a room, which they never lose.
    known: Cache<EventId, ()>,
}

/// The people of one room.
#[derive(Debug, Default)]
struct Waiters {
    people: BTreeMap<WaiterKey, Waiter>,
    /// Where the next round begins, so that everybody has their turn.
    next: Option<WaiterKey>,
}

#[derive(Debug)]
struct Waiter {
    mailbox: Arc<Mailbox>,
    /// Once it is known; it never changes while the entry waits.
    rank: Option<u32>,
    /// The state and position told last, and when.
    told: Option<(&'static str, Position, Instant)>,
    /// The partition is to be asked how the entry stands.
    is_unknown: bool,
    /// When it was asked last.
    asked: Option<Instant>,
}

impl Default for Lobby {
    fn default() -> Self {
        Self {
            rooms: Mutex::default(),
            known: Cache::new(ROOMS_CACHED_MAX),
        }
    }
}

impl Lobby {
    /// Remembers that an event has a room.
    pub(crate) fn note_room(&self, event_id: EventId) {
        self.known.insert(event_id, ());
    }

    /// Whether an event is known to have a room.
    pub(super) fn has_room(&self, event_id: EventId) -> bool {
        self.known.get(event_id).is_some()
    }

    /// From now on the connection is told how the person stands in this room.
    pub(super) fn enter(&self, event_id: EventId, key: WaiterKey, mailbox: &Arc<Mailbox>) {
        let waiter = Waiter {
            mailbox: Arc::clone(mailbox),
            rank: None,
            told: None,
            is_unknown: true,
            asked: None,
        };
        let mut rooms = self.rooms.lock();
        rooms
            .entry(event_id)
            .or_default()
            .people
            .insert(key, waiter);
    }

    /// The connection is told nothing more of this room.
    pub(super) fn exit(&self, event_id: EventId, key: WaiterKey) {
        let mut rooms = self.rooms.lock();
        if let Some(waiters) = rooms.get_mut(&event_id) {
            waiters.people.remove(&key);
            if waiters.people.is_empty() {
                rooms.remove(&event_id);
            }
        }
    }

    /// None of the person's connections is told anything more of this room.
    pub(super) fn dismiss(&self, event_id: EventId, user: UserId) {
        let mut rooms = self.rooms.lock();
        if let Some(waiters) = rooms.get_mut(&event_id) {
            waiters.people.retain(|key, _| key.0 != user);
        }
    }

    /// The rooms with somebody here. An event that nobody could join is none, whoever claims to wait for it.
    pub(super) fn events(&self) -> Vec<EventId> {
        let events: Vec<EventId> = self.rooms.lock().keys().copied().collect();
        events
            .into_iter()
            .filter(|event_id| self.has_room(*event_id))
            .collect()
    }

    /// Of whom the partition is to be asked, at most so many: those whose rank is not known though there is
    /// one, those who have been admitted, and now and then those who have a pass, which may be over.
    pub(super) fn to_ask(
        &self,
        event_id: EventId,
        room: &RoomView,
        now: Instant,
        most: usize,
    ) -> Vec<UserId> {
        let mut rooms = self.rooms.lock();
        let Some(waiters) = rooms.get_mut(&event_id) else {
            return Vec::new();
        };
        let mut users = Vec::new();
        for ((user, _), waiter) in &mut waiters.people {
            if users.len() >= most {
                break;
            }
            if waiter.has_news(room, now) {
                waiter.asked = Some(now);
                if users.last() != Some(user) {
                    users.push(*user);
                }
            }
        }
        users
    }

    /// Takes in what the partition said of these people, and tells those for whom that is news. Whoever is
    /// neither waiting nor admitted any more is told so and leaves the lobby.
    pub(super) fn answered(
        &self,
        event_id: EventId,
        signer: &TicketSigner,
        room: &RoomView,
        answers: impl Iterator<Item = (UserId, Option<PlaceView>)>,
    ) {
        let mut rooms = self.rooms.lock();
        let Some(waiters) = rooms.get_mut(&event_id) else {
            return;
        };
        for (user, place) in answers {
            // A replica that is a little behind may not know of the entry yet.
            let Some(place) = place else {
                continue;
            };
            let keys: Vec<WaiterKey> = waiters
                .people
                .range((user, 0)..=(user, u64::MAX))
                .map(|(key, _)| *key)
                .collect();
            for key in keys {
                let Some(waiter) = waiters.people.get_mut(&key) else {
                    continue;
                };
                waiter.rank = place.rank;
                waiter.is_unknown = false;
                waiter.hear(event_id, signer, user, &place, room);
                let is_over = !matches!(
                    place.standing,
                    Standing::Waiting | Standing::Admitted { .. }
                );
                if is_over {
                    waiters.people.remove(&key);
                }
            }
        }
        if waiters.people.is_empty() {
            rooms.remove(&event_id);
        }
    }

    /// Tells those who wait where they are now, as far as it is their turn.
    pub(super) fn tell(&self, event_id: EventId, marker: &Marker, now: Instant) {
        let mut rooms = self.rooms.lock();
        let Some(waiters) = rooms.get_mut(&event_id) else {
            return;
        };
        let from = waiters.next.unwrap_or((UserId(uuid::Uuid::nil()), 0));
        let mut told = 0;
        waiters.next = None;
        for (key, waiter) in waiters.people.range_mut(from..) {
            if told >= TELLS_PER_ROUND_MAX {
                waiters.next = Some(*key);
                break;
            }
            told += usize::from(waiter.tell(event_id, marker, now));
        }
    }

    /// How many wait here, for tests and metrics.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.rooms
            .lock()
            .values()
            .map(|room| room.people.len())
            .sum()
    }
}

impl Waiter {
    /// Whether the partition may know something new.
    fn has_news(&self, room: &RoomView, now: Instant) -> bool {
        if self.told.is_some_and(|(state, ..)| state == "admitted") {
            let pause = Duration::from_millis(PASS_LOOK_MS);
            return self
                .asked
                .is_none_or(|at| now.saturating_duration_since(at) >= pause);
        }
        let is_admitted = match self.rank {
            Some(rank) => rank < room.next_rank,
            None => room.phase == Phase::Open,
        };
        self.is_unknown || is_admitted
    }

    fn hear(
        &mut self,
        event_id: EventId,
        signer: &TicketSigner,
        user: UserId,
        place: &PlaceView,
        room: &RoomView,
    ) {
        let state = state_of(place, Some(room));
        let position = Position::of(place.ahead, Some(room));
        if self
            .told
            .is_some_and(|(told, before, _)| told == state && before == position)
        {
            return;
        }
        self.told = Some((state, position, Instant::now()));
        let of = Topic::Event(event_id.0);
        let message = match pass_of(signer, event_id, user, place) {
            Some(pass) => frame::topic("admitted", of, &pass, None, None),
            None => {
                let data = PositionData { state, position };
                frame::topic("queue_position", of, &data, None, None)
            }
        };
        self.mailbox.put(event_id, message);
    }

    /// Tells where somebody is who waits; says whether there was something to tell.
    fn tell(&mut self, event_id: EventId, marker: &Marker, now: Instant) -> bool {
        let ahead = self.rank.map(|rank| marker.ahead(rank));
        let is_over = self.told.is_some_and(|(state, ..)| state == "admitted");
        let is_admitted = self.rank.is_some_and(|rank| rank < marker.room.next_rank);
        if self.is_unknown || is_over || is_admitted {
            return false;
        }
        let state = waiting_state(Some(&marker.room), self.rank);
        let position = Position::of(ahead, Some(&marker.room));
        if let Some((told, before, at)) = self.told {
            let wait_ms = match ahead {
                Some(ahead) if ahead < NEAR_RANKS => TOLD_NEAR_MS,
                Some(ahead) if ahead < MIDDLE_RANKS => TOLD_MIDDLE_MS,
                _ => TOLD_FAR_MS,
            };
            let is_early = now.saturating_duration_since(at) < Duration::from_millis(wait_ms);
            let moved = (before.ahead, before.estimate_s) != (position.ahead, position.estimate_s);
            if told == state && (is_early || !moved) {
                return false;
            }
        }
        self.told = Some((state, position, now));
        let data = PositionData { state, position };
        let of = Topic::Event(event_id.0);
        let message = frame::topic("queue_position", of, &data, None, None);
        self.mailbox.put(event_id, message);
        true
    }
}

#[cfg(test)]
mod tests {
    use grid_core::Timestamp;
    use processing_unit::waiting_room::Counts;
    use serde_json::Value;
    use uuid::Uuid;

    use super::*;

    const EVENT: EventId = EventId(Uuid::from_u128(1));
    const ANNA: UserId = UserId(Uuid::from_u128(10));

    fn marker(next_rank: u32) -> Marker {
        let room = RoomView {
            event_id: EVENT,
            phase: Phase::Open,
            is_paused: false,
            opens_at: Timestamp::ZERO,
            rate_per_minute: 60,
            pass_ms: 1_000,
            oversubscription_percent: 100,
            entries_max: 10_000,
            seats_per_pass: 1,
            unsold: 10_000,
            entries: 5_000,
            early: 0,
            waiting: 5_000 - next_rank,
            next_rank,
            passes_open: 0,
            passes_open_max: 10_000,
            counts: Counts::default(),
            admitted_last_minute: None,
            commitment: [0; 32],
            list_digest: [0; 32],
            entropy: None,
            revealed: None,
        };
        Marker {
            room,
            gone: Vec::new(),
        }
    }

    fn waiting(rank: u32, next_rank: u32) -> PlaceView {
        PlaceView {
            number: rank,
            pseudonym: [0; 16],
            rank: Some(rank),
            standing: Standing::Waiting,
            ahead: Some(rank - next_rank),
        }
    }

    fn read(mailbox: &Mailbox) -> Option<Value> {
        let message = mailbox.take()?;
        Some(serde_json::from_slice(&message).expect("JSON"))
    }

    #[test]
    fn a_person_is_told_their_position_their_pass_and_the_end() {
        let lobby = Lobby::default();
        let signer = TicketSigner::new(&[7; 32]);
        let mailbox = Arc::new(Mailbox::default());
        lobby.enter(EVENT, (ANNA, 1), &mailbox);
        let start = marker(0);
        let ask = |marker: &Marker, now| lobby.to_ask(EVENT, &marker.room, now, 10);
        assert_eq!(ask(&start, Instant::now()), [ANNA]);
        let answer = [(ANNA, Some(waiting(9, 0)))];
        lobby.answered(EVENT, &signer, &start.room, answer.into_iter());
        let told = read(&mailbox).expect("a position");
        assert_eq!(told["type"], "queue_position");
        assert_eq!(told["data"]["position"], 10);
        assert_eq!(told["data"]["estimate_s"], 10);
        assert!(ask(&start, Instant::now()).is_empty());

        let now = Instant::now() + Duration::from_secs(60);
        lobby.tell(EVENT, &marker(4), now);
        assert_eq!(read(&mailbox).expect("nearer")["data"]["ahead"], 5);
        lobby.tell(EVENT, &marker(4), now + Duration::from_secs(60));
        assert_eq!(read(&mailbox), None, "nothing new");

        let served = marker(10);
        lobby.tell(EVENT, &served, now + Duration::from_secs(61));
        assert_eq!(read(&mailbox), None, "the partition is asked first");
        assert_eq!(ask(&served, now), [ANNA]);
        let mut place = waiting(9, 0);
        place.ahead = None;
        place.standing = Standing::Admitted {
            expires_at: Timestamp::from_millis(5),
        };
        let answer = [(ANNA, Some(place.clone()))];
        lobby.answered(EVENT, &signer, &served.room, answer.into_iter());
        let told = read(&mailbox).expect("a pass");
        assert_eq!(told["type"], "admitted");
        assert!(told["data"]["pass"].is_string());
        assert!(ask(&served, now).is_empty());
        let later = now + Duration::from_millis(PASS_LOOK_MS);
        assert_eq!(ask(&served, later), [ANNA], "the pass may be over");

        place.standing = Standing::Bought;
        let answer = [(ANNA, Some(place))];
        lobby.answered(EVENT, &signer, &served.room, answer.into_iter());
        assert_eq!(read(&mailbox).expect("the end")["data"]["state"], "bought");
        assert_eq!(lobby.len(), 0);
    }

    #[test]
    fn nobody_makes_the_gateway_ask_about_rooms_that_are_not_there() {
        let lobby = Lobby::default();
        let mailbox = Arc::new(Mailbox::default());
        lobby.enter(EVENT, (ANNA, 1), &mailbox);
        assert!(lobby.events().is_empty());
        lobby.note_room(EVENT);
        assert_eq!(lobby.events(), [EVENT]);
        lobby.dismiss(EVENT, ANNA);
        assert_eq!(lobby.len(), 0);
    }

    #[test]
    fn a_round_tells_a_bounded_number_and_the_next_goes_on() {
        let lobby = Lobby::default();
        let signer = TicketSigner::new(&[7; 32]);
        let people = TELLS_PER_ROUND_MAX + 100;
        let mailboxes: Vec<_> = (0..people).map(|_| Arc::new(Mailbox::default())).collect();
        let start = marker(0);
        let user = |number: usize| UserId(Uuid::from_u128(100 + number as u128));
        for (number, mailbox) in mailboxes.iter().enumerate() {
            lobby.enter(EVENT, (user(number), 1), mailbox);
            let answer = [(user(number), Some(waiting(4_999, 0)))];
            lobby.answered(EVENT, &signer, &start.room, answer.into_iter());
            assert!(read(mailbox).is_some());
        }
        let now = Instant::now() + Duration::from_secs(600);
        let heard = || mailboxes.iter().filter(|mailbox| mailbox.take().is_some());
        lobby.tell(EVENT, &marker(10), now);
        assert_eq!(heard().count(), TELLS_PER_ROUND_MAX);
        lobby.tell(EVENT, &marker(10), now);
        assert_eq!(heard().count(), 100);
    }
}
