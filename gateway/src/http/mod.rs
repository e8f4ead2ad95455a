//! The HTTP interface: one file a resource, each handler a few lines around [`crate::operations`] or a
//! query.

pub(crate) mod admin;
mod auctions;
mod bids;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod decoders;
mod events;
pub(crate) mod extract;
mod holds;
mod identify;
mod items;
mod limit;
mod me;
mod probes;
pub(crate) mod problem;
mod queue;
mod route;
mod scatter;
mod sessions;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, delete, get, post};
use grid::{CommandClass, REQUEST_LOG};
use grid_core::Cursor;
use serde::Serialize;
use tracing::Instrument;

use crate::admission::WorkPermit;
use crate::failure::Failure;
use crate::limits::{REQUEST_ID_BYTES_MAX, SMALL_BODY_BYTES_MAX};
use crate::observe::RequestKind;
use crate::protocol::code::ErrorCode;
use crate::state::Shared;
use crate::ws;
use problem::{Problem, problem};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The log position that an answer reflects, as a cursor.
const POSITION_HEADER: &str = "grid-position";

/// All routes.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let observed = Router::new()
        .route("/health", get(probes::health))
        .route("/ready", get(probes::ready))
        .route("/metrics", get(probes::metrics))
        .nest(admin::PREFIX, admin::router())
        .route("/v1/ticket-key", get(probes::ticket_key))
        .route("/v1/ws-tickets", post(sessions::ticket))
        .route("/v1/logout", post(sessions::logout))
        .route("/v1/route", get(route::route))
        .route("/v1/items", post(items::create))
        .route("/v1/items/{id}", get(items::show))
        .route("/v1/auctions", post(auctions::create).get(auctions::list))
        .route("/v1/auctions/{id}", get(auctions::show))
        .route("/v1/auctions/{id}/start", post(auctions::start))
        .route("/v1/auctions/{id}/close", post(auctions::close))
        .route("/v1/auctions/{id}/cancel", post(auctions::cancel))
        .route(
            "/v1/auctions/{id}/bids",
            get(bids::list).put(bids::place).post(bids::place),
        )
        .route("/v1/auctions/{id}/bids/{bid_id}", delete(bids::withdraw))
        .route("/v1/events", post(events::create).get(events::list))
        .route("/v1/events/{id}", get(events::show))
        .route("/v1/events/{id}/seats", get(events::overview))
        .route("/v1/events/{id}/seats/{section}", get(events::seats))
        .route("/v1/events/{id}/tickets", get(events::tickets))
        .route("/v1/events/{id}/holds", post(holds::hold))
        .route("/v1/events/{id}/holds/{hold_id}", delete(holds::release))
        .route(
            "/v1/events/{id}/holds/{hold_id}/confirm",
            post(holds::confirm),
        )
        .route(
            "/v1/events/{id}/queue",
            post(queue::join).get(queue::place).delete(queue::leave),
        )
        .route(
            "/v1/events/{id}/waiting-room",
            post(queue::create).get(queue::show),
        )
        .route("/v1/events/{id}/waiting-room/order", get(queue::order))
        .route("/v1/events/{id}/waiting-room/{step}", post(queue::step))
        .route("/v1/me/holds", get(me::holds))
        .route("/v1/me/tickets", get(me::tickets))
        .route("/v1/me/bids", get(me::bids))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&shared),
            identify::identify,
        ))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&shared),
            admin::guard,
        ))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), observe));
    Router::new()
        .route("/v1/ws", any(ws::upgrade))
        .route("/ws", any(ws::upgrade))
        .merge(observed)
        .merge(crate::pages::router())
        .layer(middleware::from_fn_with_state(
            Arc::clone(&shared),
            limit::limit,
        ))
        .with_state(shared)
}

/// Has a browser that came over TLS come over TLS for the next year.
pub(crate) async fn stay_encrypted(mut response: Response) -> Response {
    let a_year = HeaderValue::from_static("max-age=31536000");
    response
        .headers_mut()
        .insert(header::STRICT_TRANSPORT_SECURITY, a_year);
    response
}

