//! The events of one auction or one event with seats, made again from its changes.
//!
//! The messages are made by the functions that make those of the subscribers on this node, from the
//! same changes. For auctions they are therefore the messages that a subscriber got, byte for byte. Seat
//! updates are merged for subscribers as their gateway finds the time; here there is one a log entry,
//! with the entry's time: merging those between two of a subscriber's cursors gives the subscriber's.
//!
//! What it deliberately does not do: read anything. Whoever has the changes brings them, in the log's
//! order, from the first one on.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use grid_core::{Cursor, PartitionId, Timestamp};
use processing_unit::box_office::{self, SeatIndex, SeatStates};
use processing_unit::{Change, Currency, UserId, auction};

use crate::convert;
use crate::hub::{Board, auction_frame, hold_expired_frame, seats_frame};
use crate::layout::EventLayout;

/// The changes do not begin with the one that made the auction or event, so the messages cannot be made.
/// Bring them from the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the history does not begin with the creation of the auction or event")]
pub struct NoBeginning;

/// Tells the changes of one auction or event as one of its subscribers got them.
#[derive(Debug)]
pub struct Retelling {
    viewer: Option<UserId>,
    of: Option<Of>,
}

#[derive(Debug)]
enum Of {
    Auction(Currency),
    Event(Box<Board>, Arc<EventLayout>),
}

impl Retelling {
    /// As this person got them; without one, as those did whom nothing concerned in person.
    #[must_use]
    pub fn new(viewer: Option<UserId>) -> Self {
        Self { viewer, of: None }
    }

    /// The messages about one log entry, given all its changes of the auction or event with their places
    /// among the entry's changes.
    ///
    /// # Errors
    /// [`NoBeginning`].
    pub fn entry<'a>(
        &mut self,
        (partition, index): (PartitionId, u64),
        at: Timestamp,
        changes: impl IntoIterator<Item = (u32, &'a Change)>,
    ) -> Result<Vec<Bytes>, NoBeginning> {
        let mut messages = Vec::new();
        let mut touched = None;
        for (seq, change) in changes {
            match change {
                Change::Auction(change) => {
                    let cursor = Cursor {
                        partition,
                        index,
                        seq,
                    };
                    messages.extend(self.auction(change, cursor, at)?);
                }
                Change::BoxOffice(change) => {
                    let (event_id, seats) =
                        touched.get_or_insert_with(|| (change.event_id(), BTreeSet::new()));
                    debug_assert_eq!(*event_id, change.event_id(), "one event at a time");
                    messages.extend(self.seats(index, change, seats)?);
                }
                // A subscriber is told nothing of it.
                Change::WaitingRoom(_) => {}
            }
        }
        if let (Some(Of::Event(board, _)), Some((event_id, seats))) = (&self.of, touched)
            && !seats.is_empty()
        {
            let cursor = Cursor::after_entry(partition, index);
            let at_ms = Some(at.as_millis());
            messages.push(seats_frame(event_id.0, board, &seats, cursor, at_ms));
        }
        Ok(messages)
    }

    fn auction(
        &mut self,
        change: &auction::Change,
        cursor: Cursor,
        at: Timestamp,
    ) -> Result<Option<Bytes>, NoBeginning> {
        if let auction::Change::AuctionCreated { auction, .. } = change {
            self.of = Some(Of::Auction(auction.currency));
        }
        if matches!(change, auction::Change::ItemCreated { .. }) {
            return Ok(None);
        }
        let Some(Of::Auction(currency)) = self.of else {
            return Err(NoBeginning);
        };
        let own = self.viewer.is_some() && convert::owner(change) == self.viewer;
        let at_ms = at.as_millis();
        Ok(auction_frame(change, currency, cursor, at_ms, own))
    }

    fn seats(
        &mut self,
        index: u64,
        change: &box_office::Change,
        touched: &mut BTreeSet<SeatIndex>,
    ) -> Result<Option<Bytes>, NoBeginning> {
        if let box_office::Change::EventCreated { event, .. } = change {
            let layout = Arc::new(EventLayout::new(event));
            let free = SeatStates {
                first: 0,
                states: vec![b'a'; layout.len()],
                labels: Vec::new(),
            };
            let board = Board::new(Arc::clone(&layout), free).ok_or(NoBeginning)?;
            self.of = Some(Of::Event(Box::new(board), layout));
            return Ok(None);
        }
        let Some(Of::Event(board, layout)) = &mut self.of else {
            return Err(NoBeginning);
        };
        convert::each_seat(change, |seat, state| {
            board.set(index, seat, state);
            touched.insert(seat);
        });
        let expired = hold_expired_frame(change, layout);
        Ok(expired.and_then(|(buyer, frame)| (Some(buyer) == self.viewer).then_some(frame)))
    }
}

#[cfg(test)]
mod tests {
    use processing_unit::auction::{NotSoldReason, Outcome, WithdrawalPolicy};
    use processing_unit::box_office::{NewEvent, ReleaseReason, Row, RowSeats, Section};
    use processing_unit::{AuctionId, BidId, EventId, HoldId, ItemId};
    use smallvec::smallvec;
    use uuid::Uuid;

    use super::*;

    const ANNA: UserId = UserId(Uuid::from_u128(10));
    const PARTITION: PartitionId = PartitionId(2);

    fn euro() -> Currency {
        Currency::from_code("EUR").expect("known")
    }

