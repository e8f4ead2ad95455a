//! Starting and stopping a gateway.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::middleware;
use grid::GridClient;
use grid_config::GatewaySettings;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use processing_unit::Unit;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::admin_token::AdminToken;
use crate::edge::Peer;
use crate::edge::handshakes::Handshake;
use crate::edge::tls::{self, Encryption, TlsError, TlsOptions};
use crate::failure::{Detail, Failure};
use crate::http::{self, problem};
use crate::hub;
use crate::identity::{self, Identity, KeysError, Mode, PeerAddress};
use crate::limits::{
    ACCEPT_RETRY_MS, HEADERS_MAX, HTTP_BUFFER_BYTES_MAX, PLACE_RETRY_AFTER_MS, SEND_AWAY_MS_MAX,
    SEND_AWAY_PAUSE_MS, SENT_AWAY_PER_S, SHUTDOWN_TIMEOUT_MS,
};
use crate::protocol::code::ErrorCode;
use crate::state::Shared;
use crate::waiting;
use crate::ws::ConnectionPermit;

/// What a gateway needs to start.
#[derive(Debug)]
pub struct GatewayOptions {
    /// The bound socket for clients.
    pub listener: std::net::TcpListener,
    /// Another one for those who speak TLS.
    pub tls: Option<TlsOptions>,
    /// The grid.
    pub client: GridClient<Unit>,
    /// Its settings.
    pub settings: GatewaySettings,
    /// The secret Ed25519 key that ticket codes are signed with; the same on all gateways of a grid.
    pub ticket_key: [u8; 32],
    /// What operators must show.
    pub admin_token: AdminToken,
    /// See [`Mode`].
    pub mode: Mode,
}

/// Why a gateway did not start. Nothing is running; the operator must correct it.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Mode `trusted` believes whoever connects.
    #[error("mode `trusted` listens on loopback only, not on {0}")]
    NotLoopback(SocketAddr),
    /// The keys that tokens are checked with.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The certificate that clients are shown.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The operating system said no.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
}

/// A running gateway. Dropping it leaves it running; see [`Gateway::shutdown`].
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    tls_address: Option<SocketAddr>,
    shared: Arc<Shared>,
}

/// A socket that clients come in by.
#[derive(Debug)]
struct Door {
    listener: TcpListener,
    address: SocketAddr,
    encryption: Option<Arc<Encryption>>,
}

impl Door {
    fn open(
        listener: std::net::TcpListener,
        encryption: Option<Arc<Encryption>>,
        mode: &Mode,
    ) -> Result<Self, GatewayError> {
        let io = |source| GatewayError::Io {
            what: "the gateway's socket",
            source,
        };
        let address = listener.local_addr().map_err(io)?;
        if matches!(mode, Mode::Trusted) && !address.ip().is_loopback() {
            return Err(GatewayError::NotLoopback(address));
        }
        listener.set_nonblocking(true).map_err(io)?;
        Ok(Self {
            listener: TcpListener::from_std(listener).map_err(io)?,
            address,
            encryption,
        })
    }
}

