//! Axes: time, stretched where most happens, and amounts or counts in round steps.

use grid_core::Timestamp;

use super::svg::{Anchor, FAINT_INK, GRID, Svg};
use crate::replay::clock;

/// Where one of these shares of all that happened takes less than [`DENSE_TIME_SHARE`] of the time, that
/// time is stretched to [`DENSE_WIDTH_SHARE`] of the width.
const DENSE_EVENTS_SHARES: [f64; 5] = [0.9, 0.8, 0.7, 0.6, 0.5];
const DENSE_TIME_SHARE: f64 = 0.2;
const DENSE_WIDTH_SHARE: f64 = 0.65;
/// Fewer points than this have no dense part.
const DENSE_EVENTS_MIN: usize = 6;
/// Room around the dense part, as a share of it.
const DENSE_MARGIN: f64 = 0.06;
/// Pixels that a label of the time axis takes, without and with its day.
const LABEL_PX: f64 = 76.0;
const DAY_LABEL_PX: f64 = 112.0;
/// Steps of round numbers on the other axis, at most.
const VALUE_STEPS_MAX: i64 = 6;

const S: u64 = 1_000;
const MINUTE: u64 = 60 * S;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// Milliseconds between labels.
const STEPS_MS: [u64; 28] = [
    100,
    200,
    500,
    S,
    2 * S,
    5 * S,
    10 * S,
    15 * S,
    30 * S,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    7 * DAY,
    14 * DAY,
    30 * DAY,
    90 * DAY,
    365 * DAY,
    3_650 * DAY,
];

/// A stretch of time with its place in the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Segment {
    from_ms: u64,
    to_ms: u64,
    left: f64,
    right: f64,
}

/// Time from left to right.
///
/// Invariant: the segments follow each other without a gap, in time and in the picture.
#[derive(Clone, Debug)]
pub(super) struct TimeAxis {
    segments: Vec<Segment>,
}

impl TimeAxis {
    /// From one time to another over a width; `times` are those of what happened, ascending.
    pub(super) fn new(
        (from, to): (Timestamp, Timestamp),
        times: &[Timestamp],
        (left, right): (f64, f64),
    ) -> Self {
        let from_ms = from.as_millis();
        let to_ms = to.as_millis().max(from_ms + 1);
        let Some((begin, end)) = dense_part(from_ms, to_ms, times) else {
            let segments = vec![Segment {
                from_ms,
                to_ms,
                left,
                right,
            }];
            return Self { segments };
        };
        let width = right - left;
        let (has_before, has_after) = (begin > from_ms, end < to_ms);
        let beside = width * (1.0 - DENSE_WIDTH_SHARE);
        let side = if has_before && has_after {
            beside / 2.0
        } else {
            beside
        };
        let begin_px = if has_before { left + side } else { left };
        let end_px = if has_after { right - side } else { right };
        let parts = [
            (from_ms, begin, left, begin_px),
            (begin, end, begin_px, end_px),
            (end, to_ms, end_px, right),
        ];
        let segments = parts
            .into_iter()
            .filter(|(from_ms, to_ms, ..)| from_ms < to_ms)
            .map(|(from_ms, to_ms, left, right)| Segment {
                from_ms,
                to_ms,
                left,
                right,
            });
        Self {
            segments: segments.collect(),
        }
    }

    /// Where a time is; one outside lies on the edge.
    pub(super) fn x(&self, at: Timestamp) -> f64 {
        let at_ms = at.as_millis();
        let next = self.segments.partition_point(|part| part.to_ms < at_ms);
        let part = &self.segments[next.min(self.segments.len() - 1)];
        let passed = at_ms.clamp(part.from_ms, part.to_ms) - part.from_ms;
        let share = passed as f64 / (part.to_ms - part.from_ms) as f64;
        part.left + share * (part.right - part.left)
    }

