//! Where domain types and wire types meet; nowhere else. (Refusals, which are on neither side, become
//! failures in [`crate::refusals`].)
//!
//! Outwards: replies, refusals and changes become views; a reserve price becomes a view for its host
//! only, and a bidder's id becomes their alias. Inwards: bodies become the domain's terms, amounts exact
//! or refused.

use grid_core::Timestamp;
use processing_unit::auction::{self, ItemChoice, NotSoldReason, Outcome, Status};
use processing_unit::box_office::{self, Row, RowSeats, Section};
use processing_unit::{AuctionId, Currency, EventId, ItemId, UserId};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::failure::Failure;
use crate::protocol::amount::{AmountText, MoneyView};
use crate::protocol::body::{AuctionBody, EventBody, ItemBody, RowSeatsBody, WithdrawalBody};
use crate::protocol::view;
use crate::tickets::TicketSigner;

/// How often an auction is extended at most, unless it says so.
const MAX_EXTENSIONS_DEFAULT: u32 = 100;

pub(crate) fn money(minor: i64, currency: Currency) -> MoneyView {
    MoneyView {
        amount: currency.format_amount(minor),
        currency: currency.code().to_owned(),
    }
}

/// RFC 3339, UTC, with milliseconds.
pub(crate) fn time(at: Timestamp) -> String {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    let at = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
    format!("{at:.3}")
}

fn alias(number: u32) -> String {
    format!("bidder-{number}")
}

pub(crate) fn status(status: Status) -> &'static str {
    match status {
        Status::Scheduled => "scheduled",
        Status::Open => "open",
        Status::Ended => "ended",
        Status::Cancelled => "cancelled",
    }
}

pub(crate) fn status_from(text: &str) -> Result<Status, Failure> {
    match text {
        "scheduled" => Ok(Status::Scheduled),
        "open" => Ok(Status::Open),
        "ended" => Ok(Status::Ended),
        "cancelled" => Ok(Status::Cancelled),
        _ => Err(Failure::bad_request(
            "`status` is scheduled, open, ended or cancelled",
        )),
    }
}

pub(crate) fn outcome(outcome: &Outcome, currency: Currency) -> view::OutcomeView {
    match *outcome {
        Outcome::Sold {
            bid_id,
            alias: number,
            amount,
            ..
        } => view::OutcomeView::Sold {
            sold: true,
            winner: alias(number),
            amount: money(amount, currency),
            bid_id: bid_id.0,
        },
        Outcome::NotSold { reason } => view::OutcomeView::NotSold {
            sold: false,
            reason: match reason {
                NotSoldReason::NoBids => "no_bids",
                NotSoldReason::ReserveNotMet => "reserve_not_met",
                NotSoldReason::Passed => "passed",
            },
        },
    }
}

/// An auction as `viewer` may see it.
pub(crate) fn auction(auction: auction::AuctionView, viewer: Option<UserId>) -> view::AuctionView {
    let terms = auction.terms;
    let currency = terms.currency;
    let is_host = viewer == Some(auction.host);
    view::AuctionView {
        auction_id: terms.auction_id.0,
        item_id: auction.item_id.0,
        host_id: auction.host.0,
        title: terms.title,
        category: terms.category,
        currency: currency.code().to_owned(),
        status: status(auction.status),
        starting_price: money(terms.starting_price, currency),
        current_price: auction.current_price.map(|price| money(price, currency)),
        minimum_next: money(auction.minimum_next, currency),
        increments: terms
            .increments
            .iter()
            .map(|step| view::IncrementView {
                from: money(step.from_price, currency),
                increment: money(step.increment, currency),
            })
            .collect(),
        bids: auction.bids,
        leader: auction.leader_alias.map(alias),
        reserve_met: auction.reserve_met,
        reserve_price: terms
            .reserve_price
            .filter(|_| is_host)
            .map(|price| money(price, currency)),
        start_time: time(terms.start_time),
        end_time: time(auction.end_time),
        extensions: auction.extensions,
        soft_close: terms.soft_close.map(|rule| view::SoftCloseView {
            window_s: rule.window_ms / 1_000,
            extend_s: rule.extend_ms / 1_000,
            max_extensions: rule.max_extensions,
        }),
        withdrawal: match terms.withdrawal {
            auction::WithdrawalPolicy::Forbidden => "forbidden",
            auction::WithdrawalPolicy::WhileOpen => "while_open",
        },
        outcome: auction.outcome.map(|ended| outcome(&ended, currency)),
    }
}

pub(crate) fn bid(
    bid: &auction::BidView,
    currency: Currency,
    viewer: Option<UserId>,
) -> view::BidView {
    view::BidView {
        number: bid.number,
        bid_id: bid.bid_id.0,
        user_id: alias(bid.alias),
        amount: money(bid.amount, currency),
        at: time(bid.at),
        withdrawn: bid.withdrawn,
        own: viewer == Some(bid.bidder),
    }
}

