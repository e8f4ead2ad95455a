//! Requests written by hand, replies read as far as they are needed.

use std::fmt::Write;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

/// Room for most requests.
const REQUEST_BYTES: usize = 256;

/// The protocol's error codes, and one for those that are not known here.
pub(super) const CODES: [&str; 20] = [
    "bad_request",
    "unauthenticated",
    "forbidden",
    "not_found",
    "bid_too_low",
    "auction_not_open",
    "own_bid_leads",
    "item_already_on_auction",
    "seat_taken",
    "hold_expired",
    "hold_not_found",
    "too_many_seats",
    "not_enough_seats",
    "on_sale_closed",
    "idempotency_conflict",
    "rate_limited",
    "overloaded",
    "unavailable",
    "internal",
    "other",
];

/// An error code, by its place in [`CODES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Code(pub(super) usize);

impl Code {
    fn of(text: &str) -> Self {
        Self(
            CODES
                .iter()
                .position(|known| *known == text)
                .unwrap_or(CODES.len() - 1),
        )
    }

    /// Whether it is the grid's failure rather than its answer.
    pub(super) fn is_error(self) -> bool {
        matches!(
            CODES[self.0],
            "bad_request"
                | "unauthenticated"
                | "idempotency_conflict"
                | "rate_limited"
                | "overloaded"
                | "unavailable"
                | "internal"
                | "other"
        )
    }

    /// Whether the grid has too much to do; nothing was done.
    pub(super) fn is_overload(self) -> bool {
        matches!(CODES[self.0], "rate_limited" | "overloaded")
    }

    /// Whether the same request may succeed a moment later.
    pub(super) fn is_retryable(self) -> bool {
        matches!(CODES[self.0], "rate_limited" | "overloaded" | "unavailable")
    }
}

/// What a message from a gateway is.
#[derive(Debug)]
pub(super) enum Incoming<'a> {
    /// The answer to request `id`.
    Reply { id: u64, data: &'a str },
    /// The refusal of request `id`.
    Refused {
        id: u64,
        code: Code,
        retry_after: Option<Duration>,
    },
    /// The gateway closes; come back after this long.
    Goodbye { retry_after: Duration },
    /// Nothing for us.
    Other,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type", borrow)]
    kind: &'a str,
    id: Option<u64>,
    #[serde(borrow)]
    code: Option<&'a str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Retry {
    retry_after_ms: Option<u64>,
}

/// Reads one message.
pub(super) fn read(text: &str) -> Incoming<'_> {
    let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(text) else {
        return Incoming::Other;
    };
    let retry = |raw: Option<&RawValue>| {
        let retry: Retry = serde_json::from_str(raw?.get()).ok()?;
        retry.retry_after_ms.map(Duration::from_millis)
    };
    match (envelope.kind, envelope.id) {
        ("reply", Some(id)) => Incoming::Reply {
            id,
            data: envelope.data.map_or("null", RawValue::get),
        },
        ("error", Some(id)) => Incoming::Refused {
            id,
            code: Code::of(envelope.code.unwrap_or_default()),
            retry_after: retry(envelope.detail),
        },
        ("goodbye", _) => Incoming::Goodbye {
            retry_after: retry(envelope.data).unwrap_or_default(),
        },
        _ => Incoming::Other,
    }
}

/// A request; its `id` is its idempotency key too.
#[derive(Clone, Copy, Debug)]
pub(super) enum Request<'a> {
    /// Seats by label, written as JSON strings.
    HoldSeats {
        event_id: Uuid,
        labels: &'a [&'a str],
    },
    HoldBest {
        event_id: Uuid,
        quantity: u32,
    },
    Confirm {
        event_id: Uuid,
        hold_id: Uuid,
    },
    Release {
        event_id: Uuid,
        hold_id: Uuid,
    },
    /// In minor units of a currency with two digits.
    Bid {
        auction_id: Uuid,
        amount: u64,
    },
}

