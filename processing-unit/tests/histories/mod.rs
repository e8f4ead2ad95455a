//! Random histories: what may be asked, and with which odds. A small world, so that commands meet.

use std::collections::BTreeMap;

use grid_core::{Slot, Timestamp};
use processing_unit::auction::{self, Actor, IncrementStep, ItemChoice, NewItem, SoftClose};
use processing_unit::box_office::{self, NewEvent, Row, RowSeats, Section};
use processing_unit::{
    AuctionId, BidId, Change, Command, Currency, EventId, HoldId, ItemId, UserId,
};
use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

/// Entries of one history.
pub(crate) const ENTRIES_MAX: usize = 60;

/// A command before the ids that the grid mints are known.
#[derive(Clone, Debug)]
pub(crate) enum Draft {
    Known(Box<Command>),
    /// Bid about the least amount that the auction last announced.
    BidNear {
        auction_id: AuctionId,
        bidder: UserId,
        above_minimum: i64,
    },
    /// Withdraw the bid with this number among all bids so far.
    Withdraw {
        bid: usize,
        by: Who,
    },
    /// Confirm the hold with this number among all holds so far.
    Confirm {
        hold: usize,
        by: Who,
        reference_len: usize,
    },
    Release {
        hold: usize,
        by: Who,
    },
}

/// Who asks for something minted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Who {
    ItsOwner,
    User(UserId),
}

#[derive(Clone, Debug)]
pub(crate) struct EntryDraft {
    /// May be negative: a new leader's clock may be behind.
    pub(crate) wait_ms: i64,
    pub(crate) drafts: Vec<Draft>,
}

pub(crate) fn user(number: u128) -> UserId {
    UserId(Uuid::from_u128(0x100 + number))
}

fn item(number: u128) -> ItemId {
    ItemId(Uuid::from_u128(0x200 + number))
}

/// Several auctions an item, all in its slot; from number 4 on in no item's slot.
fn auction(item_number: u128, number: u128) -> AuctionId {
    if number >= 4 {
        return AuctionId(Uuid::from_u128(0x400 + number));
    }
    AuctionId(Slot::of(item(item_number).0).mint(number << 64))
}

fn event(number: u128) -> EventId {
    EventId(Uuid::from_u128(0x300 + number))
}

fn users() -> impl Strategy<Value = UserId> {
    (0u128..5).prop_map(user)
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![4 => Just(Who::ItsOwner), 1 => users().prop_map(Who::User)]
}

fn actors() -> impl Strategy<Value = Actor> {
    // User 0 hosts almost everything.
    (
        prop_oneof![3 => Just(user(0)), 1 => users()],
        prop::bool::weighted(0.1),
    )
        .prop_map(|(user, is_manager)| Actor { user, is_manager })
}

fn auction_ids() -> impl Strategy<Value = AuctionId> {
    (0u128..2, 0u128..3).prop_map(|(item, number)| auction(item, number))
}

fn increments() -> impl Strategy<Value = Vec<IncrementStep>> {
    let step = |(from_price, increment)| IncrementStep {
        from_price,
        increment,
    };
    prop_oneof![
        4 => (1i64..20, 0i64..120, 1i64..40).prop_map(move |(first, from, second)| {
            [(0, first), (from + 1, second)].into_iter().map(step).collect::<Vec<_>>()
        }),
        1 => vec((0i64..3, 0i64..3), 0..3)
            .prop_map(move |steps| steps.into_iter().map(step).collect::<Vec<_>>()),
    ]
}

fn new_item(item_id: ItemId) -> NewItem {
    NewItem {
        item_id,
        name: "lamp".to_owned(),
        description: String::new(),
        category: String::new(),
        images: Vec::new(),
    }
}

