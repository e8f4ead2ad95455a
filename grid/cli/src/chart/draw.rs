//! From the lengths of bars to SVG.

use std::collections::BTreeMap;

use jiff::Timestamp;
use plotters::prelude::*;

use super::ChartError;
use super::axis::LabelledAxis;
use super::bars::{Rows, Timeline};
use crate::output::grouped;

const WIDTH_PX: u32 = 1_000;
const TIMELINE_HEIGHT_PX: u32 = 480;
const ROW_HEIGHT_PX: u32 = 30;
/// Title, axis and legend around the rows.
const ROWS_FRAME_PX: u32 = 150;
const MARGIN_PX: u32 = 14;
const LABEL_PX: u32 = 13;
const TITLE_PX: u32 = 17;
/// A character's width in the label's size, about.
const CHAR_PX: u32 = 7;
/// How much of its place a bar takes.
const BAR_SHARE: f64 = 0.8;
/// Room beyond the longest bar for its sum.
const SUM_ROOM: f64 = 1.15;
/// Axis, title and margins around the bars of a timeline.
const TIMELINE_FRAME_PX: u32 = 105;
/// A line of a timeline's legend, and what surrounds the lines.
const LEGEND_LINE_PX: u32 = 17;
const LEGEND_FRAME_PX: u32 = 24;
/// Half of the last time below the axis.
const MARGIN_RIGHT_PX: u32 = 32;
/// Colours that people with any colour vision tell apart (Okabe and Ito), the last ones darker.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(110, 110, 110),
    RGBColor(90, 60, 140),
];
const GRID_COLOUR: RGBColor = RGBColor(225, 225, 225);
/// Minutes between the times written below the axis, and how many there are at most.
const TICK_MINUTES: [i64; 14] = [
    1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1_440, 10_080, 43_200,
];
const TICKS_MAX: i64 = 10;
const MINUTES_PER_DAY: i64 = 1_440;

fn failed(error: impl std::fmt::Display) -> ChartError {
    ChartError::Drawing(error.to_string())
}

fn colour(series: usize) -> RGBColor {
    COLOURS[series % COLOURS.len()]
}

/// A count or an amount for people: thousands set apart, cents only where there are any.
fn figure(value: f64) -> String {
    let whole = grouped(value.abs() as u64);
    let cents = ((value.abs() - value.abs().trunc()) * 100.0).round() as u64;
    if cents == 0 {
        whole
    } else {
        format!("{whole}.{cents:02}")
    }
}

/// How much of a timeline's height its legend takes, which lies above the bars.
fn legend_share(series: usize) -> f64 {
    let lines_px = LEGEND_LINE_PX * u32::try_from(series).unwrap_or(1);
    let bars_px = TIMELINE_HEIGHT_PX - TIMELINE_FRAME_PX;
    (f64::from(lines_px + LEGEND_FRAME_PX) / f64::from(bars_px)).min(0.5)
}

/// Counts over time, stacked.
pub(super) fn timeline(
    title: &str,
    value: &str,
    timeline: &Timeline,
) -> Result<String, ChartError> {
    let (first, end) = (timeline.first_minute, timeline.end_minute);
    let step = TICK_MINUTES
        .into_iter()
        .find(|step| (end - first) / step < TICKS_MAX)
        .unwrap_or((end - first) / TICKS_MAX);
    let begin = (first + step - 1).div_euclid(step) * step;
    let ticks: Vec<f64> = (0..=TICKS_MAX)
        .map(|tick| begin + tick * step)
        .filter(|minute| *minute <= end)
        .map(|minute| minute as f64)
        .collect();
    let form = if end - first > MINUTES_PER_DAY {
        "%d %b %H:%M"
    } else {
        "%H:%M"
    };
    let time = |minute: i64, form: &str| {
        Timestamp::from_second(minute * 60)
            .map_or_else(|_| String::new(), |at| at.strftime(form).to_string())
    };
    let (first_day, last_day) = (time(first, "%Y-%m-%d"), time(end - 1, "%Y-%m-%d"));
    let days = if first_day == last_day {
        format!("{first_day}, UTC")
    } else {
        format!("{first_day} to {last_day}, UTC")
    };
    let mut heights: BTreeMap<i64, f64> = BTreeMap::new();
    for (minute, count) in timeline.series.iter().flat_map(|(_, counts)| counts) {
        *heights.entry(*minute).or_default() += count;
    }
    let highest = heights
        .values()
        .fold(1.0, |high: f64, count| high.max(*count));
    let per = match timeline.bar_minutes {
        1 => "minute".to_owned(),
        minutes => format!("{minutes} minutes"),
    };

    let mut svg = String::new();
    {
        let size = (WIDTH_PX, TIMELINE_HEIGHT_PX);
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", TITLE_PX))
            .margin(MARGIN_PX)
            .margin_right(MARGIN_RIGHT_PX)
            .x_label_area_size(46)
            .y_label_area_size(70)
            .build_cartesian_2d(
                LabelledAxis {
                    range: first as f64..end as f64,
                    labels_at: ticks,
                },
                0.0..highest / (1.0 - legend_share(timeline.series.len())),
            )
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(WHITE)
            .bold_line_style(GRID_COLOUR)
            .label_style(("sans-serif", LABEL_PX))
            .x_label_formatter(&|minute| time(*minute as i64, form))
            .y_label_formatter(&|count| figure(*count))
            .x_desc(days)
            .y_desc(format!("{value} per {per}"))
            .draw()
            .map_err(failed)?;
        let mut below: BTreeMap<i64, f64> = BTreeMap::new();
        for (place, (name, counts)) in timeline.series.iter().enumerate() {
            let fill = colour(place).filled();
            let bars: Vec<_> = counts
                .iter()
                .map(|(&minute, &count)| {
                    let base = below.entry(minute).or_default();
                    let (low, high) = (*base, *base + count);
                    *base = high;
                    let side = timeline.bar_minutes as f64 * (1.0 - BAR_SHARE) / 2.0;
                    let left = minute as f64 + side;
                    let right = (minute + timeline.bar_minutes) as f64 - side;
                    Rectangle::new([(left, low), (right, high)], fill)
                })
                .collect();
            chart
                .draw_series(bars)
                .map_err(failed)?
                .label(name.as_str())
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], fill));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .label_font(("sans-serif", LABEL_PX))
            .background_style(WHITE.mix(0.85))
            .border_style(GRID_COLOUR)
            .draw()
            .map_err(failed)?;
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

