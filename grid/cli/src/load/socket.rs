//! One WebSocket to a gateway, with small buffers: there are thousands.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use gateway::SUBPROTOCOL;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use uuid::Uuid;

const BUFFER_BYTES: usize = 4 << 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a connection cannot be used; another may be.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    #[error("{0}")]
    Broken(#[source] Box<Error>),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("no answer in time")]
    TimedOut,
    #[error("closed by the gateway")]
    Closed,
    #[error("no connection to the gateway: {0}")]
    Unreachable(#[source] Box<SocketError>),
}

impl From<Error> for SocketError {
    fn from(error: Error) -> Self {
        Self::Broken(Box::new(error))
    }
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    /// Connects to `authority` (`127.0.0.1:7700`) as a person.
    pub(super) async fn open(authority: &str, user: Uuid) -> Result<Self, SocketError> {
        let opening = async {
            let stream = TcpStream::connect(authority).await?;
            stream.set_nodelay(true)?;
            let address = format!("ws://{authority}/v1/ws?user_id={user}");
            let mut request = address.into_client_request()?;
            let protocol = HeaderValue::from_static(SUBPROTOCOL);
            request
                .headers_mut()
                .insert("sec-websocket-protocol", protocol);
            let config = WebSocketConfig::default()
                .read_buffer_size(BUFFER_BYTES)
                .write_buffer_size(BUFFER_BYTES);
            let (socket, _) = client_async_with_config(request, stream, Some(config)).await?;
            Ok(Self(socket))
        };
        let opened: Result<Self, SocketError> =
            match tokio::time::timeout(CONNECT_TIMEOUT, opening).await {
                Ok(opened) => opened,
                Err(_) => Err(SocketError::TimedOut),
            };
        opened.map_err(|error| SocketError::Unreachable(Box::new(error)))
    }

    pub(super) async fn send(&mut self, text: Utf8Bytes) -> Result<(), SocketError> {
        Ok(self.0.send(Message::Text(text)).await?)
    }

    /// The next JSON message.
    pub(super) async fn receive(&mut self) -> Result<Utf8Bytes, SocketError> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text),
                Some(Ok(Message::Close(_))) | None => return Err(SocketError::Closed),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
            }
        }
    }
}
