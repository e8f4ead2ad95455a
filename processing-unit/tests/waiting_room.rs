//! Random histories of one waiting room against a naive model: a list that is sorted once, and linear scans.
//!
//! After every step: who is admitted, how many are ahead of whom, and the counts are the model's; the invariants
//! hold; a copy restored from a snapshot agrees. The lottery is worked out from what is published alone.

use grid_core::snapshot::Restore;
use grid_core::{
    CodecError, CommandRecord, Entry, IdempotencyKey, Outcome, PartitionId, PartitionState,
    Space as _, Timestamp, codec,
};
use processing_unit::auction::Actor;
use processing_unit::box_office::{self, NewEvent, Row, RowSeats, Section};
use processing_unit::waiting_room::{
    self, ADMISSION_INTERVAL_MS, Answer, Marker, NewRoom, OrderRow, Phase, PlaceView, Query,
    Refusal, Reply, RoomView, SecretChoice, Standing, lottery,
};
use processing_unit::{Change, Command, Currency, EventId, Unit, UserId};
use proptest::prelude::*;
use uuid::Uuid;

const EVENT: EventId = EventId(Uuid::from_u128(0xe));
const HOST: UserId = UserId(Uuid::from_u128(0xff));
const SECRET: lottery::Secret = [5; 32];
const OPENS_AT_MS: u64 = 1_000;
const PASS_MS: u64 = 3_000;
const SEATS: u32 = 12;
const ENTRIES: u32 = 30;

#[derive(Clone, Debug)]
enum Step {
    Join(u8),
    Leave(u8),
    /// Holds one seat and pays for it.
    Buy(u8),
    Wait(u64),
    Pause,
    Resume,
    Rate(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0u8..16).prop_map(Step::Join),
        2 => (0u8..16).prop_map(Step::Leave),
        3 => (0u8..16).prop_map(Step::Buy),
        8 => (1u64..700).prop_map(Step::Wait),
        1 => Just(Step::Pause),
        2 => Just(Step::Resume),
        1 => (30u32..3_000).prop_map(Step::Rate),
    ];
    prop::collection::vec(step, 1..80)
}

fn user(number: u8) -> UserId {
    UserId(Uuid::from_u128(0x100 + u128::from(number)))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Waiting,
    Left,
    Admitted(u64),
    Over,
}

/// The room as a list.
#[derive(Default)]
struct Naive {
    /// In the order of joining.
    entries: Vec<(UserId, Fate)>,
    /// Numbers in the order of admission, once open.
    line: Option<Vec<usize>>,
}

impl Naive {
    fn newest(&self, user: UserId) -> Option<usize> {
        self.entries.iter().rposition(|entry| entry.0 == user)
    }

    fn fate(&self, user: UserId) -> Option<Fate> {
        self.newest(user).map(|number| self.entries[number].1)
    }

    fn join(&mut self, user: UserId) {
        if matches!(self.fate(user), Some(Fate::Waiting | Fate::Admitted(_))) {
            return;
        }
        self.entries.push((user, Fate::Waiting));
        if let Some(line) = &mut self.line {
            line.push(self.entries.len() - 1);
        }
    }

    fn ahead(&self, user: UserId) -> Option<u32> {
        let number = self.newest(user)?;
        let before = self.line.as_ref()?.iter().take_while(|at| **at != number);
        let waits = |at: &&usize| self.entries[**at].1 == Fate::Waiting;
        (self.entries[number].1 == Fate::Waiting).then(|| before.filter(waits).count() as u32)
    }

    /// What the room did by itself: the first who wait are admitted, and no others.
    fn admit(&mut self, passes: u32, until_ms: u64) {
        let line = self.line.clone().unwrap_or_default();
        let mut left = passes;
        for number in line {
            if left > 0 && self.entries[number].1 == Fate::Waiting {
                self.entries[number].1 = Fate::Admitted(until_ms);
                left -= 1;
            }
        }
        assert_eq!(left, 0, "more are admitted than wait");
    }

    fn open_passes(&self) -> u32 {
        let open = |entry: &&(UserId, Fate)| matches!(entry.1, Fate::Admitted(_));
        self.entries.iter().filter(open).count() as u32
    }
}

struct Driver {
    state: PartitionState<Unit>,
    now_ms: u64,
    naive: Naive,
    sold: u32,
    last_batch_ms: Option<u64>,
}

