//! A sale's steps in words: when, how long since it opened, what is left, which hold, what happened.

use std::fmt::Write as _;

use grid_core::Timestamp;
use processing_unit::box_office::{Change, NewEvent, ReleaseReason, SeatIndex};
use processing_unit::{Currency, HoldId, UserId};

use crate::replay::clock;
use crate::replay::seats::SeatBoard;

/// Seats that a line names; the rest are counted.
const SEATS_NAMED_MAX: usize = 6;
/// Digits of a hold's id that are shown: enough to tell the holds of one sale apart.
const HOLD_DIGITS: usize = 8;

/// A sale on its way through its history.
pub(super) struct EventText {
    name: String,
    place: String,
    event_id: String,
    on_sale_at: Timestamp,
    starts_at: Timestamp,
    currency: Currency,
    is_private: bool,
    board: SeatBoard,
}

impl EventText {
    pub(super) fn new(event: &NewEvent, is_private: bool) -> Self {
        let place = [event.artist.as_str(), event.venue.as_str()];
        let place: Vec<&str> = place.into_iter().filter(|part| !part.is_empty()).collect();
        Self {
            name: event.name.clone(),
            place: place.join(", "),
            event_id: event.event_id.to_string(),
            on_sale_at: event.on_sale_at,
            starts_at: event.starts_at,
            currency: event.currency,
            is_private,
            board: SeatBoard::new(event),
        }
    }

    /// What is sold, and what the columns are.
    pub(super) fn heading(&self, host: UserId) -> String {
        let mut text = self.name.clone();
        if !self.place.is_empty() {
            let _ = write!(text, " ({})", self.place);
        }
        let _ = write!(text, "\nevent {}", self.event_id);
        if self.is_private {
            let _ = write!(text, ", host {host}");
        }
        let _ = write!(
            text,
            "\n{} seats, on sale from {}, starts {}",
            self.board.counts().free,
            clock::full(self.on_sale_at),
            clock::full(self.starts_at)
        );
        let _ = write!(
            text,
            "\n\n{:<24}  {:>17}  {:>7} {:>7} {:>7}  {:<HOLD_DIGITS$}  what",
            "time", "since the opening", "free", "held", "sold", "hold"
        );
        text
    }

    /// A change as a line.
    pub(super) fn line(&mut self, at: Timestamp, change: &Change) -> Option<String> {
        self.board.apply(change);
        let (hold, buyer, what) = match change {
            Change::EventCreated { .. } => return None,
            Change::SeatsHeld {
                hold_id,
                buyer,
                seats,
                expires_at,
                ..
            } => {
                let seats = self.named("holds", seats);
                let until = clock::formatted(*expires_at, "%H:%M:%S");
                (hold_id, buyer, format!("{seats}, until {until}"))
            }
            Change::SeatsReleased {
                hold_id,
                buyer,
                seats,
                reason,
                ..
            } => {
                let verb = match reason {
                    ReleaseReason::Released => "lets go of",
                    ReleaseReason::Expired => "loses by expiry",
                };
                (hold_id, buyer, self.named(verb, seats))
            }
            Change::SeatsSold {
                hold_id,
                buyer,
                payment_reference,
                tickets,
                ..
            } => {
                let seats: Vec<SeatIndex> = tickets.iter().map(|sold| sold.seat).collect();
                let total: i64 = tickets.iter().map(|sold| sold.price).sum();
                let total = self.currency.format_amount(total);
                let mut what = format!(
                    "{} for {total} {}",
                    self.named("buys", &seats),
                    self.currency.code()
                );
                if self.is_private {
                    let _ = write!(what, ", payment {payment_reference}");
                }
                (hold_id, buyer, what)
            }
        };
        Some(self.step(at, *hold, *buyer, &what))
    }

    fn step(&self, at: Timestamp, hold: HoldId, buyer: UserId, what: &str) -> String {
        let counts = self.board.counts();
        let mut hold = hold.0.simple().to_string();
        hold.truncate(HOLD_DIGITS);
        let mut text = format!(
            "{}  {:>17}  {:>7} {:>7} {:>7}  {hold}  {what}",
            clock::full(at),
            clock::offset(at, self.on_sale_at),
            counts.free,
            counts.held,
            counts.sold,
        );
        if self.is_private {
            let _ = write!(text, "  ({buyer})");
        }
        text
    }

    fn named(&self, verb: &str, seats: &[SeatIndex]) -> String {
        let names: Vec<&str> = seats
            .iter()
            .take(SEATS_NAMED_MAX)
            .map(|seat| self.board.label(*seat))
            .collect();
        let more = match seats.len().saturating_sub(SEATS_NAMED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{verb} {}: {}{more}", seats.len(), names.join(" "))
    }
}
