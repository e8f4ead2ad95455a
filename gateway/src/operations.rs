//! The commands of the protocol, the same whether they come over HTTP or a WebSocket.
//!
//! Each takes the client's words, finds the partition, gives the command its key and its fingerprint
//! (a hash of the client's words, not of ids minted here), and turns the reply into wire data. Ids that
//! the gateway mints follow from the key, so that a retry goes to the same partition.

use grid::CommandClass;
use grid_core::{IdempotencyKey, PartitionId, Slot};
use processing_unit::auction::{self, ItemChoice};
use processing_unit::box_office::{self, SEATS_PER_REQUEST_MAX};
use processing_unit::{
    AuctionId, BidId, Command, Currency, EventId, HoldId, ItemId, Reply, UserId,
};
use uuid::Uuid;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::convert;
use crate::failure::Failure;
use crate::identity::Caller;
use crate::protocol::amount::AmountText;
use crate::protocol::body::{AuctionBody, EventBody, ItemBody};
use crate::protocol::message::SeatChoice;
use crate::protocol::view::ReplyData;
use crate::refusals;
use crate::state::Shared;

/// What a host or manager does to an auction.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AuctionStep {
    Start,
    Close,
    Cancel,
}

/// A caller with the key they gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    pub(crate) caller: Caller,
    pub(crate) key: Option<&'a str>,
}

impl Asker<'_> {
    fn user(&self) -> UserId {
        self.caller.user
    }

    fn key(&self, shared: &Shared) -> Result<IdempotencyKey, Failure> {
        shared.command_key(self.caller.user, self.key)
    }
}

/// An id that follows from the command's key: a retry mints the same one.
fn minted(key: IdempotencyKey, purpose: &[u8]) -> u128 {
    let mut input = key.0.to_le_bytes().to_vec();
    input.extend_from_slice(purpose);
    xxh3_128(&input)
}

fn minted_id(key: IdempotencyKey, purpose: &[u8]) -> Uuid {
    uuid::Builder::from_random_bytes(minted(key, purpose).to_be_bytes()).into_uuid()
}

/// A command as it is handed to the grid: where it goes, and what makes it safe to repeat.
///
/// The fingerprint is over the parts of the client's request, each with its length, so that no two
/// requests read alike.
pub(crate) struct Operation<'a> {
    shared: &'a Shared,
    key: IdempotencyKey,
    partition: PartitionId,
    class: CommandClass,
    fingerprint: Xxh3,
}

impl<'a> Operation<'a> {
    fn new(shared: &'a Shared, key: IdempotencyKey, name: &str, entity: Uuid) -> Self {
        let operation = Self {
            shared,
            key,
            partition: shared.layout.partition_of(entity),
            class: CommandClass::New,
            fingerprint: Xxh3::new(),
        };
        operation.text(name)
    }

    /// Makes an entity whose id follows from the key, so that only the client's own words tell one
    /// request from another. `canonical` is its body with the fields in a fixed order.
    fn create(
        shared: &'a Shared,
        key: IdempotencyKey,
        name: &str,
        entity: Uuid,
        canonical: &str,
    ) -> Self {
        Self::new(shared, key, name, entity).text(canonical)
    }

    /// Does something to an entity that is there.
    pub(crate) fn on(
        shared: &'a Shared,
        asker: Asker<'_>,
        name: &str,
        entity: Uuid,
    ) -> Result<Self, Failure> {
        Ok(Self::new(shared, asker.key(shared)?, name, entity).id(entity))
    }

    pub(crate) fn draining(mut self) -> Self {
        self.class = CommandClass::Draining;
        self
    }

    pub(crate) fn text(mut self, part: &str) -> Self {
        self.fingerprint.update(&(part.len() as u64).to_le_bytes());
        self.fingerprint.update(part.as_bytes());
        self
    }

    fn id(mut self, id: Uuid) -> Self {
        self.fingerprint.update(id.as_bytes());
        self
    }

    pub(crate) fn number(mut self, number: i64) -> Self {
        self.fingerprint.update(&number.to_le_bytes());
        self
    }

    /// The hasher's buffers are not kept while the grid works.
    pub(crate) fn execute(
        self,
        command: Command,
    ) -> impl Future<Output = Result<Reply, Failure>> + use<'a> {
        let fingerprint = self.fingerprint.digest();
        self.shared
            .execute(self.class, self.partition, self.key, fingerprint, command)
    }

    /// Without a currency, a refusal's amounts are left out.
    fn auction(
        self,
        command: auction::Command,
        currency: Option<Currency>,
    ) -> impl Future<Output = Result<auction::Reply, Failure>> + use<'a> {
        let executing = self.execute(Command::Auction(command));
        async move {
            match executing.await? {
                Reply::Auction(Ok(reply)) => Ok(reply),
                Reply::Auction(Err(refusal)) => Err(refusals::auction_refusal(&refusal, currency)),
                _ => Err(Failure::unexpected("another domain's reply")),
            }
        }
    }

    fn box_office(
        self,
        command: box_office::Command,
    ) -> impl Future<Output = Result<box_office::Reply, Failure>> + use<'a> {
        let executing = self.execute(Command::BoxOffice(command));
        async move {
            match executing.await? {
                Reply::BoxOffice(Ok(reply)) => Ok(reply),
                Reply::BoxOffice(Err(refusal)) => Err(refusals::box_office_refusal(refusal)),
                _ => Err(Failure::unexpected("another domain's reply")),
            }
        }
    }
}

