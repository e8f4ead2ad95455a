//! Histories for this folder's tests.

use grid_core::{PartitionId, Timestamp};
use processing_unit::auction::{
    self, IncrementStep, ItemChoice, NewAuction, Outcome, SoftClose, WithdrawalPolicy,
};
use processing_unit::box_office::{
    self, NewEvent, ReleaseReason, Row, RowSeats, Section, SoldSeat,
};
use processing_unit::{
    AuctionId, BidId, Change, Currency, EventId, HoldId, ItemId, TicketId, UserId,
};
use uuid::Uuid;

use super::Entry;

/// 2026-01-31 19:00:00 UTC
pub(super) const START_MS: u64 = 1_769_886_000_000;
const MINUTE_MS: u64 = 60_000;

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn euro() -> Currency {
    Currency::from_code("EUR").expect("known")
}

fn entry(index: u64, at_ms: u64, changes: Vec<Change>) -> Entry {
    Entry {
        partition: PartitionId(3),
        index,
        at: Timestamp::from_millis(START_MS + at_ms),
        changes: (0..).zip(changes).collect(),
    }
}

fn of_auction(change: auction::Change) -> Change {
    Change::Auction(change)
}

fn bid(number: u128, alias: u32, amount: i64, bids: u32) -> Change {
    of_auction(auction::Change::BidPlaced {
        auction_id: AuctionId(id(3)),
        bid_id: BidId(id(100 + number)),
        bidder: UserId(id(1_000 + u128::from(alias))),
        alias,
        amount,
        minimum_next: amount + 500,
        bids,
        reserve_met: amount >= 12_000,
    })
}

/// An hour's auction with eight bids, one of them withdrawn, and a close that is extended twice.
pub(super) fn auction() -> Vec<Entry> {
    let auction_id = AuctionId(id(3));
    let start_time = Timestamp::from_millis(START_MS);
    let end_ms = 60 * MINUTE_MS;
    let extended = |end_ms: u64, extensions| {
        of_auction(auction::Change::AuctionExtended {
            auction_id,
            end_time: Timestamp::from_millis(START_MS + end_ms),
            extensions,
        })
    };
    vec![
        entry(
            10,
            0,
            vec![of_auction(auction::Change::AuctionCreated {
                host: UserId(id(1)),
                item_id: ItemId(id(2)),
                auction: Box::new(NewAuction {
                    auction_id,
                    item: ItemChoice::Existing(ItemId(id(2))),
                    title: "Clock <with> chimes".to_owned(),
                    category: "clocks".to_owned(),
                    currency: euro(),
                    starting_price: 10_000,
                    reserve_price: Some(12_000),
                    increments: vec![IncrementStep {
                        from_price: 0,
                        increment: 500,
                    }],
                    start_time,
                    end_time: Timestamp::from_millis(START_MS + end_ms),
                    soft_close: Some(SoftClose {
                        window_ms: MINUTE_MS,
                        extend_ms: 2 * MINUTE_MS,
                        max_extensions: 10,
                    }),
                    withdrawal: WithdrawalPolicy::WhileOpen,
                }),
            })],
        ),
        entry(
            11,
            3,
            vec![of_auction(auction::Change::AuctionStarted {
                auction_id,
                start_time,
            })],
        ),
        entry(14, 4 * MINUTE_MS + 120, vec![bid(1, 1, 10_000, 1)]),
        entry(15, 11 * MINUTE_MS, vec![bid(2, 2, 11_000, 2)]),
        entry(19, 31 * MINUTE_MS, vec![bid(3, 1, 11_500, 3)]),
        entry(21, 41 * MINUTE_MS, vec![bid(4, 3, 15_000, 4)]),
        entry(
            22,
            43 * MINUTE_MS,
            vec![of_auction(auction::Change::BidWithdrawn {
                auction_id,
                bid_id: BidId(id(104)),
                bidder: UserId(id(1_003)),
                alias: 3,
                current_price: Some(11_500),
                minimum_next: 12_000,
                bids: 3,
            })],
        ),
        entry(
            30,
            end_ms - 1_880,
            vec![
                bid(5, 2, 12_500, 4),
                extended(end_ms - 1_880 + 2 * MINUTE_MS, 1),
            ],
        ),
        entry(31, end_ms + MINUTE_MS / 2, vec![bid(6, 1, 13_000, 5)]),
        entry(
            32,
            end_ms + MINUTE_MS + 30_000,
            vec![
                bid(7, 2, 14_000, 6),
                extended(end_ms + 3 * MINUTE_MS + 30_000, 2),
            ],
        ),
        entry(35, end_ms + 2 * MINUTE_MS, vec![bid(8, 4, 16_500, 7)]),
        entry(
            40,
            end_ms + 3 * MINUTE_MS + 30_000,
            vec![of_auction(auction::Change::AuctionEnded {
                auction_id,
                outcome: Outcome::Sold {
                    bid_id: BidId(id(108)),
                    winner: UserId(id(1_004)),
                    alias: 4,
                    amount: 16_500,
                },
            })],
        ),
    ]
}

