//! A refusal or an error on its way to a client, free of HTTP and WebSocket.

use std::borrow::Cow;

use serde::Serialize;
use uuid::Uuid;

use crate::protocol::code::ErrorCode;

/// What a program needs beside the code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Detail {
    Minimum { minimum: String },
    Seats { seats: Vec<String> },
    RetryAfter { retry_after_ms: u64 },
    Outcome { outcome: &'static str },
    Status { status: &'static str },
    SeatLimit { limit: u32, has: u32 },
    Available { available: u32 },
    OnSale { on_sale_at: String },
    Auction { auction_id: Uuid },
    Reason { reason: &'static str },
}

/// Why a request was not carried out. The text may be shown; it holds nothing internal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: ErrorCode,
    pub(crate) message: Cow<'static, str>,
    pub(crate) detail: Option<Detail>,
}

impl Failure {
    pub(crate) fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            detail: None,
        }
    }

    pub(crate) fn with(mut self, detail: Detail) -> Self {
        self.detail = Some(detail);
        self
    }

    pub(crate) fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::BadRequest, message)
    }

    pub(crate) fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::NotFound, message)
    }

    /// An operator's request to a gateway that is no node's.
    pub(crate) fn wrong_gateway() -> Self {
        Self::new(
            ErrorCode::WrongGateway,
            "this gateway serves clients only; operators ask a node's gateway",
        )
    }

    /// The grid answered something that does not fit the question: a bug, or mixed versions.
    pub(crate) fn unexpected(what: &'static str) -> Self {
        tracing::error!(what, "the grid's answer does not fit the question");
        Self::new(ErrorCode::Internal, "the grid gave an unexpected answer")
    }

    pub(crate) fn unauthenticated() -> Self {
        Self::new(
            ErrorCode::Unauthenticated,
            "say who you are: header X-User-Id, or ?user_id= on a WebSocket, with a UUID",
        )
    }
}
