//! A moment as people give it on the command line: a time, a day, or an age.

use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{Span, SpanRelativeTo, Timestamp, civil};

use crate::failure::Failure;

/// See the module's documentation. Without a zone, UTC is meant.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Moment {
    /// A time or a day.
    At(Timestamp),
    /// So long ago.
    Ago(Span),
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(at) = text.parse::<Timestamp>() {
            return Ok(Self::At(at));
        }
        if let Ok(local) = text.parse::<civil::DateTime>()
            && let Ok(zoned) = local.to_zoned(TimeZone::UTC)
        {
            return Ok(Self::At(zoned.timestamp()));
        }
        match text.parse::<Span>() {
            Ok(span) if !span.is_negative() => Ok(Self::Ago(span)),
            _ => Err(
                "not a time (2026-03-01T09:00Z), a day (2026-03-01) or an age (90m, 7d)".to_owned(),
            ),
        }
    }
}

impl Moment {
    /// The time that is meant by `option`, given now.
    pub(crate) fn timestamp(self, option: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
        match self {
            Self::At(at) => Ok(at),
            Self::Ago(span) => {
                let relative = SpanRelativeTo::days_are_24_hours();
                let age = span
                    .to_duration(relative)
                    .and_then(|age| now.checked_sub(age));
                age.map_err(|error| {
                    Failure::Usage(format!("{option}: {error}; give days, hours or minutes")).into()
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_a_day_or_an_age() {
        let now: Timestamp = "2026-03-10T12:00:00Z".parse().expect("a time");
        for (text, expected) in [
            ("2026-03-01T09:00:00Z", "2026-03-01T09:00:00Z"),
            ("2026-03-01T09:00Z", "2026-03-01T09:00:00Z"),
            ("2026-03-01T09:00+02:00", "2026-03-01T07:00:00Z"),
            ("2026-03-01 09:00", "2026-03-01T09:00:00Z"),
            ("2026-03-01", "2026-03-01T00:00:00Z"),
            ("90m", "2026-03-10T10:30:00Z"),
            ("7d", "2026-03-03T12:00:00Z"),
            ("2 weeks", "2026-02-24T12:00:00Z"),
        ] {
            let moment = Moment::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let at = moment
                .timestamp("--since", now)
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(at.to_string(), expected, "{text}");
        }
        for text in ["yesterday", "", "7", "-3h", "2026-13-01"] {
            assert!(Moment::from_str(text).is_err(), "{text}");
        }
        let months = Moment::from_str("1mo").expect("a span");
        assert!(
            months.timestamp("--since", now).is_err(),
            "months differ in length"
        );
    }
}
