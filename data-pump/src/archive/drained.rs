//! The mark of a clean end: everything that the grid accepted is in the database.
//!
//! Lanes write what is left when their node stops. Once the node has ended and so can accept nothing any
//! more, whoever still stands where its lane stood is marked; a restore from this database then loses
//! nothing. The next block takes the mark away, and so does the next pump that opens the partition.

use std::sync::Arc;

use grid::GridClient;
use grid_core::PartitionId;
use processing_unit::Unit;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{sql_index, sql_partition};

/// Where a lane stood when it had nothing left to write.
#[derive(Clone, Copy, Debug)]
struct DrainedPlace {
    partition: PartitionId,
    epoch: i64,
    index: u64,
}

/// The places of all lanes that have ended so.
#[derive(Debug, Default)]
pub(crate) struct DrainedPlaces {
    places: std::sync::Mutex<Vec<DrainedPlace>>,
}

impl DrainedPlaces {
    /// Notes one.
    pub(crate) fn add(&self, partition: PartitionId, epoch: i64, index: u64) {
        if let Ok(mut places) = self.places.lock() {
            places.push(DrainedPlace {
                partition,
                epoch,
                index,
            });
        }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.places.lock().map_or(true, |places| places.is_empty())
    }

    /// Marks those whose partition has applied nothing since. To be called when the node has ended.
    pub(crate) async fn mark(
        self: Arc<Self>,
        connection: &mut PgConnection,
        client: &GridClient<Unit>,
        grid_id: Uuid,
    ) -> Result<(), sqlx::Error> {
        let places = match self.places.lock() {
            Ok(places) => places.clone(),
            Err(_) => return Ok(()),
        };
        for place in places {
            if client.applied_index(place.partition) == Some(place.index) {
                mark_drained(connection, grid_id, place).await?;
            }
        }
        Ok(())
    }
}

async fn mark_drained(
    connection: &mut PgConnection,
    grid_id: Uuid,
    place: DrainedPlace,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE log_archive a SET drained_index = c.applied_index, updated_at = now()
         FROM pump_checkpoint c
         WHERE a.partition = $1 AND c.partition = $1 AND c.grid_id = $2 AND c.epoch = $3
               AND c.applied_index = $4 AND a.last_index = $4",
    )
    .bind(sql_partition(place.partition))
    .bind(grid_id)
    .bind(place.epoch)
    .bind(sql_index(place.index))
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes the mark away: a grid runs, and may accept what is not written yet.
pub(crate) async fn unmark_drained(
    connection: &mut PgConnection,
    partition: PartitionId,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE log_archive SET drained_index = NULL
         WHERE partition = $1 AND drained_index IS NOT NULL",
    )
    .bind(sql_partition(partition))
    .execute(connection)
    .await?;
    Ok(())
}
