//! The task that reads one connection and acts on its frames.
//!
//! A frame that its sender's side never sends is a breach of the protocol and ends the connection,
//! as does a length beyond the limit. Nothing here waits for anything but the socket: replies wake
//! their callers, messages go to bounded queues, requests to the [`Handler`].

use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::Handler;
use super::connection::{Connection, Replier};
use super::error::TransportError;
use super::frame::{Decoded, Frame, FrameError, Kind, decode};
use super::stream::StreamState;

/// What the reader asks the socket for at a time.
const READ_BYTES: usize = 256 * 1024;
/// The reader gets a new buffer when less than this is left of the last.
const READ_BYTES_MIN: usize = 16 * 1024;

/// Why a reader ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadEnd {
    #[error("the connection was closed on this side")]
    Closed,
    #[error("the peer closed the connection")]
    EndOfStream,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the peer sent a frame that does not belong on this side: {0:?}")]
    Misplaced(Kind),
    #[error("reading failed: {0}")]
    Io(#[from] std::io::Error),
}

/// Reads frames and acts on them until the connection ends; returns why it did. The accepting side
/// has a handler, the dialling side none.
pub(super) async fn read_frames<R: AsyncRead + Unpin>(
    connection: &Arc<Connection>,
    mut socket: R,
    handler: Option<&dyn Handler>,
) -> ReadEnd {
    let closed = connection.closed();
    tokio::pin!(closed);
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    loop {
        let missing_bytes = loop {
            match decode(&mut buffer) {
                Ok(Decoded::Frame(frame)) => {
                    let acted = match handler {
                        Some(handler) => serve(connection, handler, frame),
                        None => receive(connection, frame),
                    };
                    if let Err(end) = acted {
                        return end;
                    }
                }
                Ok(Decoded::Incomplete { missing_bytes }) => break missing_bytes,
                Err(error) => return error.into(),
            }
        };
        if buffer.capacity() - buffer.len() < missing_bytes.max(READ_BYTES_MIN) {
            buffer.reserve(missing_bytes.max(READ_BYTES));
        }
        let read = tokio::select! {
            biased;
            () = &mut closed => return ReadEnd::Closed,
            read = socket.read_buf(&mut buffer) => read,
        };
        match read {
            Ok(0) => return ReadEnd::EndOfStream,
            Ok(_) => connection.note_received(),
            Err(error) => return error.into(),
        };
    }
}

/// What either side may send.
fn common(connection: &Arc<Connection>, frame: Frame) -> Result<(), ReadEnd> {
    match frame.kind {
        Kind::Data => connection.stream_message(frame.id, frame.payload),
        Kind::Close => connection.stream_ended(frame.id, TransportError::StreamClosed),
        Kind::Reset => connection.stream_ended(frame.id, TransportError::StreamReset),
        Kind::Ping => connection.probe(Kind::Pong),
        Kind::Pong => {}
        Kind::Request { .. } | Kind::Reply | Kind::Reject | Kind::Open { .. } => {
            return Err(ReadEnd::Misplaced(frame.kind));
        }
    }
    Ok(())
}

/// The dialling side.
fn receive(connection: &Arc<Connection>, frame: Frame) -> Result<(), ReadEnd> {
    match frame.kind {
        Kind::Reply => connection.answered(frame.id, Ok(frame.payload)),
        Kind::Reject => {
            let peer = connection.peer();
            connection.answered(frame.id, Err(TransportError::Rejected { peer }));
        }
        _ => return common(connection, frame),
    }
    Ok(())
}

/// The accepting side.
fn serve(connection: &Arc<Connection>, handler: &dyn Handler, frame: Frame) -> Result<(), ReadEnd> {
    match frame.kind {
        Kind::Request { service } => {
            let reply = Replier::new(Arc::clone(connection), frame.id);
            handler.on_request(connection.peer(), service, frame.payload, reply);
        }
        Kind::Open { service } => {
            if connection.stream(frame.id).is_some() {
                return Err(ReadEnd::Misplaced(frame.kind));
            }
            let state = StreamState::new(frame.id, Arc::clone(connection));
            if connection.register_stream(frame.id, &state).is_err() {
                connection.owe(Frame::bare(Kind::Reset, frame.id));
                return Ok(());
            }
            let (sender, receiver) = state.handles();
            handler.on_stream(connection.peer(), service, frame.payload, sender, receiver);
        }
        _ => return common(connection, frame),
    }
    Ok(())
}
