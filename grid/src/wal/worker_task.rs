//! The task behind a simulated log, in place of the thread: it writes, waits as long as the disk
//! takes, and syncs, so that a crash may come in between. Without room for the next segment it waits.

use std::io;
use std::sync::mpsc::SendError;
use std::time::Duration;

use tokio::sync::mpsc;

use super::shared::Operation;
use super::writer::Writer;
use crate::platform::simulated;

/// How often a full disk is tried again.
const SPARE_RETRY: Duration = Duration::from_secs(1);

/// Where operations are put. A full one counts as closed: no simulation comes near.
pub(super) struct Queue(mpsc::Sender<Operation>);

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Queue")
    }
}

impl Queue {
    pub(super) fn send(&self, operation: Operation) -> Result<(), SendError<Operation>> {
        self.0.try_send(operation).map_err(|error| match error {
            mpsc::error::TrySendError::Full(operation)
            | mpsc::error::TrySendError::Closed(operation) => SendError(operation),
        })
    }
}

/// A queue of at most `operations_max`.
pub(super) fn queue(operations_max: usize) -> (Queue, mpsc::Receiver<Operation>) {
    let (sender, receiver) = mpsc::channel(operations_max);
    (Queue(sender), receiver)
}

/// The running writer. It ends when the queue's other end is dropped, some time after.
#[derive(Debug)]
pub(super) struct Worker;

impl Worker {
    #[expect(clippy::unnecessary_wraps, reason = "a thread can fail to start")]
    pub(super) fn start(writer: Writer, operations: mpsc::Receiver<Operation>) -> io::Result<Self> {
        tokio::spawn(run(writer, operations));
        Ok(Self)
    }

    #[expect(clippy::unused_self, reason = "a task cannot be waited for here")]
    pub(super) fn join(self) {}
}

async fn run(mut writer: Writer, mut operations: mpsc::Receiver<Operation>) {
    loop {
        let first = tokio::select! {
            biased;
            first = operations.recv() => first,
            () = tokio::time::sleep(SPARE_RETRY) => {
                writer.prepare_spare();
                continue;
            }
        };
        let Some(first) = first else {
            return writer.finish();
        };
        while !writer.has_room_for(&first) {
            tokio::time::sleep(SPARE_RETRY).await;
            writer.prepare_spare();
        }
        let spares = writer.spare_state();
        // Without a spare one at a time, so that each is looked at before.
        let batch = writer.write(first, || match spares.is_ready() {
            true => operations.try_recv().ok(),
            false => None,
        });
        tokio::time::sleep(simulated::sync_delay(writer.directory())).await;
        writer.settle(batch);
    }
}
