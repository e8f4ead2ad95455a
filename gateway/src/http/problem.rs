//! Errors over HTTP: RFC 9457 problem documents with the protocol's stable codes.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::failure::{Detail, Failure};
use crate::protocol::code::ErrorCode;

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: &'a str,
    /// What a program needs beside the code; `detail` is the text for people, as the RFC wants it.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Detail>,
}

/// An error response.
#[derive(Debug)]
pub(crate) struct Problem(Box<Response>);

impl Problem {
    /// A response that was made by hand.
    pub(crate) fn other(response: Response) -> Self {
        Self(Box::new(response))
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let status = StatusCode::from_u16(failure.code.http_status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self(Box::new(problem(status, &failure)))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        *self.0
    }
}

/// The status of a failure and its document.
pub(crate) fn document(failure: &Failure) -> (StatusCode, Vec<u8>) {
    let status = StatusCode::from_u16(failure.code.http_status())
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, body(status, failure))
}

fn body(status: StatusCode, failure: &Failure) -> Vec<u8> {
    let document = Document {
        kind: "about:blank",
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        code: failure.code.as_str(),
        detail: &failure.message,
        data: failure.detail.as_ref(),
    };
    serde_json::to_vec(&document).unwrap_or_default()
}

/// The document of a failure, under a status of its own.
pub(crate) fn problem(status: StatusCode, failure: &Failure) -> Response {
    let mut response = (status, body(status, failure)).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    if let Some(Detail::RetryAfter { retry_after_ms }) = failure.detail
        && let Ok(seconds) = HeaderValue::from_str(&retry_after_ms.div_ceil(1_000).to_string())
    {
        headers.insert(header::RETRY_AFTER, seconds);
    }
    response.extensions_mut().insert::<ErrorCode>(failure.code);
    response
}
