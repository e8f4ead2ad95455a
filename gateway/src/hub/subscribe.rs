//! Opening a subscription: a snapshot, or a replay from the client's cursor.
//!
//! The subscriber is registered first, which fixes a cursor `registered`; from then on the hub delivers
//! and the connection holds. The opening then covers everything up to some cursor at or after
//! `registered`, and the connection goes on from there. So nothing is missed and nothing comes twice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use grid::{FeedError, Read};
use grid_core::{ChangeBatch, Cursor};
use processing_unit::auction::AuctionView;
use processing_unit::box_office::{self, SeatIndex};
use processing_unit::{AuctionId, Change, Currency, EventId, Query, UserId, auction};
use uuid::Uuid;

use super::board::Board;
use super::frames::{hold_expired_frame, seats_frame};
use super::registry::told;
use super::topic::{NoBoard, SubscriberKey};
use crate::convert;
use crate::failure::{Detail, Failure};
use crate::limits::{
    BOARD_RETRY_AFTER_MS, CATCH_UP_TIMEOUT_MS, REPLAY_ENTRIES_MAX, REPLAY_EVENTS_MAX,
    REPLAY_TIMEOUT_MS,
};
use crate::observe::ResumedFrom;
use crate::protocol::code::ErrorCode;
use crate::protocol::frame;
use crate::protocol::message::Topic;
use crate::state::Shared;
use crate::ws::Outlet;

/// How an opened subscription begins.
#[derive(Debug)]
pub(crate) struct Opening {
    /// To be sent first, in this order.
    pub(crate) frames: Vec<Bytes>,
    /// Events after this cursor follow.
    pub(crate) live_after: Cursor,
}

/// Who subscribes, with which request.
#[derive(Clone, Debug)]
pub(crate) struct Subscriber {
    pub(crate) key: SubscriberKey,
    pub(crate) outlet: Arc<Outlet>,
    pub(crate) request_id: Option<Box<str>>,
}

impl Subscriber {
    fn user(&self) -> UserId {
        self.key.0
    }

    fn id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }
}

/// What a client says of what it has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct AskedPast {
    /// A cursor ...
    pub(crate) from: Option<String>,
    /// ... of this history.
    pub(crate) epoch: Option<String>,
}

/// What a subscription begins with.
#[derive(Clone, Copy, Debug)]
enum Past {
    /// A snapshot.
    Unasked,
    /// What has happened since.
    Since(Cursor),
    /// A snapshot in place of that: the cursor is of another history.
    Lost,
}

impl AskedPast {
    fn read(&self, shared: &Shared, topic: Topic) -> Result<Past, Failure> {
        let Some(from) = &self.from else {
            return Ok(Past::Unasked);
        };
        let is_of_another = |epoch: &String| *epoch != shared.epoch;
        if self.epoch.as_ref().is_some_and(is_of_another) {
            return Ok(Past::Lost);
        }
        let partition = shared.hub.partition_of(topic);
        let cursor = from.parse::<Cursor>().ok();
        cursor
            .filter(|cursor| cursor.partition == partition)
            .map(Past::Since)
            .ok_or_else(|| Failure::bad_request("`from` is no cursor of this topic"))
    }
}

/// The past since a cursor cannot be had; the client gets a snapshot instead.
#[derive(Debug)]
struct NoReplay;

/// Opens a subscription. On an error the subscriber may still be registered: unregister it.
pub(crate) async fn open(
    shared: &Shared,
    subscriber: &Subscriber,
    topic: Topic,
    past: &AskedPast,
) -> Result<Opening, Failure> {
    let past = past.read(shared, topic)?;
    match topic {
        Topic::Auction(id) => open_auction(shared, subscriber, id, past).await,
        Topic::Event(id) => open_event(shared, subscriber, id, past).await,
    }
}

async fn open_auction(
    shared: &Shared,
    subscriber: &Subscriber,
    id: Uuid,
    past: Past,
) -> Result<Opening, Failure> {
    let topic = Topic::Auction(id);
    let currency = shared.auction_currency(AuctionId(id)).await?;
    let registered = shared.hub.registry_of(id).register_auction(
        id,
        currency,
        subscriber.key,
        Arc::clone(&subscriber.outlet),
    );
    let mut frames = Vec::new();
    let resumed_frame = |mode| frame::resumed(subscriber.id(), topic, mode, &shared.epoch);
    let mut is_lost = matches!(past, Past::Lost);
    if let Past::Since(from) = past {
        let resumed = resume_auction(shared, (id, currency), from, registered, subscriber.user());
        match resumed.await {
            Ok((mut events, live_after)) => {
                frames.push(resumed_frame("replayed"));
                frames.append(&mut events);
                return Ok(Opening { frames, live_after });
            }
            Err(NoReplay) => is_lost = true,
        }
    }
    if is_lost {
        shared.metrics.resumed(ResumedFrom::Snapshot);
        frames.push(resumed_frame("snapshot"));
    }
    let (view, position) = present_auction(shared, id, registered).await?;
    let view = AuctionView::clone(&view);
    let mut view = convert::auction(view, Some(subscriber.user()));
    // A snapshot goes to whoever watches; the host asks over HTTP.
    view.reserve_price = None;
    let head = (now_ms(), shared.epoch.as_str());
    frames.push(frame::snapshot(
        subscriber.id(),
        topic,
        &view,
        position,
        head,
    ));
    Ok(Opening {
        frames,
        live_after: position,
    })
}

