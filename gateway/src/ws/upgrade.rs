//! The upgrade of an HTTP request to a WebSocket.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::connection;
use super::socket::Transport;
use crate::edge::{Peer, Quota};
use crate::failure::Failure;
use crate::http::problem::{Problem, problem};
use crate::identity::PeerAddress;
use crate::protocol::SUBPROTOCOL;
use crate::protocol::code::ErrorCode;
use crate::state::Shared;

/// A connection's place among `connections_max`; it is free again when the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionPermit(
    #[expect(dead_code, reason = "held, not read")] pub(crate) Arc<OwnedSemaphorePermit>,
);

/// Handles `GET /v1/ws`.
pub(crate) async fn upgrade(
    State(shared): State<Arc<Shared>>,
    mut request: Request<Body>,
) -> Result<Response, Problem> {
    let accept = check(&shared, &request)?;
    let peer = request.extensions().get::<PeerAddress>().copied();
    let address = shared.identity.address_of(peer, request.headers());
    let query = request.uri().query();
    let identifying = shared
        .identity
        .of_upgrade(request.headers(), query, address);
    let caller = identifying.await?;
    let peer = request.extensions_mut().remove::<Peer>();
    let quota = match &peer {
        Some(peer) => shared.edge.socket(peer, &caller)?,
        None => Quota::default(),
    };
    let offers_subprotocol = request
        .headers()
        .contains_key(header::SEC_WEBSOCKET_PROTOCOL);
    let permit = request.extensions_mut().remove::<ConnectionPermit>();
    let upgraded = hyper::upgrade::on(&mut request);
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        let _places = (permit, peer);
        let Ok(upgraded) = upgraded.await else {
            return;
        };
        let Some((transport, read)) = transport(upgraded) else {
            tracing::error!("an upgraded connection is none that was accepted");
            return;
        };
        connection::run(shared, transport, read, (caller, quota)).await;
    });
    let mut response = (
        StatusCode::SWITCHING_PROTOCOLS,
        [
            (header::CONNECTION, "Upgrade"),
            (header::UPGRADE, "websocket"),
            (header::SEC_WEBSOCKET_ACCEPT, accept.as_str()),
        ],
    )
        .into_response();
    if offers_subprotocol {
        response.headers_mut().insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            header::HeaderValue::from_static(SUBPROTOCOL),
        );
    }
    Ok(response)
}

/// What the client connected with, and what it has sent since.
fn transport(upgraded: Upgraded) -> Option<(Transport, Vec<u8>)> {
    let upgraded = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => {
            let transport = Transport::Plain(parts.io.into_inner());
            return Some((transport, parts.read_buf.to_vec()));
        }
        Err(upgraded) => upgraded,
    };
    let parts = upgraded.downcast::<TokioIo<TlsStream<TcpStream>>>().ok()?;
    let transport = Transport::Sealed(Box::new(parts.io.into_inner()));
    Some((transport, parts.read_buf.to_vec()))
}

/// Checks the handshake and returns the value for `Sec-WebSocket-Accept`.
fn check(shared: &Shared, request: &Request<Body>) -> Result<String, Problem> {
    let headers = request.headers();
    let is_upgrade = request.method() == Method::GET
        && has_token(headers, &header::CONNECTION, "upgrade")
        && has_token(headers, &header::UPGRADE, "websocket");
    if !is_upgrade {
        let failure = Failure::bad_request("this address speaks WebSocket");
        let response = problem(StatusCode::UPGRADE_REQUIRED, &failure);
        return Err(Problem::other(with_upgrade_headers(response)));
    }
    if !shared.identity.is_origin_allowed(headers) {
        return Err(
            Failure::new(ErrorCode::Forbidden, "pages of that origin may not connect").into(),
        );
    }
    if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .map(|v| v.as_bytes())
        != Some(b"13")
    {
        let failure = Failure::bad_request("the WebSocket version is 13");
        let response = problem(StatusCode::UPGRADE_REQUIRED, &failure);
        return Err(Problem::other(with_upgrade_headers(response)));
    }
    if headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL)
        && !has_token(headers, &header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL)
    {
        return Err(Failure::bad_request("the subprotocol is grid.v1.json").into());
    }
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .ok_or_else(|| Failure::bad_request("Sec-WebSocket-Key is missing"))?;
    Ok(derive_accept_key(key.as_bytes()))
}

fn with_upgrade_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(
        header::UPGRADE,
        header::HeaderValue::from_static("websocket"),
    );
    headers.insert(
        header::SEC_WEBSOCKET_VERSION,
        header::HeaderValue::from_static("13"),
    );
    response
}

fn has_token(headers: &HeaderMap, name: &header::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}
