//! Single values, both ways: money, times, states.

use grid_core::Timestamp;
use processing_unit::Currency;
use processing_unit::auction::Status;
use serde_json::value::RawValue;

use crate::failure::Failure;
use crate::protocol::amount::{AmountText, MoneyView};

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

pub(super) fn alias(number: u32) -> String {
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

pub(super) fn raw_minor(raw: &RawValue, field: &str, currency: Currency) -> Result<i64, Failure> {
    AmountText::read(raw)
        .map_err(|error| Failure::bad_request(format!("`{field}`: {error}")))
        .and_then(|amount| minor(&amount, currency))
}

pub(super) fn currency_from(code: &str) -> Result<Currency, Failure> {
    Currency::from_code(code)
        .ok_or_else(|| Failure::bad_request("`currency` is no known ISO 4217 code"))
}

/// When a waiting room opens.
pub(crate) fn room_time(text: &str) -> Result<Timestamp, Failure> {
    time_from(text, "opens_at")
}

pub(super) fn time_from(text: &str, field: &str) -> Result<Timestamp, Failure> {
    text.parse::<jiff::Timestamp>()
        .ok()
        .and_then(|at| u64::try_from(at.as_millisecond()).ok())
        .map(Timestamp::from_millis)
        .ok_or_else(|| {
            Failure::bad_request(format!("`{field}` is a time such as 2026-01-31T20:00:00Z"))
        })
}

pub(super) fn seconds_to_ms(seconds: u64, field: &str) -> Result<u64, Failure> {
    seconds
        .checked_mul(1_000)
        .ok_or_else(|| Failure::bad_request(format!("`{field}` is too long")))
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
}
