//! Money: integer minor units of an ISO 4217 currency. No fractions, no floating point.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The most minor units in any amount: 10^15, far from overflow when many are added.
pub const AMOUNT_MINOR_MAX: i64 = 1_000_000_000_000_000;

/// An ISO 4217 currency code this build knows the minor digits of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Currency([u8; 3]);

/// Code and minor digits (ISO 4217, list one).
const CURRENCIES: &[(&[u8; 3], u32)] = &[
    (b"AED", 2),
    (b"ARS", 2),
    (b"AUD", 2),
    (b"BGN", 2),
    (b"BHD", 3),
    (b"BRL", 2),
    (b"BYN", 2),
    (b"CAD", 2),
    (b"CHF", 2),
    (b"CLP", 0),
    (b"CNY", 2),
    (b"COP", 2),
    (b"CZK", 2),
    (b"DKK", 2),
    (b"EGP", 2),
    (b"EUR", 2),
    (b"GBP", 2),
    (b"GEL", 2),
    (b"HKD", 2),
    (b"HUF", 2),
    (b"IDR", 2),
    (b"ILS", 2),
    (b"INR", 2),
    (b"ISK", 0),
    (b"JPY", 0),
    (b"KRW", 0),
    (b"KWD", 3),
    (b"KZT", 2),
    (b"MXN", 2),
    (b"MYR", 2),
    (b"NOK", 2),
    (b"NZD", 2),
    (b"OMR", 3),
    (b"PHP", 2),
    (b"PLN", 2),
    (b"RON", 2),
    (b"RSD", 2),
    (b"RUB", 2),
    (b"SAR", 2),
    (b"SEK", 2),
    (b"SGD", 2),
    (b"THB", 2),
    (b"TND", 3),
    (b"TRY", 2),
    (b"TWD", 2),
    (b"UAH", 2),
    (b"USD", 2),
    (b"UZS", 2),
    (b"VND", 0),
    (b"ZAR", 2),
];

impl Currency {
    /// The currency of a code such as `EUR`; `None` for one that is not known.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        let code: [u8; 3] = code.as_bytes().try_into().ok()?;
        CURRENCIES
            .iter()
            .any(|(known, _)| **known == code)
            .then_some(Self(code))
    }

    /// The three letters.
    #[must_use]
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("???")
    }

    /// How many decimal digits its minor unit has.
    #[must_use]
    pub fn minor_digits(self) -> u32 {
        CURRENCIES
            .iter()
            .find(|(known, _)| **known == self.0)
            .map_or(2, |(_, digits)| *digits)
    }

    /// Reads a decimal string with exactly the currency's minor digits (`150.00`, or `150` for a
    /// currency without any), or a whole number, as minor units.
    ///
    /// # Errors
    /// [`AmountError`], which names what is wrong.
    pub fn parse_amount(self, text: &str) -> Result<i64, AmountError> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !is_number(whole) || !is_number(fraction) || digits.ends_with('.') {
            return Err(AmountError::NotANumber);
        }
        if negative {
            return Err(AmountError::Negative);
        }
        let minor_digits = self.minor_digits();
        if !fraction.is_empty() && fraction.len() != minor_digits as usize {
            return Err(AmountError::Digits {
                expected: minor_digits,
            });
        }
        let mut minor: i64 = 0;
        let padding = if fraction.is_empty() {
            minor_digits as usize
        } else {
            0
        };
        let zeros = std::iter::repeat_n(b'0', padding);
        for digit in whole.bytes().chain(fraction.bytes()).chain(zeros) {
            minor = minor * 10 + i64::from(digit - b'0');
            if minor > AMOUNT_MINOR_MAX {
                return Err(AmountError::TooLarge);
            }
        }
        Ok(minor)
    }

    /// Writes minor units as a decimal string with exactly the currency's digits.
    #[must_use]
    pub fn format_amount(self, minor: i64) -> String {
        let digits = self.minor_digits();
        let sign = if minor < 0 { "-" } else { "" };
        let minor = minor.unsigned_abs();
        if digits == 0 {
            return format!("{sign}{minor}");
        }
        let unit = 10u64.pow(digits);
        format!(
            "{sign}{}.{:0width$}",
            minor / unit,
            minor % unit,
            width = digits as usize
        )
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// Why a text is not an amount. The client must correct it; the message may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not a plain decimal number.
    #[error("an amount is a decimal number such as \"150.00\"")]
    NotANumber,
    /// Below zero.
    #[error("an amount cannot be negative")]
    Negative,
    /// Too many or too few decimal digits.
    #[error("the currency has exactly {expected} decimal digits")]
    Digits {
        /// How many there must be.
        expected: u32,
    },
    /// Beyond [`AMOUNT_MINOR_MAX`].
    #[error("the amount is too large")]
    TooLarge,
}

/// An amount with its currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// Minor units.
    pub minor: i64,
    /// The currency.
    pub currency: Currency,
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}",
            self.currency.format_amount(self.minor),
            self.currency
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_exactly_or_refused() {
        let eur = Currency::from_code("EUR").expect("known");
        let jpy = Currency::from_code("JPY").expect("known");
        assert_eq!(eur.parse_amount("150.00"), Ok(15_000));
        assert_eq!(eur.parse_amount("150"), Ok(15_000));
        assert_eq!(jpy.parse_amount("150"), Ok(150));
        assert_eq!(eur.parse_amount("0.01"), Ok(1));
        assert_eq!(
            eur.parse_amount("1.5"),
            Err(AmountError::Digits { expected: 2 })
        );
        assert_eq!(
            eur.parse_amount("1.505"),
            Err(AmountError::Digits { expected: 2 })
        );
        assert_eq!(
            jpy.parse_amount("1.00"),
            Err(AmountError::Digits { expected: 0 })
        );
        assert_eq!(eur.parse_amount("-1.00"), Err(AmountError::Negative));
        assert_eq!(
            eur.parse_amount("99999999999999999999"),
            Err(AmountError::TooLarge)
        );
        for bad in ["", ".", "1.", ".5", "1e3", "NaN", "1,00", " 1", "+1", "١"] {
            assert_eq!(
                eur.parse_amount(bad),
                Err(AmountError::NotANumber),
                "{bad:?}"
            );
        }
        assert_eq!(eur.format_amount(15_000), "150.00");
        assert_eq!(eur.format_amount(-5), "-0.05");
        assert_eq!(jpy.format_amount(150), "150");
        assert!(Currency::from_code("XXX").is_none() && Currency::from_code("eur").is_none());
    }
}
