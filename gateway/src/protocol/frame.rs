//! WebSocket messages to the client, serialised.

use bytes::Bytes;
use grid_core::Cursor;
use serde::Serialize;
use serde_json::value::RawValue;

use super::message::Topic;
use crate::failure::{Detail, Failure};

/// Room for a usual reply, in bytes, so that its buffer grows once at most.
const REPLY_BYTES: usize = 256;

#[derive(Serialize)]
struct Reply<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RawValue>,
    data: &'a T,
}

#[derive(Serialize)]
struct ErrorReply<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RawValue>,
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a Detail>,
}

#[derive(Serialize)]
struct TopicMessage<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auction_id: Option<uuid::Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<uuid::Uuid>,
    data: &'a T,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<&'a str>,
}

#[derive(Serialize)]
struct Mode {
    mode: &'static str,
}

#[derive(Serialize)]
struct Goodbye {
    reason: &'static str,
    retry_after_ms: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resume: Vec<Resume>,
}

/// Where a subscription can be taken up again.
#[derive(Serialize)]
struct Resume {
    #[serde(skip_serializing_if = "Option::is_none")]
    auction_id: Option<uuid::Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<uuid::Uuid>,
    from: String,
}

/// The id was validated when it came in.
fn raw(id: Option<&str>) -> Option<&RawValue> {
    serde_json::from_str(id?).ok()
}

fn bytes<T: Serialize>(value: &T) -> Bytes {
    let mut buffer = Vec::with_capacity(REPLY_BYTES);
    if let Err(error) = serde_json::to_writer(&mut buffer, value) {
        tracing::error!(%error, "a message cannot be serialised");
    }
    Bytes::from(buffer)
}

/// A positive reply.
pub(crate) fn reply<T: Serialize>(id: Option<&str>, data: &T) -> Bytes {
    bytes(&Reply {
        kind: "reply",
        id: raw(id),
        data,
    })
}

/// An error reply.
pub(crate) fn error(id: Option<&str>, failure: &Failure) -> Bytes {
    bytes(&ErrorReply {
        kind: "error",
        id: raw(id),
        code: failure.code.as_str(),
        message: &failure.message,
        detail: failure.detail.as_ref(),
    })
}

/// An event.
pub(crate) fn topic<T: Serialize>(
    kind: &'static str,
    topic: Topic,
    data: &T,
    cursor: Option<String>,
    timestamp: Option<u64>,
) -> Bytes {
    let (auction_id, event_id) = ids(topic);
    bytes(&TopicMessage {
        kind,
        id: None,
        auction_id,
        event_id,
        data,
        cursor,
        timestamp,
        epoch: None,
    })
}

/// A topic as it stands at a cursor, in the history that the epoch stands for.
pub(crate) fn snapshot<T: Serialize>(
    id: Option<&str>,
    topic: Topic,
    data: &T,
    cursor: Cursor,
    (timestamp, epoch): (u64, &str),
) -> Bytes {
    let (auction_id, event_id) = ids(topic);
    bytes(&TopicMessage {
        kind: "snapshot",
        id: raw(id),
        auction_id,
        event_id,
        data,
        cursor: Some(cursor.to_string()),
        timestamp: Some(timestamp),
        epoch: Some(epoch),
    })
}

/// The answer to a subscription that resumes.
pub(crate) fn resumed(id: Option<&str>, topic: Topic, mode: &'static str, epoch: &str) -> Bytes {
    let (auction_id, event_id) = ids(topic);
    bytes(&TopicMessage {
        kind: "resumed",
        id: raw(id),
        auction_id,
        event_id,
        data: &Mode { mode },
        cursor: None,
        timestamp: None,
        epoch: Some(epoch),
    })
}

/// The last message before the server closes: why, when to come back, and from where the open
/// subscriptions go on.
pub(crate) fn goodbye(
    reason: &'static str,
    retry_after_ms: u64,
    cursors: &[(Topic, Option<Cursor>)],
) -> Bytes {
    let resume = cursors.iter().filter_map(|(topic, cursor)| {
        let (auction_id, event_id) = ids(*topic);
        let from = (*cursor)?.to_string();
        Some(Resume {
            auction_id,
            event_id,
            from,
        })
    });
    bytes(&Reply {
        kind: "goodbye",
        id: None,
        data: &Goodbye {
            reason,
            retry_after_ms,
            resume: resume.collect(),
        },
    })
}

fn ids(topic: Topic) -> (Option<uuid::Uuid>, Option<uuid::Uuid>) {
    match topic {
        Topic::Auction(id) => (Some(id), None),
        Topic::Event(id) => (None, Some(id)),
    }
}
