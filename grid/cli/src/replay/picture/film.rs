//! How a picture plays: a curtain opens over its plot, and captions follow it.
//!
//! Everything is declared with SMIL and returns to what it was at the end, so that the still picture is
//! the complete one.

use std::fmt::Write as _;

use super::svg::{Anchor, FAINT_INK, INK, Svg, px, text_element};

/// How long it plays.
const DURATION_S: f64 = 12.0;
/// The complete picture is seen for a moment before it plays.
const DELAY_S: f64 = 0.8;
/// The most captions, which follow each other while it plays.
const CAPTIONS_MAX: usize = 120;

/// The plot that is opened from left to right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Film {
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
}

impl Film {
    /// When the curtain passes this place, in seconds after the beginning.
    fn passes_s(&self, x: f64) -> f64 {
        let share = (x - self.left) / (self.right - self.left).max(1.0);
        share.clamp(0.0, 1.0) * DURATION_S
    }

    /// Draws the curtain, a line where it ends, and what plays it again.
    pub(super) fn curtain(&self, svg: &mut Svg, button: (f64, f64)) {
        let (left, right, top) = (px(self.left), px(self.right), px(self.top));
        let (width, height) = (px(self.right - self.left), px(self.bottom - self.top));
        let timing = format!("dur=\"{DURATION_S}s\" begin=\"{}\"", begin(0.0));
        svg.raw(&format!(
            "<rect x=\"{left}\" y=\"{top}\" width=\"0\" height=\"{height}\" fill=\"#fff\" \
             fill-opacity=\"0.95\">\n\
             <animate attributeName=\"x\" from=\"{left}\" to=\"{right}\" {timing}/>\n\
             <animate attributeName=\"width\" from=\"{width}\" to=\"0\" {timing}/>\n</rect>"
        ));
        svg.raw(&format!(
            "<line x1=\"0\" x2=\"0\" y1=\"{top}\" y2=\"{}\" stroke=\"{INK}\" visibility=\"hidden\">\n\
             <set attributeName=\"visibility\" to=\"visible\" {timing}/>\n\
             <animateTransform attributeName=\"transform\" type=\"translate\" from=\"{left} 0\" \
             to=\"{right} 0\" {timing}/>\n</line>",
            px(self.bottom)
        ));
        let again = text_element(
            button,
            Anchor::End,
            (FAINT_INK, 13),
            "\u{25b6} play",
            " id=\"play\" style=\"cursor:pointer\"",
            "",
        );
        svg.raw(&again);
    }

    /// Draws captions at one place, each from where the curtain passes its point up to the next one's;
    /// the last one stands when nothing plays.
    pub(super) fn captions(&self, svg: &mut Svg, at: (f64, f64), captions: &[(f64, String)]) {
        let step = captions.len().div_ceil(CAPTIONS_MAX).max(1);
        let mut shown: Vec<&(f64, String)> = captions.iter().step_by(step).collect();
        if let Some(last) = captions.last()
            && !shown.last().is_some_and(|shown| std::ptr::eq(*shown, last))
        {
            shown.push(last);
        }
        let style = (INK, 15);
        for (place, (x, caption)) in shown.iter().enumerate() {
            let from_s = self.passes_s(*x);
            let inside = match shown.get(place + 1) {
                Some((next, _)) => {
                    let for_s = self.passes_s(*next) - from_s;
                    if for_s < 0.01 {
                        continue;
                    }
                    set("visible", from_s, for_s)
                }
                // It stands, but not before its time.
                None if from_s > 0.01 => set("hidden", 0.0, from_s),
                None => String::new(),
            };
            let is_last = place + 1 == shown.len();
            let hidden = if is_last {
                ""
            } else {
                " visibility=\"hidden\""
            };
            let text = text_element(at, Anchor::Start, style, caption, hidden, &inside);
            svg.raw(&text);
        }
    }

    /// What hides something until the curtain passes this place.
    pub(super) fn hidden_until(&self, x: f64) -> String {
        match self.passes_s(x) {
            until_s if until_s > 0.01 => set("hidden", 0.0, until_s),
            _ => String::new(),
        }
    }
}

/// So long after the beginning, of the first time and of every click.
fn begin(after_s: f64) -> String {
    let mut text = format!("{}s;play.click", seconds(DELAY_S + after_s));
    if after_s > 0.0 {
        let _ = write!(text, "+{}s", seconds(after_s));
    }
    text
}

fn set(visibility: &str, from_s: f64, for_s: f64) -> String {
    format!(
        "<set attributeName=\"visibility\" to=\"{visibility}\" begin=\"{}\" dur=\"{}s\"/>",
        begin(from_s),
        seconds(for_s)
    )
}

fn seconds(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
