//! From a report's text to the lengths of bars.

use std::collections::{BTreeMap, BTreeSet};

use data_pump::reports::ReportTable;
use jiff::Timestamp;

use super::{BARS_MAX, ChartError, SERIES_MAX};

/// The most bars along a time axis; minutes are put together until there are no more.
const TIME_BARS_MAX: i64 = 120;
/// How many minutes a bar may stand for.
const BAR_MINUTES: [i64; 12] = [1, 2, 5, 10, 15, 30, 60, 120, 360, 720, 1_440, 10_080];
/// The longest label, in characters.
const LABEL_CHARS_MAX: usize = 48;

/// Counts over time.
#[derive(Debug, PartialEq)]
pub(super) struct Timeline {
    /// Minutes a bar.
    pub(super) bar_minutes: i64,
    /// The first bar's beginning, in minutes since the Unix epoch.
    pub(super) first_minute: i64,
    /// The last bar's end.
    pub(super) end_minute: i64,
    /// Names, and counts by the bar's beginning.
    pub(super) series: Vec<(String, BTreeMap<i64, f64>)>,
}

/// Rows of bars.
#[derive(Debug, PartialEq)]
pub(super) struct Rows {
    /// What all rows have in common: their unit, such as a currency.
    pub(super) same: Option<String>,
    /// The labels that all rows have in common, such as the event.
    pub(super) common: Vec<String>,
    /// Labels, and the parts of the bar.
    pub(super) rows: Vec<(String, Vec<f64>)>,
}

/// The values of a column, in the order of rows.
fn column<'a>(table: &'a ReportTable, name: &str) -> Result<Vec<Option<&'a str>>, ChartError> {
    let place = table
        .column(name)
        .ok_or_else(|| ChartError::Unreadable(format!("no column `{name}`")))?;
    table
        .rows
        .iter()
        .map(|row| {
            row.get(place)
                .map(Option::as_deref)
                .ok_or_else(|| ChartError::Unreadable("a row is too short".to_owned()))
        })
        .collect()
}

fn numbers(table: &ReportTable, name: &str) -> Result<Vec<f64>, ChartError> {
    let read = |value: Option<&str>| match value {
        None => Ok(0.0),
        Some(text) => text
            .parse()
            .map_err(|_| ChartError::Unreadable(format!("`{name}` is no number: {text}"))),
    };
    column(table, name)?.into_iter().map(read).collect()
}

fn minutes(table: &ReportTable, name: &str) -> Result<Vec<i64>, ChartError> {
    let read = |value: Option<&str>| {
        let text = value.unwrap_or_default();
        text.parse::<Timestamp>()
            .map(|at| at.as_second().div_euclid(60))
            .map_err(|_| ChartError::Unreadable(format!("`{name}` is no time: {text}")))
    };
    column(table, name)?.into_iter().map(read).collect()
}

fn shortened(label: &str) -> String {
    match label.char_indices().nth(LABEL_CHARS_MAX) {
        None => label.to_owned(),
        Some((end, _)) => format!("{}…", &label[..end]),
    }
}

/// Bars along a time axis; `names` are the columns for time, count, series and the series' id.
pub(super) fn timeline(
    table: &ReportTable,
    names: [&str; 4],
    hint: &'static str,
) -> Result<Timeline, ChartError> {
    let [at, value, series, id] = names;
    let minutes = minutes(table, at)?;
    let counts = numbers(table, value)?;
    let (names, ids) = (column(table, series)?, column(table, id)?);
    let (Some(first), Some(last)) = (minutes.iter().min(), minutes.iter().max()) else {
        return Err(ChartError::Empty);
    };
    let span = last - first + 1;
    let bar_minutes = BAR_MINUTES
        .into_iter()
        .find(|bar| span / bar <= TIME_BARS_MAX)
        .unwrap_or(BAR_MINUTES[BAR_MINUTES.len() - 1]);
    let bar_of = |minute: i64| minute.div_euclid(bar_minutes) * bar_minutes;

    let mut by_id: BTreeMap<&str, usize> = BTreeMap::new();
    let mut all: Vec<(String, BTreeMap<i64, f64>)> = Vec::new();
    for (row, (&minute, &count)) in minutes.iter().zip(&counts).enumerate() {
        let id = ids[row].unwrap_or_default();
        let place = *by_id.entry(id).or_insert_with(|| {
            all.push((shortened(names[row].unwrap_or(id)), BTreeMap::new()));
            all.len() - 1
        });
        *all[place].1.entry(bar_of(minute)).or_default() += count;
    }
    if all.len() > SERIES_MAX {
        return Err(ChartError::TooMany {
            what: "colours",
            found: all.len().to_string(),
            max: SERIES_MAX,
            hint,
        });
    }
    Ok(Timeline {
        bar_minutes,
        first_minute: bar_of(*first),
        end_minute: bar_of(*last) + bar_minutes,
        series: all,
    })
}

