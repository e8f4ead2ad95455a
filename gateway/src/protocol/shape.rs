//! The outer shape of a JSON document, before anything is made of it.
//!
//! What a client sends is parsed by types, which ignore what they do not know; ignored values cost time
//! and stack all the same. So nesting and the length of numbers are bounded first, in one pass over the bytes
//! that keeps nothing.
//!
//! What it deliberately does not do: validate. Whatever passes is still for the parser to refuse.

/// The deepest nesting; a venue has six levels.
const DEPTH_MAX: usize = 16;
/// The longest number, in bytes; a request's id may be one.
const NUMBER_BYTES_MAX: usize = 128;
/// The longest explanation that a client gets, in bytes: parsers quote what they did not expect.
const REASON_BYTES_MAX: usize = 200;

/// A document that is not parsed. The client must send another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ShapeError {
    /// Beyond [`DEPTH_MAX`].
    #[error("nested too deeply: at most 16 levels")]
    TooDeep,
    /// Beyond [`NUMBER_BYTES_MAX`].
    #[error("a number is too long: at most 128 digits")]
    NumberTooLong,
}

/// Refuses what is nested too deeply or has numbers without end.
///
/// # Errors
/// See [`ShapeError`].
pub(crate) fn check(json: &[u8]) -> Result<(), ShapeError> {
    let (mut depth, mut digits) = (0_usize, 0_usize);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E' => {
                digits += 1;
                if digits > NUMBER_BYTES_MAX {
                    return Err(ShapeError::NumberTooLong);
                }
                continue;
            }
            b'"' => skip_string(&mut bytes),
            b'{' | b'[' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(ShapeError::TooDeep);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        digits = 0;
    }
    Ok(())
}

/// Goes on behind the quote that ends a string.
fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

/// What a parser says, in bounded length.
pub(crate) fn reason(error: &serde_json::Error) -> String {
    let mut text = error.to_string();
    if text.len() > REASON_BYTES_MAX {
        text.truncate(text.floor_char_boundary(REASON_BYTES_MAX));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_what_is_open_and_not_what_stands_in_strings() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(check(nested(16).as_bytes()), Ok(()));
        assert_eq!(check(nested(17).as_bytes()), Err(ShapeError::TooDeep));
        let deep = format!("{{\"x\":{}}}", nested(60_000));
        assert_eq!(check(deep.as_bytes()), Err(ShapeError::TooDeep));
        let flat = format!("[{}]", "[],".repeat(1_000));
        assert_eq!(check(flat.as_bytes()), Ok(()));
        let quoted = format!(r#"["\"{}","\\"]"#, "[".repeat(99));
        assert_eq!(check(quoted.as_bytes()), Ok(()));
        let behind = format!(r#"["\\",{}"#, "[".repeat(99));
        assert_eq!(check(behind.as_bytes()), Err(ShapeError::TooDeep));
    }

    #[test]
    fn numbers_end() {
        let number = |digits: usize| format!("[1,{},\"{}\"]", "7".repeat(digits), "7".repeat(999));
        assert_eq!(check(number(128).as_bytes()), Ok(()));
        assert_eq!(
            check(number(129).as_bytes()),
            Err(ShapeError::NumberTooLong)
        );
        assert_eq!(check("1,".repeat(999).as_bytes()), Ok(()));
    }

    #[test]
    fn what_a_parser_quotes_is_cut() {
        let long = format!("\"{}\"", "ü".repeat(5_000));
        let error = serde_json::from_str::<u32>(&long).expect_err("no number");
        let reason = reason(&error);
        assert!(reason.starts_with("invalid type: string"), "{reason}");
        assert!(
            reason.len() <= REASON_BYTES_MAX + '…'.len_utf8(),
            "{reason}"
        );
    }
}