/// `canonical` is the client's body with its fields in a fixed order.
pub(crate) async fn create_item(
    shared: &Shared,
    asker: Asker<'_>,
    body: ItemBody,
    canonical: &str,
) -> Result<ReplyData, Failure> {
    let key = asker.key(shared)?;
    let item_id = minted_id(key, b"item");
    let command = auction::Command::CreateItem {
        owner: asker.user(),
        item: Box::new(convert::new_item(item_id, body)),
    };
    let operation = Operation::create(shared, key, "create_item", item_id, canonical);
    match operation.auction(command, None).await? {
        auction::Reply::ItemCreated { item_id } => Ok(ReplyData::Item { item_id: item_id.0 }),
        _ => Err(Failure::unexpected("an item was created")),
    }
}

/// See [`create_item`].
pub(crate) async fn create_auction(
    shared: &Shared,
    asker: Asker<'_>,
    mut body: AuctionBody,
    canonical: &str,
) -> Result<ReplyData, Failure> {
    let key = asker.key(shared)?;
    let (item_id, item) = match (body.item_id, body.item.take()) {
        (Some(item_id), None) => (item_id, ItemChoice::Existing(ItemId(item_id))),
        (None, Some(item)) => {
            let item_id = minted_id(key, b"item");
            let item = convert::new_item(item_id, item);
            (item_id, ItemChoice::New(item))
        }
        _ => {
            return Err(Failure::bad_request("either `item_id` or `item` is needed"));
        }
    };
    let auction_id = Slot::of(item_id).mint(minted(key, b"auction"));
    let command = auction::Command::CreateAuction {
        host: asker.user(),
        auction: Box::new(convert::new_auction(auction_id, item, body)?),
    };
    let operation = Operation::create(shared, key, "create_auction", auction_id, canonical);
    match operation.auction(command, None).await? {
        auction::Reply::AuctionCreated {
            auction_id,
            item_id,
        } => Ok(ReplyData::Auction {
            auction_id: auction_id.0,
            item_id: item_id.0,
        }),
        _ => Err(Failure::unexpected("an auction was created")),
    }
}

pub(crate) async fn step_auction(
    shared: &Shared,
    asker: Asker<'_>,
    auction_id: Uuid,
    step: AuctionStep,
) -> Result<ReplyData, Failure> {
    let (by, id) = (asker.caller.actor(), AuctionId(auction_id));
    let on = |name| Operation::on(shared, asker, name, auction_id);
    let (operation, command) = match step {
        AuctionStep::Start => (on("start")?, auction::Command::Start { auction_id: id, by }),
        AuctionStep::Close => (
            on("close")?.draining(),
            auction::Command::Close { auction_id: id, by },
        ),
        AuctionStep::Cancel => (
            on("cancel")?.draining(),
            auction::Command::Cancel { auction_id: id, by },
        ),
    };
    match operation.auction(command, None).await? {
        auction::Reply::Started => Ok(ReplyData::Status { status: "open" }),
        auction::Reply::Cancelled => Ok(ReplyData::Status {
            status: "cancelled",
        }),
        auction::Reply::Closed { outcome } => Ok(ReplyData::Closed {
            status: "ended",
            outcome: convert::outcome(&outcome, shared.auction_currency(id).await?),
        }),
        _ => Err(Failure::unexpected("an auction was stepped")),
    }
}

pub(crate) async fn place_bid(
    shared: &Shared,
    asker: Asker<'_>,
    auction_id: Uuid,
    amount: &AmountText,
) -> Result<ReplyData, Failure> {
    let id = AuctionId(auction_id);
    let currency = shared.auction_currency(id).await?;
    let amount = convert::minor(amount, currency)?;
    let command = auction::Command::PlaceBid {
        auction_id: id,
        bidder: asker.user(),
        amount,
    };
    let operation = Operation::on(shared, asker, "place_bid", auction_id)?.number(amount);
    match operation.auction(command, Some(currency)).await? {
        auction::Reply::BidPlaced {
            bid_id,
            amount,
            rank,
            minimum_next,
            end_time,
        } => Ok(ReplyData::Bid {
            bid_id: bid_id.0,
            rank,
            amount: convert::money(amount, currency),
            minimum_next: convert::money(minimum_next, currency),
            end_time: convert::time(end_time),
        }),
        _ => Err(Failure::unexpected("a bid was placed")),
    }
}