/// A row of bars for every row of the table.
pub(super) fn rows(
    table: &ReportTable,
    labels: &[&str],
    values: &[&str],
    same: Option<&'static str>,
    hint: &'static str,
) -> Result<Rows, ChartError> {
    if table.rows.len() > BARS_MAX {
        return Err(ChartError::TooMany {
            what: "rows",
            found: table.rows.len().to_string(),
            max: BARS_MAX,
            hint,
        });
    }
    let unit = match same {
        None => None,
        Some(name) => {
            let values: BTreeSet<_> = column(table, name)?.into_iter().collect();
            if values.len() > 1 {
                return Err(ChartError::Mixed { column: name, hint });
            }
            values.into_iter().next().flatten().map(str::to_owned)
        }
    };
    let mut told = Vec::new();
    let mut common = Vec::new();
    for (place, label) in labels.iter().enumerate() {
        let column = column(table, label)?;
        let differs = column.windows(2).any(|pair| pair[0] != pair[1]);
        let is_last = place + 1 == labels.len();
        if differs || (is_last && told.is_empty()) {
            told.push(column);
        } else if let Some(Some(label)) = column.first() {
            common.push(shortened(label));
        }
    }
    let parts = values
        .iter()
        .map(|name| numbers(table, name))
        .collect::<Result<Vec<_>, _>>()?;
    let rows = (0..table.rows.len())
        .map(|row| {
            let words: Vec<&str> = told.iter().filter_map(|column| column[row]).collect();
            let parts = parts.iter().map(|column| column[row]).collect();
            (shortened(&words.join(", ")), parts)
        })
        .collect();
    Ok(Rows {
        same: unit,
        common,
        rows,
    })
}

#[cfg(test)]
mod tests {
    use data_pump::reports::{ColumnKind, ReportColumn};

    use super::*;

    fn day(minutes: &[i64]) -> ReportTable {
        let columns = ["minute", "bids", "title", "auction_id"];
        ReportTable {
            columns: columns
                .iter()
                .map(|name| ReportColumn {
                    name: (*name).to_owned(),
                    kind: ColumnKind::Text,
                })
                .collect(),
            rows: minutes
                .iter()
                .map(|minute| {
                    let at = Timestamp::from_second(minute * 60).expect("in range");
                    [
                        at.to_string(),
                        "2".to_owned(),
                        "Lot".to_owned(),
                        "1".to_owned(),
                    ]
                    .map(Some)
                    .to_vec()
                })
                .collect(),
            is_cut: false,
        }
    }

    #[test]
    fn minutes_are_put_together_until_they_fit() {
        let names = ["minute", "bids", "title", "auction_id"];
        let short = timeline(&day(&[100, 101, 160]), names, "").expect("drawn");
        assert_eq!(
            (short.bar_minutes, short.first_minute, short.end_minute),
            (1, 100, 161)
        );

        let long = timeline(&day(&[101, 104, 105, 700]), names, "").expect("drawn");
        assert_eq!(
            (long.bar_minutes, long.first_minute, long.end_minute),
            (5, 100, 705)
        );
        let counts: Vec<(i64, f64)> = long.series[0].1.iter().map(|(at, n)| (*at, *n)).collect();
        assert_eq!(counts, [(100, 4.0), (105, 2.0), (700, 2.0)]);
    }

    #[test]
    fn labels_are_cut_between_characters() {
        let label = "é".repeat(60);
        assert_eq!(shortened(&label).chars().count(), LABEL_CHARS_MAX + 1);
        assert_eq!(shortened("short"), "short");
    }
}