    /// Whether a time is on the axis.
    pub(super) fn has(&self, at: Timestamp) -> bool {
        let (first, last) = (&self.segments[0], &self.segments[self.segments.len() - 1]);
        (first.from_ms..=last.to_ms).contains(&at.as_millis())
    }

    /// Draws the axis below a plot, with lines through it.
    pub(super) fn draw(&self, svg: &mut Svg, top: f64, bottom: f64) {
        let (from_ms, to_ms) = (
            self.segments[0].from_ms,
            self.segments[self.segments.len() - 1].to_ms,
        );
        let days = (from_ms / DAY, (to_ms - 1) / DAY);
        let mut free_from = f64::MIN;
        for part in &self.segments {
            let label_px = if days.0 == days.1 {
                LABEL_PX
            } else {
                DAY_LABEL_PX
            };
            let labels_max = ((part.right - part.left) / label_px).max(1.0) as u64;
            let step = STEPS_MS
                .into_iter()
                .find(|step| (part.to_ms - part.from_ms) / step <= labels_max)
                .unwrap_or(STEPS_MS[STEPS_MS.len() - 1]);
            let form = match (step, days.0 == days.1) {
                (DAY.., _) => "%Y-%m-%d",
                (MINUTE.., true) => "%H:%M",
                (MINUTE.., false) => "%d %b %H:%M",
                (S.., true) => "%H:%M:%S",
                (S.., false) => "%d %b %H:%M:%S",
                (_, true) => "%H:%M:%S.%1f",
                (_, false) => "%d %b %H:%M:%S.%1f",
            };
            let mut at_ms = part.from_ms.div_ceil(step) * step;
            while at_ms <= part.to_ms {
                let at = Timestamp::from_millis(at_ms);
                let x = self.x(at);
                svg.line((x, top), (x, bottom), &format!("stroke=\"{GRID}\""));
                if x - label_px / 2.0 >= free_from {
                    let label = clock::formatted(at, form);
                    let place = (x, bottom + 18.0);
                    svg.text(place, Anchor::Middle, (FAINT_INK, 12), &label);
                    free_from = x + label_px / 2.0;
                }
                at_ms += step;
            }
        }
        for pair in self.segments.windows(2) {
            let x = pair[1].left;
            let style = format!("stroke=\"{FAINT_INK}\" stroke-dasharray=\"1 4\"");
            svg.line((x, top), (x, bottom), &style);
            for shift in [-2.0, 2.0] {
                let (low, high) = (
                    (x + shift - 3.0, bottom + 5.0),
                    (x + shift + 3.0, bottom - 5.0),
                );
                svg.line(low, high, &format!("stroke=\"{FAINT_INK}\""));
            }
        }
        let day = |ms: u64| clock::formatted(Timestamp::from_millis(ms), "%Y-%m-%d");
        let mut caption = format!("{}, UTC", day(from_ms));
        if days.0 != days.1 {
            caption = format!("{} to {}, UTC", day(from_ms), day(to_ms - 1));
        }
        if self.segments.len() > 1 {
            caption.push_str("; where most happened, time is stretched");
        }
        let middle = (self.segments[0].left + self.segments[self.segments.len() - 1].right) / 2.0;
        svg.text(
            (middle, bottom + 38.0),
            Anchor::Middle,
            (FAINT_INK, 12),
            &caption,
        );
    }
}

/// The shortest time in which most happened, when it is short.
fn dense_part(from_ms: u64, to_ms: u64, times: &[Timestamp]) -> Option<(u64, u64)> {
    if times.len() < DENSE_EVENTS_MIN {
        return None;
    }
    let shortest = |share: f64| {
        let most = (times.len() as f64 * share).ceil() as usize;
        let runs = times.windows(most);
        runs.map(|run| (run[0].as_millis(), run[most - 1].as_millis()))
            .min_by_key(|(begin, end)| end - begin)
    };
    let with_margin = |(begin, end): (u64, u64)| {
        let margin = (((end - begin) as f64 * DENSE_MARGIN) as u64).max(1);
        (
            begin.saturating_sub(margin).max(from_ms),
            (end + margin).min(to_ms),
        )
    };
    let is_short = |(begin, end): &(u64, u64)| {
        (end.saturating_sub(*begin) as f64) < (to_ms - from_ms) as f64 * DENSE_TIME_SHARE
    };
    DENSE_EVENTS_SHARES
        .into_iter()
        .filter_map(shortest)
        .map(with_margin)
        .find(is_short)
}

