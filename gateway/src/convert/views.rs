//! Outwards: what the grid answers, as resources and replies. A reserve price is for its host only, and a
//! bidder's id becomes their alias.

use processing_unit::auction::{self, NotSoldReason, Outcome};
use processing_unit::box_office;
use processing_unit::{Currency, EventId, UserId};

use super::values::{alias, money, status, time};
use crate::protocol::view;
use crate::tickets::TicketSigner;

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
