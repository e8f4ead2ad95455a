//! A line a step, for people.

mod auction;
mod event;

use std::io::Write;

use processing_unit::Change;

use super::{Entry, Telling};
use auction::AuctionText;
pub(super) use auction::{alias_of, count};
use event::EventText;

/// Writes lines to `out`.
pub(crate) struct Text<W> {
    /// Whether to show what only the host and staff may know.
    is_private: bool,
    out: W,
    of: Option<Of>,
    /// What was told first, and is shown above the first line.
    heading: String,
    told: u64,
}

enum Of {
    Auction(AuctionText),
    Event(EventText),
}

impl<W: Write> Text<W> {
    /// With or without what only the host and staff may know.
    pub(crate) fn new(is_private: bool, out: W) -> Self {
        Self {
            is_private,
            out,
            of: None,
            heading: String::new(),
            told: 0,
        }
    }

    fn line(&mut self, entry: &Entry, change: &Change) -> anyhow::Result<Option<String>> {
        use processing_unit::{auction::Change as A, box_office::Change as B};

        match (change, &mut self.of) {
            (Change::Auction(A::AuctionCreated { host, auction, .. }), of) => {
                let text = AuctionText::new(auction, self.is_private);
                self.heading = text.heading(*host);
                *of = Some(Of::Auction(text));
                Ok(None)
            }
            (Change::BoxOffice(B::EventCreated { host, event }), of) => {
                let text = EventText::new(event, self.is_private);
                self.heading = text.heading(*host);
                *of = Some(Of::Event(text));
                Ok(None)
            }
            (Change::Auction(change), Some(Of::Auction(text))) => Ok(text.line(entry.at, change)),
            (Change::BoxOffice(change), Some(Of::Event(text))) => Ok(text.line(entry.at, change)),
            (Change::WaitingRoom(_), _) => Ok(None),
            (Change::Auction(_) | Change::BoxOffice(_), _) => Err(gateway::NoBeginning.into()),
        }
    }
}

impl<W: Write> Telling for Text<W> {
    fn entry(&mut self, entry: &Entry, is_shown: bool) -> anyhow::Result<()> {
        for (_, change) in &entry.changes {
            let line = self.line(entry, change)?;
            if let Some(line) = line.filter(|_| is_shown) {
                if !self.heading.is_empty() {
                    writeln!(self.out, "{}", std::mem::take(&mut self.heading))?;
                }
                writeln!(self.out, "{}", line.trim_end())?;
                self.told += 1;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<u64> {
        if !self.heading.is_empty() {
            writeln!(self.out, "{}\n(nothing happened)", self.heading)?;
        }
        self.out.flush()?;
        Ok(self.told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::sample;

    fn told(history: &[Entry], is_private: bool) -> String {
        let mut text = Text::new(is_private, Vec::new());
        for entry in history {
            text.entry(entry, true).expect("written");
        }
        text.finish().expect("written");
        String::from_utf8(text.out).expect("text")
    }

    #[test]
    fn an_auction_is_told_with_its_clock_and_prices() {
        insta::assert_snapshot!("auction", told(&sample::auction(), false));
    }

    #[test]
    fn the_host_and_staff_see_who_it_was() {
        insta::assert_snapshot!("auction_private", told(&sample::auction(), true));
    }

    #[test]
    fn a_sale_is_told_with_what_is_left() {
        insta::assert_snapshot!("event", told(&sample::event(), false));
        let private = told(&sample::event(), true);
        assert!(private.contains("payment pay-1"), "{private}");
        assert!(!told(&sample::event(), false).contains("pay-1"));
    }

    #[test]
    fn what_was_before_is_counted_and_not_shown() {
        let history = sample::auction();
        let mut text = Text::new(false, Vec::new());
        for (place, entry) in history.iter().enumerate() {
            text.entry(entry, place + 1 == history.len())
                .expect("written");
        }
        assert_eq!(text.finish().expect("written"), 1);
        let shown = String::from_utf8(text.out).expect("text");
        assert!(shown.contains("Clock"), "{shown}");
        assert!(shown.contains("sold for"), "{shown}");
        assert!(!shown.contains("bids 1"), "{shown}");
    }
}
