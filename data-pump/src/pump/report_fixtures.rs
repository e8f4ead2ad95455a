//! A sale and some auctions that are small enough to work every report out by hand.
//!
//! Times are seconds after nine o'clock. Users: hosts 1 and 2, bidders 101 to 104, buyers 901 to 904.
//! Ticket n of hold h is h * 100 + n.

use std::sync::Arc;

use grid_core::{ChangeBatch, StateHash, Timestamp};
use processing_unit::auction::{
    self, ItemChoice, NewAuction, NewItem, NotSoldReason, Outcome, WithdrawalPolicy,
};
use processing_unit::box_office::{
    self, NewEvent, ReleaseReason, Row, RowSeats, Section, SoldSeat,
};
use processing_unit::{
    AuctionId, BidId, Change, Currency, EventId, HoldId, ItemId, TicketId, UserId, waiting_room,
};

use super::fixtures::id;

/// 2025-10-09 09:00:00 UTC.
pub(super) const NINE_MS: u64 = 1_760_000_400_000;

pub(super) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(NINE_MS + seconds * 1_000)
}

type Entry = Arc<ChangeBatch<Change>>;

/// A log that grows by an entry a change.
struct Log(Vec<Entry>);

impl Log {
    fn add(&mut self, seconds: u64, change: Change) {
        self.0.push(Arc::new(ChangeBatch {
            index: self.0.len() as u64 + 1,
            at: at(seconds),
            hash: StateHash::default(),
            changes: vec![change],
        }));
    }

    fn office(&mut self, seconds: u64, change: box_office::Change) {
        self.add(seconds, Change::BoxOffice(change));
    }

    fn auction(&mut self, seconds: u64, change: auction::Change) {
        self.add(seconds, Change::Auction(change));
    }

    fn event(&mut self, event: u128, name: &str, currency: &str, sections: Vec<Section>) {
        let created = box_office::Change::EventCreated {
            host: UserId(id(1)),
            event: Box::new(NewEvent {
                event_id: EventId(id(event)),
                name: name.to_owned(),
                artist: "The Sextet".to_owned(),
                venue: "Old Hall".to_owned(),
                starts_at: at(36_000 + event as u64 * 60),
                on_sale_at: at(0),
                currency: Currency::from_code(currency).expect("known"),
                max_seats_per_buyer: 8,
                hold_ms: 300_000,
                sections,
            }),
        };
        self.office(0, created);
    }

    fn hold(&mut self, seconds: u64, hold: u128, buyer: u128, seats: &[u32]) {
        let held = box_office::Change::SeatsHeld {
            event_id: EventId(id(5)),
            hold_id: HoldId(id(hold)),
            buyer: UserId(id(buyer)),
            seats: seats.iter().copied().collect(),
            expires_at: at(seconds + 300),
        };
        self.office(seconds, held);
    }

    fn release(&mut self, seconds: u64, hold: u128, seats: &[u32], reason: ReleaseReason) {
        let released = box_office::Change::SeatsReleased {
            event_id: EventId(id(5)),
            hold_id: HoldId(id(hold)),
            buyer: UserId(id(903)),
            seats: seats.iter().copied().collect(),
            reason,
        };
        self.office(seconds, released);
    }

    fn sell(&mut self, seconds: u64, hold: u128, buyer: u128, seats: &[(u32, i64)], payment: &str) {
        let sold = box_office::Change::SeatsSold {
            event_id: EventId(id(5)),
            hold_id: HoldId(id(hold)),
            buyer: UserId(id(buyer)),
            payment_reference: payment.into(),
            tickets: (1..)
                .zip(seats)
                .map(|(number, &(seat, price))| SoldSeat {
                    ticket_id: TicketId(id(hold * 100 + number)),
                    seat,
                    price,
                })
                .collect(),
        };
        self.office(seconds, sold);
    }

    /// Item n * 10 and auction n, begun at once.
    fn open(&mut self, auction: u128, host: u128, description: &str, (start, end): (u64, u64)) {
        let (host, item_id) = (UserId(id(host)), ItemId(id(auction * 10)));
        let item = auction::Change::ItemCreated {
            owner: host,
            item: Box::new(NewItem {
                item_id,
                name: "a thing".to_owned(),
                description: description.to_owned(),
                category: "things".to_owned(),
                images: Vec::new(),
            }),
        };
        self.auction(start, item);
        let created = auction::Change::AuctionCreated {
            host,
            item_id,
            auction: Box::new(NewAuction {
                auction_id: AuctionId(id(auction)),
                item: ItemChoice::Existing(item_id),
                title: format!("Lot {}", auction - 30),
                category: "things".to_owned(),
                currency: Currency::from_code("EUR").expect("known"),
                starting_price: 1_000,
                reserve_price: (auction == 34).then_some(50_000),
                increments: Vec::new(),
                start_time: at(start),
                end_time: at(end),
                soft_close: None,
                withdrawal: WithdrawalPolicy::WhileOpen,
            }),
        };
        self.auction(start, created);
        let started = auction::Change::AuctionStarted {
            auction_id: AuctionId(id(auction)),
            start_time: at(start),
        };
        self.auction(start, started);
    }

