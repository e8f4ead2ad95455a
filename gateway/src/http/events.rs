//! `/v1/events` and what can be read of their seats.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use grid_core::Cursor;
use processing_unit::box_office::{Answer, Query};
use processing_unit::{EventId, box_office};
use uuid::Uuid;

use super::extract::{self, Fresh, Known, Listing};
use super::problem::Problem;
use super::{created, ok, ok_at, scatter};
use crate::convert;
use crate::failure::Failure;
use crate::operations;
use crate::protocol::code::ErrorCode;
use crate::protocol::view::{OverviewView, Page, SeatsView};
use crate::state::Shared;

pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    known: Known,
    body: Body,
) -> Result<Response, Problem> {
    let (body, canonical) = extract::long_json_and_text(&shared, body).await?;
    created(&operations::create_event(&shared, known.asker(), body, &canonical).await?)
}

pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Listing(list): Listing,
) -> Result<Response, Problem> {
    let query = Query::Events {
        text: list.q.clone(),
        after: list.after_id()?.map(EventId),
        limit: list.limit(),
    };
    let all = scatter::ask_box_office(&shared, query, |answer| match answer {
        Answer::Events(events) => Some(events),
        _ => None,
    })
    .await?;
    let views = all.into_iter().map(convert::event).collect();
    ok(&scatter::merge(views, list.limit(), |event| event.event_id))
}

async fn ask(
    shared: &Shared,
    event_id: Uuid,
    query: Query,
    fresh: Fresh,
) -> Result<(Answer, Cursor), Failure> {
    let partition = shared.layout.partition_of(event_id);
    shared
        .ask_box_office(partition, query, fresh.of(partition)?)
        .await
}

fn no_event() -> Problem {
    Failure::not_found("there is no such event").into()
}

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    fresh: Fresh,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let id = extract::id(&id)?;
    let event_id = EventId(id);
    match ask(&shared, id, Query::Event { event_id }, fresh).await? {
        (Answer::Event(Some(event)), position) => ok_at(&convert::event(event), position),
        (Answer::Event(None), _) => Err(no_event()),
        _ => Err(Failure::unexpected("an event was asked for").into()),
    }
}

pub(super) async fn overview(
    State(shared): State<Arc<Shared>>,
    fresh: Fresh,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let event_id = extract::id(&id)?;
    let currency = shared.event_layout(EventId(event_id)).await?.currency;
    let query = Query::Overview {
        event_id: EventId(event_id),
    };
    match ask(&shared, event_id, query, fresh).await? {
        (Answer::Overview(Some(counts)), position) => {
            let sections = convert::sections(counts, currency);
            ok_at(&OverviewView { event_id, sections }, position)
        }
        (Answer::Overview(None), _) => Err(no_event()),
        _ => Err(Failure::unexpected("an overview was asked for").into()),
    }
}

pub(super) async fn seats(
    State(shared): State<Arc<Shared>>,
    fresh: Fresh,
    Path((id, section)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let event_id = extract::id(&id)?;
    let layout = shared.event_layout(EventId(event_id)).await?;
    if layout.sections.iter().all(|known| known.name != section) {
        return Err(Failure::not_found("the event has no such section").into());
    }
    let query = Query::Seats {
        event_id: EventId(event_id),
        section: Some(section.clone()),
    };
    match ask(&shared, event_id, query, fresh).await? {
        (Answer::Seats(Some(seats)), position) => {
            let view = SeatsView {
                event_id,
                section,
                states: String::from_utf8_lossy(&seats.states).into_owned(),
                labels: seats.labels,
            };
            ok_at(&view, position)
        }
        (Answer::Seats(None), _) => Err(no_event()),
        _ => Err(Failure::unexpected("seats were asked for").into()),
    }
}

/// For managers: every ticket, to verify at the door. `after` is the last seat's index.
pub(super) async fn tickets(
    State(shared): State<Arc<Shared>>,
    known: Known,
    fresh: Fresh,
    Path(id): Path<String>,
    Listing(list): Listing,
) -> Result<Response, Problem> {
    let id = extract::id(&id)?;
    if !known.caller.is_manager {
        return Err(Failure::new(ErrorCode::Forbidden, "only a manager may list tickets").into());
    }
    let event_id = EventId(id);
    let currency = shared.event_layout(event_id).await?.currency;
    let query = Query::Tickets {
        event_id,
        after: list.after_number::<box_office::SeatIndex>()?,
        limit: list.limit(),
    };
    let (rows, position) = match ask(&shared, id, query, fresh).await? {
        (Answer::Tickets(Some(rows)), position) => (rows, position),
        (Answer::Tickets(None), _) => return Err(no_event()),
        _ => return Err(Failure::unexpected("tickets were asked for").into()),
    };
    let views = rows
        .into_iter()
        .map(|row| convert::ticket_row(row, event_id, currency, &shared.signer))
        .collect();
    ok_at(
        &Page::of(views, list.limit(), |row| row.seat_index),
        position,
    )
}
