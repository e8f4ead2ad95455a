//! Keeps one zeroed segment ready in a simulated log: made at once, by whoever takes the last one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::WalOptions;
use super::zeros::{
    check_room, fill_with_zeros, free, no_room, remove, remove_left_over, remove_part, spare_path,
    take_freed,
};

/// What the writer and the log share.
#[derive(Debug, Default)]
pub(super) struct SpareState {
    is_ready: AtomicBool,
}

impl SpareState {
    /// Nobody waits for room here; see the worker's task.
    #[expect(
        clippy::unused_self,
        reason = "the thread's counterpart has something to end"
    )]
    pub(super) fn close(&self) {}

    /// Whether a spare waits to be taken.
    pub(super) fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Relaxed)
    }
}

/// The spare, if there is one, and what the next is made of.
#[derive(Debug)]
pub(super) struct Spares {
    state: Arc<SpareState>,
    directory: PathBuf,
    bytes: u64,
    keep_free_bytes: u64,
    freed: Option<PathBuf>,
    ready: Option<PathBuf>,
    made: u64,
}

impl Spares {
    /// Removes what an earlier run left over and makes the first spare.
    pub(super) fn start(options: &WalOptions, state: Arc<SpareState>) -> io::Result<Self> {
        remove_left_over(&options.directory)?;
        let mut spares = Self {
            state,
            directory: options.directory.clone(),
            bytes: options.segment_bytes,
            keep_free_bytes: options.keep_free_bytes,
            freed: None,
            ready: None,
            made: 0,
        };
        spares.prepare();
        Ok(spares)
    }

    /// Makes a spare unless there is one or the disk is full.
    pub(super) fn prepare(&mut self) {
        if self.ready.is_none() {
            match self.make() {
                Ok(path) => self.ready = Some(path),
                Err(error) => tracing::error!(%error, "no room for the next segment of the log"),
            }
        }
        let is_ready = self.ready.is_some();
        self.state.is_ready.store(is_ready, Ordering::Relaxed);
    }

    fn make(&mut self) -> io::Result<PathBuf> {
        let path = spare_path(&self.directory, self.made);
        let begun = match self.freed.take() {
            Some(freed) => take_freed(&self.directory, &freed, &path),
            None => check_room(&self.directory, self.bytes + self.keep_free_bytes),
        };
        let made = begun.and_then(|()| fill_with_zeros(&path, self.bytes, &AtomicBool::new(false)));
        if let Err(error) = made {
            remove_part(&path);
            return Err(error);
        }
        self.made += 1;
        Ok(path)
    }

    /// Takes the spare.
    pub(super) fn take(&mut self) -> io::Result<PathBuf> {
        self.prepare();
        let path = self.ready.take();
        self.prepare();
        path.ok_or_else(no_room)
    }

    /// As [`Self::take`]: nothing waits here.
    pub(super) fn take_within(&mut self, _patience: Duration) -> io::Result<PathBuf> {
        self.take()
    }

    /// A simulated segment has all its room.
    #[expect(clippy::unused_self, reason = "the thread's counterpart waits")]
    pub(super) fn wait_for_room(&self) -> bool {
        false
    }

    /// Takes back the file of a segment that is no longer needed.
    pub(super) fn recycle(&mut self, segment: &Path) {
        let Some(freed) = free(segment) else {
            return;
        };
        if self.freed.is_none() {
            self.freed = Some(freed);
        } else {
            remove(&freed);
        }
    }
}
