//! What buyers and hosts ask of a waiting room, the same over HTTP and a WebSocket.

use grid::Read;
use grid_core::{Cursor, Timestamp};
use processing_unit::waiting_room::{
    self, Answer, ENTRIES_MAX, Marker, NewRoom, Query, Refusal, Reply, SecretChoice,
};
use processing_unit::{
    Answer as UnitAnswer, Command, EventId, Query as UnitQuery, Reply as UnitReply,
};
use serde::Deserialize;
use uuid::Uuid;

use super::pass::{self, NoPass};
use super::view::{OrderView, QueueView, RoomStateView, from_hex, phase};
use crate::convert::room_time;
use crate::failure::{Detail, Failure};
use crate::operations::{Asker, Operation};
use crate::protocol::code::ErrorCode;
use crate::protocol::view::{Page, ReplyData};
use crate::state::Shared;

/// Passes for the unsold seats unless the host says otherwise, in percent.
const OVERSUBSCRIPTION_PERCENT_DEFAULT: u32 = 100;
/// How long a pass lasts unless the host says otherwise, in seconds.
const PASS_SECONDS_DEFAULT: u64 = 600;

/// `POST /v1/events/{id}/waiting-room`.
#[derive(Debug, Deserialize)]
pub(crate) struct RoomBody {
    opens_at: Option<String>,
    rate_per_minute: u32,
    pass_seconds: Option<u64>,
    oversubscription_percent: Option<u32>,
    entries_max: Option<u32>,
    /// Of a secret that the host keeps, in hexadecimal digits.
    commitment: Option<String>,
}

/// What a host does to a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RoomStep {
    Open { secret: Option<String> },
    Pause,
    Resume,
    Rate(u32),
}

fn random() -> Result<[u8; 32], Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|_| Failure::new(ErrorCode::Unavailable, "there are no random bytes"))?;
    Ok(bytes)
}

fn digits(text: &str, field: &str) -> Result<[u8; 32], Failure> {
    from_hex(text)
        .ok_or_else(|| Failure::bad_request(format!("`{field}` has 64 hexadecimal digits")))
}

/// Hands a command over; a grid that follows older rules does not know it.
async fn execute(
    operation: Operation<'_>,
    command: waiting_room::Command,
) -> Result<Reply, Failure> {
    match operation.execute(Command::WaitingRoom(command)).await {
        Ok(UnitReply::WaitingRoom(Ok(reply))) => Ok(reply),
        Ok(UnitReply::WaitingRoom(Err(refusal))) => Err(refused(&refusal)),
        Ok(_) => Err(Failure::unexpected("another domain's reply")),
        Err(failure) if failure.code == ErrorCode::Internal => Err(Failure::new(
            ErrorCode::Unavailable,
            "the grid follows rules without waiting rooms: end its upgrade (grid upgrade finish)",
        )),
        Err(failure) => Err(failure),
    }
}

/// A refusal with its stable code.
fn refused(refusal: &Refusal) -> Failure {
    let code = match refusal {
        Refusal::EventNotFound | Refusal::RoomNotFound | Refusal::NotInRoom => ErrorCode::NotFound,
        Refusal::RoomExists | Refusal::AlreadyOpen | Refusal::NotSealed => {
            ErrorCode::WaitingRoomState
        }
        Refusal::Forbidden => ErrorCode::Forbidden,
        Refusal::RoomFull { .. } => ErrorCode::WaitingRoomFull,
        Refusal::SoldOut => ErrorCode::SoldOut,
        Refusal::WrongSecret | Refusal::Invalid(_) => ErrorCode::BadRequest,
    };
    Failure::new(code, refusal.to_string())
}