pub(crate) async fn withdraw_bid(
    shared: &Shared,
    asker: Asker<'_>,
    auction_id: Uuid,
    bid_id: Uuid,
) -> Result<ReplyData, Failure> {
    let command = auction::Command::WithdrawBid {
        auction_id: AuctionId(auction_id),
        bid_id: BidId(bid_id),
        by: asker.caller.actor(),
    };
    let operation = Operation::on(shared, asker, "withdraw_bid", auction_id)?.id(bid_id);
    match operation.auction(command, None).await? {
        auction::Reply::BidWithdrawn => Ok(ReplyData::Empty {}),
        _ => Err(Failure::unexpected("a bid was withdrawn")),
    }
}

/// See [`create_item`].
pub(crate) async fn create_event(
    shared: &Shared,
    asker: Asker<'_>,
    body: EventBody,
    canonical: &str,
) -> Result<ReplyData, Failure> {
    let key = asker.key(shared)?;
    let event_id = minted_id(key, b"event");
    let command = box_office::Command::CreateEvent {
        host: asker.user(),
        event: Box::new(convert::new_event(event_id, body)?),
    };
    let operation = Operation::create(shared, key, "create_event", event_id, canonical);
    match operation.box_office(command).await? {
        box_office::Reply::EventCreated { event_id, seats } => Ok(ReplyData::Event {
            event_id: event_id.0,
            seats,
        }),
        _ => Err(Failure::unexpected("an event was created")),
    }
}

pub(crate) async fn hold_seats(
    shared: &Shared,
    asker: Asker<'_>,
    event_id: Uuid,
    choice: SeatChoice,
) -> Result<ReplyData, Failure> {
    let (buyer, id) = (asker.user(), EventId(event_id));
    let is_too_much =
        matches!(&choice, SeatChoice::Seats(seats) if seats.len() > SEATS_PER_REQUEST_MAX);
    if is_too_much {
        return Err(Failure::bad_request("too many seats in one request"));
    }
    let mut operation = Operation::on(shared, asker, "hold_seats", event_id)?;
    let command = match choice {
        SeatChoice::Seats(seats) => {
            for seat in &seats {
                operation = operation.text(seat);
            }
            box_office::Command::HoldSeats {
                event_id: id,
                buyer,
                seats,
            }
        }
        SeatChoice::BestAvailable { section, quantity } => {
            operation = operation
                .number(i64::from(quantity))
                .text(section.as_deref().unwrap_or("\0any"));
            box_office::Command::HoldBestAvailable {
                event_id: id,
                buyer,
                section,
                quantity,
            }
        }
    };
    match operation.box_office(command).await? {
        box_office::Reply::Held {
            hold_id,
            seats,
            total,
            currency,
            expires_at,
        } => Ok(ReplyData::Hold {
            hold_id: hold_id.0,
            seats,
            total: convert::money(total, currency),
            expires_at: convert::time(expires_at),
        }),
        _ => Err(Failure::unexpected("seats were held")),
    }
}

pub(crate) async fn confirm_hold(
    shared: &Shared,
    asker: Asker<'_>,
    event_id: Uuid,
    hold_id: Uuid,
    payment_reference: String,
) -> Result<ReplyData, Failure> {
    let operation = Operation::on(shared, asker, "confirm_hold", event_id)?
        .draining()
        .id(hold_id)
        .text(&payment_reference);
    let command = box_office::Command::Confirm {
        event_id: EventId(event_id),
        hold_id: HoldId(hold_id),
        buyer: asker.user(),
        payment_reference,
    };
    match operation.box_office(command).await? {
        box_office::Reply::Confirmed { currency, tickets } => Ok(ReplyData::Tickets {
            tickets: tickets
                .into_iter()
                .map(|ticket| convert::ticket(ticket, EventId(event_id), currency, &shared.signer))
                .collect(),
        }),
        _ => Err(Failure::unexpected("a hold was confirmed")),
    }
}

pub(crate) async fn release_hold(
    shared: &Shared,
    asker: Asker<'_>,
    event_id: Uuid,
    hold_id: Uuid,
) -> Result<ReplyData, Failure> {
    let operation = Operation::on(shared, asker, "release_hold", event_id)?
        .draining()
        .id(hold_id);
    let command = box_office::Command::Release {
        event_id: EventId(event_id),
        hold_id: HoldId(hold_id),
        buyer: asker.user(),
    };
    match operation.box_office(command).await? {
        box_office::Reply::Released { seats } => Ok(ReplyData::Released { released: seats }),
        _ => Err(Failure::unexpected("a hold was released")),
    }
}