impl Driver {
    fn new() -> Self {
        let mut driver = Self {
            state: PartitionState::new(PartitionId(0)),
            now_ms: 0,
            naive: Naive::default(),
            sold: 0,
            last_batch_ms: None,
        };
        let event = NewEvent {
            event_id: EVENT,
            name: "gig".to_owned(),
            artist: String::new(),
            venue: String::new(),
            starts_at: Timestamp::from_millis(1_000_000),
            on_sale_at: Timestamp::from_millis(OPENS_AT_MS),
            currency: Currency::from_code("EUR").expect("known"),
            max_seats_per_buyer: 2,
            hold_ms: 1_000,
            sections: vec![Section {
                name: "A".to_owned(),
                price: 1,
                rows: vec![Row {
                    name: "R".to_owned(),
                    seats: RowSeats::Count(SEATS),
                }],
            }],
        };
        driver.apply(Some(Command::BoxOffice(box_office::Command::CreateEvent {
            host: HOST,
            event: Box::new(event),
        })));
        let created = driver.room(waiting_room::Command::Create {
            by: host(),
            room: Box::new(NewRoom {
                event_id: EVENT,
                opens_at: None,
                rate_per_minute: 600,
                pass_ms: PASS_MS,
                oversubscription_percent: 150,
                entries_max: ENTRIES,
                secret: SecretChoice::Kept(SECRET),
                salt: [6; 32],
            }),
        });
        assert!(created.is_ok(), "{created:?}");
        driver
    }

    /// Applies an entry and lets the model follow what the room says it did by itself.
    fn apply(&mut self, command: Option<Command>) -> Option<processing_unit::Reply> {
        let index = self.state.applied_index() + 1;
        let body = command.map(|command| codec::encode(&command).expect("plain"));
        let mut entry = Entry::tick(Timestamp::from_millis(self.now_ms), u128::from(index));
        entry.rules = Unit::RULES;
        entry
            .commands
            .extend(body.as_deref().map(|body| CommandRecord {
                key: IdempotencyKey(u128::from(index)),
                fingerprint: 0,
                body,
            }));
        let applied = self
            .state
            .apply(index, &entry.encode().expect("plain"))
            .expect("well-formed");
        for change in &applied.batch.changes {
            if let Change::WaitingRoom(change) = change {
                self.follow(change);
            }
        }
        applied
            .outcomes
            .into_iter()
            .next()
            .map(|outcome| match outcome {
                Outcome::Reply { reply, .. } => reply,
                other => panic!("a well-formed command: {other:?}"),
            })
    }

    fn follow(&mut self, change: &waiting_room::Change) {
        use waiting_room::Change as C;
        match change {
            C::Opened { secret, seed, .. } => {
                assert_eq!(*secret, SECRET);
                self.draw(seed);
            }
            C::Admitted {
                passes, expires_at, ..
            } => {
                let at_ms = expires_at.as_millis() - PASS_MS;
                assert_eq!(at_ms, self.now_ms);
                assert!(
                    self.last_batch_ms
                        .is_none_or(|last| at_ms >= last + ADMISSION_INTERVAL_MS)
                );
                self.last_batch_ms = Some(at_ms);
                self.naive.admit(*passes, expires_at.as_millis());
                // 150 % of what is unsold, two seats a pass, rounded up.
                let most = ((SEATS - self.sold) * 150).div_ceil(200);
                assert!(self.naive.open_passes() <= most, "{most} for the seats");
            }
            C::PassesExpired { numbers, .. } => {
                for number in numbers {
                    let fate = &mut self.naive.entries[*number as usize].1;
                    assert!(matches!(fate, Fate::Admitted(until) if *until <= self.now_ms));
                    *fate = Fate::Over;
                }
            }
            _ => {}
        }
    }

    /// The order from the published list and seed, as anybody would work it out.
    fn draw(&mut self, seed: &lottery::Digest) {
        let mut scored: Vec<_> = (0..self.naive.entries.len())
            .map(|number| (lottery::score(seed, number as u32), number))
            .collect();
        scored.sort_unstable();
        self.naive.line = Some(scored.into_iter().map(|(_, number)| number).collect());
    }

    fn room(&mut self, command: waiting_room::Command) -> Result<Reply, Refusal> {
        match self.apply(Some(Command::WaitingRoom(command))) {
            Some(processing_unit::Reply::WaitingRoom(reply)) => reply,
            other => panic!("a reply of the room: {other:?}"),
        }
    }

