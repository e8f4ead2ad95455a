//! The queue of frames towards one peer on one connection, and the task that writes them.
//!
//! Whoever sends pushes into the queue without waiting; the writer takes all that is queued at once
//! and writes it in as few system calls as it can, so the busier the connection, the larger its
//! writes.
//!
//! Invariants: frames leave in the order they were pushed; a frame counts against the bounds until
//! the socket took it; a frame that would break the promise of a reply or the end of a stream by
//! being dropped is never dropped: the connection is closed instead.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::connection::Connection;
use super::frame::{Frame, Kind, PAYLOAD_BYTES_MAX};

/// Most frames waiting on one connection. When full: requests are refused, stream senders wait.
const OUTBOUND_FRAMES_MAX: usize = 65_536;
/// Most bytes waiting on one connection; holds at least one frame of the largest size. When full:
/// as above.
const OUTBOUND_BYTES_MAX: usize = 2 * PAYLOAD_BYTES_MAX;
/// Replies and the ends of streams may fill the queue to this many times its bounds. When that is
/// full too, the connection is closed: its peer is not reading.
const REPLY_RESERVE_FACTOR: usize = 2;
/// A payload up to this size is copied beside its head; a larger one is handed to the socket as is.
const GATHER_BYTES_MAX: usize = 4 * 1024;
/// About how many bytes are gathered before they are handed to the socket.
const WRITE_BYTES: usize = 256 * 1024;
/// Most slices in one vectored write.
const WRITE_SLICES_MAX: usize = 64;

/// What happens to a frame when the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is refused.
    Ordinary,
    /// It may use the reserve; beyond that the connection is closed.
    Owed,
}

/// Why a frame was not queued.
#[derive(Debug)]
pub(super) enum PushError {
    /// The queue is full; the frame comes back.
    Full(Frame),
    /// The connection is closed.
    Closed,
}

#[derive(Debug, Default)]
struct Queue {
    frames: Vec<Frame>,
    // Both also count what the writer took and has not yet written.
    count: usize,
    bytes: usize,
    closed: bool,
}

/// The queue; see the module.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    queue: Mutex<Queue>,
    work: Notify,
    room: Notify,
}

impl Outbound {
    /// Queues a frame, or says why not. Never waits.
    pub(super) fn push(&self, frame: Frame, admission: Admission) -> Result<(), PushError> {
        let factor = match admission {
            Admission::Ordinary => 1,
            Admission::Owed => REPLY_RESERVE_FACTOR,
        };
        let was_empty;
        {
            let mut queue = self.queue.lock();
            if queue.closed {
                return Err(PushError::Closed);
            }
            let bytes = frame.wire_bytes();
            if queue.count >= OUTBOUND_FRAMES_MAX * factor
                || queue.bytes + bytes > OUTBOUND_BYTES_MAX * factor
            {
                return Err(PushError::Full(frame));
            }
            was_empty = queue.frames.is_empty();
            queue.count += 1;
            queue.bytes += bytes;
            queue.frames.push(frame);
        }
        if was_empty {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Queues a frame, waiting for room. Fails only when the connection is closed.
    pub(super) async fn push_when_room(&self, mut frame: Frame) -> Result<(), PushError> {
        loop {
            frame = match self.push(frame, Admission::Ordinary) {
                Err(PushError::Full(frame)) => frame,
                done => return done,
            };
            let room = self.room.notified();
            tokio::pin!(room);
            // Registered before the second try, so room made in between is not missed.
            room.as_mut().enable();
            frame = match self.push(frame, Admission::Ordinary) {
                Err(PushError::Full(frame)) => frame,
                done => return done,
            };
            room.await;
        }
    }

    /// Refuses all further frames, drops those queued, wakes who waits.
    pub(super) fn close(&self) {
        {
            let mut queue = self.queue.lock();
            queue.closed = true;
            queue.frames = Vec::new();
        }
        self.work.notify_one();
        self.room.notify_waiters();
    }

    /// Moves all queued frames into `batch`, which is empty.
    fn take(&self, batch: &mut Vec<Frame>) {
        std::mem::swap(&mut self.queue.lock().frames, batch);
    }

    fn written(&self, count: usize, bytes: usize) {
        {
            let mut queue = self.queue.lock();
            queue.count = queue.count.saturating_sub(count);
            queue.bytes = queue.bytes.saturating_sub(bytes);
        }
        self.room.notify_waiters();
    }
}

/// How long a writer bears with its peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// A write that the socket does not take for this long ends the connection.
    pub(super) write_stall: Duration,
    /// Having sent something and heard nothing for this long, the writer sends a ping.
    pub(super) ping_after: Duration,
    /// Having heard nothing for this long in spite of pings, it ends the connection.
    pub(super) silence: Duration,
    /// While a stream is open, or a gateway is at the other end, the writer sends a ping after so long
    /// without one: whoever waits for the next message sends nothing that could go unanswered.
    pub(super) probe_streams: Duration,
}

/// Why a writer ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteEnd {
    #[error("the connection was closed on this side")]
    Closed,
    #[error("the peer stopped reading")]
    Stalled,
    #[error("the peer fell silent")]
    Silent,
    #[error("writing failed: {0}")]
    Io(#[from] io::Error),
}

/// Detects a peer that is gone although its socket is not: a cut cable or a lost machine sends no
/// FIN, and the system would retransmit for minutes. Costs nothing while nothing is sent and no stream
/// is open.
struct SilenceCheck {
    patience: Patience,
    armed: Option<Armed>,
}

struct Armed {
    look_at: Instant,
    /// What had been received when something was first sent.
    received: u64,
    /// Patience counts from the first ping, not from the send: writing may itself have taken long.
    pinged_at: Option<Instant>,
}

impl SilenceCheck {
    fn sent(&mut self, received: u64) {
        if self.armed.is_none() {
            self.armed = Some(Armed {
                look_at: Instant::now() + self.patience.ping_after,
                received,
                pinged_at: None,
            });
        }
    }