/// Counts the request, checks the origin of what changes something, and adds the headers that every
/// response has.
async fn observe(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let request_id = request_id(&shared, request.headers());
    let span = tracing::debug_span!(
        target: REQUEST_LOG,
        "request",
        id = request_id.to_str().unwrap_or_default(),
        method = %request.method(),
        path = request.uri().path()
    );
    let mut response = if shared.identity.is_origin_allowed(request.headers()) {
        match admit(&shared, &request) {
            Ok(permit) => {
                let response = next.run(request).instrument(span).await;
                drop(permit);
                response
            }
            Err(failure) => Problem::from(failure).into_response(),
        }
    } else {
        let failure = Failure::new(ErrorCode::Forbidden, "pages of that origin may not ask");
        Problem::from(failure).into_response()
    };
    let kind = if is_read {
        RequestKind::HttpRead
    } else {
        RequestKind::HttpWrite
    };
    let code = response.extensions().get::<ErrorCode>().copied();
    shared.metrics.count(kind, code, started.elapsed());
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, request_id);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The client's id of its request, where that is fit for a log; otherwise a new one.
fn request_id(shared: &Shared, headers: &HeaderMap) -> HeaderValue {
    let is_fit = |value: &&HeaderValue| {
        (1..=REQUEST_ID_BYTES_MAX).contains(&value.len())
            && value.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    if let Some(given) = headers.get(REQUEST_ID).filter(is_fit) {
        return given.clone();
    }
    HeaderValue::from_str(&format!("{:032x}", shared.unique()))
        .unwrap_or(HeaderValue::from_static("unknown"))
}

/// Whether a request begins something, or ends what was begun: the same as its command says later (see
/// `operations`). Taking a bid back frees nothing.
fn class_of(method: &Method, path: &str) -> CommandClass {
    let mut parts = path.split('/').skip(2);
    let route = (parts.next(), parts.nth(1), parts.nth(1));
    let is_draining = match route {
        (Some("events"), Some("holds" | "queue"), None) => *method == Method::DELETE,
        (Some("events"), Some("holds"), Some("confirm")) => *method == Method::POST,
        (Some("auctions"), Some("close" | "cancel"), None) => *method == Method::POST,
        _ => false,
    };
    if is_draining {
        CommandClass::Draining
    } else {
        CommandClass::New
    }
}

/// Room for a request, by the length that it announces. What operators and door staff ask to see how the
/// grid is doing needs none.
fn admit(shared: &Shared, request: &Request) -> Result<Option<WorkPermit>, Failure> {
    let path = request.uri().path();
    if !path.starts_with("/v1/") {
        return Ok(None);
    }
    let class = class_of(request.method(), path);
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let has_body = request.headers().contains_key(header::TRANSFER_ENCODING);
    let longest = body_bytes_max(shared, path);
    let bytes = match announced {
        Some(bytes) => longest.min(bytes),
        None if has_body => longest,
        None => 0,
    };
    shared.admission.admit(class, bytes).map(Some)
}

/// The longest body that an address takes: a venue may be large, nothing else is.
fn body_bytes_max(shared: &Shared, path: &str) -> usize {
    let longest = shared.settings.body_bytes_max;
    match path {
        "/v1/events" => longest,
        _ => longest.min(SMALL_BODY_BYTES_MAX),
    }
}

async fn no_route() -> Problem {
    Failure::not_found("there is no such address").into()
}

async fn no_method() -> Problem {
    let failure = Failure::bad_request("the address does not have that method");
    Problem::other(problem(StatusCode::METHOD_NOT_ALLOWED, &failure))
}

/// A JSON response.
fn json<T: Serialize>(status: StatusCode, value: &T) -> Result<Response, Problem> {
    let body = serde_json::to_vec(value)
        .map_err(|_| Failure::new(ErrorCode::Internal, "the response cannot be written"))?;
    let json = HeaderValue::from_static("application/json");
    Ok((status, [(header::CONTENT_TYPE, json)], body).into_response())
}

fn ok<T: Serialize>(value: &T) -> Result<Response, Problem> {
    json(StatusCode::OK, value)
}

/// The same with the log position that the answer reflects.
fn ok_at<T: Serialize>(value: &T, position: Cursor) -> Result<Response, Problem> {
    let mut response = ok(value)?;
    if let Ok(text) = HeaderValue::from_str(&position.to_string()) {
        response.headers_mut().insert(POSITION_HEADER, text);
    }
    Ok(response)
}

fn created<T: Serialize>(value: &T) -> Result<Response, Problem> {
    json(StatusCode::CREATED, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_leaves_less_to_do_is_let_in_first() {
        let draining = [
            (Method::DELETE, "/v1/events/e/holds/h"),
            (Method::DELETE, "/v1/events/e/queue"),
            (Method::POST, "/v1/events/e/holds/h/confirm"),
            (Method::POST, "/v1/auctions/a/close"),
            (Method::POST, "/v1/auctions/a/cancel"),
        ];
        for (method, path) in draining {
            assert_eq!(class_of(&method, path), CommandClass::Draining, "{path}");
        }
        let new = [
            (Method::DELETE, "/v1/auctions/a/bids/b"),
            (Method::DELETE, "/v1/auctions/a"),
            (Method::DELETE, "/v1/anything/else"),
            (Method::POST, "/v1/events/e/holds"),
            (Method::POST, "/v1/events/close"),
            (Method::POST, "/v1/auctions/a/start"),
            (Method::GET, "/v1/events/e/holds/h/confirm"),
            (Method::GET, "/v1/auctions/cancel"),
        ];
        for (method, path) in new {
            assert_eq!(class_of(&method, path), CommandClass::New, "{path}");
        }
    }
}