prop_compose! {
    fn new_auctions()(
        item_number in 0u128..2,
        number in prop_oneof![20 => 0u128..3, 1 => Just(4u128)],
        is_new in prop::bool::weighted(0.7),
        starting_price in -2i64..60,
        reserve_above in prop::option::of(-3i64..100),
        increments in increments(),
        start in 0u64..1500,
        duration in 0u64..2500,
        soft in prop::option::of((0u64..1000, 0u64..1500, 0u32..4)),
        may_withdraw in any::<bool>(),
    ) -> auction::NewAuction {
        let item_id = item(item_number);
        auction::NewAuction {
            auction_id: auction(item_number, number),
            item: if is_new {
                ItemChoice::New(new_item(item_id))
            } else {
                ItemChoice::Existing(item_id)
            },
            title: "title".to_owned(),
            category: String::new(),
            currency: Currency::from_code("EUR").expect("known"),
            starting_price,
            reserve_price: reserve_above.map(|above| starting_price + above),
            increments,
            // Some are in the past by the time they are used.
            start_time: Timestamp::from_millis(start),
            end_time: Timestamp::from_millis(start + duration),
            soft_close: soft.map(|(window_ms, extend_ms, max_extensions)| SoftClose {
                window_ms,
                extend_ms,
                max_extensions,
            }),
            withdrawal: if may_withdraw {
                auction::WithdrawalPolicy::WhileOpen
            } else {
                auction::WithdrawalPolicy::Forbidden
            },
        }
    }
}

pub(crate) fn auction_drafts() -> impl Strategy<Value = Draft> {
    let command = |command| Draft::Known(Box::new(Command::Auction(command)));
    prop_oneof![
        1 => (prop_oneof![3 => Just(user(0)), 1 => users()], 0u128..2).prop_map(move |(owner, number)| command(
            auction::Command::CreateItem { owner, item: Box::new(new_item(item(number))) }
        )),
        4 => new_auctions().prop_map(move |auction| command(
            auction::Command::CreateAuction { host: user(0), auction: Box::new(auction) }
        )),
        1 => (auction_ids(), actors()).prop_map(move |(auction_id, by)| command(
            auction::Command::Start { auction_id, by }
        )),
        1 => (auction_ids(), actors()).prop_map(move |(auction_id, by)| command(
            auction::Command::Close { auction_id, by }
        )),
        1 => (auction_ids(), actors()).prop_map(move |(auction_id, by)| command(
            auction::Command::Cancel { auction_id, by }
        )),
        4 => (auction_ids(), users(), 0i64..250).prop_map(move |(auction_id, bidder, amount)| {
            command(auction::Command::PlaceBid { auction_id, bidder, amount })
        }),
        14 => (auction_ids(), users(), -2i64..10).prop_map(
            |(auction_id, bidder, above_minimum)| Draft::BidNear {
                auction_id,
                bidder,
                above_minimum,
            }
        ),
        3 => (any::<usize>(), who()).prop_map(|(bid, by)| Draft::Withdraw { bid, by }),
    ]
}

prop_compose! {
    fn new_events()(
        number in 0u128..2,
        on_sale_at in 0u64..300,
        max_seats_per_buyer in 0u32..9,
        hold_ms in 0u64..800,
        rows in vec(vec(1u32..8, 1..3), 1..4),
        prices in vec(0i64..500, 4),
    ) -> NewEvent {
        let sections = rows.iter().zip(prices).enumerate().map(|(number, (rows, price))| Section {
            name: format!("S-{number}"),
            price,
            rows: rows.iter().enumerate().map(|(row, seats)| Row {
                name: format!("R{row}"),
                seats: match row {
                    0 => RowSeats::Count(*seats),
                    _ => RowSeats::Labels((0..*seats).rev().map(|seat| seat.to_string()).collect()),
                },
            }).collect(),
        });
        NewEvent {
            event_id: event(number),
            name: "gig".to_owned(),
            artist: String::new(),
            venue: String::new(),
            starts_at: Timestamp::from_millis(10_000),
            on_sale_at: Timestamp::from_millis(on_sale_at),
            currency: Currency::from_code("EUR").expect("known"),
            max_seats_per_buyer,
            hold_ms,
            sections: sections.collect(),
        }
    }
}

fn labels() -> impl Strategy<Value = String> {
    (0u32..3, 0u32..2, 0u32..8)
        .prop_map(|(section, row, seat)| format!("S-{section}-R{row}-{seat}"))
}

