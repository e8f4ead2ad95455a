//! What the pump wrote reads back as what happened.

use std::ops::ControlFlow;

use grid_core::Timestamp;
use processing_unit::auction::{
    self, IncrementStep, ItemChoice, NewAuction, NewItem, NotSoldReason, Outcome, SoftClose,
    WithdrawalPolicy,
};
use processing_unit::box_office::{
    self, NewEvent, ReleaseReason, Row, RowSeats, Section, SoldSeat,
};
use processing_unit::{
    AuctionId, BidId, Change, Currency, EventId, HoldId, ItemId, TicketId, UserId,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::{Union, ValueTree};
use proptest::test_runner::TestRunner;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::fixtures::{
    Entry, TestDatabase, bid_placed, entry, id, number, open, sale, seats_held, write,
};
use super::planner::{change_row, placed};
use crate::history::{HistoryError, StoredChange, StoredHistory};

/// Changes of the property test through the database.
const CHANGES: usize = 600;

async fn read(database: &TestDatabase, entity: Uuid) -> Vec<StoredChange> {
    let history = StoredHistory::open(&database.database.url, entity);
    let history = history.await.expect("answers").expect("there");
    let mut changes = Vec::new();
    let taken = history.read(|change| {
        changes.push(change);
        ControlFlow::Continue(())
    });
    taken.await.expect("read");
    changes
}

/// What of these entries is about an entity.
fn expected(entries: &[Entry], entity: Uuid) -> Vec<StoredChange> {
    let all = entries.iter().flat_map(|batch| placed(batch));
    all.filter(|placed| super::planner::entity(placed.change) == entity)
        .map(|placed| StoredChange {
            index: placed.log_index,
            seq: placed.seq,
            at: placed.at,
            change: placed.change.clone(),
        })
        .collect()
}

#[tokio::test]
async fn a_history_is_what_happened_to_one_auction_or_event() {
    let Some(database) = TestDatabase::start().await else {
        return;
    };
    let url = &database.database.url;
    let early = StoredHistory::open(url, id(3)).await;
    assert!(matches!(early, Err(HistoryError::NoSchema)), "{early:?}");
    let mut connection = database.migrated().await;
    let mut place = open(&mut connection, 1).await.expect("first");
    write(&mut place, &mut connection, &sale())
        .await
        .expect("written");
    connection.close().await.expect("said goodbye");
    for entity in [id(3), id(5)] {
        let changes = read(&database, entity).await;
        assert_eq!(changes, expected(&sale(), entity));
        assert!(changes.len() >= 6, "{changes:?}");
    }
    let unknown = StoredHistory::open(url, id(999)).await.expect("answers");
    assert!(unknown.is_none());

    let history = StoredHistory::open(url, id(3)).await.expect("answers");
    let history = history.expect("there");
    assert_eq!(history.reach().upto_index, 12);
    let mut first = Vec::new();
    let taken = history.read(|change| {
        first.push(change.index);
        ControlFlow::Break(())
    });
    taken.await.expect("read");
    assert_eq!(first, [6], "a reader may have enough");
}

#[tokio::test]
async fn what_is_parked_or_dropped_happened_all_the_same() {
    let Some(database) = TestDatabase::start().await else {
        return;
    };
    let mut connection = database.migrated().await;
    sqlx::raw_sql("ALTER TABLE holds ADD CONSTRAINT few CHECK (seats < 2)")
        .execute(&mut connection)
        .await
        .expect("done");
    let mut place = open(&mut connection, 1).await.expect("first");
    let mut entries = sale();
    entries.push(entry(
        13,
        vec![seats_held(5, 30, &[2]), bid_placed(3, 14, 1, 1)],
    ));
    let written = write(&mut place, &mut connection, &entries)
        .await
        .expect("written");
    assert!(written.parked >= 2, "{written:?}");
    let in_changes = number(
        &mut connection,
        "SELECT count(*) FROM changes WHERE kind = 'seats_sold'",
    );
    assert_eq!(in_changes.await, 0, "the sale is behind what was refused");
    sqlx::raw_sql(
        "INSERT INTO dead_letter_dropped (partition, log_index, seq, at, kind, entity, reason, error,
                                          payload, attempts, parked_at, dropped_by, drop_reason)
         SELECT partition, log_index, seq, at, kind, entity, reason, error, payload, attempts, parked_at,
                'test', 'test'
         FROM dead_letter WHERE log_index = 4;
         DELETE FROM dead_letter WHERE log_index = 4",
    )
    .execute(&mut connection)
    .await
    .expect("dropped");
    connection.close().await.expect("said goodbye");
    assert_eq!(read(&database, id(5)).await, expected(&entries, id(5)));
}

/// Any text that the database can hold.
fn texts() -> impl Strategy<Value = String> {
    vec(any::<char>().prop_filter("no NUL", |c| *c != '\0'), 0..12)
        .prop_map(|letters| letters.into_iter().collect())
}

fn ids() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn times() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp::from_millis)
}

