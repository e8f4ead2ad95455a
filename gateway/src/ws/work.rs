//! One request's work, from the readable message to what is sent back.

use std::sync::Arc;

use bytes::Bytes;
use grid::{CommandClass, REQUEST_LOG};
use tokio::time::Instant;
use tracing::Instrument;

use crate::admission::WorkPermit;
use crate::failure::Failure;
use crate::hub::{self, AskedPast, Opening, Subscriber};
use crate::identity::Caller;
use crate::observe::RequestKind;
use crate::operations::{self, Asker};
use crate::protocol::frame;
use crate::protocol::message::{Envelope, Request, Token, Topic};
use crate::protocol::view::ReplyData;
use crate::state::Shared;
use crate::waiting;

/// What came of a request.
#[derive(Debug)]
pub(crate) enum Done {
    /// Send this.
    Reply(Bytes),
    /// A subscription is open, or failed to open.
    Opened {
        topic: Topic,
        generation: u64,
        result: Result<Opening, Bytes>,
    },
    /// A fresh token was looked at.
    Renewed {
        caller: Option<Caller>,
        reply: Bytes,
    },
}

pub(crate) fn kind_of(request: &Request) -> RequestKind {
    match request {
        Request::Subscribe { .. } => RequestKind::Subscribe,
        Request::Unsubscribe { .. } => RequestKind::Unsubscribe,
        Request::PlaceBid { .. } => RequestKind::PlaceBid,
        Request::WithdrawBid { .. } => RequestKind::WithdrawBid,
        Request::HoldSeats { .. } => RequestKind::HoldSeats,
        Request::ConfirmHold { .. } => RequestKind::ConfirmHold,
        Request::ReleaseHold { .. } => RequestKind::ReleaseHold,
        Request::JoinQueue { .. } => RequestKind::JoinQueue,
        Request::LeaveQueue { .. } => RequestKind::LeaveQueue,
        Request::Ping => RequestKind::Ping,
        Request::Authenticate { .. } => RequestKind::Authenticate,
    }
}

/// Whether a request begins something, or ends what was begun.
pub(crate) fn class_of(request: &Request) -> CommandClass {
    match request {
        Request::ConfirmHold { .. } | Request::ReleaseHold { .. } | Request::LeaveQueue { .. } => {
            CommandClass::Draining
        }
        _ => CommandClass::New,
    }
}

/// Carries a command out. The permit is its room in the gateway, free again when it has ended.
pub(crate) async fn command(
    shared: Arc<Shared>,
    caller: Caller,
    envelope: Envelope,
    _permit: WorkPermit,
) -> Done {
    let started = Instant::now();
    let Envelope { id, key, request } = envelope;
    let kind = kind_of(&request);
    let asker = Asker {
        caller,
        key: key.as_deref(),
    };
    let span = tracing::debug_span!(target: REQUEST_LOG, "request", id = id.as_deref(), ?kind);
    let result = dispatch(&shared, asker, request).instrument(span).await;
    shared.metrics.finished(kind, &result, started.elapsed());
    Done::Reply(match &result {
        Ok(data) => frame::reply(id.as_deref(), data),
        Err(failure) => frame::error(id.as_deref(), failure),
    })
}

async fn dispatch(
    shared: &Shared,
    asker: Asker<'_>,
    request: Request,
) -> Result<ReplyData, Failure> {
    match request {
        Request::PlaceBid { auction_id, amount } => {
            operations::place_bid(shared, asker, auction_id, &amount).await
        }
        Request::WithdrawBid { auction_id, bid_id } => {
            operations::withdraw_bid(shared, asker, auction_id, bid_id).await
        }
        Request::HoldSeats {
            event_id,
            choice,
            pass,
        } => {
            waiting::check_pass(shared, asker, event_id, pass.as_deref())?;
            operations::hold_seats(shared, asker, event_id, choice).await
        }
        Request::JoinQueue { event_id } => waiting::join(shared, asker, event_id).await,
        Request::LeaveQueue { event_id } => waiting::leave(shared, asker, event_id).await,
        Request::ConfirmHold {
            event_id,
            hold_id,
            payment_reference,
        } => operations::confirm_hold(shared, asker, event_id, hold_id, payment_reference).await,
        Request::ReleaseHold { event_id, hold_id } => {
            operations::release_hold(shared, asker, event_id, hold_id).await
        }
        Request::Subscribe { .. }
        | Request::Unsubscribe { .. }
        | Request::Ping
        | Request::Authenticate { .. } => Err(Failure::unexpected("a command was expected")),
    }
}

/// Looks at a fresh token.
pub(crate) async fn renew(
    shared: Arc<Shared>,
    caller: Caller,
    id: Option<Box<str>>,
    token: Token,
) -> Done {
    let started = Instant::now();
    let renewed = shared.identity.renew(caller, &token.0).await;
    let kind = RequestKind::Authenticate;
    shared.metrics.finished(kind, &renewed, started.elapsed());
    let reply = match &renewed {
        Ok(_) => frame::reply(id.as_deref(), &ReplyData::Empty {}),
        Err(failure) => frame::error(id.as_deref(), failure),
    };
    Done::Renewed {
        caller: renewed.ok(),
        reply,
    }
}

/// Opens a subscription.
pub(crate) async fn subscribe(
    shared: Arc<Shared>,
    subscriber: Subscriber,
    topic: Topic,
    past: AskedPast,
    generation: u64,
) -> Done {
    let started = Instant::now();
    let result = hub::open(&shared, &subscriber, topic, &past).await;
    shared
        .metrics
        .finished(RequestKind::Subscribe, &result, started.elapsed());
    Done::Opened {
        topic,
        generation,
        result: result.map_err(|failure| frame::error(subscriber.request_id.as_deref(), &failure)),
    }
}