const EVENT: EventId = EventId(Uuid::from_u128(5));

fn held(hold: u128, seats: &[u32]) -> Change {
    Change::BoxOffice(box_office::Change::SeatsHeld {
        event_id: EVENT,
        hold_id: HoldId(id(hold << 96)),
        buyer: UserId(id(2_000 + hold)),
        seats: seats.iter().copied().collect(),
        expires_at: Timestamp::from_millis(START_MS + 5 * MINUTE_MS),
    })
}

fn released(hold: u128, seats: &[u32], reason: ReleaseReason) -> Change {
    Change::BoxOffice(box_office::Change::SeatsReleased {
        event_id: EVENT,
        hold_id: HoldId(id(hold << 96)),
        buyer: UserId(id(2_000 + hold)),
        seats: seats.iter().copied().collect(),
        reason,
    })
}

fn sold(hold: u128, seats: &[u32]) -> Change {
    Change::BoxOffice(box_office::Change::SeatsSold {
        event_id: EVENT,
        hold_id: HoldId(id(hold << 96)),
        buyer: UserId(id(2_000 + hold)),
        payment_reference: format!("pay-{hold}").into(),
        tickets: seats
            .iter()
            .map(|&seat| SoldSeat {
                ticket_id: TicketId(id(hold * 1_000 + u128::from(seat))),
                seat,
                price: 5_000,
            })
            .collect(),
    })
}

/// A hall of 45 seats of which some are sold, some come back, some stay held.
pub(super) fn event() -> Vec<Entry> {
    let rows = |names: &[&str], seats: u32| {
        names
            .iter()
            .map(|name| Row {
                name: (*name).to_owned(),
                seats: RowSeats::Count(seats),
            })
            .collect()
    };
    vec![
        entry(
            50,
            0,
            vec![Change::BoxOffice(box_office::Change::EventCreated {
                host: UserId(id(1)),
                event: Box::new(NewEvent {
                    event_id: EVENT,
                    name: "Autumn concert".to_owned(),
                    artist: "The Sextet".to_owned(),
                    venue: "Old Hall".to_owned(),
                    starts_at: Timestamp::from_millis(START_MS + 86_400_000),
                    on_sale_at: Timestamp::from_millis(START_MS + 1_000),
                    currency: euro(),
                    max_seats_per_buyer: 8,
                    hold_ms: 300_000,
                    sections: vec![
                        Section {
                            name: "Floor".to_owned(),
                            price: 5_000,
                            rows: rows(&["1", "2", "3"], 10),
                        },
                        Section {
                            name: "Balcony".to_owned(),
                            price: 2_500,
                            rows: rows(&["X"], 15),
                        },
                    ],
                }),
            })],
        ),
        entry(51, 1_020, vec![held(1, &[0, 1]), held(2, &[2, 3, 4])]),
        entry(52, 9_000, vec![held(3, &[10, 11, 12, 13, 14, 15, 16, 17])]),
        entry(53, 21_500, vec![sold(1, &[0, 1])]),
        entry(
            55,
            40_000,
            vec![
                released(2, &[2, 3, 4], ReleaseReason::Released),
                held(4, &[2, 3]),
            ],
        ),
        entry(57, 70_000, vec![sold(4, &[2, 3]), held(5, &[30, 31])]),
        entry(58, 130_000, vec![sold(5, &[30, 31])]),
        entry(
            60,
            5 * MINUTE_MS,
            vec![released(
                3,
                &[10, 11, 12, 13, 14, 15, 16, 17],
                ReleaseReason::Expired,
            )],
        ),
        entry(61, 5 * MINUTE_MS + 200, vec![held(6, &[10, 11])]),
    ]
}
