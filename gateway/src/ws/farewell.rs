//! How a connection ends: a goodbye with its reason, the close frame, and a short patience so that both
//! arrive.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::outlet::EndReason;
use super::socket::ConnectionSocket;
use crate::failure::Failure;
use crate::limits::{GOODBYE_TIMEOUT_MS, LINGER_BYTES_MAX, LINGER_TIMEOUT_MS};
use crate::protocol::code::ErrorCode;
use crate::protocol::frame;

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The client closed.
    Closed,
    /// The socket broke; there is nobody to talk to.
    Broken,
    Draining,
    SlowConsumer,
    Resync,
    IdleTimeout,
    MessageTooLarge,
    InvalidUtf8,
    ProtocolError,
    /// Control frames without end.
    Flood,
    /// The token has run out.
    SessionExpired,
    /// The token was taken back.
    SessionRevoked,
}

impl Ending {
    pub(crate) fn of_reason(reason: EndReason) -> Self {
        match reason {
            EndReason::Draining => Self::Draining,
            EndReason::SlowConsumer => Self::SlowConsumer,
            EndReason::Resync => Self::Resync,
            EndReason::Revoked => Self::SessionRevoked,
        }
    }

    pub(crate) fn of_error(error: &Error) -> Self {
        match error {
            Error::Capacity(CapacityError::MessageTooLong { .. }) => Self::MessageTooLarge,
            Error::Utf8(_) => Self::InvalidUtf8,
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Self::Broken,
            Error::Protocol(_) | Error::Capacity(_) => Self::ProtocolError,
            Error::ConnectionClosed | Error::AlreadyClosed => Self::Closed,
            _ => Self::Broken,
        }
    }

    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Broken => "broken",
            Self::Draining => "draining",
            Self::SlowConsumer => "slow_consumer",
            Self::Resync => "resync",
            Self::IdleTimeout => "idle_timeout",
            Self::MessageTooLarge => "message_too_large",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::ProtocolError => "protocol_error",
            Self::Flood => "flood",
            Self::SessionExpired => "session_expired",
            Self::SessionRevoked => "session_revoked",
        }
    }

    fn close_code(self) -> CloseCode {
        match self {
            Self::Closed | Self::Broken => CloseCode::Normal,
            Self::Draining => CloseCode::Away,
            Self::SlowConsumer => CloseCode::Again,
            Self::Resync => CloseCode::Restart,
            Self::IdleTimeout | Self::Flood | Self::SessionExpired | Self::SessionRevoked => {
                CloseCode::Policy
            }
            Self::MessageTooLarge => CloseCode::Size,
            Self::InvalidUtf8 => CloseCode::Invalid,
            Self::ProtocolError => CloseCode::Protocol,
        }
    }
}

/// Ends the connection, in bounded time. `frames` go out before the goodbye; the first is
/// what is left of one that has begun to, or empty.
pub(crate) async fn say(
    mut socket: WebSocketStream<ConnectionSocket>,
    ending: Ending,
    frames: VecDeque<Bytes>,
    goodbye: Bytes,
) {
    let timeout = Duration::from_millis(GOODBYE_TIMEOUT_MS);
    match ending {
        Ending::Broken => return,
        Ending::Closed => {
            // Drives the reply to the client's close frame out.
            let closed = async { while let Some(Ok(_)) = socket.next().await {} };
            let _ = tokio::time::timeout(timeout, closed).await;
            return;
        }
        _ => {}
    }
    let saying = async {
        let mut frames = frames.iter();
        if let Some(begun) = frames.next() {
            socket.get_mut().write_all(begun).await?;
        }
        // A pong may have begun where none of them had.
        socket.flush().await?;
        for frame in frames {
            socket.get_mut().write_all(frame).await?;
        }
        if ending == Ending::MessageTooLarge {
            let failure = Failure::new(ErrorCode::MessageTooLarge, "the message is too large");
            socket.feed(text(frame::error(None, &failure))?).await?;
        }
        socket.feed(text(goodbye)?).await?;
        let close = CloseFrame {
            code: ending.close_code(),
            reason: Utf8Bytes::from_static(ending.reason()),
        };
        socket.send(Message::Close(Some(close))).await
    };
    if !matches!(tokio::time::timeout(timeout, saying).await, Ok(Ok(()))) {
        return;
    }
    linger(socket.into_inner()).await;
}

fn text(frame: Bytes) -> Result<Message, Error> {
    Ok(Message::Text(
        Utf8Bytes::try_from(frame).map_err(|_| Error::AttackAttempt)?,
    ))
}

/// Closing a socket with unread bytes resets it, which could destroy the goodbye on its way. So the
/// writing side is shut first, and what still comes is read and dropped for a while.
async fn linger(mut stream: ConnectionSocket) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let drain = async {
        let mut buffer = [0; 4096];
        let mut dropped = 0;
        while dropped < LINGER_BYTES_MAX {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(bytes) => dropped += bytes,
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(LINGER_TIMEOUT_MS), drain).await;
}