/// Rows of bars, the first on top, each made of its parts and followed by its sum.
pub(super) fn rows(
    title: &str,
    unit: &str,
    parts: &[&str],
    rows: &Rows,
) -> Result<String, ChartError> {
    let count = rows.rows.len();
    let longest = rows
        .rows
        .iter()
        .map(|(_, parts)| parts.iter().sum::<f64>())
        .fold(1.0, f64::max);
    let label_chars = rows
        .rows
        .iter()
        .map(|(label, _)| label.chars().count())
        .max()
        .unwrap_or(0);
    let label_px = u32::try_from(label_chars).unwrap_or(0) * CHAR_PX + 24;
    let middles: Vec<f64> = (0..count).map(|row| row as f64 + 0.5).collect();
    // The axis grows upwards; the first row belongs on top.
    let label = |y: f64| {
        let row = count.checked_sub(1 + y.max(0.0) as usize);
        let row = row.and_then(|row| rows.rows.get(row));
        row.map(|(label, _)| label.clone()).unwrap_or_default()
    };

    let mut svg = String::new();
    {
        let height = ROWS_FRAME_PX + ROW_HEIGHT_PX * u32::try_from(count).unwrap_or(0);
        let area = SVGBackend::with_string(&mut svg, (WIDTH_PX, height)).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        let (legend, area_below) = area.split_vertically(TITLE_PX + 2 * LABEL_PX + MARGIN_PX);
        draw_legend(&legend, title, parts)?;
        let mut chart = ChartBuilder::on(&area_below)
            .margin(MARGIN_PX)
            .x_label_area_size(46)
            .y_label_area_size(label_px)
            .build_cartesian_2d(
                0.0..longest * SUM_ROOM,
                LabelledAxis {
                    range: 0.0..count as f64,
                    labels_at: middles,
                },
            )
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .light_line_style(WHITE)
            .bold_line_style(GRID_COLOUR)
            .label_style(("sans-serif", LABEL_PX))
            .x_labels(8)
            .x_label_formatter(&|value| figure(*value))
            .y_label_formatter(&|y| label(*y))
            .x_desc(unit)
            .draw()
            .map_err(failed)?;
        let thickness = (1.0 - BAR_SHARE) / 2.0;
        for (row, (_, values)) in rows.rows.iter().enumerate() {
            let bottom = (count - 1 - row) as f64;
            let mut left = 0.0;
            for (place, value) in values.iter().enumerate().filter(|(_, value)| **value > 0.0) {
                let corners = [
                    (left, bottom + thickness),
                    (left + value, bottom + 1.0 - thickness),
                ];
                left += value;
                let bar = Rectangle::new(corners, colour(place).filled());
                chart.draw_series([bar]).map_err(failed)?;
            }
            let sum = EmptyElement::at((left, bottom + 0.5))
                + Text::new(figure(left), (6, -6), ("sans-serif", LABEL_PX));
            chart.draw_series([sum]).map_err(failed)?;
        }
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

/// The title, and below it what the colours mean.
fn draw_legend(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    parts: &[&str],
) -> Result<(), ChartError> {
    let left = MARGIN_PX as i32;
    let title_text = Text::new(title.to_owned(), (left, left), ("sans-serif", TITLE_PX));
    area.draw(&title_text).map_err(failed)?;
    let top = left + TITLE_PX as i32 + 10;
    let mut x = left;
    for (place, part) in parts.iter().enumerate() {
        let square = Rectangle::new([(x, top), (x + 12, top + 12)], colour(place).filled());
        area.draw(&square).map_err(failed)?;
        let text = Text::new((*part).to_owned(), (x + 18, top), ("sans-serif", LABEL_PX));
        area.draw(&text).map_err(failed)?;
        x += 42 + (part.chars().count() as i32) * CHAR_PX as i32;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_cents_only_where_there_are_any() {
        for (value, text) in [
            (0.0, "0"),
            (1_234.0, "1,234"),
            (89.5, "89.50"),
            (0.05, "0.05"),
        ] {
            assert_eq!(figure(value), text);
        }
    }
}