pub(crate) fn own_bid(own: &auction::OwnBidView) -> view::OwnBidView {
    view::OwnBidView {
        auction_id: own.auction_id.0,
        status: status(own.status),
        leads: own.leads,
        number: own.bid.number,
        bid_id: own.bid.bid_id.0,
        amount: money(own.bid.amount, own.currency),
        at: time(own.bid.at),
        withdrawn: own.bid.withdrawn,
    }
}

pub(crate) fn item(view: auction::ItemView) -> view::ItemView {
    view::ItemView {
        item_id: view.item.item_id.0,
        owner_id: view.owner.0,
        name: view.item.name,
        description: view.item.description,
        category: view.item.category,
        images: view.item.images,
        auction_id: view.active_auction.map(|auction| auction.0),
    }
}

/// A change of an auction as its event: type, data, and whose own it is. `None` for changes that no
/// subscriber is told.
pub(crate) struct AuctionEvent {
    pub(crate) kind: &'static str,
    pub(crate) data: view::AuctionEventData,
    pub(crate) data_for_owner: Option<(UserId, view::AuctionEventData)>,
}

pub(crate) fn auction_event(change: &auction::Change, currency: Currency) -> Option<AuctionEvent> {
    use auction::Change;
    use view::AuctionEventData as Data;

    let (kind, owner, data): (_, _, Box<dyn Fn(bool) -> Data + '_>) = match change {
        Change::ItemCreated { .. } | Change::AuctionCreated { .. } => return None,
        Change::AuctionStarted { start_time, .. } => (
            "auction_started",
            None,
            Box::new(|_| Data::Started {
                start_time: time(*start_time),
            }),
        ),
        Change::BidPlaced {
            bid_id,
            bidder,
            alias: number,
            amount,
            minimum_next,
            bids,
            reserve_met,
            ..
        } => (
            "bid_placed",
            Some(*bidder),
            Box::new(|own| Data::BidPlaced {
                bid_id: bid_id.0,
                user_id: alias(*number),
                amount: money(*amount, currency),
                current_price: money(*amount, currency),
                minimum_next: money(*minimum_next, currency),
                bids: *bids,
                reserve_met: *reserve_met,
                own,
            }),
        ),
        Change::BidWithdrawn {
            bid_id,
            bidder,
            alias: number,
            current_price,
            minimum_next,
            bids,
            ..
        } => (
            "bid_withdrawn",
            Some(*bidder),
            Box::new(|own| Data::BidWithdrawn {
                bid_id: bid_id.0,
                user_id: alias(*number),
                current_price: current_price.map(|price| money(price, currency)),
                minimum_next: money(*minimum_next, currency),
                bids: *bids,
                own,
            }),
        ),
        Change::AuctionExtended {
            end_time,
            extensions,
            ..
        } => (
            "auction_extended",
            None,
            Box::new(|_| Data::Extended {
                end_time: time(*end_time),
                extensions: *extensions,
            }),
        ),
        Change::AuctionEnded { outcome: ended, .. } => (
            "auction_ended",
            match ended {
                Outcome::Sold { winner, .. } => Some(*winner),
                Outcome::NotSold { .. } => None,
            },
            Box::new(|own| Data::Ended {
                outcome: outcome(ended, currency),
                own,
            }),
        ),
        Change::AuctionCancelled { .. } => {
            ("auction_cancelled", None, Box::new(|_| Data::Cancelled {}))
        }
    };
    Some(AuctionEvent {
        kind,
        data: data(false),
        data_for_owner: owner.map(|owner| (owner, data(true))),
    })
}

fn section(count: box_office::SectionCount, currency: Currency) -> view::SectionView {
    view::SectionView {
        name: count.name,
        price: money(count.price, currency),
        total: count.total,
        available: count.available,
        held: count.held,
        sold: count.sold,
    }
}

pub(crate) fn sections(
    counts: Vec<box_office::SectionCount>,
    currency: Currency,
) -> Vec<view::SectionView> {
    counts
        .into_iter()
        .map(|count| section(count, currency))
        .collect()
}

pub(crate) fn event(event: box_office::EventView) -> view::EventView {
    view::EventView {
        event_id: event.event_id.0,
        host_id: event.host.0,
        name: event.name,
        artist: event.artist,
        venue: event.venue,
        starts_at: time(event.starts_at),
        on_sale_at: time(event.on_sale_at),
        currency: event.currency.code().to_owned(),
        max_seats_per_buyer: event.max_seats_per_buyer,
        hold_seconds: event.hold_ms / 1_000,
        seats: event.seats,
        sections: sections(event.sections, event.currency),
    }
}