    fn ask(&self, query: Query) -> Answer {
        let query = processing_unit::Query::WaitingRoom(query);
        match self.state.space().query(&query) {
            processing_unit::Answer::WaitingRoom(answer) => answer,
            other => panic!("an answer of the room: {other:?}"),
        }
    }

    fn place(&self, user: UserId) -> Option<PlaceView> {
        let query = Query::Places {
            event_id: EVENT,
            users: vec![user],
        };
        match self.ask(query) {
            Answer::Places(Some((_, mut places))) => places.pop().expect("one user"),
            other => panic!("places: {other:?}"),
        }
    }

    fn marker(&self) -> Marker {
        match self.ask(Query::Marker { event_id: EVENT }) {
            Answer::Marker(Some(marker)) => *marker,
            other => panic!("a marker: {other:?}"),
        }
    }

    fn buy(&mut self, buyer: UserId) {
        let fate = self.naive.fate(buyer);
        let hold = box_office::Command::HoldBestAvailable {
            event_id: EVENT,
            buyer,
            section: None,
            quantity: 1,
        };
        let reply = self.apply(Some(Command::BoxOffice(hold)));
        let Some(processing_unit::Reply::BoxOffice(reply)) = reply else {
            panic!("a reply of the box office: {reply:?}");
        };
        // The entry may have ended passes; the model has followed.
        let is_admitted = matches!(fate, Some(Fate::Admitted(until)) if self.now_ms < until);
        let is_refused = matches!(reply, Err(box_office::Refusal::WaitingRoomRequired));
        let is_opened_now = matches!(self.naive.fate(buyer), Some(Fate::Admitted(_)));
        assert_eq!(is_refused, !(is_admitted || is_opened_now), "{fate:?}");
        if let Ok(box_office::Reply::Held { hold_id, .. }) = reply {
            let confirm = box_office::Command::Confirm {
                event_id: EVENT,
                hold_id,
                buyer,
                payment_reference: "paid".to_owned(),
            };
            let number = self.naive.newest(buyer).expect("admitted");
            self.naive.entries[number].1 = Fate::Over;
            self.sold += 1;
            self.apply(Some(Command::BoxOffice(confirm)));
        }
    }

    fn step(&mut self, step: &Step) {
        let event_id = EVENT;
        match *step {
            Step::Join(number) => {
                let user = user(number);
                // What was due happens before the command.
                self.apply(None);
                match self.room(waiting_room::Command::Join { event_id, user }) {
                    Ok(Reply::Joined(_)) => self.naive.join(user),
                    Err(Refusal::RoomFull { .. }) => {
                        assert_eq!(self.naive.entries.len(), ENTRIES as usize);
                    }
                    Err(Refusal::SoldOut) => assert_eq!(self.sold, SEATS),
                    other => panic!("not a reply to a join: {other:?}"),
                }
            }
            Step::Leave(number) => {
                let user = user(number);
                self.apply(None);
                let place = self.naive.newest(user);
                let fate = self.naive.fate(user);
                let left = self.room(waiting_room::Command::Leave { event_id, user });
                match (place, fate) {
                    (Some(place), Some(Fate::Waiting)) => {
                        assert_eq!(left, Ok(Reply::Left));
                        self.naive.entries[place].1 = Fate::Left;
                    }
                    (Some(place), Some(Fate::Admitted(_))) => {
                        assert_eq!(left, Ok(Reply::Left));
                        self.naive.entries[place].1 = Fate::Over;
                    }
                    _ => assert_eq!(left, Err(Refusal::NotInRoom)),
                }
            }
            Step::Buy(number) => {
                self.apply(None);
                self.buy(user(number));
            }
            Step::Wait(ms) => {
                self.now_ms += ms;
                self.apply(None);
            }
            Step::Pause => drop(self.room(waiting_room::Command::Pause {
                event_id,
                by: host(),
            })),
            Step::Resume => drop(self.room(waiting_room::Command::Resume {
                event_id,
                by: host(),
            })),
            Step::Rate(rate_per_minute) => drop(self.room(waiting_room::Command::SetRate {
                event_id,
                by: host(),
                rate_per_minute,
            })),
        }
    }

