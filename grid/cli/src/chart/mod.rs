//! A report as a picture: rows become bars ([`bars`]), bars become SVG ([`draw`]).
//!
//! What it deliberately does not do: draw a part and keep quiet about the rest. Too many rows, or sums
//! of different currencies, are refused with a way out.

mod axis;
mod bars;
mod draw;

use data_pump::reports::{Report, ReportTable};

/// The most colours that can be told apart.
const SERIES_MAX: usize = 8;
/// The most rows of bars in a picture.
const BARS_MAX: usize = 60;

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChartError {
    /// The report is better read. Leave the option out.
    #[error("the report `{0}` makes no picture; `grid report` lists those that do")]
    NoPicture(&'static str),
    /// Nothing happened yet, or nothing of what was asked for.
    #[error("the report has no rows to draw")]
    Empty,
    /// More than can be told apart. Narrow it.
    #[error("{found} {what} are too many for a picture, {max} at most: narrow it, as with {hint}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        found: String,
        /// How many there may be.
        max: usize,
        /// An option.
        hint: &'static str,
    },
    /// Lengths of different units. Narrow it.
    #[error(
        "the rows differ in {column} and cannot be compared in one picture: narrow it with {hint}"
    )]
    Mixed {
        /// The unit's column.
        column: &'static str,
        /// An option.
        hint: &'static str,
    },
    /// A row that a picture cannot be made of: the view is another build's.
    #[error("the report's rows do not fit this build: {0}")]
    Unreadable(String),
    /// The drawing library's own words.
    #[error("the picture cannot be drawn: {0}")]
    Drawing(String),
}

/// The picture of a report's rows, as SVG.
pub(crate) fn svg(report: &'static Report, table: &ReportTable) -> Result<String, ChartError> {
    let chart = report.chart.ok_or(ChartError::NoPicture(report.name))?;
    let hint = if report.by_event {
        "--event"
    } else {
        "--auction"
    };
    if table.is_cut {
        return Err(ChartError::TooMany {
            what: "rows",
            found: format!("more than {}", table.rows.len()),
            max: table.rows.len(),
            hint,
        });
    }
    if table.rows.is_empty() {
        return Err(ChartError::Empty);
    }
    let title = report.name.replace('_', " ");
    match chart {
        data_pump::reports::Chart::Timeline {
            at,
            value,
            series,
            id,
        } => {
            let timeline = bars::timeline(table, [at, value, series, id], hint)?;
            draw::timeline(&title, value, &timeline)
        }
        data_pump::reports::Chart::Bars {
            labels,
            values,
            unit,
            same,
        } => {
            let rows = bars::rows(table, labels, values, same, hint)?;
            let unit = match &rows.same {
                Some(same) => format!("{unit}, {same}"),
                None => unit.to_owned(),
            };
            let title = std::iter::once(title)
                .chain(rows.common.iter().cloned())
                .collect::<Vec<_>>()
                .join(", ");
            draw::rows(&title, &unit, values, &rows)
        }
    }
}

#[cfg(test)]
mod tests {
    use data_pump::reports::{ColumnKind, ReportColumn};

    use super::*;

    /// A table of text; an empty field is none.
    fn table(columns: &str, rows: &[&str]) -> ReportTable {
        ReportTable {
            columns: columns
                .split('|')
                .map(|name| ReportColumn {
                    name: name.to_owned(),
                    kind: ColumnKind::Text,
                })
                .collect(),
            rows: rows
                .iter()
                .map(|row| {
                    let values = row.split('|');
                    values
                        .map(|value| (!value.is_empty()).then(|| value.to_owned()))
                        .collect()
                })
                .collect(),
            is_cut: false,
        }
    }

    fn report(name: &str) -> &'static Report {
        Report::named(name).expect("there")
    }

    const SALES: &str = "event|minute|tickets|event_id";

    #[test]
    fn minutes_become_bars_a_colour_an_event() {
        let sales = table(
            SALES,
            &[
                "Autumn <concert>|2025-10-09 09:00:00+00|40|a",
                "Autumn <concert>|2025-10-09 09:03:00+00|25|a",
                "Zen evening|2025-10-09 09:03:00+00|10|b",
            ],
        );
        let svg = svg(report("sales_by_minute"), &sales).expect("drawn");
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(svg.contains("09:00") && svg.contains("09:03"), "{svg}");
        // What people wrote is text, not markup.
        assert!(svg.contains("Autumn &lt;concert&gt;"), "{svg}");
        assert!(svg.contains("Zen evening"));
        assert!(svg.contains("tickets per minute"));
    }

    #[test]
    fn sections_become_rows_of_bars() {
        let sections = table(
            "event|section|sold|held|available",
            &["Concert|Floor|30|5|65", "Concert|Balcony|10|0|40"],
        );
        let svg = svg(report("sales_by_section"), &sections).expect("drawn");
        for text in ["Floor", "Balcony", "sold", "held", "available"] {
            assert!(svg.contains(text), "{text}");
        }
        assert_eq!(svg.matches("Concert").count(), 1, "in the title alone");
    }

    #[test]
    fn what_cannot_be_compared_or_told_apart_is_refused() {
        let two = table(
            "event|section|price|revenue|currency",
            &["Concert|A|5.00|50.00|EUR", "Zen|A|500|5000|JPY"],
        );
        let mixed = svg(report("revenue_by_price"), &two);
        assert!(matches!(mixed, Err(ChartError::Mixed { .. })), "{mixed:?}");

        let rows: Vec<String> = (0..9)
            .map(|event| format!("Event|2025-10-09 09:00:00+00|1|{event}"))
            .collect();
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        let many = svg(report("sales_by_minute"), &table(SALES, &rows));
        assert!(
            many.is_err_and(|error| error.to_string().contains("--event")),
            "nine events of one name"
        );
        assert!(svg(report("sales_by_minute"), &table(SALES, &rows[..8])).is_ok());

        let mut cut = table(SALES, &rows[..1]);
        cut.is_cut = true;
        let cut = svg(report("sales_by_minute"), &cut);
        assert!(matches!(cut, Err(ChartError::TooMany { .. })));
        let empty = svg(report("sales_by_minute"), &table(SALES, &[]));
        assert!(matches!(empty, Err(ChartError::Empty)));
        let none = svg(report("pump_lag"), &table("partition", &["0"]));
        assert!(matches!(none, Err(ChartError::NoPicture(_))));
        let odd = table(SALES, &["Event|yesterday|1|a"]);
        let odd = svg(report("sales_by_minute"), &odd);
        assert!(matches!(odd, Err(ChartError::Unreadable(_))));
    }
}
