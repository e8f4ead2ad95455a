//! An axis that is labelled at chosen places, such as full hours or the middles of rows; the drawing
//! library's own would choose round numbers.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, KeyPointWeight};
use plotters::prelude::Ranged;

/// From where to where, and where the labels are.
#[derive(Clone, Debug)]
pub(super) struct LabelledAxis {
    pub(super) range: Range<f64>,
    pub(super) labels_at: Vec<f64>,
}

impl Ranged for LabelledAxis {
    // Charts give labels a formatter of their own.
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (low, high): (i32, i32)) -> i32 {
        let length = self.range.end - self.range.start;
        if length <= 0.0 {
            return low;
        }
        let share = (value - self.range.start) / length;
        low + (share * f64::from(high - low)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        match hint.weight() {
            KeyPointWeight::Bold => self.labels_at.clone(),
            KeyPointWeight::Any => Vec::new(),
        }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}
