//! Keeps one zeroed segment ready, so that a rotation waits for nothing.
//!
//! A thread zeroes a file, syncs it, offers it and begins the next when it is taken. It uses a freed
//! segment again if there is one. Every spare has its own name: the thread never opens a file that
//! may be a segment by now. On a full disk it tries again until there is room or the log closes, and
//! leaves no half of a file behind: what room there is, others need. A rotation then waits likewise.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{JoinHandle, park_timeout};
use std::time::Duration;

use parking_lot::Mutex;

use super::WalOptions;
use super::zeros::{
    check_room, fill_with_zeros, free, no_room, remove, remove_left_over, remove_part, spare_path,
    take_freed,
};

/// How often the thread tries again when the disk is full.
const SPARE_RETRY: Duration = Duration::from_secs(1);
/// How often a rotation that waits looks whether the log closes.
const CLOSING_LOOK: Duration = Duration::from_millis(200);

/// What the thread and its users share.
#[derive(Debug, Default)]
pub(super) struct SpareState {
    freed: Mutex<Option<PathBuf>>,
    is_ready: AtomicBool,
    stop: AtomicBool,
    /// The log closes: nobody waits for room any more.
    is_closing: AtomicBool,
}

impl SpareState {
    /// Ends all waits for room.
    pub(super) fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
    }

    fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    /// Whether a spare waits to be taken.
    pub(super) fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Relaxed)
    }
}

/// The spare thread's handle; dropping it stops the thread and waits for it.
#[derive(Debug)]
pub(super) struct Spares {
    state: Arc<SpareState>,
    ready: Option<Receiver<PathBuf>>,
    thread: Option<JoinHandle<()>>,
}

impl Spares {
    /// Removes what an earlier run left over and starts the thread.
    ///
    /// # Errors
    /// When the directory cannot be read or the thread not started.
    pub(super) fn start(options: &WalOptions, state: Arc<SpareState>) -> io::Result<Self> {
        remove_left_over(&options.directory)?;
        // Without room in the channel the next spare is begun only when this one is taken.
        let (offer, ready) = sync_channel(0);
        let maker = SpareMaker {
            directory: options.directory.clone(),
            bytes: options.segment_bytes,
            keep_free_bytes: options.keep_free_bytes,
        };
        let shared = Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name("wal-spare".to_owned())
            .spawn(move || prepare(&maker, &shared, &offer))?;
        Ok(Self {
            state,
            ready: Some(ready),
            thread: Some(thread),
        })
    }

    /// Takes a spare, waiting for it for as long as it takes.
    ///
    /// # Errors
    /// When there is none and the log closes.
    pub(super) fn take(&mut self) -> io::Result<PathBuf> {
        let mut has_told = false;
        loop {
            match self.receive(CLOSING_LOOK) {
                Err(RecvTimeoutError::Timeout) if !self.state.is_closing() => {
                    if !has_told {
                        tracing::error!("the log waits for room for its next segment");
                        has_told = true;
                    }
                }
                received => return received.map_err(|_| no_room()),
            }
        }
    }

    /// Takes a spare, waiting for it for some time.
    ///
    /// # Errors
    /// When there is none in time.
    pub(super) fn take_within(&mut self, patience: Duration) -> io::Result<PathBuf> {
        self.receive(patience).map_err(|_| no_room())
    }

    fn receive(&self, patience: Duration) -> Result<PathBuf, RecvTimeoutError> {
        match &self.ready {
            Some(ready) => ready.recv_timeout(patience),
            None => Err(RecvTimeoutError::Disconnected),
        }
    }

    /// Waits a moment for a disk that has no room; `false` when the log closes.
    pub(super) fn wait_for_room(&self) -> bool {
        park_timeout(CLOSING_LOOK);
        !self.state.is_closing()
    }

    /// Takes back the file of a segment that is no longer needed.
    pub(super) fn recycle(&mut self, segment: &Path) {
        let Some(freed) = free(segment) else {
            return;
        };
        let mut slot = self.state.freed.lock();
        if slot.is_none() {
            *slot = Some(freed);
            drop(slot);
            if let Some(thread) = &self.thread {
                thread.thread().unpark();
            }
        } else {
            drop(slot);
            remove(&freed);
        }
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        self.ready.take();
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the thread that prepares segments panicked");
            }
        }
        self.state.is_ready.store(false, Ordering::Relaxed);
    }
}

/// What the thread makes spares by.
struct SpareMaker {
    directory: PathBuf,
    bytes: u64,
    keep_free_bytes: u64,
}

impl SpareMaker {
    /// Makes one under this name, of a freed segment if there is one.
    ///
    /// The first one since the start gets the room that the one before it had, or without which a new
    /// log could not begin.
    fn make(&self, number: u64, path: &Path, state: &SpareState) -> io::Result<()> {
        let keep_free_bytes = if number == 0 { 0 } else { self.keep_free_bytes };
        let freed = state.freed.lock().take();
        let begun = match freed {
            Some(freed) => take_freed(&self.directory, &freed, path),
            None => check_room(&self.directory, self.bytes + keep_free_bytes),
        };
        let made = begun.and_then(|()| fill_with_zeros(path, self.bytes, &state.stop));
        if made.is_err() {
            remove_part(path);
        }
        made
    }
}

fn prepare(maker: &SpareMaker, state: &SpareState, offer: &SyncSender<PathBuf>) {
    for number in 0_u64.. {
        let path = spare_path(&maker.directory, number);
        let mut has_told = false;
        loop {
            match maker.make(number, &path, state) {
                Ok(()) => break,
                Err(_) if state.stop.load(Ordering::Relaxed) => return,
                Err(error) => {
                    if !has_told {
                        tracing::error!(%error, "the log's next segment cannot be made; trying on");
                        has_told = true;
                    }
                    park_timeout(SPARE_RETRY);
                }
            }
        }
        state.is_ready.store(true, Ordering::Relaxed);
        let taken = offer.send(path);
        state.is_ready.store(false, Ordering::Relaxed);
        if taken.is_err() {
            return;
        }
    }
}