fn currencies() -> impl Strategy<Value = Currency> {
    prop_oneof![Just("EUR"), Just("JPY"), Just("KWD")]
        .prop_map(|code| Currency::from_code(code).expect("known"))
}

fn items() -> impl Strategy<Value = NewItem> {
    (ids(), texts(), texts(), texts(), vec(texts(), 0..3)).prop_map(
        |(item_id, name, description, category, images)| NewItem {
            item_id: ItemId(item_id),
            name,
            description,
            category,
            images,
        },
    )
}

fn auctions(auction_id: AuctionId) -> impl Strategy<Value = NewAuction> {
    let item = prop_oneof![
        ids().prop_map(|id| ItemChoice::Existing(ItemId(id))),
        items().prop_map(ItemChoice::New),
    ];
    let increments = vec(any::<(i64, i64)>(), 0..4).prop_map(|steps| {
        let step = |(from_price, increment)| IncrementStep {
            from_price,
            increment,
        };
        steps.into_iter().map(step).collect()
    });
    let soft_close = option::of(any::<(u64, u64, u32)>()).prop_map(|rule| {
        rule.map(|(window_ms, extend_ms, max_extensions)| SoftClose {
            window_ms,
            extend_ms,
            max_extensions,
        })
    });
    let withdrawal = prop_oneof![
        Just(WithdrawalPolicy::Forbidden),
        Just(WithdrawalPolicy::WhileOpen),
    ];
    let prices = (any::<i64>(), any::<Option<i64>>());
    let rules = (increments, soft_close, withdrawal);
    (
        item,
        texts(),
        texts(),
        currencies(),
        prices,
        times(),
        times(),
        rules,
    )
        .prop_map(
            move |(item, title, category, currency, prices, start_time, end_time, rules)| {
                NewAuction {
                    auction_id,
                    item,
                    title,
                    category,
                    currency,
                    starting_price: prices.0,
                    reserve_price: prices.1,
                    increments: rules.0,
                    start_time,
                    end_time,
                    soft_close: rules.1,
                    withdrawal: rules.2,
                }
            },
        )
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    let reasons = prop_oneof![
        Just(NotSoldReason::NoBids),
        Just(NotSoldReason::ReserveNotMet),
        Just(NotSoldReason::Passed),
    ];
    prop_oneof![
        (ids(), ids(), any::<u32>(), any::<i64>()).prop_map(|(bid_id, winner, alias, amount)| {
            Outcome::Sold {
                bid_id: BidId(bid_id),
                winner: UserId(winner),
                alias,
                amount,
            }
        }),
        reasons.prop_map(|reason| Outcome::NotSold { reason }),
    ]
}

/// Every kind of change of an auction.
fn auction_changes() -> impl Strategy<Value = Change> {
    use auction::Change as C;
    let auction_id = AuctionId(id(1));
    let bids = (any::<u32>(), any::<u32>(), any::<bool>());
    let kinds: Vec<BoxedStrategy<C>> = vec![
        (ids(), ids(), auctions(auction_id))
            .prop_map(|(host, item_id, auction)| C::AuctionCreated {
                host: UserId(host),
                item_id: ItemId(item_id),
                auction: Box::new(auction),
            })
            .boxed(),
        times()
            .prop_map(move |start_time| C::AuctionStarted {
                auction_id,
                start_time,
            })
            .boxed(),
        (ids(), ids(), bids, any::<(i64, i64)>())
            .prop_map(
                move |(bid_id, bidder, (alias, bids, reserve_met), prices)| C::BidPlaced {
                    auction_id,
                    bid_id: BidId(bid_id),
                    bidder: UserId(bidder),
                    alias,
                    amount: prices.0,
                    minimum_next: prices.1,
                    bids,
                    reserve_met,
                },
            )
            .boxed(),
        (
            ids(),
            ids(),
            any::<(u32, u32)>(),
            any::<(Option<i64>, i64)>(),
        )
            .prop_map(
                move |(bid_id, bidder, (alias, bids), prices)| C::BidWithdrawn {
                    auction_id,
                    bid_id: BidId(bid_id),
                    bidder: UserId(bidder),
                    alias,
                    current_price: prices.0,
                    minimum_next: prices.1,
                    bids,
                },
            )
            .boxed(),
        (times(), any::<u32>())
            .prop_map(move |(end_time, extensions)| C::AuctionExtended {
                auction_id,
                end_time,
                extensions,
            })
            .boxed(),
        outcomes()
            .prop_map(move |outcome| C::AuctionEnded {
                auction_id,
                outcome,
            })
            .boxed(),
        Just(C::AuctionCancelled { auction_id }).boxed(),
    ];
    Union::new(kinds).prop_map(Change::Auction)
}

