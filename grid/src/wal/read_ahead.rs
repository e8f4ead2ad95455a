//! Reads segments ahead of whoever goes through them.
//!
//! ```text
//!   segment 1, 3, 5 … ─► reader ─┐
//!   segment 2, 4, 6 … ─► reader ─┴─in order─► whoever goes through them
//! ```
//!
//! A start reads the whole log. Most of that is reading and checking, which several threads do for a
//! segment each. No more than one segment a thread is in memory beside the one that is gone through, and
//! their memory is used again.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, available_parallelism};

use super::WalError;
use super::scan::{Buffers, Scanned, scan};

/// More would only wait for the disk, or for whoever goes through the segments.
const READERS_MAX: usize = 4;

struct Reader {
    read: Receiver<Result<Scanned, WalError>>,
    used: SyncSender<Buffers>,
}

/// Segments in the order given.
pub(super) struct ReadAhead {
    readers: Vec<Reader>,
    /// How many were taken.
    taken: usize,
}

impl ReadAhead {
    /// Begins to read; the last file is read from the disk itself.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(super) fn start(files: &[PathBuf]) -> std::io::Result<Self> {
        let cores = available_parallelism().map_or(1, usize::from);
        let count = cores.min(READERS_MAX).min(files.len());
        let reader = |place: usize| {
            // Read, a segment stays with its reader until it is wanted.
            let (sender, read) = sync_channel(0);
            let (used, buffers) = sync_channel(1);
            let files: Vec<_> = files
                .iter()
                .enumerate()
                .skip(place)
                .step_by(count)
                .map(|(place, path)| (path.clone(), place + 1 == files.len()))
                .collect();
            Builder::new()
                .name("wal-reader".to_owned())
                .spawn(move || read_all(files, &sender, &buffers))?;
            Ok(Reader { read, used })
        };
        let readers = (0..count).map(reader).collect::<std::io::Result<_>>()?;
        Ok(Self { readers, taken: 0 })
    }

    /// The next segment; `None` after the last.
    pub(super) fn next(&mut self) -> Option<Result<Scanned, WalError>> {
        let reader = self.readers.get(self.taken % self.readers.len().max(1))?;
        self.taken += 1;
        reader.read.recv().ok()
    }

    /// Gives the memory of the segment taken last back.
    pub(super) fn done(&mut self, buffers: Buffers) {
        let place = self.taken.saturating_sub(1) % self.readers.len().max(1);
        if let Some(reader) = self.readers.get(place) {
            // Where all is read nobody wants it.
            let _ = reader.used.try_send(buffers);
        }
    }
}

fn read_all(
    files: Vec<(PathBuf, bool)>,
    sender: &SyncSender<Result<Scanned, WalError>>,
    buffers: &Receiver<Buffers>,
) {
    for (path, is_last) in files {
        let buffers = buffers.try_recv().unwrap_or_default();
        // Whoever goes through them stops at the first that is damaged.
        if sender.send(scan(&path, buffers, is_last)).is_err() {
            return;
        }
    }
}
