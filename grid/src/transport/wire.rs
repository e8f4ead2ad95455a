//! The byte streams under the frames: plain TCP.
//!
//! **This is where mutual TLS goes**: [`dial`] and [`accepted`] are the only two functions that know
//! what lies under a connection, everything above asks for `AsyncRead` and `AsyncWrite`. Until
//! then the nodes' addresses must be reachable by nodes only.

use std::io;

use crate::platform::net::{self, OwnedReadHalf, OwnedWriteHalf, TcpStream};

/// A byte stream to a peer, before and during the handshake.
pub(super) type Wire = TcpStream;

/// Connects to the first address that answers.
pub(super) async fn dial(address: &str) -> io::Result<Wire> {
    net::dial(address).await
}

/// Prepares a stream that the listener accepted.
pub(super) fn accepted(stream: TcpStream) -> io::Result<Wire> {
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The two directions, once the handshake is over.
pub(super) fn split(wire: Wire) -> (OwnedReadHalf, OwnedWriteHalf) {
    wire.into_split()
}
