//! One established connection: its queue, and what is open on it.
//!
//! Only the side that dialled begins requests and streams, so each id is given out by one side.
//! The tasks that move the bytes are in [`super::reader`] and [`super::outbound`].
//!
//! Invariants: a request's entry leaves the table when its caller has the reply, gives up or is
//! dropped; when the connection ends, for whatever reason, a panic of a handler included, every
//! open request and stream is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use grid_core::FixedHashMap;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use super::Lane;
use super::error::TransportError;
use super::frame::{Frame, Kind, PAYLOAD_BYTES_MAX};
use super::outbound::{Admission, Outbound, PushError};
use super::stream::{StreamReceiver, StreamSender, StreamState};

/// Most requests waiting for their reply on one connection. When full, new ones are refused.
const PENDING_REQUESTS_MAX: usize = 65_536;
/// Most streams open on one connection. When full, new ones are refused by either side.
const STREAMS_MAX: usize = 1024;

type ReplyTo = oneshot::Sender<Result<Bytes, TransportError>>;

#[derive(Debug)]
struct Table<T> {
    entries: FixedHashMap<u64, T>,
    closed: bool,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            entries: FixedHashMap::default(),
            closed: false,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Connection {
    peer: u64,
    lane: Lane,
    outbound: Outbound,
    requests: Mutex<Table<ReplyTo>>,
    streams: Mutex<Table<Arc<StreamState>>>,
    next_id: AtomicU64,
    received: AtomicU64,
    /// A guest leaves as it pleases.
    of_guest: AtomicBool,
    /// A gateway may vanish without a word, while this side waits for nothing.
    of_gateway: AtomicBool,
    closed: CancellationToken,
}

impl Connection {
    /// `closed` must be a token of its own: cancelling it ends this connection.
    pub(super) fn new(peer: u64, lane: Lane, closed: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            peer,
            lane,
            outbound: Outbound::default(),
            requests: Mutex::default(),
            streams: Mutex::default(),
            next_id: AtomicU64::new(1),
            received: AtomicU64::new(0),
            of_guest: AtomicBool::new(false),
            of_gateway: AtomicBool::new(false),
            closed,
        })
    }

    pub(super) fn peer(&self) -> u64 {
        self.peer
    }

    /// Notes that one of its ends is a guest.
    pub(super) fn note_guest(&self) {
        self.of_guest.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_of_guest(&self) -> bool {
        self.of_guest.load(Ordering::Relaxed)
    }

    /// Notes that a gateway dialled it.
    pub(super) fn note_gateway(&self) {
        self.of_gateway.store(true, Ordering::Relaxed);
    }

    /// Whether its other end is pinged though nothing is sent to it: as long as a stream is open, and always
    /// where a connection that nobody notices to be dead keeps another from its place.
    pub(super) fn is_probed(&self) -> bool {
        self.of_gateway.load(Ordering::Relaxed) || self.has_streams()
    }

    pub(super) fn lane(&self) -> Lane {
        self.lane
    }

    pub(super) fn outbound(&self) -> &Outbound {
        &self.outbound
    }

    /// Grows whenever something arrives.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(super) fn note_received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn closed(&self) -> WaitForCancellationFuture<'_> {
        self.closed.cancelled()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Ends the connection and tells every open request and stream. May be called again.
    pub(super) fn close(&self) {
        self.closed.cancel();
        self.outbound.close();
        let requests = {
            let mut table = self.requests.lock();
            table.closed = true;
            std::mem::take(&mut table.entries)
        };
        // Dropping a reply's sender is what tells its caller.
        drop(requests);
        let streams = {
            let mut table = self.streams.lock();
            table.closed = true;
            std::mem::take(&mut table.entries)
        };
        for stream in streams.into_values() {
            stream.end(TransportError::Disconnected { peer: self.peer });
        }
    }

    /// Queues a frame that the peer relies on; if even the reserve is full, gives the peer up.
    pub(super) fn owe(&self, frame: Frame) {
        if let Err(PushError::Full(_)) = self.outbound.push(frame, Admission::Owed) {
            tracing::warn!(
                peer = self.peer,
                lane = self.lane.name(),
                "the peer does not read its replies; disconnecting"
            );
            self.close();
        }
    }

    /// Whether a stream is open.
    fn has_streams(&self) -> bool {
        !self.streams.lock().entries.is_empty()
    }

    /// Queues a ping or a pong; when the queue is full, what is in it serves as well.
    pub(super) fn probe(&self, kind: Kind) {
        // A closed or full queue needs no probe: both end the silence in their own way.
        let _ = self
            .outbound
            .push(Frame::bare(kind, 0), Admission::Ordinary);
    }

    pub(super) async fn request(
        &self,
        service: u8,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, TransportError> {
        let peer = self.peer;
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(TransportError::TooLarge {
                bytes: payload.len(),
            });
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (reply_to, reply) = oneshot::channel();
        {
            let mut table = self.requests.lock();
            if table.closed {
                return Err(TransportError::Unreachable { peer });
            }
            if table.entries.len() >= PENDING_REQUESTS_MAX {
                return Err(TransportError::Overloaded { peer });
            }
            table.entries.insert(id, reply_to);
        }
        // From here the entry leaves the table also when the caller drops this future.
        let mut entry = PendingEntry {
            connection: self,
            id,
            is_pending: true,
        };
        self.outbound
            .push(
                Frame::new(Kind::Request { service }, id, payload),
                Admission::Ordinary,
            )
            .map_err(|error| match error {
                PushError::Full(_) => TransportError::Overloaded { peer },
                PushError::Closed => TransportError::Unreachable { peer },
            })?;
        let Ok(replied) = tokio::time::timeout(timeout, reply).await else {
            return Err(TransportError::Timeout { peer });
        };
        // Whoever has answered, or closed the connection, has taken it out of the table.
        entry.is_pending = false;
        replied.unwrap_or(Err(TransportError::Disconnected { peer }))
    }

    pub(super) fn open_stream(
        self: &Arc<Self>,
        service: u8,
        header: Bytes,
    ) -> Result<(StreamSender, StreamReceiver), TransportError> {
        let peer = self.peer;
        if header.len() > PAYLOAD_BYTES_MAX {
            return Err(TransportError::TooLarge {
                bytes: header.len(),
            });
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let state = StreamState::new(id, Arc::clone(self));
        self.register_stream(id, &state)?;
        let opened = self.outbound.push(
            Frame::new(Kind::Open { service }, id, header),
            Admission::Ordinary,
        );
        if let Err(error) = opened {
            self.forget_stream(id);
            return Err(match error {
                PushError::Full(_) => TransportError::Overloaded { peer },
                PushError::Closed => TransportError::Unreachable { peer },
            });
        }
        Ok(state.handles())
    }

    pub(super) fn register_stream(
        &self,
        id: u64,
        state: &Arc<StreamState>,
    ) -> Result<(), TransportError> {
        let peer = self.peer;
        let mut table = self.streams.lock();
        if table.closed {
            return Err(TransportError::Unreachable { peer });
        }
        if table.entries.len() >= STREAMS_MAX {
            return Err(TransportError::Overloaded { peer });
        }
        table.entries.insert(id, Arc::clone(state));
        Ok(())
    }

    pub(super) fn forget_stream(&self, id: u64) {
        self.streams.lock().entries.remove(&id);
    }

    pub(super) fn stream(&self, id: u64) -> Option<Arc<StreamState>> {
        self.streams.lock().entries.get(&id).cloned()
    }

    pub(super) fn answered(&self, id: u64, outcome: Result<Bytes, TransportError>) {
        let reply_to = self.requests.lock().entries.remove(&id);
        if let Some(reply_to) = reply_to {
            // The caller may have given up just now, which is its right.
            let _ = reply_to.send(outcome);
        }
    }

    pub(super) fn stream_message(&self, id: u64, message: Bytes) {
        // A stream unknown here was closed from here while the message was under way.
        let Some(stream) = self.stream(id) else {
            return;
        };
        if stream.deliver(message) {
            return;
        }
        metrics::counter!("grid_transport_stream_resets_total").increment(1);
        tracing::warn!(
            peer = self.peer,
            lane = self.lane.name(),
            "a stream's receiver fell behind; the stream is reset"
        );
        stream.end(TransportError::StreamReset);
        self.forget_stream(id);
        self.owe(Frame::bare(Kind::Reset, id));
    }

    pub(super) fn stream_ended(&self, id: u64, reason: TransportError) {
        let stream = self.streams.lock().entries.remove(&id);
        if let Some(stream) = stream {
            stream.end(reason);
        }
    }

    #[cfg(test)]
    pub(super) fn open_counts(&self) -> (usize, usize) {
        (
            self.requests.lock().entries.len(),
            self.streams.lock().entries.len(),
        )
    }
}

/// Takes a request out of the table however its caller leaves.
struct PendingEntry<'a> {
    connection: &'a Connection,
    id: u64,
    is_pending: bool,
}

impl Drop for PendingEntry<'_> {
    fn drop(&mut self) {
        if self.is_pending {
            self.connection.requests.lock().entries.remove(&self.id);
        }
    }
}

