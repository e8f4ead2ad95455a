//! The few shapes that the pictures are made of, written as SVG.

use std::fmt::Write as _;

/// Colours that people with any colour vision tell apart (Okabe and Ito), the last ones darker.
pub(super) const COLOURS: [&str; 8] = [
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#5a3c8c", "#6e6e6e",
];
/// Text.
pub(super) const INK: &str = "#222";
/// Text that matters less, and axes.
pub(super) const FAINT_INK: &str = "#777";
/// Lines behind everything.
pub(super) const GRID: &str = "#e4e4e4";

/// Where a text hangs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A picture being written.
#[derive(Debug)]
pub(super) struct Svg {
    text: String,
}

impl Svg {
    /// An empty picture with a white ground.
    pub(super) fn new(width: u32, height: u32, title: &str) -> Self {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
             <title>{}</title>\n<rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n",
            escaped(title)
        );
        Self { text }
    }

    /// Adds markup; whoever writes it has escaped what people wrote.
    pub(super) fn raw(&mut self, markup: &str) {
        self.text.push_str(markup);
        self.text.push('\n');
    }

    /// A line of text, in a colour and size.
    pub(super) fn text(
        &mut self,
        (x, y): (f64, f64),
        anchor: Anchor,
        (colour, size_px): (&str, u32),
        text: &str,
    ) {
        self.raw(&text_element(
            (x, y),
            anchor,
            (colour, size_px),
            text,
            "",
            "",
        ));
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), style: &str) {
        let (x1, y1, x2, y2) = (px(from.0), px(from.1), px(to.0), px(to.1));
        self.raw(&format!(
            "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" {style}/>"
        ));
    }

    pub(super) fn rect(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), style: &str) {
        let (x, y, width, height) = (px(x), px(y), px(width.max(0.0)), px(height.max(0.0)));
        self.raw(&format!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" {style}/>"
        ));
    }

    pub(super) fn finish(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }
}

/// A text with further attributes and with elements inside.
pub(super) fn text_element(
    (x, y): (f64, f64),
    anchor: Anchor,
    (colour, size_px): (&str, u32),
    text: &str,
    attributes: &str,
    inside: &str,
) -> String {
    let anchor = match anchor {
        Anchor::Start => "",
        Anchor::Middle => " text-anchor=\"middle\"",
        Anchor::End => " text-anchor=\"end\"",
    };
    let size = if size_px == 13 {
        String::new()
    } else {
        format!(" font-size=\"{size_px}\"")
    };
    let (x, y, text) = (px(x), px(y), escaped(text));
    format!(
        "<text x=\"{x}\" y=\"{y}\" fill=\"{colour}\"{anchor}{size}{attributes}>{text}{inside}</text>"
    )
}

/// A length with one decimal at most.
pub(super) fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    match text.strip_suffix(".0") {
        Some("-0") => "0".to_owned(),
        Some(whole) => whole.to_owned(),
        None => text,
    }
}

/// Text as it stands in markup. Characters that XML has no place for become U+FFFD.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' | '\n' | '\r' => escaped.push(' '),
            letter if letter.is_control() || ('\u{fffe}'..='\u{ffff}').contains(&letter) => {
                escaped.push('\u{fffd}');
            }
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// The beginning of a text that has room for so many characters.
pub(super) fn shortened(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    let kept: String = text.chars().take(chars_max.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_wrote_stays_text() {
        assert_eq!(
            escaped("a<b>&\"c\"\0\n"),
            "a&lt;b&gt;&amp;&quot;c&quot;\u{fffd} "
        );
        assert_eq!(shortened("Philharmonie", 5), "Phil…");
        assert_eq!(
            (px(1.0), px(-0.01), px(2.25)),
            ("1".to_owned(), "0".to_owned(), "2.2".to_owned())
        );
    }
}