    async fn due(&self, is_probed: bool) {
        match &self.armed {
            Some(armed) => tokio::time::sleep_until(armed.look_at).await,
            None if is_probed => tokio::time::sleep(self.patience.probe_streams).await,
            None => std::future::pending().await,
        }
    }

    /// Called when due. `Ok(true)`: send a ping.
    fn look(&mut self, received: u64) -> Result<bool, WriteEnd> {
        let Some(armed) = self.armed.as_mut() else {
            self.sent(received);
            return Ok(true);
        };
        if armed.received != received {
            self.armed = None;
            return Ok(false);
        }
        let now = Instant::now();
        let pinged_at = *armed.pinged_at.get_or_insert(now);
        if now.duration_since(pinged_at) >= self.patience.silence {
            return Err(WriteEnd::Silent);
        }
        armed.look_at = now + self.patience.ping_after;
        Ok(true)
    }
}

/// Writes what is queued until the connection ends; returns why it did.
pub(super) async fn write_frames<W: AsyncWrite + Unpin>(
    connection: &Connection,
    mut socket: W,
    patience: Patience,
) -> WriteEnd {
    let outbound = connection.outbound();
    let mut batch: Vec<Frame> = Vec::new();
    let mut gathered = Gathered::default();
    let mut silence = SilenceCheck {
        patience,
        armed: None,
    };
    let closed = connection.closed();
    tokio::pin!(closed);
    loop {
        outbound.take(&mut batch);
        if batch.is_empty() {
            tokio::select! {
                biased;
                () = &mut closed => return WriteEnd::Closed,
                // The task that pushed is often one of many that are about to: whoever is ready now
                // has its turn before the write, and its frame goes with it.
                () = outbound.work.notified() => tokio::task::yield_now().await,
                () = silence.due(connection.is_probed()) => match silence.look(connection.received()) {
                    Ok(true) => connection.probe(Kind::Ping),
                    Ok(false) => {}
                    Err(end) => return end,
                },
            }
            continue;
        }
        if batch.iter().any(|frame| !frame.kind.is_probe()) {
            silence.sent(connection.received());
        }
        let write = async {
            for frame in batch.drain(..) {
                gathered.add(frame);
                if gathered.bytes >= WRITE_BYTES {
                    gathered
                        .write(&mut socket, patience.write_stall, outbound)
                        .await?;
                }
            }
            gathered
                .write(&mut socket, patience.write_stall, outbound)
                .await
        };
        let outcome = tokio::select! {
            biased;
            outcome = write => outcome,
            () = &mut closed => return WriteEnd::Closed,
        };
        if let Err(end) = outcome {
            return end;
        }
    }
}

/// Frames on their way into the socket.
#[derive(Default)]
struct Gathered {
    small: BytesMut,
    slices: VecDeque<Bytes>,
    frames: usize,
    bytes: usize,
}

impl Gathered {
    fn add(&mut self, frame: Frame) {
        self.frames += 1;
        self.bytes += frame.wire_bytes();
        frame.put_head(&mut self.small);
        if frame.payload.len() <= GATHER_BYTES_MAX {
            self.small.extend_from_slice(&frame.payload);
        } else {
            self.slices.push_back(self.small.split().freeze());
            self.slices.push_back(frame.payload);
        }
    }

    async fn write<W: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut W,
        stall: Duration,
        outbound: &Outbound,
    ) -> Result<(), WriteEnd> {
        if !self.small.is_empty() {
            self.slices.push_back(self.small.split().freeze());
        }
        while !self.slices.is_empty() {
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
            let mut used = 0;
            for (slice, bytes) in slices.iter_mut().zip(&self.slices) {
                *slice = IoSlice::new(bytes);
                used += 1;
            }
            let written = timeout(stall, socket.write_vectored(&slices[..used]))
                .await
                .map_err(|_elapsed| WriteEnd::Stalled)??;
            if written == 0 {
                return Err(WriteEnd::Io(io::ErrorKind::WriteZero.into()));
            }
            self.consume(written);
        }
        // Plain sockets have nothing to flush; a layer that buffers, such as TLS, does.
        timeout(stall, socket.flush())
            .await
            .map_err(|_elapsed| WriteEnd::Stalled)??;
        self.small.reserve(WRITE_BYTES.min(self.bytes));
        outbound.written(self.frames, self.bytes);
        self.frames = 0;
        self.bytes = 0;
        Ok(())
    }

    fn consume(&mut self, mut written: usize) {
        while let Some(first) = self.slices.front_mut() {
            if written < first.len() {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.slices.pop_front();
        }
    }
}
