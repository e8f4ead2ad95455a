//! A time-lapse picture: SVG that shows the whole history at once, and plays it.
//!
//! The picture stands still and complete where nothing can play it; elsewhere a curtain opens from left
//! to right, once at the beginning and again on a click. It needs no script.
//!
//! What it is drawn from is bounded, however long the history: beyond that, points are left out evenly.

mod auction;
mod axis;
mod event;
mod film;
mod sampled;
mod svg;

use std::io::Write;

use processing_unit::Change;

use super::{Entry, Telling};
use auction::AuctionPicture;
use event::EventPicture;

/// Collects a history and draws it to `out` at the end.
pub(crate) struct Picture<W> {
    /// Whether to show what only the host and staff may know.
    is_private: bool,
    out: W,
    of: Option<Of>,
    told: u64,
}

enum Of {
    Auction(Box<AuctionPicture>),
    Event(Box<EventPicture>),
}

impl<W: Write> Picture<W> {
    /// With or without what only the host and staff may know.
    pub(crate) fn new(is_private: bool, out: W) -> Self {
        Self {
            is_private,
            out,
            of: None,
            told: 0,
        }
    }
}

impl<W: Write> Telling for Picture<W> {
    fn entry(&mut self, entry: &Entry, is_shown: bool) -> anyhow::Result<()> {
        use processing_unit::{auction::Change as A, box_office::Change as B};

        for (_, change) in &entry.changes {
            match (change, &mut self.of) {
                (Change::Auction(A::AuctionCreated { auction, .. }), of) => {
                    let picture = AuctionPicture::new(auction, self.is_private);
                    *of = Some(Of::Auction(Box::new(picture)));
                }
                (Change::BoxOffice(B::EventCreated { event, .. }), of) => {
                    *of = Some(Of::Event(Box::new(EventPicture::new(event))));
                }
                (Change::Auction(change), Some(Of::Auction(picture))) => {
                    picture.step(entry.at, change, is_shown);
                    self.told += u64::from(is_shown);
                }
                (Change::BoxOffice(change), Some(Of::Event(picture))) => {
                    picture.step(entry.at, change, is_shown);
                    self.told += u64::from(is_shown);
                }
                (Change::WaitingRoom(_), _) => {}
                (Change::Auction(_) | Change::BoxOffice(_), _) => {
                    return Err(gateway::NoBeginning.into());
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<u64> {
        let drawn = match self.of.take() {
            Some(Of::Auction(picture)) => picture.draw(),
            Some(Of::Event(picture)) => picture.draw(),
            None => return Err(gateway::NoBeginning.into()),
        };
        self.out.write_all(drawn.as_bytes())?;
        self.out.flush()?;
        Ok(self.told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::sample;

    fn drawn(history: &[Entry], is_private: bool) -> String {
        let mut picture = Picture::new(is_private, Vec::new());
        for entry in history {
            picture.entry(entry, true).expect("taken");
        }
        picture.finish().expect("drawn");
        String::from_utf8(picture.out).expect("text")
    }

    #[test]
    fn an_auction_becomes_a_picture() {
        let svg = drawn(&sample::auction(), false);
        insta::assert_snapshot!("auction", svg);
        // What people wrote is text, not markup, and the reserve is the host's.
        assert!(svg.contains("Clock &lt;with&gt; chimes"), "{svg}");
        assert!(!svg.contains("reserve 120.00"), "{svg}");
        let private = drawn(&sample::auction(), true);
        assert!(private.contains("reserve 120.00"), "{private}");
    }

    #[test]
    fn a_sale_becomes_a_picture() {
        insta::assert_snapshot!("event", drawn(&sample::event(), false));
    }

    #[test]
    fn an_auction_of_which_nothing_happened_yet_is_drawn_too() {
        let svg = drawn(&sample::auction()[..1], false);
        assert!(svg.contains("no bids"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn a_long_history_makes_no_long_picture() {
        use processing_unit::auction::Change as A;

        let mut history = sample::auction();
        let bid = history[2].clone();
        let end = history.split_off(3).pop().expect("the hammer");
        for number in 1..30_000_u64 {
            let mut entry = bid.clone();
            entry.index += number;
            entry.at = entry.at + number * 100;
            if let (_, Change::Auction(A::BidPlaced { amount, alias, .. })) = &mut entry.changes[0]
            {
                *amount += i64::try_from(number).expect("small") * 500;
                *alias = u32::try_from(number % 90).expect("small") + 1;
            }
            history.push(entry);
        }
        history.push(end);
        let svg = drawn(&history, false);
        assert!(svg.len() < 600_000, "{} bytes", svg.len());
    }
}
