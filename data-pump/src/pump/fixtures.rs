//! Changes and databases for this folder's tests.

use std::sync::Arc;

use grid_core::{ChangeBatch, StateHash, Timestamp};
use processing_unit::auction::{self, NewAuction, NewItem, Outcome, WithdrawalPolicy};
use processing_unit::box_office::{
    self, NewEvent, ReleaseReason, Row, RowSeats, Section, SoldSeat,
};
use processing_unit::{
    AuctionId, BidId, Change, Currency, EventId, HoldId, ItemId, TicketId, UserId,
};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::planner::placed;
use super::writer::{Place, WriteError, Written};
use crate::archive::Passage;
use crate::database::{Database, DatabaseChoice, DatabaseError, DatabaseOptions, provide};
use crate::schema::migrate;

pub(crate) const GRID: Uuid = Uuid::from_u128(77);

pub(crate) type Entry = Arc<ChangeBatch<Change>>;

pub(crate) const START_MS: u64 = 1_760_000_000_000;

pub(crate) fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// An entry, a second after the one before.
pub(crate) fn entry(index: u64, changes: Vec<Change>) -> Arc<ChangeBatch<Change>> {
    Arc::new(ChangeBatch {
        index,
        at: Timestamp::from_millis(START_MS + index * 1_000),
        hash: StateHash::default(),
        changes,
    })
}

fn euro() -> Currency {
    Currency::from_code("EUR").expect("known")
}

pub(crate) fn item_created(item: u128, name: &str) -> Change {
    Change::Auction(auction::Change::ItemCreated {
        owner: UserId(id(1)),
        item: Box::new(NewItem {
            item_id: ItemId(id(item)),
            name: name.to_owned(),
            description: "a chair".to_owned(),
            category: "furniture".to_owned(),
            images: vec!["https://example.org/1.jpg".to_owned()],
        }),
    })
}

pub(crate) fn auction_created(auction: u128, item: u128) -> Change {
    Change::Auction(auction::Change::AuctionCreated {
        host: UserId(id(1)),
        item_id: ItemId(id(item)),
        auction: Box::new(NewAuction {
            auction_id: AuctionId(id(auction)),
            item: auction::ItemChoice::Existing(ItemId(id(item))),
            title: "Lot 1".to_owned(),
            category: "furniture".to_owned(),
            currency: euro(),
            starting_price: 10_000,
            reserve_price: Some(15_000),
            increments: Vec::new(),
            start_time: Timestamp::from_millis(START_MS),
            end_time: Timestamp::from_millis(START_MS + 60_000),
            soft_close: None,
            withdrawal: WithdrawalPolicy::WhileOpen,
        }),
    })
}

pub(crate) fn auction_started(auction: u128) -> Change {
    Change::Auction(auction::Change::AuctionStarted {
        auction_id: AuctionId(id(auction)),
        start_time: Timestamp::from_millis(START_MS + 500),
    })
}

pub(crate) fn bid_placed(auction: u128, bid: u128, amount: i64, bids: u32) -> Change {
    Change::Auction(auction::Change::BidPlaced {
        auction_id: AuctionId(id(auction)),
        bid_id: BidId(id(bid)),
        bidder: UserId(id(100 + bid % 7)),
        alias: (bid % 7) as u32 + 1,
        amount,
        minimum_next: amount + 100,
        bids,
        reserve_met: amount >= 15_000,
    })
}

pub(crate) fn bid_withdrawn(auction: u128, bid: u128, current: Option<i64>, bids: u32) -> Change {
    Change::Auction(auction::Change::BidWithdrawn {
        auction_id: AuctionId(id(auction)),
        bid_id: BidId(id(bid)),
        bidder: UserId(id(100 + bid % 7)),
        alias: (bid % 7) as u32 + 1,
        current_price: current,
        minimum_next: current.map_or(10_000, |price| price + 100),
        bids,
    })
}

