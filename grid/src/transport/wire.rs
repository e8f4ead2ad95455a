//! The byte streams under the frames: plain TCP.
//!
//! **This is where mutual TLS goes**: [`dial`] and [`accepted`] are the only two functions that know
//! what lies under a connection, everything above asks for `AsyncRead` and `AsyncWrite`. Until
//! then the nodes' addresses must be reachable by nodes only.

use std::io;

use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream, lookup_host};

/// A byte stream to a peer, before and during the handshake.
pub(super) type Wire = TcpStream;

/// Connects to the first address that answers.
pub(super) async fn dial(address: &str) -> io::Result<Wire> {
    let mut last = None;
    for address in lookup_host(address).await? {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.set_nodelay(true)?;
        socket.set_keepalive(true)?;
        match socket.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no address")))
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
