//! A connection's socket as its task uses it. In plain text the hub writes to the same one through the
//! [`Outlet`]; an encrypted one is the task's alone, since what is written must be sealed in order.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::outlet::Outlet;

/// What a client connected with.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(TcpStream),
    Sealed(Box<TlsStream<TcpStream>>),
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) enum ConnectionSocket {
    /// The outlet has the stream.
    Shared(Arc<Outlet>),
    Sealed(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for ConnectionSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outlet = match self.get_mut() {
            Self::Shared(outlet) => outlet,
            Self::Sealed(stream) => return Pin::new(stream).poll_read(cx, buffer),
        };
        let stream = outlet.stream()?;
        loop {
            ready!(stream.poll_read_ready(cx))?;
            match stream.try_read_buf(buffer) {
                Ok(_) => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for ConnectionSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Shared(outlet) => outlet.poll_write(cx, bytes),
            Self::Sealed(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Shared(outlet) => outlet.poll_rest(cx),
            Self::Sealed(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Shared(outlet) => {
                ready!(outlet.poll_rest(cx))?;
                let stream = outlet.stream()?;
                Poll::Ready(SockRef::from(stream).shutdown(std::net::Shutdown::Write))
            }
            Self::Sealed(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
