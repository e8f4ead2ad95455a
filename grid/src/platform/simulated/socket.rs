//! Sockets: turmoil's, which it delays, drops and cuts.

use std::io;

/// A bound socket, as a node is given it.
pub struct Listener(turmoil::net::TcpListener);

impl Listener {
    /// Where it listens.
    ///
    /// # Errors
    /// The simulated network's.
    pub fn local_addr(&self) -> io::Result<std::net::SocketAddr> {
        self.0.local_addr()
    }

    /// Binds a port of the current host.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn bind(port: u16) -> io::Result<Self> {
        turmoil::net::TcpListener::bind(("0.0.0.0", port))
            .await
            .map(Self)
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listener")
    }
}

pub(crate) mod net {
    use std::io;

    pub(crate) use turmoil::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
    pub(crate) use turmoil::net::{TcpListener, TcpStream};

    pub(crate) use super::Listener;

    /// Takes a bound socket; it is one of the runtime already.
    #[expect(clippy::unnecessary_wraps, reason = "the machine's can fail")]
    pub(crate) fn listen(listener: Listener) -> io::Result<TcpListener> {
        Ok(listener.0)
    }

    /// Connects to a host by its name and port.
    pub(crate) async fn dial(address: &str) -> io::Result<TcpStream> {
        TcpStream::connect(address).await
    }
}