/// Amounts or counts from the bottom to the top.
#[derive(Clone, Copy, Debug)]
pub(super) struct ValueAxis {
    low: i64,
    high: i64,
    step: i64,
    top: f64,
    bottom: f64,
}

impl ValueAxis {
    /// Over a height, with room for everything between two values.
    pub(super) fn new((low, high): (i64, i64), (top, bottom): (f64, f64)) -> Self {
        let range = high.saturating_sub(low).max(1);
        let step = round_step(range);
        let low = low.div_euclid(step) * step;
        let high = high.saturating_add(step - 1).div_euclid(step) * step;
        Self {
            low,
            high: high.max(low + step),
            step,
            top,
            bottom,
        }
    }

    pub(super) fn y(&self, value: i64) -> f64 {
        let share = (value - self.low) as f64 / (self.high - self.low) as f64;
        self.bottom - share.clamp(0.0, 1.0) * (self.bottom - self.top)
    }

    /// Draws the axis to the left of a plot, with lines through it.
    pub(super) fn draw(&self, svg: &mut Svg, left: f64, right: f64, label: impl Fn(i64) -> String) {
        let mut value = self.low;
        while value <= self.high {
            let y = self.y(value);
            svg.line((left, y), (right, y), &format!("stroke=\"{GRID}\""));
            svg.text(
                (left - 8.0, y + 4.0),
                Anchor::End,
                (FAINT_INK, 12),
                &label(value),
            );
            value += self.step;
        }
    }
}

/// 1, 2 or 5 times a power of ten, so that a range has few steps.
fn round_step(range: i64) -> i64 {
    let mut power = 1_i64;
    loop {
        for factor in [1, 2, 5] {
            let step = power.saturating_mul(factor);
            if range / step < VALUE_STEPS_MAX {
                return step;
            }
        }
        power = power.saturating_mul(10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn time_is_stretched_where_most_happens() {
        let even: Vec<_> = (0..10).map(|number| at(number * 1_000)).collect();
        let plain = TimeAxis::new((at(0), at(10_000)), &even, (0.0, 100.0));
        assert_eq!(plain.x(at(5_000)), 50.0);
        let late: Vec<_> = (0..10).map(|number| at(900_000 + number * 1_000)).collect();
        let axis = TimeAxis::new((at(0), at(1_000_000)), &late, (0.0, 100.0));
        assert_eq!(axis.segments.len(), 3);
        assert!(axis.x(at(909_000)) - axis.x(at(900_000)) > 50.0);
        let places: Vec<_> = (0..1_000).map(|step| axis.x(at(step * 1_000))).collect();
        assert!(places.is_sorted(), "{places:?}");
        assert_eq!((axis.x(at(0)), axis.x(at(1_000_000))), (0.0, 100.0));
        assert!(axis.has(at(1_000_000)) && !axis.has(at(1_000_001)));
    }

    #[test]
    fn steps_are_round() {
        for (range, step) in [(1, 1), (5, 1), (9, 2), (10, 2), (47, 10), (9_999, 2_000)] {
            assert_eq!(round_step(range), step, "{range}");
        }
        assert!(round_step(i64::MAX) > 0);
        let axis = ValueAxis::new((10_000, 16_500), (0.0, 100.0));
        assert_eq!((axis.low, axis.high, axis.step), (10_000, 18_000, 2_000));
        let flat = ValueAxis::new((7, 7), (0.0, 100.0));
        assert_eq!((flat.y(7), flat.y(8)), (100.0, 0.0));
    }
}