/// Makes a room before an event. Returns what the lottery is committed to.
pub(crate) async fn create(
    shared: &Shared,
    asker: Asker<'_>,
    event_id: Uuid,
    body: RoomBody,
    canonical: &str,
) -> Result<ReplyData, Failure> {
    let secret = match &body.commitment {
        Some(commitment) => SecretChoice::Withheld {
            commitment: digits(commitment, "commitment")?,
        },
        None => SecretChoice::Kept(random()?),
    };
    let seconds = body.pass_seconds.unwrap_or(PASS_SECONDS_DEFAULT);
    let room = NewRoom {
        event_id: EventId(event_id),
        opens_at: body.opens_at.as_deref().map(room_time).transpose()?,
        rate_per_minute: body.rate_per_minute,
        pass_ms: seconds.saturating_mul(1_000),
        oversubscription_percent: body
            .oversubscription_percent
            .unwrap_or(OVERSUBSCRIPTION_PERCENT_DEFAULT),
        entries_max: body.entries_max.unwrap_or(ENTRIES_MAX),
        secret,
        salt: random()?,
    };
    let operation = Operation::on(shared, asker, "create_room", event_id)?.text(canonical);
    let command = waiting_room::Command::Create {
        by: asker.caller.actor(),
        room: Box::new(room),
    };
    match execute(operation, command).await? {
        Reply::Created { .. } => {
            shared.lobby.note_room(EventId(event_id));
            let (marker, _) = marker_of(shared, event_id, Read::Linearizable).await?;
            Ok(ReplyData::Room(Box::new(RoomStateView::new(&marker.room))))
        }
        _ => Err(Failure::unexpected("a waiting room was created")),
    }
}

/// Opens, pauses, resumes a room, or sets its rate.
pub(crate) async fn step(
    shared: &Shared,
    asker: Asker<'_>,
    event_id: Uuid,
    step: RoomStep,
) -> Result<ReplyData, Failure> {
    let (id, by) = (EventId(event_id), asker.caller.actor());
    let on = |name| Operation::on(shared, asker, name, event_id);
    let (operation, command) = match step {
        RoomStep::Open { secret } => (
            on("open_room")?.text(secret.as_deref().unwrap_or_default()),
            waiting_room::Command::Open {
                event_id: id,
                by,
                secret: secret
                    .as_deref()
                    .map(|secret| digits(secret, "secret"))
                    .transpose()?,
            },
        ),
        RoomStep::Pause => (
            on("pause_room")?,
            waiting_room::Command::Pause { event_id: id, by },
        ),
        RoomStep::Resume => (
            on("resume_room")?,
            waiting_room::Command::Resume { event_id: id, by },
        ),
        RoomStep::Rate(rate_per_minute) => (
            on("rate_room")?.number(i64::from(rate_per_minute)),
            waiting_room::Command::SetRate {
                event_id: id,
                by,
                rate_per_minute,
            },
        ),
    };
    match execute(operation, command).await? {
        Reply::Changed {
            phase: now,
            is_paused,
        } => Ok(ReplyData::RoomChanged {
            phase: phase(now),
            paused: is_paused,
        }),
        _ => Err(Failure::unexpected("a waiting room was changed")),
    }
}

/// Takes a place, or finds the one that the asker has.
pub(crate) async fn join(
    shared: &Shared,
    asker: Asker<'_>,
    event_id: Uuid,
) -> Result<ReplyData, Failure> {
    let (id, user) = (EventId(event_id), asker.caller.user);
    let operation = Operation::on(shared, asker, "join_queue", event_id)?;
    let command = waiting_room::Command::Join { event_id: id, user };
    match execute(operation, command).await? {
        Reply::Joined(place) => {
            shared.lobby.note_room(id);
            let view = QueueView::new(&shared.signer, id, user, &place, None);
            Ok(ReplyData::Queue(Box::new(view)))
        }
        _ => Err(Failure::unexpected("a waiting room was joined")),
    }
}

/// Gives the asker's place or pass back.
pub(crate) async fn leave(
    shared: &Shared,
    asker: Asker<'_>,
    event_id: Uuid,
) -> Result<ReplyData, Failure> {
    let (id, user) = (EventId(event_id), asker.caller.user);
    let operation = Operation::on(shared, asker, "leave_queue", event_id)?.draining();
    let command = waiting_room::Command::Leave { event_id: id, user };
    match execute(operation, command).await? {
        Reply::Left => Ok(ReplyData::Empty {}),
        _ => Err(Failure::unexpected("a waiting room was left")),
    }
}

