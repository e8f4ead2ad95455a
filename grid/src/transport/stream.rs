//! Streams: ordered messages both ways between two nodes, over a connection they share with
//! requests and other streams.
//!
//! A stream has no flow control of its own on the wire: the receiver's queue is bounded, and a
//! message that finds it full resets that stream, so that a slow reader of one stream never blocks
//! the connection. **Senders keep their own window**, well below [`STREAM_QUEUE_MAX`] messages
//! unacknowledged by whatever the two ends speak.
//!
//! Invariants: messages arrive in order and without gaps up to the stream's end; what had arrived
//! before the end is still delivered; dropping either handle on either side ends the stream for
//! both handles on both sides.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::connection::Connection;
use super::error::TransportError;
use super::frame::{Frame, Kind, PAYLOAD_BYTES_MAX};
#[cfg(test)]
use super::outbound::Admission;
use super::outbound::PushError;

/// Most messages received and not yet read on one stream. When full, the stream is reset.
pub(crate) const STREAM_QUEUE_MAX: usize = 1024;
/// Most bytes of them, beyond the first message. When full, the stream is reset.
pub(crate) const STREAM_QUEUE_BYTES_MAX: usize = 2 * PAYLOAD_BYTES_MAX;

#[derive(Debug, Default)]
struct Inbox {
    messages: VecDeque<Bytes>,
    bytes: usize,
    end: Option<TransportError>,
    end_was_read: bool,
}

/// What the two handles and the connection's reader share.
#[derive(Debug)]
pub(super) struct StreamState {
    id: u64,
    connection: Arc<Connection>,
    inbox: Mutex<Inbox>,
    arrived: Notify,
}

impl StreamState {
    pub(super) fn new(id: u64, connection: Arc<Connection>) -> Arc<Self> {
        Arc::new(Self {
            id,
            connection,
            inbox: Mutex::default(),
            arrived: Notify::new(),
        })
    }

    /// The two handles; call once.
    pub(super) fn handles(self: &Arc<Self>) -> (StreamSender, StreamReceiver) {
        (
            StreamSender {
                state: Arc::clone(self),
            },
            StreamReceiver {
                state: Arc::clone(self),
            },
        )
    }

    /// Takes a message from the wire; `false` if there was no room.
    pub(super) fn deliver(&self, message: Bytes) -> bool {
        {
            let mut inbox = self.inbox.lock();
            if inbox.end.is_some() {
                return true;
            }
            let full = inbox.messages.len() >= STREAM_QUEUE_MAX
                || (inbox.bytes > 0 && inbox.bytes + message.len() > STREAM_QUEUE_BYTES_MAX);
            if full {
                return false;
            }
            inbox.bytes += message.len();
            inbox.messages.push_back(message);
        }
        self.arrived.notify_one();
        true
    }

    /// Ends the stream; the first reason counts. `true` for the first.
    pub(super) fn end(&self, reason: TransportError) -> bool {
        {
            let mut inbox = self.inbox.lock();
            if inbox.end.is_some() {
                return false;
            }
            inbox.end = Some(reason);
        }
        self.arrived.notify_one();
        true
    }

    fn ended(&self) -> Option<TransportError> {
        self.inbox.lock().end.clone()
    }

    fn close_from_here(&self) {
        if self.end(TransportError::StreamClosed) {
            self.connection.forget_stream(self.id);
            self.connection.owe(Frame::bare(Kind::Close, self.id));
        }
    }

    fn frame(&self, message: Bytes) -> Result<Frame, TransportError> {
        if message.len() > PAYLOAD_BYTES_MAX {
            return Err(TransportError::TooLarge {
                bytes: message.len(),
            });
        }
        match self.ended() {
            Some(reason) => Err(reason),
            None => Ok(Frame::new(Kind::Data, self.id, message)),
        }
    }

    fn refused(&self, error: &PushError) -> TransportError {
        let peer = self.connection.peer();
        match error {
            PushError::Full(_) => TransportError::Overloaded { peer },
            PushError::Closed => TransportError::Disconnected { peer },
        }
    }
}

/// The sending half of a stream. Dropping it ends the stream.
#[derive(Debug)]
pub(crate) struct StreamSender {
    state: Arc<StreamState>,
}

impl StreamSender {
    /// Queues a message, waiting while the connection's queue is full. That it was queued does not
    /// mean that it arrived.
    ///
    /// # Errors
    /// Why the stream has ended, or [`TransportError::TooLarge`].
    pub(crate) async fn send(&self, message: Bytes) -> Result<(), TransportError> {
        let frame = self.state.frame(message)?;
        self.state
            .connection
            .outbound()
            .push_when_room(frame)
            .await
            .map_err(|error| self.state.refused(&error))
    }

    /// Queues a message, or fails with [`TransportError::Overloaded`] rather than wait.
    ///
    /// # Errors
    /// As [`StreamSender::send`].
    #[cfg(test)]
    pub(crate) fn try_send(&self, message: Bytes) -> Result<(), TransportError> {
        let frame = self.state.frame(message)?;
        self.state
            .connection
            .outbound()
            .push(frame, Admission::Ordinary)
            .map_err(|error| self.state.refused(&error))
    }

    /// The node at the other end.
    #[cfg(test)]
    pub(crate) fn peer(&self) -> u64 {
        self.state.connection.peer()
    }
}

impl Drop for StreamSender {
    fn drop(&mut self) {
        self.state.close_from_here();
    }
}

/// The receiving half of a stream. Dropping it ends the stream.
#[derive(Debug)]
pub(crate) struct StreamReceiver {
    state: Arc<StreamState>,
}

impl StreamReceiver {
    /// The next message. An `Err` comes once, last, when the stream did not end by being closed;
    /// `None` when it has ended and everything was read. Dropping the future loses nothing.
    pub(crate) async fn recv(&mut self) -> Option<Result<Bytes, TransportError>> {
        loop {
            {
                let mut inbox = self.state.inbox.lock();
                if let Some(message) = inbox.messages.pop_front() {
                    inbox.bytes -= message.len();
                    return Some(Ok(message));
                }
                if let Some(end) = inbox.end.clone() {
                    let first = !std::mem::replace(&mut inbox.end_was_read, true);
                    return (first && end != TransportError::StreamClosed).then_some(Err(end));
                }
            }
            self.state.arrived.notified().await;
        }
    }
}

impl Drop for StreamReceiver {
    fn drop(&mut self) {
        self.state.close_from_here();
    }
}