impl Request<'_> {
    /// The message's text.
    pub(super) fn write(&self, id: u64) -> String {
        let mut text = String::with_capacity(REQUEST_BYTES);
        // Writing to a string cannot fail.
        let _ = match self {
            Self::HoldSeats { event_id, labels } => {
                let head = write!(
                    text,
                    r#"{{"type":"hold_seats","id":{id},"key":"{id}","event_id":"{event_id}","seats":["#
                );
                text.push_str(&labels.join(","));
                text.push_str("]}");
                head
            }
            Self::HoldBest { event_id, quantity } => write!(
                text,
                r#"{{"type":"hold_seats","id":{id},"key":"{id}","event_id":"{event_id}","quantity":{quantity},"best_available":true}}"#
            ),
            Self::Confirm { event_id, hold_id } => write!(
                text,
                r#"{{"type":"confirm_hold","id":{id},"key":"{id}","event_id":"{event_id}","hold_id":"{hold_id}","payment_reference":"load-{id}"}}"#
            ),
            Self::Release { event_id, hold_id } => write!(
                text,
                r#"{{"type":"release_hold","id":{id},"key":"{id}","event_id":"{event_id}","hold_id":"{hold_id}"}}"#
            ),
            Self::Bid { auction_id, amount } => write!(
                text,
                r#"{{"type":"place_bid","id":{id},"key":"{id}","auction_id":"{auction_id}","amount":"{}.{:02}"}}"#,
                amount / 100,
                amount % 100
            ),
        };
        text
    }
}

/// A hold whose seats are known.
#[derive(Debug, Deserialize)]
pub(super) struct HoldReply {
    pub(super) hold_id: Uuid,
}

/// A hold whose seats the grid chose.
#[derive(Debug, Deserialize)]
pub(super) struct BestReply {
    pub(super) hold_id: Uuid,
    pub(super) seats: Vec<String>,
}

/// A confirmed hold.
#[derive(Debug, Deserialize)]
pub(super) struct TicketsReply {
    pub(super) tickets: Vec<TicketReply>,
}

/// One ticket.
#[derive(Debug, Deserialize)]
pub(super) struct TicketReply {
    pub(super) ticket_id: Uuid,
    pub(super) seat: String,
}

/// An accepted bid.
#[derive(Debug, Deserialize)]
pub(super) struct BidReply {
    pub(super) bid_id: Uuid,
}

/// A reply that says nothing that is needed.
#[derive(Debug, Deserialize)]
pub(super) struct AnyReply {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_json() {
        let id = Uuid::from_u128(7);
        for request in [
            Request::HoldSeats {
                event_id: id,
                labels: &[r#""A-1-1""#, r#""A-1-2""#],
            },
            Request::HoldBest {
                event_id: id,
                quantity: 3,
            },
            Request::Confirm {
                event_id: id,
                hold_id: id,
            },
            Request::Release {
                event_id: id,
                hold_id: id,
            },
            Request::Bid {
                auction_id: id,
                amount: 1_005,
            },
        ] {
            let json: serde_json::Value = serde_json::from_str(&request.write(9)).expect("JSON");
            assert_eq!(
                (&json["id"], &json["key"]),
                (&9.into(), &"9".into()),
                "{json}"
            );
        }
        let bid = Request::Bid {
            auction_id: id,
            amount: 1_005,
        }
        .write(1);
        assert!(bid.contains(r#""amount":"10.05""#), "{bid}");
    }

    #[test]
    fn replies_are_told_apart() {
        assert!(matches!(
            read(r#"{"type":"reply","id":3,"data":{"hold_id":"x"}}"#),
            Incoming::Reply {
                id: 3,
                data: r#"{"hold_id":"x"}"#
            }
        ));
        let refused = read(
            r#"{"type":"error","id":4,"code":"overloaded","message":"\"no\"","detail":{"retry_after_ms":9}}"#,
        );
        let Incoming::Refused {
            id: 4,
            code,
            retry_after,
        } = refused
        else {
            panic!("{refused:?}")
        };
        assert_eq!(retry_after, Some(Duration::from_millis(9)));
        assert!(code.is_error() && code.is_retryable());
        assert!(matches!(
            read(r#"{"type":"seats_changed","cursor":"1:2:3"}"#),
            Incoming::Other
        ));
        assert!(matches!(
            read(r#"{"type":"goodbye","data":{"reason":"draining","retry_after_ms":7}}"#),
            Incoming::Goodbye { retry_after } if retry_after == Duration::from_millis(7)
        ));
        assert!(!Code::of("seat_taken").is_error());
    }
}
