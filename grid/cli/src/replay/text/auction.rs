//! An auction's steps in words: when, how long to the close, who, what, and the prices.

use std::fmt::Write as _;

use grid_core::Timestamp;
use processing_unit::auction::{Change, NewAuction, NotSoldReason, Outcome};
use processing_unit::{Currency, UserId};

use crate::output::grouped;
use crate::replay::clock;

/// An auction on its way through its history.
pub(super) struct AuctionText {
    terms: NewAuction,
    is_private: bool,
    end_time: Timestamp,
    reserve_was_met: bool,
}

impl AuctionText {
    pub(super) fn new(terms: &NewAuction, is_private: bool) -> Self {
        Self {
            end_time: terms.end_time,
            terms: terms.clone(),
            is_private,
            reserve_was_met: false,
        }
    }

    fn currency(&self) -> Currency {
        self.terms.currency
    }

    fn amount(&self, minor: i64) -> String {
        self.currency().format_amount(minor)
    }

    /// The terms, and what the columns are.
    pub(super) fn heading(&self, host: UserId) -> String {
        let terms = &self.terms;
        let mut text = format!("{}\nauction {}", terms.title, terms.auction_id);
        if self.is_private {
            let _ = write!(text, ", host {host}");
        }
        let _ = write!(
            text,
            "\nfrom {} {}",
            self.amount(terms.starting_price),
            self.currency().code()
        );
        match terms.reserve_price {
            Some(reserve) if self.is_private => {
                let _ = write!(text, ", reserve {}", self.amount(reserve));
            }
            Some(_) => text.push_str(", with a reserve"),
            None => text.push_str(", without a reserve"),
        }
        let _ = write!(
            text,
            ", from {} to {}",
            clock::full(terms.start_time),
            clock::full(terms.end_time)
        );
        if let Some(rule) = terms.soft_close {
            let _ = write!(
                text,
                ", a bid in the last {} s moves the end to {} s after it",
                rule.window_ms / 1_000,
                rule.extend_ms / 1_000
            );
        }
        let _ = write!(
            text,
            "\n\n{:<24}  {:>17}  {:<11} what",
            "time", "to the close", "who"
        );
        text
    }

    fn step(&self, at: Timestamp, who: &str, what: &str) -> String {
        format!(
            "{}  {:>17}  {who:<11} {what}",
            clock::full(at),
            clock::offset(at, self.end_time)
        )
    }

    fn person(&self, text: &mut String, user: UserId) {
        if self.is_private {
            let _ = write!(text, "  ({user})");
        }
    }

    /// A change as a line; `None` for one that is not about the auction itself.
    pub(super) fn line(&mut self, at: Timestamp, change: &Change) -> Option<String> {
        Some(match change {
            Change::ItemCreated { .. } | Change::AuctionCreated { .. } => return None,
            Change::AuctionStarted { .. } => self.step(at, "", "opens"),
            Change::BidPlaced {
                bidder,
                alias,
                amount,
                minimum_next,
                bids,
                reserve_met,
                ..
            } => {
                let mut what = format!(
                    "bids {}  next {}  {}",
                    self.amount(*amount),
                    self.amount(*minimum_next),
                    count(*bids, "bid")
                );
                if *reserve_met && !self.reserve_was_met && self.terms.reserve_price.is_some() {
                    what.push_str("  reserve met");
                }
                self.reserve_was_met = *reserve_met;
                self.person(&mut what, *bidder);
                self.step(at, &alias_of(*alias), &what)
            }
            Change::BidWithdrawn {
                bidder,
                alias,
                current_price,
                minimum_next,
                bids,
                ..
            } => {
                let leads = current_price.map_or("nobody leads".to_owned(), |price| {
                    format!("{} leads", self.amount(price))
                });
                // Whether the reserve is still met is told again with the next bid.
                self.reserve_was_met = false;
                let mut what = format!(
                    "withdraws a bid  {leads}  next {}  {}",
                    self.amount(*minimum_next),
                    count(*bids, "bid")
                );
                self.person(&mut what, *bidder);
                self.step(at, &alias_of(*alias), &what)
            }
            Change::AuctionExtended {
                end_time,
                extensions,
                ..
            } => {
                self.end_time = *end_time;
                let what = format!(
                    "the end moves to {}  extension {extensions}",
                    clock::full(*end_time)
                );
                self.step(at, "", &what)
            }
            Change::AuctionEnded { outcome, .. } => self.ended(at, outcome),
            Change::AuctionCancelled { .. } => self.step(at, "", "is cancelled"),
        })
    }

    fn ended(&self, at: Timestamp, outcome: &Outcome) -> String {
        match outcome {
            Outcome::Sold {
                winner,
                alias,
                amount,
                ..
            } => {
                let currency = self.currency();
                let code = currency.code();
                let mut what =
                    format!("the hammer falls: sold for {} {code}", self.amount(*amount));
                self.person(&mut what, *winner);
                self.step(at, &alias_of(*alias), &what)
            }
            Outcome::NotSold { reason } => {
                let why = match reason {
                    NotSoldReason::NoBids => "no bids",
                    NotSoldReason::ReserveNotMet => "the reserve was not met",
                    NotSoldReason::Passed => "the host passed",
                };
                self.step(at, "", &format!("ends unsold: {why}"))
            }
        }
    }
}

/// The public alias, as clients get it.
pub(in crate::replay) fn alias_of(number: u32) -> String {
    format!("bidder-{number}")
}

/// `1 bid`, `2 bids`.
pub(in crate::replay) fn count(number: u32, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", grouped(number.into()))
}
