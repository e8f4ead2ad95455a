//! What happens at the limits that scripts do not reach: a tick that fires less than is due, the
//! memory of expired holds, bytes that are no slot.

use grid_core::entry::RULES_FIRST;
use grid_core::{ApplyContext, PartitionId, Slot, Space as _, SpaceView as _, Timestamp};
use processing_unit::auction::{self, IncrementStep, ItemChoice, NewAuction, NewItem, Status};
use processing_unit::box_office::{self, EXPIRED_HOLDS_KEPT, NewEvent, Row, RowSeats, Section};
use processing_unit::{
    AuctionId, Change, Command, Currency, EventId, HoldId, ItemId, Reply, Unit, UserId,
};
use uuid::Uuid;

const HOLD_MS: u64 = 10;

/// A unit with a log position of its own.
#[derive(Default)]
struct Driver {
    unit: Unit,
    index: u64,
    changes: Vec<Change>,
}

impl Driver {
    fn context(&mut self, now_ms: u64) -> (&mut Unit, ApplyContext<'_, Change>) {
        self.index += 1;
        let now = Timestamp::from_millis(now_ms);
        let (index, entropy) = (self.index, u128::from(self.index));
        let context = ApplyContext::new(
            RULES_FIRST,
            now,
            PartitionId(0),
            index,
            entropy,
            &mut self.changes,
        );
        (&mut self.unit, context)
    }

    fn apply(&mut self, now_ms: u64, command: Command) -> Reply {
        let (unit, mut context) = self.context(now_ms);
        unit.apply(&mut context, command)
    }

    fn fire_due(&mut self, now_ms: u64, limit: usize) {
        let (unit, mut context) = self.context(now_ms);
        unit.fire_due(&mut context, limit);
    }

    fn hold(&mut self, now_ms: u64, seat: &str) -> Result<HoldId, box_office::Refusal> {
        let command = box_office::Command::HoldSeats {
            event_id: event_id(),
            buyer: user(1),
            seats: vec![seat.to_owned()],
        };
        match self.apply(now_ms, Command::BoxOffice(command)) {
            Reply::BoxOffice(Ok(box_office::Reply::Held { hold_id, .. })) => Ok(hold_id),
            Reply::BoxOffice(Err(refusal)) => Err(refusal),
            other => panic!("not an answer to a hold: {other:?}"),
        }
    }

    fn confirm(&mut self, now_ms: u64, hold_id: HoldId) -> Reply {
        let command = box_office::Command::Confirm {
            event_id: event_id(),
            hold_id,
            buyer: user(1),
            payment_reference: "paid".to_owned(),
        };
        self.apply(now_ms, Command::BoxOffice(command))
    }
}

fn user(number: u128) -> UserId {
    UserId(Uuid::from_u128(number))
}

fn event_id() -> EventId {
    EventId(Uuid::from_u128(0xe))
}

fn euro() -> Currency {
    Currency::from_code("EUR").expect("known")
}

fn create_event() -> Command {
    let event = NewEvent {
        event_id: event_id(),
        name: "gig".to_owned(),
        artist: String::new(),
        venue: String::new(),
        starts_at: Timestamp::ZERO,
        on_sale_at: Timestamp::ZERO,
        currency: euro(),
        max_seats_per_buyer: 10,
        hold_ms: HOLD_MS,
        sections: vec![Section {
            name: "A".to_owned(),
            price: 100,
            rows: vec![Row {
                name: "R".to_owned(),
                seats: RowSeats::Count(5),
            }],
        }],
    };
    Command::BoxOffice(box_office::Command::CreateEvent {
        host: user(0),
        event: Box::new(event),
    })
}

fn create_auction(number: u128, end_ms: u64) -> (AuctionId, Command) {
    let item_id = ItemId(Uuid::from_u128(number));
    let auction_id = AuctionId(Slot::of(item_id.0).mint(number));
    let auction = NewAuction {
        auction_id,
        item: ItemChoice::New(NewItem {
            item_id,
            name: "lamp".to_owned(),
            description: String::new(),
            category: String::new(),
            images: Vec::new(),
        }),
        title: "lamp".to_owned(),
        category: String::new(),
        currency: euro(),
        starting_price: 1,
        reserve_price: None,
        increments: vec![IncrementStep {
            from_price: 0,
            increment: 1,
        }],
        start_time: Timestamp::ZERO,
        end_time: Timestamp::from_millis(end_ms),
        soft_close: None,
        withdrawal: auction::WithdrawalPolicy::Forbidden,
    };
    let host = user(0);
    let command = auction::Command::CreateAuction {
        host,
        auction: Box::new(auction),
    };
    (auction_id, Command::Auction(command))
}

