//! Items, auctions and bids.

use processing_unit::auction::{self, NewAuction};
use uuid::Uuid;

use super::super::rows::{
    AuctionRow, AuctionUpdate, BidRow, ItemRow, OutcomeColumns, RowSets, Standing,
};
use super::{PlacedChange, digits, int, json, millis, text, version};

pub(super) fn plan_auction(
    rows: &mut RowSets,
    placed: &PlacedChange<'_>,
    change: &auction::Change,
) {
    use auction::Change as C;
    let version = version(placed);
    let at = millis(placed.at);
    match change {
        C::ItemCreated { owner, item } => rows.items.push(ItemRow {
            item_id: item.item_id.0,
            owner: owner.0,
            name: text(&item.name),
            description: text(&item.description),
            category: text(&item.category),
            images: json(&item.images),
            created_at: at,
            version,
        }),
        C::AuctionCreated {
            host,
            item_id,
            auction,
        } => rows
            .auctions
            .push(auction_row(placed, host.0, item_id.0, auction)),
        C::AuctionStarted {
            auction_id,
            start_time,
        } => {
            let update = auction_update(rows, auction_id.0, version);
            update.status = Some("open");
            update.start_time = Some(millis(*start_time));
        }
        C::BidPlaced {
            auction_id,
            bid_id,
            bidder,
            alias,
            amount,
            minimum_next,
            bids,
            ..
        } => {
            auction_update(rows, auction_id.0, version).standing = Some(Standing {
                current_price: Some(*amount),
                minimum_next: *minimum_next,
                bids: int(*bids),
            });
            rows.bids.push(BidRow {
                auction_id: auction_id.0,
                bid_id: bid_id.0,
                bidder: bidder.0,
                alias: int(*alias),
                amount: *amount,
                at,
                log_index: version,
                seq: int(placed.seq),
            });
        }
        C::BidWithdrawn {
            auction_id,
            bid_id,
            current_price,
            minimum_next,
            bids,
            ..
        } => {
            auction_update(rows, auction_id.0, version).standing = Some(Standing {
                current_price: *current_price,
                minimum_next: *minimum_next,
                bids: int(*bids),
            });
            rows.bid_withdrawals
                .insert((auction_id.0, bid_id.0), version);
        }
        C::AuctionExtended {
            auction_id,
            end_time,
            extensions,
        } => {
            let update = auction_update(rows, auction_id.0, version);
            update.end_time = Some(millis(*end_time));
            update.extensions = Some(int(*extensions));
        }
        C::AuctionEnded {
            auction_id,
            outcome,
        } => {
            let update = auction_update(rows, auction_id.0, version);
            update.status = Some("ended");
            update.ended_at = Some(at);
            update.outcome = Some(outcome_columns(outcome));
        }
        C::AuctionCancelled { auction_id } => {
            let update = auction_update(rows, auction_id.0, version);
            update.status = Some("cancelled");
            update.ended_at = Some(at);
        }
    }
}

fn auction_row(
    placed: &PlacedChange<'_>,
    host: Uuid,
    item_id: Uuid,
    auction: &NewAuction,
) -> AuctionRow {
    AuctionRow {
        auction_id: auction.auction_id.0,
        item_id,
        host,
        title: text(&auction.title),
        category: text(&auction.category),
        currency: text(auction.currency.code()),
        minor_digits: digits(auction.currency.minor_digits()),
        starting_price: auction.starting_price,
        reserve_price: auction.reserve_price,
        start_time: millis(auction.start_time),
        end_time: millis(auction.end_time),
        created_at: millis(placed.at),
        version: version(placed),
    }
}

fn auction_update(rows: &mut RowSets, auction_id: Uuid, version: i64) -> &mut AuctionUpdate {
    let update = rows.auction_updates.entry(auction_id).or_default();
    update.version = version;
    update
}

fn outcome_columns(outcome: &auction::Outcome) -> OutcomeColumns {
    use auction::{NotSoldReason, Outcome};
    match outcome {
        Outcome::Sold {
            bid_id,
            winner,
            amount,
            ..
        } => OutcomeColumns {
            outcome: "sold",
            won: Some((winner.0, bid_id.0, *amount)),
        },
        Outcome::NotSold { reason } => OutcomeColumns {
            outcome: match reason {
                NotSoldReason::NoBids => "no_bids",
                NotSoldReason::ReserveNotMet => "reserve_not_met",
                NotSoldReason::Passed => "passed",
            },
            won: None,
        },
    }
}