/// Ends the connection when one of its tasks ends, also by a panic.
pub(super) struct CloseOnDrop(pub(super) Arc<Connection>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The right to answer one request, once, from any thread. Dropped without an answer, it tells the
/// caller so.
#[derive(Debug)]
pub(crate) struct Replier {
    connection: Arc<Connection>,
    id: u64,
    answered: bool,
}

impl Replier {
    pub(super) fn new(connection: Arc<Connection>, id: u64) -> Self {
        Self {
            connection,
            id,
            answered: false,
        }
    }

    /// Queues the reply; never waits. A reply too large for a frame, which is a defect of the
    /// service, becomes [`TransportError::Rejected`] at the caller; so does none at all. When the
    /// caller does not read its replies, its connection is closed.
    pub(crate) fn send(mut self, payload: Bytes) {
        if payload.len() > PAYLOAD_BYTES_MAX {
            tracing::error!(
                peer = self.connection.peer,
                bytes = payload.len(),
                "a reply does not fit a frame"
            );
            return;
        }
        self.answered = true;
        self.connection
            .owe(Frame::new(Kind::Reply, self.id, payload));
    }

    /// Whether the caller's connection is gone, so that no reply can reach it.
    #[cfg(test)]
    pub(crate) fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }
}

impl Drop for Replier {
    fn drop(&mut self) {
        if !self.answered {
            self.connection.owe(Frame::bare(Kind::Reject, self.id));
        }
    }
}
