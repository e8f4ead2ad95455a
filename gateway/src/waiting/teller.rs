//! The rounds in which those who wait are told where they are.

use std::time::{Duration, Instant};

use grid::Read;
use processing_unit::EventId;
use processing_unit::waiting_room::{Answer, Query, ROWS_MAX};

use super::operations::{ask, marker_of};
use crate::failure::Failure;
use crate::limits::{PLACES_PER_ROUND_MAX, QUEUE_ROUND_MS};
use crate::state::Shared;

/// Tells everybody who waits on this node, once a round, for as long as the gateway runs. A round costs the
/// grid one question an event, and one for every thousand people whose entry has news.
pub(crate) async fn tell_positions(shared: &Shared) {
    loop {
        tokio::time::sleep(Duration::from_millis(QUEUE_ROUND_MS)).await;
        for event_id in shared.lobby.events() {
            // What one round misses the next one tells.
            if let Err(failure) = round(shared, event_id).await {
                tracing::debug!(%event_id, ?failure, "a waiting room cannot be looked at");
            }
        }
    }
}

async fn round(shared: &Shared, event_id: EventId) -> Result<(), Failure> {
    let (marker, position) = marker_of(shared, event_id.0, Read::Stale).await?;
    let users = shared
        .lobby
        .to_ask(event_id, &marker.room, PLACES_PER_ROUND_MAX);
    for some in users.chunks(ROWS_MAX) {
        let query = Query::Places {
            event_id,
            users: some.to_vec(),
        };
        let read = Read::AtLeast(position);
        if let (Answer::Places(Some((room, places))), _) =
            ask(shared, event_id.0, query, read).await?
        {
            let answers = some.iter().copied().zip(places);
            shared
                .lobby
                .answered(event_id, &shared.signer, &room, answers);
        }
    }
    shared.lobby.tell(event_id, &marker, Instant::now());
    Ok(())
}
