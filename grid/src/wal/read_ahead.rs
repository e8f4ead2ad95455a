//! Reads segments one ahead of whoever goes through them.
//!
//! A start reads the whole log. Reading a segment and going through its records take about as long as each
//! other, so a second thread reads the next one meanwhile. No more than [`AHEAD_MAX`] segments are in
//! memory beside the one that is gone through, and their memory is used again.

use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::WalError;
use super::recovery::read_whole;

/// Segments that wait, read.
const AHEAD_MAX: usize = 1;
/// One more is being read, one gone through.
const BUFFERS_MAX: usize = AHEAD_MAX + 2;

/// A segment's file and all of its bytes.
pub(super) type ReadSegment = Result<(File, Vec<u8>), WalError>;

/// Segments in the order given.
#[derive(Debug)]
pub(super) struct ReadAhead {
    read: Receiver<ReadSegment>,
    used: SyncSender<Vec<u8>>,
}

impl ReadAhead {
    /// Begins to read; the last file is read from the disk itself.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(super) fn start(files: Vec<PathBuf>) -> std::io::Result<Self> {
        let (sender, read) = sync_channel(AHEAD_MAX);
        let (used, buffers) = sync_channel(BUFFERS_MAX);
        let thread = std::thread::Builder::new().name("wal-reader".to_owned());
        thread.spawn(move || read_all(files, &sender, &buffers))?;
        Ok(Self { read, used })
    }

    /// The next segment; `None` after the last.
    pub(super) fn next(&mut self) -> Option<ReadSegment> {
        self.read.recv().ok()
    }

    /// Gives memory back.
    pub(super) fn done(&mut self, bytes: Vec<u8>) {
        // Where all is read nobody wants it.
        let _ = self.used.try_send(bytes);
    }
}

fn read_all(files: Vec<PathBuf>, sender: &SyncSender<ReadSegment>, buffers: &Receiver<Vec<u8>>) {
    let count = files.len();
    for (place, path) in files.into_iter().enumerate() {
        let mut bytes = buffers.try_recv().unwrap_or_default();
        let read = read_whole(&path, &mut bytes, place + 1 == count);
        // Whoever goes through them stops at the first that is damaged.
        if sender.send(read.map(|file| (file, bytes))).is_err() {
            return;
        }
    }
}
