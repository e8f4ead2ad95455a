//! The messages that subscribers got, one a line, byte for byte.

use std::io::Write;

use gateway::Retelling;
use processing_unit::UserId;

use super::{Entry, Telling};

/// Writes messages to `out`.
pub(crate) struct Wire<W> {
    retelling: Retelling,
    out: W,
    told: u64,
}

impl<W: Write> Wire<W> {
    /// As `viewer` got them; without one, as everybody did whom nothing concerned in person.
    pub(crate) fn new(viewer: Option<UserId>, out: W) -> Self {
        Self {
            retelling: Retelling::new(viewer),
            out,
            told: 0,
        }
    }
}

impl<W: Write> Telling for Wire<W> {
    fn entry(&mut self, entry: &Entry, is_shown: bool) -> anyhow::Result<()> {
        let changes = entry.changes.iter().map(|(seq, change)| (*seq, change));
        let place = (entry.partition, entry.index);
        let messages = self.retelling.entry(place, entry.at, changes)?;
        if is_shown {
            for message in messages {
                self.out.write_all(&message)?;
                self.out.write_all(b"\n")?;
                self.told += 1;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<u64> {
        self.out.flush()?;
        Ok(self.told)
    }
}