    fn told(retelling: &mut Retelling, index: u64, changes: &[Change]) -> Vec<String> {
        let at = Timestamp::from_millis(1_000 + index);
        let messages = retelling.entry((PARTITION, index), at, (0..).zip(changes));
        let messages = messages.expect("from the beginning").into_iter();
        messages
            .map(|json| String::from_utf8(json.to_vec()).expect("text"))
            .collect()
    }

    fn created() -> Change {
        Change::Auction(auction::Change::AuctionCreated {
            host: UserId(Uuid::from_u128(1)),
            item_id: ItemId(Uuid::from_u128(2)),
            auction: Box::new(auction::NewAuction {
                auction_id: AuctionId(Uuid::from_u128(3)),
                item: auction::ItemChoice::Existing(ItemId(Uuid::from_u128(2))),
                title: "Clock".to_owned(),
                category: String::new(),
                currency: euro(),
                starting_price: 100,
                reserve_price: None,
                increments: Vec::new(),
                start_time: Timestamp::ZERO,
                end_time: Timestamp::from_millis(9_000),
                soft_close: None,
                withdrawal: WithdrawalPolicy::Forbidden,
            }),
        })
    }

    fn bid() -> Change {
        Change::Auction(auction::Change::BidPlaced {
            auction_id: AuctionId(Uuid::from_u128(3)),
            bid_id: BidId(Uuid::from_u128(4)),
            bidder: ANNA,
            alias: 1,
            amount: 100,
            minimum_next: 200,
            bids: 1,
            reserve_met: true,
        })
    }

    #[test]
    fn an_auction_is_told_as_to_its_subscribers() {
        let mut for_all = Retelling::new(None);
        assert_eq!(told(&mut for_all, 4, &[created()]), Vec::<String>::new());
        let ended = Change::Auction(auction::Change::AuctionEnded {
            auction_id: AuctionId(Uuid::from_u128(3)),
            outcome: Outcome::NotSold {
                reason: NotSoldReason::Passed,
            },
        });
        assert_eq!(
            told(&mut for_all, 7, &[bid(), ended]),
            [
                r#"{"type":"bid_placed","auction_id":"00000000-0000-0000-0000-000000000003","data":{"bid_id":"00000000-0000-0000-0000-000000000004","user_id":"bidder-1","amount":{"amount":"1.00","currency":"EUR"},"current_price":{"amount":"1.00","currency":"EUR"},"minimum_next":{"amount":"2.00","currency":"EUR"},"bids":1,"reserve_met":true},"cursor":"2:7:0","timestamp":1007}"#,
                r#"{"type":"auction_ended","auction_id":"00000000-0000-0000-0000-000000000003","data":{"sold":false,"reason":"passed"},"cursor":"2:7:1","timestamp":1007}"#,
            ]
        );
        let mut for_anna = Retelling::new(Some(ANNA));
        told(&mut for_anna, 4, &[created()]);
        assert!(told(&mut for_anna, 7, &[bid()])[0].contains(r#""own":true"#));
    }

    #[test]
    fn a_history_without_its_beginning_cannot_be_told() {
        let changes = [bid()];
        let told = Retelling::new(None).entry((PARTITION, 7), Timestamp::ZERO, (0..).zip(&changes));
        assert_eq!(told, Err(NoBeginning));
    }

    #[test]
    fn seats_are_told_once_an_entry_and_an_expiry_to_its_holder() {
        let event_id = EventId(Uuid::from_u128(5));
        let created = Change::BoxOffice(box_office::Change::EventCreated {
            host: UserId(Uuid::from_u128(1)),
            event: Box::new(NewEvent {
                event_id,
                name: "Concert".to_owned(),
                artist: String::new(),
                venue: String::new(),
                starts_at: Timestamp::ZERO,
                on_sale_at: Timestamp::ZERO,
                currency: euro(),
                max_seats_per_buyer: 4,
                hold_ms: 1_000,
                sections: vec![Section {
                    name: "A".to_owned(),
                    price: 5_000,
                    rows: vec![Row {
                        name: "1".to_owned(),
                        seats: RowSeats::Count(3),
                    }],
                }],
            }),
        });
        let held = |seat| {
            Change::BoxOffice(box_office::Change::SeatsHeld {
                event_id,
                hold_id: HoldId(Uuid::from_u128(6)),
                buyer: ANNA,
                seats: smallvec![seat],
                expires_at: Timestamp::ZERO,
            })
        };
        let expired = Change::BoxOffice(box_office::Change::SeatsReleased {
            event_id,
            hold_id: HoldId(Uuid::from_u128(6)),
            buyer: ANNA,
            seats: smallvec![0],
            reason: ReleaseReason::Expired,
        });
        let mut retelling = Retelling::new(Some(ANNA));
        told(&mut retelling, 1, &[created]);
        assert_eq!(
            told(&mut retelling, 2, &[held(0), held(1)]),
            [
                r#"{"type":"seats_changed","event_id":"00000000-0000-0000-0000-000000000005","data":{"sections":[{"name":"A","available":1,"held":2,"sold":0}],"seats":[["A-1-1","held"],["A-1-2","held"]]},"cursor":"2:2:4294967295","timestamp":1002}"#
            ]
        );
        let both = told(&mut retelling, 3, &[expired]);
        assert_eq!(both.len(), 2, "{both:?}");
        assert!(
            both[0].starts_with(r#"{"type":"hold_expired","#),
            "{both:?}"
        );
        assert!(
            both[1].contains(r#""seats":[["A-1-1","available"]]"#),
            "{both:?}"
        );
    }
}
