//! Everything that happened to one auction or event, from the log, as it comes.
//!
//! The log is read on a thread that gives way to all others, by one request a node at a time; the next
//! is asked to come again. What has been read waits for the client in a few chunks, and a client that
//! takes nothing is let go of.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use grid::{FeedError, Read};
use grid_core::{Cursor, PartitionId};
use processing_unit::{AuctionId, Change, EventId, auction, box_office};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::failure::{Detail, Failure};
use crate::history::{HistoryChange, HistoryEnd, HistoryLine};
use crate::http::extract;
use crate::http::problem::Problem;
use crate::limits::{HISTORY_CHUNK_BYTES, HISTORY_CHUNKS_MAX, HISTORY_STALL_TIMEOUT_MS};
use crate::protocol::code::ErrorCode;
use crate::state::Shared;

/// Tells the changes of the auction or event after the log entry `?after=`, or from the first on.
pub(super) async fn history(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let id = extract::id(&id)?;
    let after = after_index(uri.query().unwrap_or_default())?;
    let Ok(turn) = Arc::clone(&shared.history_turn).try_acquire_owned() else {
        let retry_after_ms = shared.retry_after_ms();
        return Err(Failure::new(
            ErrorCode::Overloaded,
            "this node reads another history just now",
        )
        .with(Detail::RetryAfter { retry_after_ms })
        .into());
    };
    let upto = position_of(&shared, id).await?;
    let (sender, receiver) = mpsc::channel(HISTORY_CHUNKS_MAX);
    let job = Arc::clone(&shared);
    shared.tasks.spawn(async move {
        let chunks = Chunks {
            sender,
            lines: Vec::new(),
        };
        tokio::select! {
            () = job.stopping.cancelled() => {}
            told = tell(&job, id, after, upto, chunks) => if told.is_none() {
                tracing::debug!(%id, "whoever asked for a history no longer takes it");
            }
        }
        drop(turn);
    });
    let body = futures_util::stream::unfold(receiver, |mut receiver| async {
        let chunk: Bytes = receiver.recv().await?;
        Some((Ok::<_, std::io::Error>(chunk), receiver))
    });
    let mut response = Body::from_stream(body).into_response();
    let lines = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, lines);
    Ok(response)
}

fn after_index(query: &str) -> Result<u64, Failure> {
    let given = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("after="));
    given.map_or(Ok(0), |text| {
        text.parse()
            .map_err(|_| Failure::bad_request("`after` is the number of a log entry"))
    })
}

/// The log position at which the auction or event is known to exist, after every acknowledged write.
async fn position_of(shared: &Shared, id: Uuid) -> Result<Cursor, Failure> {
    let partition = shared.layout.partition_of(id);
    let query = auction::Query::Auction {
        auction_id: AuctionId(id),
    };
    let read = Read::Linearizable;
    if let (auction::Answer::Auction(Some(_)), position) =
        shared.ask_auctions(partition, query, read).await?
    {
        return Ok(position);
    }
    let query = box_office::Query::Overview {
        event_id: EventId(id),
    };
    match shared.ask_box_office(partition, query, read).await? {
        (box_office::Answer::Overview(Some(_)), position) => Ok(position),
        _ => Err(Failure::not_found("there is no such auction or event")),
    }
}

fn concerns(change: &Change, id: Uuid) -> bool {
    match change {
        Change::Auction(change) => change.auction_id() == Some(AuctionId(id)),
        Change::BoxOffice(change) => change.event_id() == EventId(id),
        // A history tells the sale; how people came to it is the waiting room's to tell.
        Change::WaitingRoom(_) => false,
    }
}

/// Lines on their way to the client.
struct Chunks {
    sender: mpsc::Sender<Bytes>,
    lines: Vec<u8>,
}

impl Chunks {
    /// `None` when the client takes nothing any more.
    async fn line(&mut self, line: &HistoryLine) -> Option<()> {
        if let Err(error) = serde_json::to_writer(&mut self.lines, line) {
            tracing::error!(%error, "a line of a history cannot be serialised");
            return None;
        }
        self.lines.push(b'\n');
        if self.lines.len() >= HISTORY_CHUNK_BYTES {
            self.flush().await?;
        }
        Some(())
    }

    async fn flush(&mut self) -> Option<()> {
        let chunk = Bytes::from(std::mem::take(&mut self.lines));
        let patience = Duration::from_millis(HISTORY_STALL_TIMEOUT_MS);
        self.sender.send_timeout(chunk, patience).await.ok()
    }
}

/// Writes the lines; `None` when the client takes nothing any more.
async fn tell(
    shared: &Shared,
    id: Uuid,
    after_index: u64,
    upto: Cursor,
    mut chunks: Chunks,
) -> Option<()> {
    let partition: PartitionId = upto.partition;
    let node = shared.node().ok()?;
    let grid_id = Uuid::from_u128(node.grid_id());
    let begin = HistoryLine::Begin {
        grid_id,
        partition,
        after_index,
        upto_index: upto.index,
    };
    chunks.line(&begin).await?;
    let from = Cursor::after_entry(partition, after_index);
    let mut feed = node.follow_in_background(partition, from);
    let mut covered = after_index;
    while covered < upto.index {
        let slice = match feed.next().await {
            Ok(slice) => slice,
            Err(error) => {
                let end = match error {
                    FeedError::CursorTooOld => HistoryEnd::LogTooShort,
                    FeedError::CursorAhead | FeedError::Stopped => HistoryEnd::Stopped,
                };
                chunks.line(&HistoryLine::End(end)).await?;
                return chunks.flush().await;
            }
        };
        for batch in &slice.batches {
            if batch.index <= after_index || batch.index > upto.index {
                continue;
            }
            for (seq, change) in (0u32..).zip(&batch.changes) {
                if concerns(change, id) {
                    let line = HistoryLine::Change(Box::new(HistoryChange {
                        index: batch.index,
                        seq,
                        at_ms: batch.at.as_millis(),
                        change: change.clone(),
                    }));
                    chunks.line(&line).await?;
                }
            }
        }
        covered = slice.upto_index.min(upto.index);
        chunks
            .line(&HistoryLine::Covered { index: covered })
            .await?;
        chunks.flush().await?;
    }
    let end = HistoryLine::End(HistoryEnd::Complete);
    chunks.line(&end).await?;
    chunks.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_to_begin_is_an_entrys_number() {
        assert_eq!(after_index(""), Ok(0));
        assert_eq!(after_index("x=1&after=17"), Ok(17));
        for bad in ["after=", "after=-1", "after=3:17:0"] {
            assert!(after_index(bad).is_err(), "{bad}");
        }
    }
}