#[test]
fn a_tick_fires_the_earliest_up_to_its_limit() {
    let mut driver = Driver::default();
    for number in 1..=5 {
        let (_, command) = create_auction(number, 100 - number as u64);
        driver.apply(0, command);
    }
    driver.fire_due(1_000, 2);
    assert_eq!(
        driver.unit.next_deadline(),
        Some(Timestamp::from_millis(97))
    );
    driver.fire_due(1_000, 2);
    assert_eq!(
        driver.unit.next_deadline(),
        Some(Timestamp::from_millis(99))
    );
    driver.fire_due(1_000, 2);
    assert_eq!(driver.unit.next_deadline(), None);
    assert_eq!(driver.unit.check_invariants(), Ok(()));
}

#[test]
fn a_late_bid_is_refused_before_its_tick_comes() {
    let mut driver = Driver::default();
    let (auction_id, command) = create_auction(1, 100);
    driver.apply(0, command);
    let bid = auction::Command::PlaceBid {
        auction_id,
        bidder: user(1),
        amount: 10,
    };
    let reply = driver.apply(100, Command::Auction(bid));
    let status = Status::Ended;
    assert_eq!(
        reply,
        Reply::Auction(Err(auction::Refusal::NotOpen { status }))
    );
    assert!(matches!(
        driver.changes.last(),
        Some(Change::Auction(auction::Change::AuctionEnded { .. }))
    ));
}

#[test]
fn an_expired_hold_is_refused_before_its_tick_comes() {
    let mut driver = Driver::default();
    driver.apply(0, create_event());
    let hold_id = driver.hold(0, "A-R-1").expect("free");
    let expired = Reply::BoxOffice(Err(box_office::Refusal::HoldExpired));
    assert_eq!(driver.confirm(HOLD_MS, hold_id), expired);
    driver.fire_due(HOLD_MS, 1);
    assert_eq!(driver.confirm(HOLD_MS, hold_id), expired);
}

#[test]
fn the_oldest_expired_hold_is_forgotten_first() {
    let mut driver = Driver::default();
    driver.apply(0, create_event());
    let mut holds = Vec::new();
    let mut now_ms = 0;
    for _ in 0..=EXPIRED_HOLDS_KEPT {
        holds.push(driver.hold(now_ms, "A-R-1").expect("returned before"));
        now_ms += HOLD_MS;
        driver.fire_due(now_ms, 1);
    }
    let refusal = |reply| match reply {
        Reply::BoxOffice(Err(refusal)) => refusal,
        other => panic!("confirmed after expiry: {other:?}"),
    };
    let first = refusal(driver.confirm(now_ms, holds[0]));
    assert_eq!(first, box_office::Refusal::HoldNotFound);
    let second = refusal(driver.confirm(now_ms, holds[1]));
    assert_eq!(second, box_office::Refusal::HoldExpired);
    assert_eq!(driver.unit.check_invariants(), Ok(()));
}

#[test]
fn a_view_does_not_see_what_comes_later() {
    let mut driver = Driver::default();
    driver.apply(0, create_event());
    let slot = Slot::of(event_id().0);
    let encode = |unit: &Unit| {
        let mut bytes = Vec::new();
        let encoded = unit.view().encode_slot(slot, &mut bytes);
        encoded.expect("the state can be encoded");
        bytes
    };
    let before = encode(&driver.unit);
    let view = driver.unit.view();
    driver.hold(0, "A-R-1").expect("free");
    let mut seen = Vec::new();
    view.encode_slot(slot, &mut seen).expect("as before");
    assert_eq!(seen, before);
    assert_ne!(encode(&driver.unit), before);
}

#[test]
fn bytes_that_are_no_slot_are_refused() {
    let mut driver = Driver::default();
    driver.apply(0, create_event());
    driver.hold(0, "A-R-1").expect("free");
    let (auction_id, command) = create_auction(1, 100);
    driver.apply(0, command);
    for slot in [Slot::of(event_id().0), Slot::of(auction_id.0)] {
        let mut bytes = Vec::new();
        let encoded = driver.unit.view().encode_slot(slot, &mut bytes);
        encoded.expect("the state can be encoded");
        assert!(Unit::default().restore_slot(slot, &bytes).is_ok());
        for len in 0..bytes.len() {
            assert!(
                Unit::default().restore_slot(slot, &bytes[..len]).is_err(),
                "{len}"
            );
        }
        // Whatever a flipped bit makes of it: an error or another state, never a panic.
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[place] ^= 1 << bit;
                let _ = Unit::default().restore_slot(slot, &flipped);
            }
        }
        bytes.push(0);
        assert!(Unit::default().restore_slot(slot, &bytes).is_err());
    }
}
