//! What is on offer, and what clients ask about it.

use grid::simulation::WALL_EPOCH_MS;
use grid_core::{PartitionId, Slot, SlotLayout, Timestamp};
use processing_unit::auction::{self, IncrementStep, ItemChoice, NewAuction, NewItem, SoftClose};
use processing_unit::box_office::{self, NewEvent, Row, RowSeats, Section};
use processing_unit::{AuctionId, Command, Currency, EventId, HoldId, ItemId, Query, UserId};
use uuid::Uuid;

use crate::random::Random;

const HOST: UserId = UserId(Uuid::from_u128(0x99));
const EVENTS: u128 = 2;
const AUCTIONS: u128 = 3;
const ROWS: u64 = 2;
const SEATS: u64 = 5;

/// The events and auctions of a run.
#[derive(Clone, Debug)]
pub(super) struct Shows {
    events: Vec<EventId>,
    /// Each with its item, which decides where it lives.
    auctions: Vec<(ItemId, AuctionId)>,
    hold_ms: u64,
    auction_ms: u64,
}

fn currency() -> Currency {
    Currency::from_code("EUR").expect("the euro is in the list")
}

impl Shows {
    pub(super) fn of(random: &mut Random) -> Self {
        let event = |number: u128| EventId(Uuid::from_u128(0x300 + (number << 64)));
        let auction = |number: u128| {
            let item = ItemId(Uuid::from_u128(0x200 + (number << 64)));
            (item, AuctionId(Slot::of(item.0).mint((number + 1) << 64)))
        };
        Self {
            events: (0..EVENTS).map(event).collect(),
            auctions: (0..AUCTIONS).map(auction).collect(),
            hold_ms: random.between(500, 6_000),
            auction_ms: random.between(4_000, 25_000),
        }
    }

    /// The commands that make them, each with its partition key.
    pub(super) fn creations(&self) -> Vec<(Uuid, Command)> {
        let events = self
            .events
            .iter()
            .map(|event| (event.0, self.create_event(*event)));
        let auctions = self.auctions.iter();
        let auctions = auctions.map(|(item, id)| (item.0, self.create_auction(*item, *id)));
        events.chain(auctions).collect()
    }

    fn create_event(&self, event_id: EventId) -> Command {
        let row = |number: u64| Row {
            name: number.to_string(),
            seats: RowSeats::Count(SEATS as u32),
        };
        Command::BoxOffice(box_office::Command::CreateEvent {
            host: HOST,
            event: Box::new(NewEvent {
                event_id,
                name: "Concert".to_owned(),
                artist: String::new(),
                venue: String::new(),
                starts_at: Timestamp::from_millis(WALL_EPOCH_MS + 86_400_000),
                on_sale_at: Timestamp::ZERO,
                currency: currency(),
                max_seats_per_buyer: 8,
                hold_ms: self.hold_ms,
                sections: vec![Section {
                    name: "A".to_owned(),
                    price: 1_000,
                    rows: (1..=ROWS).map(row).collect(),
                }],
            }),
        })
    }

    fn create_auction(&self, item_id: ItemId, auction_id: AuctionId) -> Command {
        let start_time = Timestamp::from_millis(WALL_EPOCH_MS - 1_000);
        let step = IncrementStep {
            from_price: 0,
            increment: 10,
        };
        Command::Auction(auction::Command::CreateAuction {
            host: HOST,
            auction: Box::new(NewAuction {
                auction_id,
                item: ItemChoice::New(NewItem {
                    item_id,
                    name: "Thing".to_owned(),
                    description: String::new(),
                    category: String::new(),
                    images: Vec::new(),
                }),
                title: "Thing".to_owned(),
                category: String::new(),
                currency: currency(),
                starting_price: 100,
                reserve_price: None,
                increments: vec![step],
                start_time,
                end_time: Timestamp::from_millis(WALL_EPOCH_MS + self.auction_ms),
                soft_close: Some(SoftClose {
                    window_ms: 1_000,
                    extend_ms: 2_000,
                    max_extensions: 3,
                }),
                withdrawal: auction::WithdrawalPolicy::Forbidden,
            }),
        })
    }

    /// A last command to each partition, so that each is seen to work.
    pub(super) fn last_words(&self, layout: SlotLayout) -> Vec<(PartitionId, Command)> {
        let mut at_partition = Vec::new();
        for partition in layout.iter() {
            // A refusal is as good as any other reply.
            let command = Command::BoxOffice(box_office::Command::HoldBestAvailable {
                event_id: self.events[0],
                buyer: HOST,
                section: None,
                quantity: 1,
            });
            at_partition.push((partition, command));
        }
        at_partition
    }

    /// A question, with its partition key.
    pub(super) fn query(&self, random: &mut Random) -> (Uuid, Query) {
        if random.chance(60) {
            let event_id = self.events[random.next() as usize % self.events.len()];
            let section = None;
            let query = Query::BoxOffice(box_office::Query::Seats { event_id, section });
            return (event_id.0, query);
        }
        let (item, auction_id) = self.auctions[random.next() as usize % self.auctions.len()];
        let query = Query::Auction(auction::Query::Auction { auction_id });
        (item.0, query)
    }

    /// A command of a user, with its partition key.
    pub(super) fn command(
        &self,
        random: &mut Random,
        buyer: UserId,
        holds: &[(EventId, HoldId)],
    ) -> (Uuid, Command) {
        use box_office::Command as C;
        let event_id = self.events[random.next() as usize % self.events.len()];
        let kind = random.between(0, 99);
        if kind < 30
            && let Some((event_id, hold_id)) = random.pick(holds).copied()
        {
            let command = if kind < 18 {
                C::Confirm {
                    event_id,
                    hold_id,
                    buyer,
                    payment_reference: "paid".to_owned(),
                }
            } else {
                C::Release {
                    event_id,
                    hold_id,
                    buyer,
                }
            };
            return (event_id.0, Command::BoxOffice(command));
        }
        if kind < 60 {
            let mut seats: Vec<String> = Vec::new();
            for _ in 0..random.between(1, 2) {
                let (row, seat) = (random.between(1, ROWS), random.between(1, SEATS));
                let label = format!("A-{row}-{seat}");
                if !seats.contains(&label) {
                    seats.push(label);
                }
            }
            let command = C::HoldSeats {
                event_id,
                buyer,
                seats,
            };
            return (event_id.0, Command::BoxOffice(command));
        }
        if kind < 70 {
            let command = C::HoldBestAvailable {
                event_id,
                buyer,
                section: None,
                quantity: random.between(1, 3) as u32,
            };
            return (event_id.0, Command::BoxOffice(command));
        }
        let (item, auction_id) = self.auctions[random.next() as usize % self.auctions.len()];
        // Most are too low once an auction has run for a while, some are not.
        let reach = 10 * (1 + random.next() % 60) as i64;
        let command = auction::Command::PlaceBid {
            auction_id,
            bidder: buyer,
            amount: 100 + reach,
        };
        (item.0, Command::Auction(command))
    }
}