pub(crate) fn auction_extended(auction: u128) -> Change {
    Change::Auction(auction::Change::AuctionExtended {
        auction_id: AuctionId(id(auction)),
        end_time: Timestamp::from_millis(START_MS + 90_000),
        extensions: 1,
    })
}

pub(crate) fn auction_sold(auction: u128, bid: u128, amount: i64) -> Change {
    Change::Auction(auction::Change::AuctionEnded {
        auction_id: AuctionId(id(auction)),
        outcome: Outcome::Sold {
            bid_id: BidId(id(bid)),
            winner: UserId(id(100 + bid % 7)),
            alias: (bid % 7) as u32 + 1,
            amount,
        },
    })
}

/// Section A with rows 1 and 2 of `seats` seats each, section B with a row of three named seats.
pub(crate) fn event_created(event: u128, seats: u32) -> Change {
    let row = |name: &str, seats| Row {
        name: name.to_owned(),
        seats,
    };
    Change::BoxOffice(box_office::Change::EventCreated {
        host: UserId(id(1)),
        event: Box::new(NewEvent {
            event_id: EventId(id(event)),
            name: "Autumn concert".to_owned(),
            artist: "The Sextet".to_owned(),
            venue: "Old Hall".to_owned(),
            starts_at: Timestamp::from_millis(START_MS + 86_400_000),
            on_sale_at: Timestamp::from_millis(START_MS),
            currency: euro(),
            max_seats_per_buyer: 8,
            hold_ms: 300_000,
            sections: vec![
                Section {
                    name: "A".to_owned(),
                    price: 8_950,
                    rows: vec![
                        row("1", RowSeats::Count(seats)),
                        row("2", RowSeats::Count(seats)),
                    ],
                },
                Section {
                    name: "B".to_owned(),
                    price: 4_500,
                    rows: vec![row(
                        "X",
                        RowSeats::Labels(["L", "M", "R"].map(str::to_owned).to_vec()),
                    )],
                },
            ],
        }),
    })
}

pub(crate) fn seats_held(event: u128, hold: u128, seats: &[u32]) -> Change {
    Change::BoxOffice(box_office::Change::SeatsHeld {
        event_id: EventId(id(event)),
        hold_id: HoldId(id(hold)),
        buyer: UserId(id(1_000 + hold)),
        seats: seats.iter().copied().collect(),
        expires_at: Timestamp::from_millis(START_MS + 300_000),
    })
}

pub(crate) fn seats_expired(event: u128, hold: u128, seats: &[u32]) -> Change {
    Change::BoxOffice(box_office::Change::SeatsReleased {
        event_id: EventId(id(event)),
        hold_id: HoldId(id(hold)),
        buyer: UserId(id(1_000 + hold)),
        seats: seats.iter().copied().collect(),
        reason: ReleaseReason::Expired,
    })
}

pub(crate) fn seats_sold(event: u128, hold: u128, seats: &[u32], payment: &str) -> Change {
    Change::BoxOffice(box_office::Change::SeatsSold {
        event_id: EventId(id(event)),
        hold_id: HoldId(id(hold)),
        buyer: UserId(id(1_000 + hold)),
        payment_reference: payment.into(),
        tickets: seats
            .iter()
            .map(|&seat| SoldSeat {
                ticket_id: TicketId(id(hold * 1_000_000 + u128::from(seat))),
                seat,
                price: 8_950,
            })
            .collect(),
    })
}

/// A private cluster with the schema in it, gone with the value.
pub(crate) struct TestDatabase {
    pub(crate) database: Database,
    pub(crate) folder: tempfile::TempDir,
}

impl TestDatabase {
    /// The installed PostgreSQL, else the embedded one, which serves one connection at a time; else
    /// `None`, loudly.
    pub(crate) async fn start() -> Option<Self> {
        for choice in [DatabaseChoice::Supervised, DatabaseChoice::Embedded] {
            let database = Self::start_with(choice).await;
            if database.is_some() {
                return database;
            }
        }
        println!("NOT TESTED: no PostgreSQL is installed and none is built in");
        None
    }

