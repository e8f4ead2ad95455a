//! The secret that operators show.

use subtle::ConstantTimeEq;

/// Hexadecimal digits of a token.
const DIGITS: usize = 64;

/// 256 random bits, written as 64 hexadecimal digits. Its text is never printed or logged.
#[derive(Clone)]
pub struct AdminToken([u8; DIGITS]);

impl std::fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminToken(..)")
    }
}

/// The text is no token: it must be 64 hexadecimal digits. Make a new one or find the right file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an admin token has 64 hexadecimal digits")]
pub struct AdminTokenError;

impl AdminToken {
    /// A new random token.
    ///
    /// # Errors
    /// The system has no random bytes to give.
    pub fn random() -> Result<Self, std::io::Error> {
        let mut bytes = [0; DIGITS / 2];
        getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
        let mut digits = [0; DIGITS];
        for (place, byte) in bytes.into_iter().enumerate() {
            digits[2 * place] = digit(byte >> 4);
            digits[2 * place + 1] = digit(byte & 15);
        }
        Ok(Self(digits))
    }

    /// Reads a token as a file or a variable has it; white space around it does not count.
    ///
    /// # Errors
    /// [`AdminTokenError`].
    pub fn parse(text: &str) -> Result<Self, AdminTokenError> {
        let mut digits: [u8; DIGITS] = text
            .trim()
            .as_bytes()
            .try_into()
            .map_err(|_| AdminTokenError)?;
        digits.make_ascii_lowercase();
        match digits.iter().all(u8::is_ascii_hexdigit) {
            true => Ok(Self(digits)),
            false => Err(AdminTokenError),
        }
    }

    /// The secret itself, for its file and for the `Authorization` header.
    #[must_use]
    pub fn reveal(&self) -> String {
        self.0.iter().copied().map(char::from).collect()
    }

    /// Whether the text is this token. Takes as long for a wrong one as for the right one, so that the
    /// digits cannot be found one by one.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        Self::parse(text).is_ok_and(|other| self.0.ct_eq(&other.0).into())
    }
}

/// A half byte's digit.
fn digit(half: u8) -> u8 {
    match half {
        0..=9 => b'0' + half,
        _ => b'a' + half - 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_digits_match_and_none_are_shown() {
        let token = AdminToken::random().expect("random bytes");
        let text = token.reveal();
        assert!(token.matches(&text));
        assert!(token.matches(&text.to_uppercase()));
        assert!(AdminToken::parse(&format!(" {text}\n")).is_ok());
        for place in 0..DIGITS {
            let mut other = text.clone().into_bytes();
            other[place] = if other[place] == b'0' { b'1' } else { b'0' };
            let other = String::from_utf8(other).expect("digits");
            assert!(!token.matches(&other), "digit {place}");
        }
        for wrong in ["", "00", &"g".repeat(DIGITS), &"0".repeat(DIGITS + 1)] {
            assert_eq!(AdminToken::parse(wrong).err(), Some(AdminTokenError));
            assert!(!token.matches(wrong));
        }
        assert!(!format!("{token:?}").contains(&text[..4]));
        assert!(!token.matches(&AdminToken::random().expect("random bytes").reveal()));
    }
}