/// The events of an auction after `from`, as that person gets them: from this gateway's memory, or from the
/// grid, whose answer is remembered for the next who comes back.
async fn resume_auction(
    shared: &Shared,
    (id, currency): (Uuid, Currency),
    from: Cursor,
    registered: Cursor,
    user: UserId,
) -> Result<(Vec<Bytes>, Cursor), NoReplay> {
    let topic = Topic::Auction(id);
    let known = || {
        let known = shared.hub.registry_of(id).auction_since(id, from, user)?;
        shared.metrics.resumed(ResumedFrom::Gateway);
        Some(known)
    };
    if let Some(known) = known() {
        return Ok(known);
    }
    let _turn = shared.hub.turn_of(id).await;
    if let Some(known) = known() {
        return Ok(known);
    }
    let mut events = Vec::new();
    let replayed = replay(shared, topic, from, registered, |cursor, batch, change| {
        let Change::Auction(change) = change else {
            return true;
        };
        if change.auction_id() == Some(AuctionId(id)) {
            events.extend(told(change, currency, cursor, batch.at.as_millis()));
        }
        events.len() <= REPLAY_EVENTS_MAX
    });
    let live_after = replayed.await?;
    shared.metrics.resumed(ResumedFrom::Grid);
    shared
        .hub
        .registry_of(id)
        .extend_back(id, (from, live_after), &events);
    let events = events.iter().map(|told| told.payload_for(user));
    Ok((events.collect(), live_after))
}

/// An auction as it stands at or after `registered`: as it was last read, where nothing has happened since.
async fn present_auction(
    shared: &Shared,
    id: Uuid,
    registered: Cursor,
) -> Result<(Arc<AuctionView>, Cursor), Failure> {
    let known = || shared.hub.registry_of(id).view(id);
    if let Some(known) = known() {
        return Ok(known);
    }
    let _turn = shared.hub.turn_of(id).await;
    if let Some(known) = known() {
        return Ok(known);
    }
    let read = Read::AtLeast(registered);
    let (view, position) = shared.auction(AuctionId(id), read).await?;
    let view = Arc::new(view);
    shared
        .hub
        .registry_of(id)
        .keep_view(id, Arc::clone(&view), position);
    Ok((view, position))
}

async fn open_event(
    shared: &Shared,
    subscriber: &Subscriber,
    id: Uuid,
    past: Past,
) -> Result<Opening, Failure> {
    let topic = Topic::Event(id);
    let layout = shared.event_layout(EventId(id)).await?;
    let (registered, has_board) = shared.hub.registry_of(id).register_event(
        id,
        &layout,
        subscriber.key,
        Arc::clone(&subscriber.outlet),
    );
    if !has_board {
        let _turn = shared.hub.turn_of(id).await;
        let is_loaded = shared.hub.registry_of(id).with_board(id, |_, _| ()).is_ok();
        if !is_loaded {
            load_board(shared, id, registered).await?;
        }
    }
    let mut frames = Vec::new();
    let resumed_frame = |mode| frame::resumed(subscriber.id(), topic, mode, &shared.epoch);
    let mut is_lost = matches!(past, Past::Lost);
    if let Past::Since(from) = past {
        let known = shared
            .hub
            .registry_of(id)
            .event_since(id, from, subscriber.user());
        if let Some((mut messages, live_after)) = known {
            shared.metrics.resumed(ResumedFrom::Gateway);
            frames.push(resumed_frame("replayed"));
            frames.append(&mut messages);
            return Ok(Opening { frames, live_after });
        }
        let mut seats: BTreeSet<SeatIndex> = BTreeSet::new();
        let mut expired = Vec::new();
        let replayed = replay(shared, topic, from, registered, |_, _, change| {
            let Change::BoxOffice(change) = change else {
                return true;
            };
            if change.event_id() != EventId(id) {
                return true;
            }
            convert::each_seat(change, |seat, _| {
                seats.insert(seat);
            });
            if let Some((buyer, frame)) = hold_expired_frame(change, &layout)
                && buyer == subscriber.user()
            {
                expired.push(frame);
            }
            expired.len() <= REPLAY_EVENTS_MAX
        });
        match replayed.await {
            Ok(replayed_to) => {
                shared.metrics.resumed(ResumedFrom::Grid);
                frames.push(resumed_frame("replayed"));
                // The seats' present states are sent, but the cursor is that of the replay: what
                // changed after it comes as events.
                let read = |board: &Board, _| seats_frame(id, board, &seats, replayed_to, None);
                let update = shared
                    .hub
                    .registry_of(id)
                    .with_board(id, read)
                    .map_err(no_board)?;
                if !seats.is_empty() {
                    frames.push(update);
                }
                frames.append(&mut expired);
                return Ok(Opening {
                    frames,
                    live_after: replayed_to,
                });
            }
            Err(NoReplay) => is_lost = true,
        }
    }
    if is_lost {
        shared.metrics.resumed(ResumedFrom::Snapshot);
        frames.push(resumed_frame("snapshot"));
    }
    let read = |board: &Board, cursor: Cursor| {
        let head = (now_ms(), shared.epoch.as_str());
        let frame = frame::snapshot(subscriber.id(), topic, &board.snapshot(), cursor, head);
        (frame, cursor)
    };
    let (snapshot, live_after) = shared
        .hub
        .registry_of(id)
        .with_board(id, read)
        .map_err(no_board)?;
    frames.push(snapshot);
    Ok(Opening { frames, live_after })
}