    /// The installed PostgreSQL, for a test that needs several connections at a time; else `None`, loudly.
    pub(crate) async fn start_for_several() -> Option<Self> {
        let database = Self::start_with(DatabaseChoice::Supervised).await;
        if database.is_none() {
            println!("NOT TESTED: this takes an installed PostgreSQL, and there is none");
        }
        database
    }

    pub(crate) async fn start_with(choice: DatabaseChoice) -> Option<Self> {
        let folder = tempfile::tempdir().expect("folder");
        let mut options = DatabaseOptions::new(folder.path());
        options.choice = choice;
        match provide(options).await {
            Ok(database) => Some(Self { database, folder }),
            Err(DatabaseError::NotInstalled) => None,
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.database.url)
            .await
            .expect("answers")
    }

    /// A connection to a database with tables and views.
    pub(crate) async fn migrated(&self) -> PgConnection {
        let mut connection = self.connect().await;
        migrate(&mut connection).await.expect("migrated");
        connection
    }
}

/// The one number that a query gives.
pub(crate) async fn number(connection: &mut PgConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql)
        .fetch_one(connection)
        .await
        .expect("a number")
}

/// Opens partition 0 for a term.
pub(crate) async fn open(connection: &mut PgConnection, epoch: i64) -> Result<Place, WriteError> {
    Place::open(connection, GRID, 0, epoch).await
}

/// Whether the grid's pump may open partition 0 for a term.
pub(crate) async fn opens(connection: &mut PgConnection, epoch: i64) -> bool {
    open(connection, epoch).await.is_ok()
}

/// Writes entries as one transaction.
pub(crate) async fn write(
    place: &mut Place,
    connection: &mut PgConnection,
    entries: &[Entry],
) -> Result<Written, WriteError> {
    let changes: Vec<_> = entries.iter().flat_map(|batch| placed(batch)).collect();
    let upto = entries
        .last()
        .map_or(place.applied_index, |batch| batch.index);
    place
        .write(connection, &changes, upto, &Passage::NONE)
        .await
}

/// A small sale: an event with seven seats, an auction with three bids.
pub(crate) fn sale() -> Vec<Entry> {
    vec![
        entry(1, vec![event_created(5, 2), seats_held(5, 20, &[6])]),
        entry(2, vec![seats_held(5, 21, &[0, 1]), seats_held(5, 22, &[4])]),
        entry(3, vec![seats_expired(5, 22, &[4]), seats_held(5, 23, &[4])]),
        entry(4, vec![seats_sold(5, 21, &[0, 1], "pay-1")]),
        entry(6, vec![item_created(2, "Chair"), auction_created(3, 2)]),
        entry(7, vec![auction_started(3), bid_placed(3, 11, 10_000, 1)]),
        entry(8, vec![bid_placed(3, 12, 15_000, 2)]),
        entry(9, vec![bid_placed(3, 13, 16_000, 3)]),
        entry(10, vec![bid_withdrawn(3, 13, Some(15_000), 2)]),
        entry(12, vec![auction_sold(3, 12, 15_000)]),
    ]
}

/// Every row of every table that the pump fills, as text.
pub(crate) async fn contents(connection: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT 'change ' || c::text FROM changes c
         UNION ALL SELECT 'item ' || t::text FROM items t
         UNION ALL SELECT 'auction ' || t::text FROM auctions t
         UNION ALL SELECT 'bid ' || t::text FROM bids t
         UNION ALL SELECT 'event ' || t::text FROM events t
         UNION ALL SELECT 'seat ' || t::text FROM seats t
         UNION ALL SELECT 'hold ' || t::text FROM holds t
         UNION ALL SELECT 'ticket ' || t::text FROM tickets t
         UNION ALL SELECT 'dead letter ' || t::text FROM dead_letter t
         ORDER BY 1",
    )
    .fetch_all(connection)
    .await
    .expect("read")
}