fn events(event_id: EventId) -> impl Strategy<Value = NewEvent> {
    let seats = prop_oneof![
        any::<u32>().prop_map(RowSeats::Count),
        vec(texts(), 0..4).prop_map(RowSeats::Labels),
    ];
    let rows = vec(
        (texts(), seats).prop_map(|(name, seats)| Row { name, seats }),
        0..3,
    );
    let sections = vec(
        (texts(), any::<i64>(), rows).prop_map(|(name, price, rows)| Section { name, price, rows }),
        0..3,
    );
    let names = (texts(), texts(), texts());
    let numbers = any::<(u32, u64)>();
    (names, times(), times(), currencies(), numbers, sections).prop_map(
        move |(names, starts_at, on_sale_at, currency, numbers, sections)| NewEvent {
            event_id,
            name: names.0,
            artist: names.1,
            venue: names.2,
            starts_at,
            on_sale_at,
            currency,
            max_seats_per_buyer: numbers.0,
            hold_ms: numbers.1,
            sections,
        },
    )
}

/// Every kind of change of an event.
fn event_changes() -> impl Strategy<Value = Change> {
    use box_office::Change as C;
    let event_id = EventId(id(1));
    let reasons = prop_oneof![Just(ReleaseReason::Released), Just(ReleaseReason::Expired)];
    let tickets = vec(
        (ids(), any::<u32>(), any::<i64>()).prop_map(|(ticket_id, seat, price)| SoldSeat {
            ticket_id: TicketId(ticket_id),
            seat,
            price,
        }),
        0..6,
    );
    let kinds: Vec<BoxedStrategy<C>> = vec![
        (ids(), events(event_id))
            .prop_map(|(host, event)| C::EventCreated {
                host: UserId(host),
                event: Box::new(event),
            })
            .boxed(),
        (ids(), ids(), vec(any::<u32>(), 0..7), times())
            .prop_map(move |(hold_id, buyer, seats, expires_at)| C::SeatsHeld {
                event_id,
                hold_id: HoldId(hold_id),
                buyer: UserId(buyer),
                seats: seats.into_iter().collect(),
                expires_at,
            })
            .boxed(),
        (ids(), ids(), vec(any::<u32>(), 0..7), reasons)
            .prop_map(move |(hold_id, buyer, seats, reason)| C::SeatsReleased {
                event_id,
                hold_id: HoldId(hold_id),
                buyer: UserId(buyer),
                seats: seats.into_iter().collect(),
                reason,
            })
            .boxed(),
        (ids(), ids(), texts(), tickets)
            .prop_map(move |(hold_id, buyer, reference, tickets)| C::SeatsSold {
                event_id,
                hold_id: HoldId(hold_id),
                buyer: UserId(buyer),
                payment_reference: reference.into(),
                tickets: tickets.into_boxed_slice(),
            })
            .boxed(),
    ];
    Union::new(kinds).prop_map(Change::BoxOffice)
}

/// Every kind of change that is of an auction or event, with any values; all of the entity 1.
fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![auction_changes(), event_changes()]
}

proptest! {
    #[test]
    fn any_payload_reads_back_as_the_change(change in changes()) {
        let batch = entry(1, vec![change.clone()]);
        let row = placed(&batch).next().map(|placed| change_row(&placed)).expect("one");
        let read: Change = serde_json::from_str(&row.payload).expect("the change's own JSON");
        prop_assert_eq!(read, change);
    }
}

async fn insert(connection: &mut PgConnection, entries: &[Entry]) {
    // One transaction, so that the disk is waited for once.
    let mut transaction = connection.begin().await.expect("begun");
    for placed in entries.iter().flat_map(|batch| placed(batch)) {
        let row = change_row(&placed);
        sqlx::query(
            "INSERT INTO changes (partition, log_index, seq, at, kind, entity, payload)
             VALUES (0, $1, $2, 'epoch'::timestamptz + $3 * interval '1 millisecond', $4, $5, $6::jsonb)",
        )
        .bind(row.log_index)
        .bind(row.seq)
        .bind(row.at)
        .bind(row.kind)
        .bind(row.entity)
        .bind(row.payload)
        .execute(&mut *transaction)
        .await
        .expect("inserted");
    }
    transaction.commit().await.expect("written");
}

#[tokio::test]
async fn any_change_comes_back_from_the_database_as_it_was() {
    let Some(database) = TestDatabase::start().await else {
        return;
    };
    let mut connection = database.migrated().await;
    open(&mut connection, 1).await.expect("a checkpoint");
    // The entity must be known; what its row says does not matter here.
    let mut entries = vec![entry(1, vec![super::fixtures::auction_created(1, 2)])];
    let mut place = open(&mut connection, 2).await.expect("again");
    write(&mut place, &mut connection, &entries)
        .await
        .expect("written");
    let mut runner = TestRunner::default();
    let drawn: Vec<Entry> = (2..)
        .take(CHANGES / 3)
        .map(|index| {
            let changes = vec(changes(), 3).new_tree(&mut runner).expect("drawn");
            entry(index, changes.current())
        })
        .collect();
    insert(&mut connection, &drawn).await;
    connection.close().await.expect("said goodbye");
    entries.extend(drawn);
    let expected = expected(&entries, id(1));
    assert_eq!(expected.len(), CHANGES + 1);
    let read = read(&database, id(1)).await;
    assert_eq!(read.len(), expected.len());
    for (read, expected) in read.iter().zip(&expected) {
        assert_eq!(read, expected);
    }
}
