//! The thread behind the log, and the queue to it.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::shared::Operation;
use super::writer::Writer;

/// Where operations are put; who puts waits while it is full.
pub(super) type Queue = SyncSender<Operation>;

/// A queue of at most `operations_max`.
pub(super) fn queue(operations_max: usize) -> (Queue, Receiver<Operation>) {
    sync_channel(operations_max)
}

/// The running writer.
#[derive(Debug)]
pub(super) struct Worker(JoinHandle<()>);

impl Worker {
    /// Starts the thread. It ends when the queue's other end is dropped.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn start(mut writer: Writer, operations: Receiver<Operation>) -> io::Result<Self> {
        let run = move || {
            while let Ok(first) = operations.recv() {
                let batch = writer.write(first, || operations.try_recv().ok());
                writer.settle(batch);
            }
            writer.finish();
        };
        std::thread::Builder::new()
            .name("wal-writer".to_owned())
            .spawn(run)
            .map(Self)
    }

    /// Waits for its end.
    pub(super) fn join(self) {
        if self.0.join().is_err() {
            tracing::error!("the log's writer panicked");
        }
    }
}