impl Gateway {
    /// Starts to serve. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// See [`GatewayError`].
    pub fn start(options: GatewayOptions) -> Result<Self, GatewayError> {
        let door = Door::open(options.listener, None, &options.mode)?;
        let sealed = match options.tls {
            None => None,
            Some(tls) => {
                let encryption = Arc::new(Encryption::new(tls.certificate_file, tls.key_file)?);
                Some(Door::open(tls.listener, Some(encryption), &options.mode)?)
            }
        };
        let address = door.address;
        let tls_address = sealed.as_ref().map(|door| door.address);
        let is_loopback = [Some(address), tls_address]
            .iter()
            .flatten()
            .all(|address| address.ip().is_loopback());
        let identity = Identity::new(
            &options.mode,
            &options.settings.identity,
            is_loopback,
            &options.client,
        )?;
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|error| GatewayError::Io {
            what: "random bytes",
            source: std::io::Error::other(error.to_string()),
        })?;
        let shared = Arc::new(Shared::new(
            options.client,
            options.settings,
            &options.ticket_key,
            options.admin_token,
            identity,
            u64::from_le_bytes(seed),
        ));
        hub::follow_all(&shared);
        identity::serve(&shared);
        let positions = Arc::clone(&shared);
        shared.tasks.spawn(async move {
            tokio::select! {
                () = positions.stopping.cancelled() => {}
                () = waiting::tell_positions(&positions) => {}
            }
        });
        let places = Arc::new(Semaphore::new(shared.settings.connections_max));
        for door in std::iter::once(door).chain(sealed) {
            let (acceptor, places) = (Arc::clone(&shared), Arc::clone(&places));
            shared.tasks.spawn(async move {
                tokio::select! {
                    () = acceptor.closing.cancelled() => {}
                    () = accept(&acceptor, &door, &places) => {}
                    () = keep_current(&acceptor, &door) => {}
                }
            });
        }
        Ok(Self {
            address,
            tls_address,
            shared,
        })
    }

    /// Serves what `write` returns at `GET /metrics`, as Prometheus text. `write` may block for some
    /// milliseconds.
    pub fn serve_metrics(&self, write: impl Fn() -> String + Send + Sync + 'static) {
        self.shared.metrics_text.set(write);
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where those connect who speak TLS.
    #[must_use]
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.tls_address
    }

    /// Says on `/ready` that it is about to stop, so that nobody is sent here any more. It still serves
    /// everybody.
    pub fn announce_stop(&self) {
        self.shared.leaving.store(true, Ordering::Relaxed);
    }

    /// Lets nobody in any more and sends the clients away one after the other, so that the gateways they go
    /// to take them as they come and nobody waits for the others. Whoever has not been asked yet is served.
    /// For a stop that the other gateways do not share; [`Gateway::shutdown`] must follow.
    pub async fn send_away(&self) {
        self.shared.closing.cancel();
        let numbers = self.shared.connections.numbers();
        for some in numbers.chunks(sent_at_once(numbers.len())) {
            self.shared.connections.send_away(some);
            tokio::time::sleep(Duration::from_millis(SEND_AWAY_PAUSE_MS)).await;
        }
    }

    /// Stops: accepts nothing more, finishes what is under way, says goodbye to every client, and
    /// returns when all are gone or after five seconds.
    pub async fn shutdown(self) {
        self.shared.closing.cancel();
        self.shared.stopping.cancel();
        self.shared.connections.drain();
        self.shared.tasks.close();
        let timeout = Duration::from_millis(SHUTDOWN_TIMEOUT_MS);
        if tokio::time::timeout(timeout, self.shared.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                tasks = self.shared.tasks.len(),
                "some connections did not end in time"
            );
        }
    }
}

/// How many of so many clients are sent away at a time.
fn sent_at_once(clients: usize) -> usize {
    let at_leisure = SENT_AWAY_PER_S * SEND_AWAY_PAUSE_MS / 1_000;
    let in_time = (clients as u64).div_ceil(SEND_AWAY_MS_MAX / SEND_AWAY_PAUSE_MS);
    at_leisure.max(in_time).max(1) as usize
}

/// Looks after the door's certificate, where it has one.
async fn keep_current(shared: &Shared, door: &Door) {
    let interval = Duration::from_millis(shared.settings.tls.reload_interval_ms);
    match &door.encryption {
        Some(encryption) => encryption.keep_current(interval).await,
        None => std::future::pending().await,
    }
}

async fn accept(shared: &Arc<Shared>, door: &Door, places: &Arc<Semaphore>) {
    let router = http::router(Arc::clone(shared));
    // A browser takes it to be about every port of the name, and this machine's has others.
    let is_public = !door.address.ip().is_loopback();
    let router = match &door.encryption {
        Some(_) if is_public => router.layer(middleware::map_response(http::stay_encrypted)),
        _ => router,
    };
    loop {
        let (stream, peer) = match door.listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(ACCEPT_RETRY_MS)).await;
                continue;
            }
        };
        let peer = peer.ip();
        let admitted = match Arc::clone(places).try_acquire_owned() {
            Ok(permit) => shared.edge.connect(peer).map(|peer| (permit, peer)),
            Err(_) => {
                shared.metrics.refused_connections.increment(1);
                let retry_after_ms = PLACE_RETRY_AFTER_MS;
                let failure = Failure::new(ErrorCode::Overloaded, "too many connections");
                Err(failure.with(Detail::RetryAfter { retry_after_ms }))
            }
        };
        let (permit, peer) = match admitted {
            Ok(admitted) => admitted,
            Err(failure) => {
                // Whoever waits for a handshake would not understand words.
                if door.encryption.is_none() {
                    refuse(stream, &failure).await;
                }
                continue;
            }
        };
        // Replies are small and wanted at once; a failure only costs time.
        let _ = stream.set_nodelay(true);
        let permit = ConnectionPermit(Arc::new(permit));
        let (shared, router) = (Arc::clone(shared), router.clone());
        let tasks = shared.tasks.clone();
        match door.encryption.clone() {
            None => tasks.spawn(async move {
                let handshake = shared.edge.handshakes.begin();
                serve(&shared, router, stream, handshake, (permit, peer)).await;
            }),
            Some(encryption) => tasks.spawn(async move {
                serve_sealed(&shared, router, stream, &encryption, (permit, peer)).await;
            }),
        };
    }
}

