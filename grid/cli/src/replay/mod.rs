//! An auction or a sale told again: every step as it happened.
//!
//! ```text
//!   database ──┐                      ┌─► wire     the messages that its subscribers got
//!              ├─► changes by entry ──┼─► text     a line a step
//!   grid's log ┘   (source)           └─► picture  SVG, which also plays
//! ```
//!
//! Invariants: changes come in the log's order, each once, wherever they are read; what is told is made
//! of the changes alone, so both sources tell the same; nothing grows with the length of the history
//! but what a picture is drawn from, which is bounded.
//!
//! What it deliberately does not do: decide what is public. The wire is the gateway's own; in text and
//! pictures, people are their public aliases and reserves are hidden, unless the operator asks.

mod clock;
mod entries;
mod picture;
#[cfg(test)]
mod sample;
mod seats;
mod source;
mod text;
mod wire;

pub(crate) use entries::Entry;
pub(crate) use picture::Picture;
pub(crate) use source::{From, Sources};
pub(crate) use text::Text;
pub(crate) use wire::Wire;

/// Where a history's entries go, in the log's order.
pub(crate) trait Telling {
    /// Takes the next entry. One that is not shown happened before the part that was asked for: it only
    /// counts for what follows.
    fn entry(&mut self, entry: &Entry, is_shown: bool) -> anyhow::Result<()>;

    /// Ends, and says how many steps were told.
    fn finish(&mut self) -> anyhow::Result<u64>;
}
