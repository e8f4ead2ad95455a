//! Times as replays show them: UTC with milliseconds, and how far from a mark such as the close.

use grid_core::Timestamp;

const MS_PER_S: u64 = 1_000;
const MS_PER_MINUTE: u64 = 60 * MS_PER_S;
const MS_PER_HOUR: u64 = 60 * MS_PER_MINUTE;
const MS_PER_DAY: u64 = 24 * MS_PER_HOUR;

/// `at` in a form of `strftime`'s, UTC.
pub(super) fn formatted(at: Timestamp, form: &str) -> String {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    let at = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
    at.strftime(form).to_string()
}

/// `2026-01-31 20:00:00.000Z`
pub(super) fn full(at: Timestamp) -> String {
    formatted(at, "%Y-%m-%d %H:%M:%S.%3fZ")
}

/// `-1d 02:03:04.005`: how long before (-) or after (+) the mark.
pub(super) fn offset(at: Timestamp, mark: Timestamp) -> String {
    let (sign, millis) = if at < mark {
        ('-', mark.millis_since(at))
    } else {
        ('+', at.millis_since(mark))
    };
    let days = match millis / MS_PER_DAY {
        0 => String::new(),
        days => format!("{days}d "),
    };
    format!(
        "{sign}{days}{:02}:{:02}:{:02}.{:03}",
        millis % MS_PER_DAY / MS_PER_HOUR,
        millis % MS_PER_HOUR / MS_PER_MINUTE,
        millis % MS_PER_MINUTE / MS_PER_S,
        millis % MS_PER_S
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_have_a_sign_and_days_where_there_are_any() {
        let mark = Timestamp::from_millis(10 * MS_PER_DAY);
        for (at, text) in [
            (mark, "+00:00:00.000"),
            (mark - 1, "-00:00:00.001"),
            (mark + 3_723_004, "+01:02:03.004"),
            (mark - MS_PER_DAY - 5, "-1d 00:00:00.005"),
        ] {
            assert_eq!(offset(at, mark), text);
        }
        assert_eq!(full(Timestamp::from_millis(5)), "1970-01-01 00:00:00.005Z");
    }
}
