//! Lets in who has the admin token.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use parking_lot::Mutex;

use super::GUARDED;
use crate::admin_token::AdminToken;
use crate::failure::Failure;
use crate::http::problem::Problem;
use crate::protocol::code::ErrorCode;
use crate::state::Shared;

/// The scheme of RFC 6750, compared without regard to case as RFC 9110 wants it.
const SCHEME: &str = "bearer";
/// Refusals are logged at most this often; all are counted.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// The gateway's admin token, and when a request without it was last logged.
#[derive(Debug)]
pub(crate) struct AdminGate {
    token: AdminToken,
    last_logged: Mutex<Option<Instant>>,
}

impl AdminGate {
    pub(crate) fn new(token: AdminToken) -> Self {
        Self {
            token,
            last_logged: Mutex::new(None),
        }
    }

    /// Counts and logs a request that was refused.
    fn refused(&self, reason: &'static str, request: &Request) {
        metrics::counter!("gateway_admin_refused_total", "reason" => reason).increment(1);
        let now = Instant::now();
        let mut last = self.last_logged.lock();
        if last.is_some_and(|last| now.duration_since(last) < LOG_INTERVAL) {
            return;
        }
        *last = Some(now);
        drop(last);
        // The address is the stranger's text: `?` keeps it on one line.
        tracing::warn!(
            reason,
            method = %request.method(),
            path = ?request.uri().path(),
            "refused a request for an admin address"
        );
    }
}

/// Answers `401 unauthenticated` to a request for an admin address without the token, and `421 wrong_gateway`
/// to every one where there is no node to ask.
pub(in crate::http) async fn guard(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    if !request.uri().path().starts_with(GUARDED) {
        return next.run(request).await;
    }
    let Some(admin) = &shared.admin else {
        return Problem::from(Failure::wrong_gateway()).into_response();
    };
    let (reason, message) = match bearer(request.headers()) {
        Some(token) if admin.token.matches(token) => return next.run(request).await,
        Some(_) => ("wrong_token", "that is not this grid's admin token"),
        None => (
            "no_token",
            "this address needs the admin token: header `Authorization: Bearer …`, with the content of \
             admin.token in the data directory",
        ),
    };
    admin.refused(reason, &request);
    let failure = Failure::new(ErrorCode::Unauthenticated, message);
    let mut response = Problem::from(failure).into_response();
    let scheme = HeaderValue::from_static("Bearer");
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, scheme);
    response
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let text = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = text.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case(SCHEME)
        .then(|| token.trim_matches(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_what_follows_the_scheme() {
        let with = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().expect("a header"));
            }
            headers
        };
        assert_eq!(bearer(&with(&["Bearer abc"])), Some("abc"));
        assert_eq!(bearer(&with(&["bearer  abc "])), Some("abc"));
        assert_eq!(bearer(&with(&["Basic abc"])), None);
        assert_eq!(bearer(&with(&["abc"])), None);
        assert_eq!(bearer(&with(&[])), None);
        assert_eq!(bearer(&with(&["Bearer abc", "Bearer def"])), None);
    }
}