pub(crate) fn box_office_drafts() -> impl Strategy<Value = Draft> {
    let command = |command| Draft::Known(Box::new(Command::BoxOffice(command)));
    let events = || (0u128..2).prop_map(event);
    prop_oneof![
        2 => new_events().prop_map(move |event| command(
            box_office::Command::CreateEvent { host: user(0), event: Box::new(event) }
        )),
        8 => (events(), users(), vec(labels(), 0..4)).prop_map(move |(event_id, buyer, seats)| {
            command(box_office::Command::HoldSeats { event_id, buyer, seats })
        }),
        8 => (events(), users(), prop::option::of(0u32..4), 0u32..5).prop_map(
            move |(event_id, buyer, section, quantity)| command(
                box_office::Command::HoldBestAvailable {
                    event_id,
                    buyer,
                    section: section.map(|number| format!("S-{number}")),
                    quantity,
                }
            )
        ),
        4 => (any::<usize>(), who(), 0usize..130).prop_map(|(hold, by, reference_len)| {
            Draft::Confirm { hold, by, reference_len }
        }),
        4 => (any::<usize>(), who()).prop_map(|(hold, by)| Draft::Release { hold, by }),
    ]
}

pub(crate) fn entries(
    drafts: impl Strategy<Value = Draft>,
) -> impl Strategy<Value = Vec<EntryDraft>> {
    let wait_ms = prop_oneof![6 => 0i64..60, 2 => 60i64..500, 1 => -100i64..0];
    let entry =
        (wait_ms, vec(drafts, 0..5)).prop_map(|(wait_ms, drafts)| EntryDraft { wait_ms, drafts });
    vec(entry, 1..ENTRIES_MAX)
}

/// What the grid has minted so far, with its owner.
#[derive(Default)]
pub(crate) struct Minted {
    bids: Vec<(AuctionId, BidId, UserId)>,
    minimums: BTreeMap<AuctionId, i64>,
    holds: Vec<(EventId, HoldId, UserId)>,
}

impl Minted {
    pub(crate) fn note(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Auction(auction::Change::BidPlaced {
                    auction_id,
                    bid_id,
                    bidder,
                    minimum_next,
                    ..
                }) => {
                    self.bids.push((*auction_id, *bid_id, *bidder));
                    self.minimums.insert(*auction_id, *minimum_next);
                }
                Change::Auction(auction::Change::BidWithdrawn {
                    auction_id,
                    minimum_next,
                    ..
                }) => {
                    self.minimums.insert(*auction_id, *minimum_next);
                }
                Change::BoxOffice(box_office::Change::SeatsHeld {
                    event_id,
                    hold_id,
                    buyer,
                    ..
                }) => self.holds.push((*event_id, *hold_id, *buyer)),
                _ => {}
            }
        }
    }

    pub(crate) fn command(&self, draft: &Draft) -> Option<Command> {
        let choose = |who: Who, owner: UserId| match who {
            Who::ItsOwner => owner,
            Who::User(user) => user,
        };
        let bid = |number: usize| self.bids.get(number.checked_rem(self.bids.len())?).copied();
        let hold = |number: usize| {
            self.holds
                .get(number.checked_rem(self.holds.len())?)
                .copied()
        };
        Some(match draft {
            Draft::Known(command) => (**command).clone(),
            Draft::BidNear {
                auction_id,
                bidder,
                above_minimum,
            } => {
                let announced = self.minimums.get(auction_id).copied();
                Command::Auction(auction::Command::PlaceBid {
                    auction_id: *auction_id,
                    bidder: *bidder,
                    amount: announced.unwrap_or(30) + above_minimum,
                })
            }
            Draft::Withdraw { bid: number, by } => {
                let (auction_id, bid_id, owner) = bid(*number)?;
                let by = Actor {
                    user: choose(*by, owner),
                    is_manager: false,
                };
                Command::Auction(auction::Command::WithdrawBid {
                    auction_id,
                    bid_id,
                    by,
                })
            }
            Draft::Confirm {
                hold: number,
                by,
                reference_len,
            } => {
                let (event_id, hold_id, owner) = hold(*number)?;
                Command::BoxOffice(box_office::Command::Confirm {
                    event_id,
                    hold_id,
                    buyer: choose(*by, owner),
                    payment_reference: "p".repeat(*reference_len),
                })
            }
            Draft::Release { hold: number, by } => {
                let (event_id, hold_id, owner) = hold(*number)?;
                Command::BoxOffice(box_office::Command::Release {
                    event_id,
                    hold_id,
                    buyer: choose(*by, owner),
                })
            }
        })
    }
}
