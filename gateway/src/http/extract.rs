//! Reading requests: who asks, under which key, with which body and page.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use grid::Read;
use grid_core::PartitionId;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::problem::Problem;
use crate::failure::Failure;
use crate::identity::{Caller, Identified};
use crate::limits::{PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX, SMALL_BODY_BYTES_MAX};
use crate::operations::Asker;
use crate::protocol::code::ErrorCode;
use crate::protocol::shape;
use crate::state::Shared;

const KEY_HEADER: &str = "idempotency-key";

/// A caller who must be known, with the key of their command.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) caller: Caller,
    key: Option<String>,
}

impl Known {
    pub(crate) fn asker(&self) -> Asker<'_> {
        Asker {
            caller: self.caller,
            key: self.key.as_deref(),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Known {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let caller = identified(parts).ok_or_else(Failure::unauthenticated)?;
        Ok(Self {
            caller,
            key: idempotency_key(&parts.headers)?,
        })
    }
}

/// What was found out before the handler.
fn identified(parts: &Parts) -> Option<Caller> {
    let found = parts.extensions.get::<Identified>();
    found.and_then(|found| found.0)
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    headers
        .get(KEY_HEADER)
        .map(|value| {
            value
                .to_str()
                .map(str::to_owned)
                .map_err(|_| Failure::bad_request("Idempotency-Key is not plain text"))
        })
        .transpose()
}

/// A caller who need not be known.
#[derive(Debug)]
pub(crate) struct Anyone(pub(crate) Option<Caller>);

impl<S: Sync> FromRequestParts<S> for Anyone {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self(identified(parts)))
    }
}

/// A list's parameters; each list uses those it knows.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ListQuery {
    limit: Option<usize>,
    pub(crate) after: Option<String>,
    pub(crate) status: Option<String>,
    pub(crate) category: Option<String>,
    pub(crate) q: Option<String>,
}

impl ListQuery {
    /// Entries of a page.
    pub(crate) fn limit(&self) -> usize {
        self.limit
            .unwrap_or(PAGE_LIMIT_DEFAULT)
            .clamp(1, PAGE_LIMIT_MAX)
    }

    /// `after` as an id.
    pub(crate) fn after_id(&self) -> Result<Option<Uuid>, Failure> {
        self.after.as_deref().map(id).transpose()
    }

    /// `after` as a number.
    pub(crate) fn after_number<N: std::str::FromStr>(&self) -> Result<Option<N>, Failure> {
        self.after
            .as_deref()
            .map(|text| {
                text.parse()
                    .map_err(|_| Failure::bad_request("`after` is no cursor of this list"))
            })
            .transpose()
    }
}

/// A list's parameters from the query string.
#[derive(Debug)]
pub(crate) struct Listing(pub(crate) ListQuery);

impl<S: Send + Sync> FromRequestParts<S> for Listing {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query: Result<Query<ListQuery>, QueryRejection> =
            Query::from_request_parts(parts, state).await;
        match query {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(Failure::bad_request(rejection.body_text()).into()),
        }
    }
}

/// How fresh an answer must be: `?read=stale`, `?read=CURSOR`, or else the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fresh(Read);

impl Fresh {
    fn from_text(text: Option<&str>) -> Result<Self, Failure> {
        match text {
            None | Some("latest") => Ok(Self(Read::Linearizable)),
            Some("stale") => Ok(Self(Read::Stale)),
            Some(cursor) => match cursor.parse() {
                Ok(cursor) => Ok(Self(Read::AtLeast(cursor))),
                Err(_) => Err(Failure::bad_request(
                    "`read` is `latest`, `stale` or a cursor",
                )),
            },
        }
    }

