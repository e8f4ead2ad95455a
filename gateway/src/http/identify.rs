//! Finds out who is asking before any handler runs, and whether they may.
//!
//! Addresses of operators have passed their guard by then: whoever holds the admin token may say in
//! whose name it acts.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use super::{admin, no_method};
use crate::failure::Failure;
use crate::identity::authorisation::{self, Ruling};
use crate::identity::{Caller, Identified, PeerAddress};
use crate::protocol::code::ErrorCode;
use crate::state::Shared;

/// Lets a request through with its [`Identified`] sender, or answers with why not.
pub(super) async fn identify(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    match identified(&shared, &parts).await {
        Ok(identified) => {
            parts.extensions.insert(identified);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(refused) => refused,
    }
}

async fn identified(shared: &Shared, request: &Parts) -> Result<Identified, Response> {
    let refuse = |failure: Failure| {
        let is_unknown = failure.code == ErrorCode::Unauthenticated;
        let mut response = Problem::from(failure).into_response();
        if is_unknown {
            let scheme = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    };
    let peer = request.extensions.get::<PeerAddress>().copied();
    let address = shared.identity.address_of(peer, &request.headers);
    let path = request.uri.path();
    if path.starts_with(admin::PREFIX) {
        let operator = Caller::from_trusted(&request.headers, None, address);
        return Ok(Identified(operator));
    }
    // What has no handler is answered by the fallback, whoever asks.
    let Some(pattern) = request.extensions.get::<MatchedPath>() else {
        return Ok(Identified(None));
    };
    let action = match authorisation::ruling(&request.method, pattern.as_str()) {
        Ruling::For(action) => action,
        Ruling::NoMethod => return Err(no_method().await.into_response()),
        Ruling::Nobody => {
            tracing::error!(
                pattern = pattern.as_str(),
                "an address has no row in the table of who may"
            );
            let failure = Failure::new(ErrorCode::Forbidden, "nobody may use this address");
            return Err(refuse(failure));
        }
    };
    let found = shared.identity.of_request(&request.headers, address).await;
    let caller = found.map_err(refuse)?;
    let allowed = shared.identity.authorise(caller.as_ref(), address, action);
    allowed.map_err(refuse)?;
    if let Some(caller) = &caller {
        shared.edge.user_request(caller).map_err(refuse)?;
    }
    Ok(Identified(caller))
}