/// Answers a connection that is not let in, before it has asked for anything. The answer fits into an empty
/// socket's buffer, so this does not wait.
async fn refuse(mut stream: TcpStream, failure: &Failure) {
    let _ = stream.try_write(refusal(failure).as_bytes());
    let _ = stream.shutdown().await;
}

fn refusal(failure: &Failure) -> String {
    let (status, body) = problem::document(failure);
    let wait_ms = match failure.detail {
        Some(Detail::RetryAfter { retry_after_ms }) => retry_after_ms,
        _ => PLACE_RETRY_AFTER_MS,
    };
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         retry-after: {}\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\n{}",
        body.len(),
        wait_ms.div_ceil(1_000),
        String::from_utf8_lossy(&body)
    )
}

/// Serves one connection that must first be encrypted.
async fn serve_sealed(
    shared: &Shared,
    router: axum::Router,
    stream: TcpStream,
    encryption: &Encryption,
    places: (ConnectionPermit, Peer),
) {
    let handshake = shared.edge.handshakes.begin();
    let timeout = Duration::from_millis(shared.settings.edge.header_timeout_ms);
    let sealing = async {
        if !tls::is_tls(&stream).await? {
            let failure = Failure::bad_request("this port speaks https and wss");
            refuse(stream, &failure).await;
            return Ok(None);
        }
        encryption.accept(stream).await.map(Some)
    };
    let sealed = tokio::select! {
        sealed = tokio::time::timeout(timeout, sealing) => sealed,
        () = handshake.displaced() => return,
        () = shared.stopping.cancelled() => return,
    };
    let failed = match sealed {
        Ok(Ok(Some(stream))) => {
            return serve(shared, router, stream, handshake, places).await;
        }
        Ok(Ok(None)) => "it was plain text".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it took too long".to_owned(),
    };
    metrics::counter!("gateway_tls_handshakes_failed_total").increment(1);
    tracing::debug!(error = failed, "a TLS handshake failed");
}

/// Serves one connection's HTTP requests, up to an upgrade.
async fn serve<I>(
    shared: &Shared,
    router: axum::Router,
    stream: I,
    handshake: Handshake,
    (permit, peer): (ConnectionPermit, Peer),
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let is_through = AtomicBool::new(false);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        if !is_through.swap(true, Ordering::Relaxed) {
            handshake.finish();
        }
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(permit.clone());
        request.extensions_mut().insert(PeerAddress(peer.address));
        request.extensions_mut().insert(peer.clone());
        hyper::service::Service::call(&router, request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(
            shared.settings.edge.header_timeout_ms,
        ))
        .max_headers(HEADERS_MAX)
        .max_buf_size(HTTP_BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = handshake.displaced() => return,
        () = shared.stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "an HTTP connection ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_are_sent_away_in_bounded_time_and_few_at_leisure() {
        assert_eq!(sent_at_once(0), 10);
        assert_eq!(sent_at_once(333), 10, "a third of a second");
        assert_eq!(sent_at_once(50_000), 250, "200 times");
    }

    #[test]
    fn the_answer_to_too_many_is_well_formed() {
        let retry_after_ms = 1_001;
        let failure = Failure::new(
            ErrorCode::RateLimited,
            "too many connections of your address",
        );
        let text = refusal(&failure.with(Detail::RetryAfter { retry_after_ms }));
        assert!(
            text.starts_with("HTTP/1.1 429 Too Many Requests\r\n"),
            "{text}"
        );
        assert!(text.contains("\r\nretry-after: 2\r\n"), "{text}");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .and_then(|length| length.parse().ok())
            .expect("a length");
        assert_eq!(length, body.len());
        let problem: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(problem["code"], "rate_limited");
        assert_eq!(problem["data"]["retry_after_ms"], 1_001);
    }
}