fn no_board(_: NoBoard) -> Failure {
    let retry_after_ms = BOARD_RETRY_AFTER_MS;
    Failure::new(
        ErrorCode::Overloaded,
        "the event changes faster than it can be read just now",
    )
    .with(Detail::RetryAfter { retry_after_ms })
}

async fn load_board(shared: &Shared, id: Uuid, registered: Cursor) -> Result<(), Failure> {
    let query = box_office::Query::Seats {
        event_id: EventId(id),
        section: None,
    };
    let read = Read::AtLeast(registered);
    match shared
        .ask_box_office(registered.partition, query, read)
        .await?
    {
        (box_office::Answer::Seats(Some(seats)), position) => shared
            .hub
            .registry_of(id)
            .load_board(id, seats, position)
            .map_err(no_board),
        (box_office::Answer::Seats(None), _) => Err(Failure::not_found("there is no such event")),
        _ => Err(Failure::unexpected("seats were asked for")),
    }
}

/// Shows every change after `from` and up to `registered` to `visit`, until that returns false.
/// Returns the cursor that has been covered.
async fn replay(
    shared: &Shared,
    topic: Topic,
    from: Cursor,
    registered: Cursor,
    mut visit: impl FnMut(Cursor, &ChangeBatch<Change>, &Change) -> bool,
) -> Result<Cursor, NoReplay> {
    if from.index > registered.index {
        return catch_up(shared, topic, from).await;
    }
    if from >= registered {
        return Ok(from);
    }
    if registered.index - from.index > REPLAY_ENTRIES_MAX {
        return Err(NoReplay);
    }
    // The cursor's own entry is read again: it had changes, so the feed has something to return.
    let start = match (from.seq, from.index.checked_sub(1)) {
        (u32::MAX, _) | (_, None) => from,
        (_, Some(before)) => Cursor::after_entry(from.partition, before),
    };
    let mut feed = shared.client.follow(from.partition, Some(start));
    let read = async {
        let mut covered = start.index;
        while covered < registered.index {
            let slice = match feed.next().await {
                Ok(slice) => slice,
                Err(FeedError::CursorTooOld | FeedError::CursorAhead | FeedError::Stopped) => {
                    return Err(NoReplay);
                }
            };
            covered = slice.upto_index;
            for batch in &slice.batches {
                for (seq, change) in batch.changes.iter().enumerate() {
                    let cursor = Cursor {
                        partition: from.partition,
                        index: batch.index,
                        seq: u32::try_from(seq).unwrap_or(u32::MAX),
                    };
                    let is_asked_for = cursor > from && cursor <= registered;
                    if is_asked_for && !visit(cursor, batch, change) {
                        return Err(NoReplay);
                    }
                }
            }
        }
        Ok(registered)
    };
    tokio::time::timeout(Duration::from_millis(REPLAY_TIMEOUT_MS), read)
        .await
        .unwrap_or(Err(NoReplay))
}

/// The client has seen more than this node: waits for the node to get there.
async fn catch_up(shared: &Shared, topic: Topic, from: Cursor) -> Result<Cursor, NoReplay> {
    let query = match topic {
        Topic::Auction(id) => Query::Auction(auction::Query::Auction {
            auction_id: AuctionId(id),
        }),
        Topic::Event(id) => Query::BoxOffice(box_office::Query::Event {
            event_id: EventId(id),
        }),
    };
    let deadline = Instant::now() + Duration::from_millis(CATCH_UP_TIMEOUT_MS);
    shared
        .client
        .query(from.partition, query, Read::AtLeast(from), deadline)
        .await
        .map(|_| from)
        .map_err(|_| NoReplay)
}

fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}