    /// Bid number n of an auction is a * 100 + n; aliases are the bidders' last digits.
    fn bid(&mut self, seconds: u64, bid: u128, bidder: u128, euros: i64, bids: u32) {
        let placed = auction::Change::BidPlaced {
            auction_id: AuctionId(id(bid / 100)),
            bid_id: BidId(id(bid)),
            bidder: UserId(id(bidder)),
            alias: (bidder - 100) as u32,
            amount: euros * 100,
            minimum_next: euros * 100 + 100,
            bids,
            reserve_met: true,
        };
        self.auction(seconds, placed);
    }

    fn withdraw(&mut self, seconds: u64, bid: u128, bidder: u128, left: Option<i64>, bids: u32) {
        let withdrawn = auction::Change::BidWithdrawn {
            auction_id: AuctionId(id(bid / 100)),
            bid_id: BidId(id(bid)),
            bidder: UserId(id(bidder)),
            alias: (bidder - 100) as u32,
            current_price: left.map(|euros| euros * 100),
            minimum_next: 1_000,
            bids,
        };
        self.auction(seconds, withdrawn);
    }

    fn end(&mut self, seconds: u64, auction: u128, outcome: Outcome) {
        let ended = auction::Change::AuctionEnded {
            auction_id: AuctionId(id(auction)),
            outcome,
        };
        self.auction(seconds, ended);
    }
}

fn section(name: &str, price: i64, rows: &[(&str, u32)]) -> Section {
    Section {
        name: name.to_owned(),
        price,
        rows: rows
            .iter()
            .map(|&(name, seats)| Row {
                name: name.to_owned(),
                seats: RowSeats::Count(seats),
            })
            .collect(),
    }
}

fn sold(bid: u128, winner: u128, euros: i64) -> Outcome {
    Outcome::Sold {
        bid_id: BidId(id(bid)),
        winner: UserId(id(winner)),
        alias: (winner - 100) as u32,
        amount: euros * 100,
    }
}

/// Event 5 sells four of its seven seats, event 6 none of its two.
///
/// | hold | made at | seats | what became of it |
/// |---|---|---|---|
/// | 20, buyer 901 | 10 | 0 and 1 (A, 89.50 each) | paid at 40 |
/// | 21, buyer 902 | 12 | 4 (B, 45.00) | paid at 72 |
/// | 22, buyer 903 | 75 | 2 and 3 | given back at 100 |
/// | 23, buyer 903 | 110 | 3 | ran out at 410 |
/// | 24, buyer 901 | 420 | 5 (B, 45.00) | paid at 430 |
/// | 25, buyer 904 | 440 | 6 | runs until 740 |
fn sales(log: &mut Log) {
    let sections = vec![
        section("A", 8_950, &[("1", 2), ("2", 2)]),
        section("B", 4_500, &[("X", 3)]),
    ];
    log.event(5, "Autumn concert", "EUR", sections);
    log.event(
        6,
        "Zen evening",
        "JPY",
        vec![section("Floor", 3_000, &[("1", 2)])],
    );
    log.hold(10, 20, 901, &[0, 1]);
    log.hold(12, 21, 902, &[4]);
    log.sell(40, 20, 901, &[(0, 8_950), (1, 8_950)], "pay-1");
    log.sell(72, 21, 902, &[(4, 4_500)], "pay-2");
    log.hold(75, 22, 903, &[2, 3]);
    log.release(100, 22, &[2, 3], ReleaseReason::Released);
    log.hold(110, 23, 903, &[3]);
    log.release(410, 23, &[3], ReleaseReason::Expired);
    log.hold(420, 24, 901, &[5]);
    log.sell(430, 24, 901, &[(5, 4_500)], "pay-3");
    log.hold(440, 25, 904, &[6]);
}