/// Where the asker stands.
pub(crate) async fn place(
    shared: &Shared,
    asker: Asker<'_>,
    event_id: Uuid,
    read: Read,
) -> Result<(QueueView, Cursor), Failure> {
    let (id, user) = (EventId(event_id), asker.caller.user);
    let query = Query::Places {
        event_id: id,
        users: vec![user],
    };
    match ask(shared, event_id, query, read).await? {
        (Answer::Places(Some((room, mut places))), position) => match places.pop().flatten() {
            Some(place) => {
                let signer = &shared.signer;
                let view = QueueView::new(signer, id, user, &place, Some(&room));
                Ok((view, position))
            }
            None => Err(Failure::not_found("you are not in this waiting room")),
        },
        (Answer::Places(None), _) => Err(no_room()),
        _ => Err(Failure::unexpected("places were asked for")),
    }
}

/// How a room stands.
pub(crate) async fn marker(
    shared: &Shared,
    event_id: Uuid,
    read: Read,
) -> Result<(RoomStateView, Cursor), Failure> {
    let (marker, position) = marker_of(shared, event_id, read).await?;
    Ok((RoomStateView::new(&marker.room), position))
}

pub(super) async fn marker_of(
    shared: &Shared,
    event_id: Uuid,
    read: Read,
) -> Result<(Box<Marker>, Cursor), Failure> {
    let query = Query::Marker {
        event_id: EventId(event_id),
    };
    match ask(shared, event_id, query, read).await? {
        (Answer::Marker(Some(marker)), position) => Ok((marker, position)),
        (Answer::Marker(None), _) => Err(no_room()),
        _ => Err(Failure::unexpected("a marker was asked for")),
    }
}

/// A page of the published list of the early ones.
pub(crate) async fn order(
    shared: &Shared,
    event_id: Uuid,
    after: Option<u32>,
    limit: usize,
    read: Read,
) -> Result<(Page<OrderView>, Cursor), Failure> {
    let query = Query::Order {
        event_id: EventId(event_id),
        after,
        limit,
    };
    match ask(shared, event_id, query, read).await? {
        (Answer::Order(Some(rows)), position) => {
            let views: Vec<OrderView> = rows.iter().map(OrderView::new).collect();
            Ok((Page::of(views, limit, |row| row.number), position))
        }
        (Answer::Order(None), _) => Err(no_room()),
        _ => Err(Failure::unexpected("an order was asked for")),
    }
}

fn no_room() -> Failure {
    Failure::not_found("the event has no waiting room")
}

pub(super) async fn ask(
    shared: &Shared,
    event_id: Uuid,
    query: Query,
    read: Read,
) -> Result<(Answer, Cursor), Failure> {
    let partition = shared.layout.partition_of(event_id);
    let query = UnitQuery::WaitingRoom(query);
    match shared.ask(partition, query, read).await? {
        (UnitAnswer::WaitingRoom(answer), position) => Ok((answer, position)),
        _ => Err(Failure::unexpected("another domain's answer")),
    }
}

/// Refuses whoever would hold seats of an event that is known to have a room, and shows no pass for it. Where
/// the room is not known yet, and for everything that a signature cannot say, the partition decides.
pub(crate) fn check_pass(
    shared: &Shared,
    asker: Asker<'_>,
    event_id: Uuid,
    pass: Option<&str>,
) -> Result<(), Failure> {
    let refused = |reason| {
        let message = "the event has a waiting room: join it, and show the pass that you get";
        let failure = Failure::new(ErrorCode::WaitingRoomRequired, message);
        Err(failure.with(Detail::Reason { reason }))
    };
    let Some(pass) = pass else {
        return match shared.lobby.has_room(EventId(event_id)) {
            true => refused("no_pass"),
            false => Ok(()),
        };
    };
    let user = asker.caller.user.0;
    match pass::check(&shared.signer, pass, event_id, user, now()) {
        Ok(()) => Ok(()),
        Err(NoPass::Foreign) => refused("pass_invalid"),
        Err(NoPass::Expired) => refused("pass_expired"),
    }
}

pub(super) fn now() -> Timestamp {
    let now_ms = jiff::Timestamp::now().as_millisecond();
    Timestamp::from_millis(u64::try_from(now_ms).unwrap_or(0))
}