    /// Everything that can be seen is as the list says.
    fn check(&self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.state.check_invariants(), Ok(()));
        let marker = self.marker();
        prop_assert_eq!(marker.room.entries as usize, self.naive.entries.len());
        prop_assert_eq!(marker.room.passes_open, self.naive.open_passes());
        for number in 0..16 {
            let user = user(number);
            let place = self.place(user);
            prop_assert_eq!(
                place.as_ref().map(|place| place.number as usize),
                self.naive.newest(user)
            );
            let Some(place) = place else {
                continue;
            };
            prop_assert_eq!(place.ahead, self.naive.ahead(user));
            let fate = match place.standing {
                Standing::Waiting => Fate::Waiting,
                Standing::Left => Fate::Left,
                Standing::Admitted { expires_at } => Fate::Admitted(expires_at.as_millis()),
                _ => Fate::Over,
            };
            prop_assert_eq!(Some(fate), self.naive.fate(user));
            if let (Some(rank), Some(ahead)) = (place.rank, place.ahead) {
                prop_assert!(marker.ahead(rank) >= ahead, "a position is not flattered");
            }
        }
        Ok(())
    }
}

fn host() -> Actor {
    Actor {
        user: HOST,
        is_manager: false,
    }
}

fn restored(state: &PartitionState<Unit>) -> PartitionState<Unit> {
    let mut restore: Restore<Unit> = Restore::default();
    let written = state.view().write_sections(|section| {
        restore.section(section).expect("sections of a view");
        Ok::<(), CodecError>(())
    });
    written.expect("the state can be encoded");
    restore.finish().expect("all sections were taken")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_room_follows_the_list(steps in steps()) {
        let mut driver = Driver::new();
        for step in &steps {
            driver.step(step);
            driver.check()?;
        }
        let copy = restored(&driver.state);
        prop_assert_eq!(copy.check_invariants(), Ok(()));
        prop_assert_eq!(copy.next_deadline(), driver.state.next_deadline());
        let digest = |state: &PartitionState<Unit>| state.view().digest().expect("plain");
        prop_assert_eq!(digest(&copy), digest(&driver.state));
    }
}

/// What a stranger checks, from the published list and the revealed lottery alone.
fn verify(room: &RoomView, rows: &[OrderRow]) -> bool {
    let (Some(entropy), Some(revealed)) = (&room.entropy, &room.revealed) else {
        return false;
    };
    let digest = rows.iter().fold(lottery::LIST_DIGEST_START, |digest, row| {
        lottery::extended(&digest, &row.pseudonym)
    });
    let seed = lottery::seed(&revealed.secret, entropy, &digest, EVENT.0);
    let ranks = lottery::order(&seed, room.early);
    let is_in_order = |(rank, number): (usize, &u32)| {
        rows.get(*number as usize)
            .is_some_and(|row| row.rank == Some(rank as u32))
    };
    lottery::commitment(&revealed.secret) == room.commitment
        && seed == revealed.seed
        && rows.len() == room.early as usize
        && ranks.iter().enumerate().all(is_in_order)
}

#[test]
fn a_stranger_can_check_the_order_and_finds_any_change() {
    let mut driver = Driver::new();
    for number in 0..16 {
        driver.step(&Step::Join(number));
    }
    driver.step(&Step::Leave(3));
    let room = driver.marker().room;
    assert_eq!((room.phase, &room.revealed), (Phase::Gathering, &None));
    driver.step(&Step::Wait(OPENS_AT_MS));
    let query = Query::Order {
        event_id: EVENT,
        after: None,
        limit: 100,
    };
    let Answer::Order(Some(rows)) = driver.ask(query) else {
        panic!("the order is published");
    };
    let now = driver.marker().room;
    assert_eq!(now.commitment, room.commitment);
    assert!(verify(&now, &rows));

    let mut swapped = rows.clone();
    let (first, second) = (swapped[0].rank, swapped[1].rank);
    (swapped[0].rank, swapped[1].rank) = (second, first);
    assert!(!verify(&now, &swapped), "two ranks are swapped");
    let mut renamed = rows.clone();
    renamed[5].pseudonym[0] ^= 1;
    assert!(!verify(&now, &renamed), "an entry is another's");
    assert!(!verify(&now, &rows[..15]), "an entry is missing");
    let mut other = now.clone();
    other.entropy.as_mut().expect("sealed")[0] ^= 1;
    assert!(!verify(&other, &rows), "another entropy");
}