/// Lots 1 to 3 are host 1's, lots 4 to 6 host 2's.
///
/// * 101 and 102 answer each other four times in lot 1 and four times in lot 2.
/// * 102 bids in all three lots of host 1 and in lot 4, and wins none.
/// * 104 bids four times in the last 30 seconds of lot 3; 102 three times, and once as they begin.
/// * 101 outbids 102 in lot 4 and withdraws. In lot 5 104 withdraws what outbid nobody, and then 103
///   what outbid only that.
fn auctions(log: &mut Log) {
    log.open(
        31,
        1,
        "A chair\n\nEstimate: EUR 90.00 to 120.00",
        (900, 1_200),
    );
    log.bid(1_000, 3_101, 101, 100, 1);
    log.bid(1_010, 3_102, 102, 110, 2);
    log.bid(1_020, 3_103, 101, 120, 3);
    log.bid(1_070, 3_104, 102, 130, 4);
    log.bid(1_080, 3_105, 101, 140, 5);
    let extended = auction::Change::AuctionExtended {
        auction_id: AuctionId(id(31)),
        end_time: at(1_300),
        extensions: 1,
    };
    log.auction(1_080, extended);
    log.end(1_300, 31, sold(3_105, 101, 140));

    log.open(32, 1, "Estimate: EUR 200.00", (1_900, 2_120));
    log.bid(2_000, 3_201, 102, 100, 1);
    log.bid(2_030, 3_202, 101, 150, 2);
    log.bid(2_090, 3_203, 102, 160, 3);
    log.bid(2_100, 3_204, 101, 170, 4);
    log.bid(2_110, 3_205, 102, 175, 5);
    log.bid(2_115, 3_206, 103, 180, 6);
    log.end(2_120, 32, sold(3_206, 103, 180));

    log.open(
        33,
        1,
        "A bow\n\nEstimate: EUR 150.00 to 170.00",
        (2_900, 3_070),
    );
    let bids = [
        (3_040, 102, 100),
        (3_041, 104, 110),
        (3_043, 102, 120),
        (3_045, 104, 130),
        (3_047, 102, 140),
        (3_050, 104, 150),
        (3_055, 102, 155),
        (3_060, 104, 160),
    ];
    for (number, (seconds, bidder, euros)) in (1..).zip(bids) {
        log.bid(seconds, 3_300 + u128::from(number), bidder, euros, number);
    }
    log.end(3_070, 33, sold(3_308, 104, 160));

    // An estimate in another currency is none.
    log.open(34, 2, "Estimate: USD 90.00 to 120.00", (3_900, 4_300));
    log.bid(4_000, 3_401, 103, 100, 1);
    log.bid(4_010, 3_402, 102, 120, 2);
    log.bid(4_020, 3_403, 101, 150, 3);
    log.withdraw(4_055, 3_403, 101, Some(120), 2);
    let reason = NotSoldReason::ReserveNotMet;
    log.end(4_300, 34, Outcome::NotSold { reason });

    log.open(
        35,
        2,
        "A vase\n\nEstimate: EUR 10.00 to 20.00",
        (4_900, 5_300),
    );
    log.bid(5_000, 3_501, 104, 10, 1);
    log.withdraw(5_010, 3_501, 104, None, 0);
    log.bid(5_020, 3_502, 103, 10, 1);
    log.withdraw(5_030, 3_502, 103, None, 0);
    let reason = NotSoldReason::NoBids;
    log.end(5_300, 35, Outcome::NotSold { reason });

    log.open(36, 2, "Estimate: EUR 1.00 to 2.00", (5_900, 9_000));
    log.bid(6_000, 3_601, 104, 50, 1);
}

/// Everything, in log order.
/// Three come to the concert's room within a minute; one leaves, two get in, one of them buys.
fn waiting_room(log: &mut Log) {
    let event_id = EventId(id(5));
    let mut told = |seconds, change| log.add(seconds, Change::WaitingRoom(change));
    for number in 0..3 {
        let user = UserId(id(901 + u128::from(number)));
        let joined = waiting_room::Change::Joined {
            event_id,
            user,
            number,
        };
        told(5_000 + u64::from(number), joined);
    }
    let left = waiting_room::Change::Left {
        event_id,
        user: UserId(id(902)),
        number: 1,
    };
    told(5_010, left);
    let admitted = waiting_room::Change::Admitted {
        event_id,
        first_rank: 0,
        end_rank: 3,
        passes: 2,
        expires_at: at(5_160),
    };
    told(5_100, admitted);
    let bought = waiting_room::Change::PassEnded {
        event_id,
        user: UserId(id(901)),
        number: 0,
        reason: waiting_room::PassEnd::Bought,
    };
    told(5_120, bought);
    let numbers = [2].into();
    told(
        5_160,
        waiting_room::Change::PassesExpired { event_id, numbers },
    );
}

pub(super) fn history() -> Vec<Entry> {
    let mut log = Log(Vec::new());
    sales(&mut log);
    auctions(&mut log);
    waiting_room(&mut log);
    log.0
}
