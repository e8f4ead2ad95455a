//! The byte streams under the frames: mutual TLS over TCP, or plain TCP.
//!
//! [`dial`] and [`accepted`] are the only functions that know what lies under a connection; everything
//! above asks for `AsyncRead` and `AsyncWrite`, and for the peer's [`PeerIdentity`].
//!
//! Invariants: a node with certificates never sends or takes a frame in plain text; one without sends
//! none beyond this machine unless its settings say so; whoever speaks the wrong one of the two is told
//! in words that it can read.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::handshake::{HandshakeError, Refusal, RefusalReason, refuse, refuse_plaintext};
use super::security::{PeerIdentity, Security, any_node};
use super::tls_error::explain;
use crate::platform::net::{self, OwnedReadHalf, OwnedWriteHalf, TcpStream};

/// The first byte of every TLS connection: a record with a handshake in it.
const TLS_HANDSHAKE_RECORD: u8 = 0x16;
/// The most that is read of what a refused peer has sent, so that the system does not answer its unread
/// bytes with a reset that overtakes the refusal.
const LINGER_BYTES_MAX: u64 = 16 << 10;
/// How long that may take.
const LINGER_TIME: Duration = Duration::from_millis(500);

/// A byte stream to a peer, before and during the handshake.
pub(super) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    /// Who the peer has proven to be.
    pub(super) fn identity(&self) -> PeerIdentity {
        match self {
            Self::Plain(_) => PeerIdentity::Unproven,
            Self::Tls(stream) => PeerIdentity::of(stream.get_ref().1.peer_certificates()),
        }
    }
}

/// Connects to a node.
pub(super) async fn dial(address: &str, security: &Security) -> Result<Wire, HandshakeError> {
    let stream = net::dial(address).await?;
    let Some(client) = security.client() else {
        let there = stream.peer_addr()?;
        if !security.allows_plaintext(there.ip()) {
            let detail = format!(
                "{address} is not on this machine and there are no certificates: make some with \
                 `grid certs`, or set node.tls_allow_plaintext"
            );
            return Err(HandshakeError::RefusedHere {
                refusal: Refusal::new(RefusalReason::Plaintext, detail),
                peer: None,
            });
        }
        return Ok(Wire::Plain(stream));
    };
    let connected = TlsConnector::from(client).connect(any_node(), stream).await;
    let stream = connected.map_err(|error| explain(error, &format!("the node at {address}")))?;
    Ok(Wire::Tls(Box::new(stream.into())))
}

/// Prepares a stream that the listener accepted.
pub(super) async fn accepted(
    mut stream: TcpStream,
    security: &Security,
) -> Result<Wire, HandshakeError> {
    stream.set_nodelay(true)?;
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    let speaks_tls = first == [TLS_HANDSHAKE_RECORD];
    match security.server() {
        Some(server) if speaks_tls => {
            let accepted = TlsAcceptor::from(server).accept(stream).into_fallible();
            match accepted.await {
                Ok(stream) => Ok(Wire::Tls(Box::new(stream.into()))),
                Err((error, stream)) => {
                    linger(stream).await;
                    Err(match explain(error, "a node that dialled") {
                        // It began like TLS and was none.
                        HandshakeError::RefusedHere { refusal, .. }
                            if refusal.reason == RefusalReason::Plaintext =>
                        {
                            HandshakeError::Garbage
                        }
                        error => error,
                    })
                }
            }
        }
        Some(_) => Err(refuse_plaintext(&mut stream).await),
        None if speaks_tls => {
            let refusal = Refusal::new(
                RefusalReason::Plaintext,
                "a node that dialled speaks TLS and this one has no certificates: make some with \
                 `grid certs`",
            );
            refuse(&mut stream, &refusal).await;
            linger(stream).await;
            Err(HandshakeError::RefusedHere {
                refusal,
                peer: None,
            })
        }
        None => Ok(Wire::Plain(stream)),
    }
}

/// Lets the peer read what it was told before the connection goes.
async fn linger(mut stream: TcpStream) {
    let drain = async {
        let _ = stream.shutdown().await;
        let mut rest = stream.take(LINGER_BYTES_MAX);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // The connection is given up in any case.
    let _ = timeout(LINGER_TIME, drain).await;
}

/// The two directions, once the handshake is over.
pub(super) fn split(wire: Wire) -> (Reading, Writing) {
    match wire {
        Wire::Plain(stream) => {
            let (read, write) = stream.into_split();
            (Reading::Plain(read), Writing::Plain(write))
        }
        Wire::Tls(stream) => {
            let (read, write) = tokio::io::split(*stream);
            (Reading::Tls(read), Writing::Tls(write))
        }
    }
}

/// What the peer sends.
pub(super) enum Reading {
    Plain(OwnedReadHalf),
    Tls(ReadHalf<TlsStream<TcpStream>>),
}

/// What the peer is sent.
pub(super) enum Writing {
    Plain(OwnedWriteHalf),
    Tls(WriteHalf<TlsStream<TcpStream>>),
}

/// Calls a method of whatever lies under the enum.
macro_rules! either {
    ($kind:ident, $self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            $kind::Plain($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
            $kind::Tls($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
        }
    };
}

macro_rules! readable {
    ($kind:ident) => {
        impl AsyncRead for $kind {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                either!($kind, self, stream => stream.poll_read(context, buffer))
            }
        }
    };
}

macro_rules! writable {
    ($kind:ident) => {
        impl AsyncWrite for $kind {
            fn poll_write(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                either!($kind, self, stream => stream.poll_write(context, bytes))
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                slices: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                either!($kind, self, stream => stream.poll_write_vectored(context, slices))
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    Self::Plain(stream) => stream.is_write_vectored(),
                    Self::Tls(stream) => stream.is_write_vectored(),
                }
            }

            fn poll_flush(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                either!($kind, self, stream => stream.poll_flush(context))
            }

            fn poll_shutdown(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                either!($kind, self, stream => stream.poll_shutdown(context))
            }
        }
    };
}

readable!(Wire);
writable!(Wire);
readable!(Reading);
writable!(Writing);
