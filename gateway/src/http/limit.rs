//! Around everything that is served: the rate of the client's address, and the headers that keep a browser
//! from making more of an answer than it is.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use crate::edge::Peer;
use crate::failure::Failure;
use crate::identity::PeerAddress;
use crate::state::Shared;

/// Of every answer that does not say otherwise: it is data, not a page, and nobody may frame it.
const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// Lets a request through, or answers `rate_limited`.
pub(super) async fn limit(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match admit(&shared, &request) {
        Ok(()) => next.run(request).await,
        Err(failure) => Problem::from(failure).into_response(),
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let headers = response.headers_mut();
        for (name, value) in HEADERS {
            headers.entry(name).or_insert(value);
        }
    }
    response
}

fn admit(shared: &Shared, request: &Request) -> Result<(), Failure> {
    let Some(peer) = request.extensions().get::<Peer>() else {
        return Ok(());
    };
    let address = PeerAddress(peer.address);
    let client = shared.identity.address_of(Some(address), request.headers());
    shared.edge.request(peer, client)
}