pub(crate) fn hold(hold: box_office::HoldView) -> view::HoldView {
    view::HoldView {
        event_id: hold.event_id.0,
        hold_id: hold.hold_id.0,
        seats: hold.seats,
        total: money(hold.total, hold.currency),
        expires_at: time(hold.expires_at),
    }
}

pub(crate) fn ticket(
    ticket: box_office::TicketView,
    event_id: EventId,
    currency: Currency,
    signer: &TicketSigner,
) -> view::TicketView {
    view::TicketView {
        code: signer.code(ticket.ticket_id.0, event_id.0, &ticket.seat),
        ticket_id: ticket.ticket_id.0,
        seat: ticket.seat,
        price: money(ticket.price, currency),
    }
}

pub(crate) fn own_ticket(
    own: box_office::OwnTicketView,
    signer: &TicketSigner,
) -> view::OwnTicketView {
    view::OwnTicketView {
        event_id: own.event_id.0,
        payment_reference: own.payment_reference,
        ticket: ticket(own.ticket, own.event_id, own.currency, signer),
    }
}

pub(crate) fn ticket_row(
    row: box_office::TicketRow,
    event_id: EventId,
    currency: Currency,
    signer: &TicketSigner,
) -> view::TicketRowView {
    view::TicketRowView {
        code: signer.code(row.ticket_id.0, event_id.0, &row.seat),
        ticket_id: row.ticket_id.0,
        seat: row.seat,
        seat_index: row.seat_index,
        hold_id: row.hold_id.0,
        buyer_id: row.buyer.0,
        price: money(row.price, currency),
    }
}

/// A letter of the grid's compact seat states as a word.
pub(crate) fn seat_state(letter: u8) -> &'static str {
    match letter {
        b'h' => "held",
        b's' => "sold",
        _ => "available",
    }
}

/// An amount in minor units of the currency that the auction or event fixes.
pub(crate) fn minor(amount: &AmountText, currency: Currency) -> Result<i64, Failure> {
    if let Some(code) = &amount.currency
        && code != currency.code()
    {
        return Err(Failure::bad_request(format!(
            "the currency is {}",
            currency.code()
        )));
    }
    currency
        .parse_amount(&amount.amount)
        .map_err(|error| Failure::bad_request(error.to_string()))
}

fn raw_minor(raw: &RawValue, field: &str, currency: Currency) -> Result<i64, Failure> {
    AmountText::read(raw)
        .map_err(|error| Failure::bad_request(format!("`{field}`: {error}")))
        .and_then(|amount| minor(&amount, currency))
}

fn currency_from(code: &str) -> Result<Currency, Failure> {
    Currency::from_code(code)
        .ok_or_else(|| Failure::bad_request("`currency` is no known ISO 4217 code"))
}

fn time_from(text: &str, field: &str) -> Result<Timestamp, Failure> {
    text.parse::<jiff::Timestamp>()
        .ok()
        .and_then(|at| u64::try_from(at.as_millisecond()).ok())
        .map(Timestamp::from_millis)
        .ok_or_else(|| {
            Failure::bad_request(format!("`{field}` is a time such as 2026-01-31T20:00:00Z"))
        })
}

fn seconds_to_ms(seconds: u64, field: &str) -> Result<u64, Failure> {
    seconds
        .checked_mul(1_000)
        .ok_or_else(|| Failure::bad_request(format!("`{field}` is too long")))
}

pub(crate) fn new_item(item_id: Uuid, body: ItemBody) -> auction::NewItem {
    auction::NewItem {
        item_id: ItemId(item_id),
        name: body.name,
        description: body.description,
        category: body.category,
        images: body.images,
    }
}

