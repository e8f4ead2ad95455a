//! Metrics: handles made once, so that a request pays for an atomic addition only.
//!
//! `gateway_connections` (gauge), `gateway_requests_total{type,code}`, `gateway_request_seconds{type}`
//! (histogram), `gateway_slow_disconnects_total`, `gateway_refused_connections_total`,
//! `gateway_deliveries_total` (events, times those who get them), `gateway_resumes_total{from}`,
//! `gateway_admin_refused_total{reason}`; in `edge`, `gateway_limited_total{by,what}` and
//! `gateway_handshakes_displaced_total`.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::failure::Failure;
use crate::protocol::code::ErrorCode;

/// Kinds of requests, the label `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestKind {
    Subscribe,
    Unsubscribe,
    PlaceBid,
    WithdrawBid,
    HoldSeats,
    ConfirmHold,
    ReleaseHold,
    JoinQueue,
    LeaveQueue,
    Ping,
    Authenticate,
    Unreadable,
    HttpRead,
    HttpWrite,
}

impl RequestKind {
    const ALL: [Self; 14] = [
        Self::Subscribe,
        Self::Unsubscribe,
        Self::PlaceBid,
        Self::WithdrawBid,
        Self::HoldSeats,
        Self::ConfirmHold,
        Self::ReleaseHold,
        Self::JoinQueue,
        Self::LeaveQueue,
        Self::Ping,
        Self::Authenticate,
        Self::Unreadable,
        Self::HttpRead,
        Self::HttpWrite,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Unsubscribe => "unsubscribe",
            Self::PlaceBid => "place_bid",
            Self::WithdrawBid => "withdraw_bid",
            Self::HoldSeats => "hold_seats",
            Self::ConfirmHold => "confirm_hold",
            Self::ReleaseHold => "release_hold",
            Self::JoinQueue => "join_queue",
            Self::LeaveQueue => "leave_queue",
            Self::Ping => "ping",
            Self::Authenticate => "authenticate",
            Self::Unreadable => "unreadable",
            Self::HttpRead => "http_read",
            Self::HttpWrite => "http_write",
        }
    }
}

/// Where the text of `GET /metrics` comes from: whoever installed the recorder. Set once.
#[derive(Default)]
pub(crate) struct MetricsText(OnceLock<Box<dyn Fn() -> String + Send + Sync>>);

impl std::fmt::Debug for MetricsText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MetricsText")
    }
}

impl MetricsText {
    /// Says who writes it. A second one is ignored.
    pub(crate) fn set(&self, write: impl Fn() -> String + Send + Sync + 'static) {
        if self.0.set(Box::new(write)).is_err() {
            tracing::warn!("the metrics have a source already");
        }
    }

    /// The text; `None` without a source.
    pub(crate) fn read(&self) -> Option<String> {
        self.0.get().map(|write| write())
    }
}

/// What a client that came back with a cursor was served from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResumedFrom {
    /// The gateway's own memory.
    Gateway,
    /// The grid told the past again.
    Grid,
    /// The past could not be told: a snapshot instead.
    Snapshot,
}

impl ResumedFrom {
    const ALL: [Self; 3] = [Self::Gateway, Self::Grid, Self::Snapshot];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Grid => "grid",
            Self::Snapshot => "snapshot",
        }
    }
}

struct PerKind {
    ok: Counter,
    failed: Vec<Counter>,
    seconds: Histogram,
}

/// The gateway's metrics.
pub(crate) struct Metrics {
    pub(crate) connections: Gauge,
    pub(crate) slow_disconnects: Counter,
    pub(crate) deliveries: Counter,
    resumes: [Counter; 3],
    pub(crate) refused_connections: Counter,
    kinds: Vec<PerKind>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Binds the handles to the recorder that is installed now.
    pub(crate) fn new() -> Self {
        let per_kind = |kind: RequestKind| {
            let name = kind.as_str();
            let total = |code| counter!("gateway_requests_total", "type" => name, "code" => code);
            PerKind {
                ok: total("ok"),
                failed: ErrorCode::ALL
                    .iter()
                    .map(|code| total(code.as_str()))
                    .collect(),
                seconds: histogram!("gateway_request_seconds", "type" => name),
            }
        };
        Self {
            connections: gauge!("gateway_connections"),
            slow_disconnects: counter!("gateway_slow_disconnects_total"),
            deliveries: counter!("gateway_deliveries_total"),
            resumes: ResumedFrom::ALL
                .map(|from| counter!("gateway_resumes_total", "from" => from.as_str())),
            refused_connections: counter!("gateway_refused_connections_total"),
            kinds: RequestKind::ALL.into_iter().map(per_kind).collect(),
        }
    }

    /// Counts a client that came back with a cursor.
    pub(crate) fn resumed(&self, from: ResumedFrom) {
        if let Some(counter) = self.resumes.get(from as usize) {
            counter.increment(1);
        }
    }

    /// Counts a finished request.
    pub(crate) fn finished<T>(
        &self,
        kind: RequestKind,
        result: &Result<T, Failure>,
        took: Duration,
    ) {
        self.count(
            kind,
            result.as_ref().err().map(|failure| failure.code),
            took,
        );
    }

    /// Counts a finished request by its error code, if any.
    pub(crate) fn count(&self, kind: RequestKind, code: Option<ErrorCode>, took: Duration) {
        let Some(handles) = self.kinds.get(kind as usize) else {
            return;
        };
        match code {
            None => handles.ok.increment(1),
            Some(code) => {
                if let Some(counter) = handles.failed.get(code as usize) {
                    counter.increment(1);
                }
            }
        }
        handles.seconds.record(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_in_the_order_of_their_enums() {
        for (place, kind) in RequestKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
        }
        for (place, from) in ResumedFrom::ALL.into_iter().enumerate() {
            assert_eq!(from as usize, place);
        }
        for (place, code) in ErrorCode::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, place);
        }
    }
}
