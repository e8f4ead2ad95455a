//! Money on the wire: exact decimal text, never a floating-point number.
//!
//! Accepted: `"150.00"`, `150.00`, `{"amount":"150.00","currency":"EUR"}`. A JSON number is read as
//! the text that was sent, so no digit is lost.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::text::Text;

/// The longest amount, in bytes of its text: anything longer is no amount of money.
const AMOUNT_BYTES_MAX: usize = 32;

/// Money as clients get it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct MoneyView {
    pub(crate) amount: String,
    pub(crate) currency: String,
}

/// Money as a client wrote it; whether it fits the currency is for [`crate::convert`] to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AmountText {
    pub(crate) amount: String,
    pub(crate) currency: Option<String>,
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    amount: &'a RawValue,
    #[serde(borrow)]
    currency: Option<Text<'a>>,
}

/// The value is no amount in any of the accepted forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an amount is a decimal string such as \"150.00\", alone or with its currency")]
pub(crate) struct NotAnAmount;

impl AmountText {
    /// Reads one JSON value.
    pub(crate) fn read(raw: &RawValue) -> Result<Self, NotAnAmount> {
        let json = raw.get();
        if json.starts_with('{') {
            let object: Object<'_> = serde_json::from_str(json).map_err(|_| NotAnAmount)?;
            return Ok(Self {
                amount: plain(object.amount.get())?,
                currency: object.currency.map(Text::into_string),
            });
        }
        Ok(Self {
            amount: plain(json)?,
            currency: None,
        })
    }
}

fn plain(json: &str) -> Result<String, NotAnAmount> {
    if json.len() > AMOUNT_BYTES_MAX {
        return Err(NotAnAmount);
    }
    match json.as_bytes().first() {
        Some(b'"') => serde_json::from_str::<Text<'_>>(json)
            .map(Text::into_string)
            .map_err(|_| NotAnAmount),
        Some(b'0'..=b'9' | b'-') => Ok(json.to_owned()),
        _ => Err(NotAnAmount),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<AmountText, NotAnAmount> {
        AmountText::read(&RawValue::from_string(json.to_owned()).expect("JSON"))
    }

    #[test]
    fn every_accepted_form_keeps_its_digits() {
        for json in ["\"150.10\"", "150.10", "{\"amount\":\"150.10\"}"] {
            let amount = read(json).expect("an amount");
            assert_eq!((&*amount.amount, amount.currency), ("150.10", None));
        }
        let full = read("{\"currency\":\"EUR\",\"amount\":150.10}").expect("an amount");
        assert_eq!(full.amount, "150.10");
        assert_eq!(full.currency.as_deref(), Some("EUR"));
        assert_eq!(
            read("9007199254740993.01").expect("exact").amount,
            "9007199254740993.01"
        );
    }

    #[test]
    fn other_values_are_no_amounts() {
        for json in [
            "true",
            "null",
            "[]",
            "{}",
            "{\"amount\":{\"amount\":\"1\"}}",
            "{\"amount\":\"1\",\"currency\":7}",
            "\"00000000000000000000000000000000000000000000001\"",
        ] {
            assert_eq!(read(json), Err(NotAnAmount), "{json}");
        }
    }
}
