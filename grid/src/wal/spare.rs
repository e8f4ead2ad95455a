//! Keeps one zeroed segment ready, so that a rotation waits for nothing.
//!
//! A thread zeroes a file, syncs it, offers it and begins the next when it is taken. It uses a freed
//! segment again if there is one. Every spare has its own name: the thread never opens a file that
//! may be a segment by now. On a full disk it tries again until there is room or the log closes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{JoinHandle, park_timeout};
use std::time::Duration;

use parking_lot::Mutex;

use super::zeros::{fill_with_zeros, free, remove, remove_left_over, spare_path, take_freed};

/// How long a rotation waits for the next segment before the log gives up.
const SPARE_WAIT: Duration = Duration::from_secs(30);
/// How often the thread tries again when the disk is full.
const SPARE_RETRY: Duration = Duration::from_secs(1);

/// What the thread and its users share.
#[derive(Debug, Default)]
pub(super) struct SpareState {
    freed: Mutex<Option<PathBuf>>,
    is_ready: AtomicBool,
    stop: AtomicBool,
}

impl SpareState {
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
    pub(super) fn start(directory: &Path, bytes: u64, state: Arc<SpareState>) -> io::Result<Self> {
        remove_left_over(directory)?;
        // Without room in the channel the next spare is begun only when this one is taken.
        let (offer, ready) = sync_channel(0);
        let (directory, shared) = (directory.to_owned(), Arc::clone(&state));
        let thread = std::thread::Builder::new()
            .name("wal-spare".to_owned())
            .spawn(move || prepare(&directory, bytes, &shared, &offer))?;
        Ok(Self {
            state,
            ready: Some(ready),
            thread: Some(thread),
        })
    }

    /// Takes a spare, waiting for it if need be.
    ///
    /// # Errors
    /// When there is none in time: the disk is full.
    pub(super) fn take(&mut self) -> io::Result<PathBuf> {
        let ready = self.ready.as_ref();
        let path = ready.and_then(|ready| ready.recv_timeout(SPARE_WAIT).ok());
        path.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::StorageFull,
                "there is no room for the next segment",
            )
        })
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

fn prepare(directory: &Path, bytes: u64, state: &SpareState, offer: &SyncSender<PathBuf>) {
    for number in 0_u64.. {
        let path = spare_path(directory, number);
        loop {
            let freed = state.freed.lock().take();
            let taken = freed.map_or(Ok(()), |freed| take_freed(directory, &freed, &path));
            match taken.and_then(|()| fill_with_zeros(&path, bytes, &state.stop)) {
                Ok(()) => break,
                Err(_) if state.stop.load(Ordering::Relaxed) => return,
                Err(error) => {
                    tracing::error!(%error, "no room for the next segment of the log");
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