    /// For a query of one partition; another partition's cursor says nothing about it.
    pub(crate) fn of(self, partition: PartitionId) -> Result<Read, Failure> {
        match self.0 {
            Read::AtLeast(cursor) if cursor.partition != partition => Err(Failure::bad_request(
                "the cursor in `read` is of another topic",
            )),
            read => Ok(read),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Fresh {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        let text = query.split('&').find_map(|pair| pair.strip_prefix("read="));
        // A cursor's colons may come escaped.
        let text = text.map(|text| text.replace("%3A", ":").replace("%3a", ":"));
        Ok(Self::from_text(text.as_deref())?)
    }
}

/// An id in a path or a parameter.
pub(crate) fn id(text: &str) -> Result<Uuid, Failure> {
    Uuid::try_parse(text).map_err(|_| Failure::bad_request("an id in the address is no UUID"))
}

/// A partition's number in a path.
pub(crate) fn partition(text: &str) -> Result<PartitionId, Failure> {
    text.parse()
        .map(PartitionId)
        .map_err(|_| Failure::bad_request("a partition is a number"))
}

/// Reads a body of bounded length in bounded time.
async fn read_body(shared: &Shared, body: Body, limit: usize) -> Result<Bytes, Failure> {
    let timeout = Duration::from_millis(shared.settings.edge.body_timeout_ms);
    let limit = shared.settings.body_bytes_max.min(limit);
    match tokio::time::timeout(timeout, to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_length_limit(&error) => Err(Failure::new(
            ErrorCode::MessageTooLarge,
            "the body is too large",
        )),
        Ok(Err(_)) => Err(Failure::bad_request("the body could not be read")),
        Err(_) => Err(Failure::bad_request("the body did not arrive in time")),
    }
}

fn is_length_limit(error: &axum::Error) -> bool {
    std::error::Error::source(error)
        .is_some_and(|source| source.to_string().contains("length limit"))
}

/// Reads a JSON document of a harmless shape.
///
/// # Errors
/// `bad_request`, with what is wrong in a few words.
pub(crate) fn parsed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    shape::check(bytes).map_err(|error| Failure::bad_request(error.to_string()))?;
    serde_json::from_slice(bytes).map_err(|error| Failure::bad_request(shape::reason(&error)))
}

/// The same with its canonical text for the fingerprint: field order does not matter.
pub(crate) fn parsed_with_text<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, String), Failure> {
    let value = parsed(bytes)?;
    let canonical: serde_json::Value = parsed(bytes)?;
    Ok((value, canonical.to_string()))
}

/// Reads a JSON body.
pub(crate) async fn json<T: DeserializeOwned>(shared: &Shared, body: Body) -> Result<T, Failure> {
    parsed(&read_body(shared, body, SMALL_BODY_BYTES_MAX).await?)
}

/// The same with its canonical text.
pub(crate) async fn json_and_text<T: DeserializeOwned>(
    shared: &Shared,
    body: Body,
) -> Result<(T, String), Failure> {
    parsed_with_text(&read_body(shared, body, SMALL_BODY_BYTES_MAX).await?)
}

/// The same of any length that the settings allow.
pub(crate) async fn long_json_and_text<T: DeserializeOwned>(
    shared: &Shared,
    body: Body,
) -> Result<(T, String), Failure> {
    parsed_with_text(&read_body(shared, body, usize::MAX).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freshness_is_the_latest_unless_asked_otherwise() {
        let fresh = |text| Fresh::from_text(text).map(|fresh| fresh.of(PartitionId(3)));
        assert_eq!(fresh(None), Ok(Ok(Read::Linearizable)));
        assert_eq!(fresh(Some("latest")), Ok(Ok(Read::Linearizable)));
        assert_eq!(fresh(Some("stale")), Ok(Ok(Read::Stale)));
        let cursor = "3:17:0".parse().expect("a cursor");
        assert_eq!(fresh(Some("3:17:0")), Ok(Ok(Read::AtLeast(cursor))));
        let other = fresh(Some("4:17:0")).expect("a cursor");
        assert_eq!(other.expect_err("another's").code, ErrorCode::BadRequest);
        let nonsense = fresh(Some("soon")).expect_err("nonsense");
        assert_eq!(nonsense.code, ErrorCode::BadRequest);
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_told_from_a_broken_one() {
        let error = to_bytes(Body::from("12345"), 4)
            .await
            .expect_err("too long");
        assert!(is_length_limit(&error));
        assert!(to_bytes(Body::from("1234"), 4).await.is_ok());
    }
}
