//! What goes to standard output: one JSON document with `--json`, text and tables for people otherwise.
//! Progress goes to standard error, and only to a terminal.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// A bar appears only when the work takes longer than this.
const BAR_AFTER: Duration = Duration::from_secs(1);

/// Where results go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Whether a program reads them.
    pub(crate) json: bool,
}

impl Output {
    /// Prints the result: `value` for programs, `text` for people.
    pub(crate) fn result(
        self,
        value: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> anyhow::Result<()> {
        if self.json {
            line(&serde_json::to_string(value)?)
        } else {
            line(text().trim_end())
        }
    }

    /// Prints text for people only.
    pub(crate) fn say(self, text: &str) -> anyhow::Result<()> {
        if self.json { Ok(()) } else { line(text) }
    }

    /// A bar for work that may take a while.
    pub(crate) fn bar(self, total: u64, what: &str) -> ProgressBar {
        if self.json || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(total);
        let template = "{msg} [{bar:40}] {pos}/{len} ({eta} left)";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(BAR_AFTER);
        bar
    }
}

/// Writes one line. Whoever reads may have gone, which is no failure of the command's.
fn line(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Makes a terminal begin anew; nothing where there is none.
pub(crate) fn clear_screen() -> &'static str {
    if std::io::stdout().is_terminal() {
        "\u{1b}[2J\u{1b}[H"
    } else {
        ""
    }
}

/// A table with a header.
pub(crate) fn table<I, T>(header: I) -> Table
where
    I: IntoIterator<Item = T>,
    T: Into<comfy_table::Cell>,
{
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.into_iter().map(Into::into).collect::<Vec<_>>());
    table
}

/// A number with thousands set apart.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