/// The terms of a new auction; `item` was chosen or minted by the caller, as was the id.
pub(crate) fn new_auction(
    auction_id: Uuid,
    item: ItemChoice,
    body: AuctionBody,
) -> Result<auction::NewAuction, Failure> {
    let currency = currency_from(&body.currency)?;
    let title = match (body.title, &item) {
        (Some(title), _) => title,
        (None, ItemChoice::New(item)) => item.name.clone(),
        (None, ItemChoice::Existing(_)) => {
            return Err(Failure::bad_request("`title` is missing"));
        }
    };
    let increments = match (body.increment, body.increments) {
        (Some(_), Some(_)) => {
            return Err(Failure::bad_request(
                "either `increment` or `increments`, not both",
            ));
        }
        (None, Some(steps)) => steps
            .iter()
            .map(|step| {
                Ok(auction::IncrementStep {
                    from_price: raw_minor(&step.from, "from", currency)?,
                    increment: raw_minor(&step.increment, "increment", currency)?,
                })
            })
            .collect::<Result<_, Failure>>()?,
        (single, None) => vec![auction::IncrementStep {
            from_price: 0,
            increment: match single {
                Some(raw) => raw_minor(&raw, "increment", currency)?,
                None => 10_i64.pow(currency.minor_digits()),
            },
        }],
    };
    let soft_close = body
        .soft_close
        .map(|rule| {
            Ok::<_, Failure>(auction::SoftClose {
                window_ms: seconds_to_ms(rule.window_s, "window_s")?,
                extend_ms: seconds_to_ms(rule.extend_s, "extend_s")?,
                max_extensions: rule.max_extensions.unwrap_or(MAX_EXTENSIONS_DEFAULT),
            })
        })
        .transpose()?;
    Ok(auction::NewAuction {
        auction_id: AuctionId(auction_id),
        item,
        title,
        category: body.category,
        currency,
        starting_price: raw_minor(&body.starting_price, "starting_price", currency)?,
        reserve_price: body
            .reserve_price
            .map(|raw| raw_minor(&raw, "reserve_price", currency))
            .transpose()?,
        increments,
        start_time: time_from(&body.start_time, "start_time")?,
        end_time: time_from(&body.end_time, "end_time")?,
        soft_close,
        withdrawal: match body.withdrawal {
            WithdrawalBody::Forbidden => auction::WithdrawalPolicy::Forbidden,
            WithdrawalBody::WhileOpen => auction::WithdrawalPolicy::WhileOpen,
        },
    })
}

pub(crate) fn new_event(event_id: Uuid, body: EventBody) -> Result<box_office::NewEvent, Failure> {
    let currency = currency_from(&body.currency)?;
    let sections = body
        .sections
        .into_iter()
        .map(|section| {
            let rows = section.rows.into_iter().map(|row| Row {
                name: row.name,
                seats: match row.seats {
                    RowSeatsBody::Count(count) => RowSeats::Count(count),
                    RowSeatsBody::Labels(labels) => RowSeats::Labels(labels),
                },
            });
            Ok(Section {
                price: raw_minor(&section.price, "price", currency)?,
                rows: rows.collect(),
                name: section.name,
            })
        })
        .collect::<Result<_, Failure>>()?;
    Ok(box_office::NewEvent {
        event_id: EventId(event_id),
        name: body.name,
        artist: body.artist,
        venue: body.venue,
        starts_at: time_from(&body.starts_at, "starts_at")?,
        on_sale_at: time_from(&body.on_sale_at, "on_sale_at")?,
        currency,
        max_seats_per_buyer: body.max_seats_per_buyer,
        hold_ms: match body.hold_seconds {
            Some(seconds) => seconds_to_ms(seconds, "hold_seconds")?,
            None => box_office::HOLD_MS_DEFAULT,
        },
        sections,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn euro() -> Currency {
        Currency::from_code("EUR").expect("known")
    }

    #[test]
    fn amounts_fit_the_currency_or_are_refused() {
        let amount = |amount: &str, currency: Option<&str>| AmountText {
            amount: amount.to_owned(),
            currency: currency.map(str::to_owned),
        };
        assert_eq!(minor(&amount("150.00", None), euro()), Ok(15_000));
        assert_eq!(minor(&amount("150.00", Some("EUR")), euro()), Ok(15_000));
        for (text, currency) in [
            ("150.00", Some("USD")),
            ("150.0", None),
            ("-1.00", None),
            ("1e5", None),
            ("99999999999999999", None),
            ("", None),
        ] {
            assert!(minor(&amount(text, currency), euro()).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_utc_with_milliseconds() {
        assert_eq!(time(Timestamp::from_millis(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(
            time_from("2026-01-31T21:00:00+01:00", "t").map(time),
            Ok("2026-01-31T20:00:00.000Z".to_owned())
        );
        for text in [
            "",
            "tomorrow",
            "1969-12-31T23:59:59Z",
            "2026-02-30T00:00:00Z",
        ] {
            assert!(time_from(text, "t").is_err(), "{text}");
        }
        assert!(!time(Timestamp::from_millis(u64::MAX)).is_empty());
    }

    #[test]
    fn terms_are_read_with_their_defaults() {
        let body: AuctionBody = serde_json::from_str(
            r#"{"item":{"name":"Guitar"},"currency":"EUR","starting_price":100,
                "start_time":"2026-01-01T00:00:00Z","end_time":"2026-01-02T00:00:00Z"}"#,
        )
        .expect("well-formed");
        let item = ItemChoice::New(new_item(
            Uuid::nil(),
            ItemBody {
                name: "Guitar".to_owned(),
                description: String::new(),
                category: String::new(),
                images: Vec::new(),
            },
        ));
        let terms = new_auction(Uuid::nil(), item, body).expect("sensible");
        assert_eq!(terms.title, "Guitar");
        assert_eq!(terms.starting_price, 10_000);
        assert_eq!(terms.increments[0].increment, 100);
    }
}
