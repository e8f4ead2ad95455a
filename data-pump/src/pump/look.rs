//! An idle lane's look at its place in the database.
//!
//! A write meets a checkpoint that has moved by itself. A lane with nothing to write would not notice
//! that its database was restored from a backup until the next change came, which may be days; so it
//! looks now and then, and opens anew when its place is not where it left it.

use std::time::Duration;

use sqlx::PgConnection;

use super::lane::{LaneError, Shared, acquire};
use super::writer::{Place, WriteError, log_index, partition_number};

/// How often.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Looks once.
///
/// # Errors
/// As a write at the same place would fail.
pub(super) async fn look(shared: &Shared, place: &Place) -> Result<(), LaneError> {
    let mut lease = acquire(shared).await?;
    match is_unmoved(&mut lease, place).await {
        Ok(is_unmoved) => {
            lease.release().await;
            match is_unmoved {
                true => Ok(()),
                // A pause is found on opening anew.
                false => Err(WriteError::CheckpointMoved {
                    partition: place.partition,
                }
                .into()),
            }
        }
        Err(error) => {
            lease.discard().await;
            Err(WriteError::from(error).into())
        }
    }
}

/// Whether the place is as this pump left it, and not paused.
pub(super) async fn is_unmoved(
    connection: &mut PgConnection,
    place: &Place,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pump_checkpoint
                        WHERE partition = $1 AND grid_id = $2 AND epoch = $3 AND applied_index = $4
                              AND paused_at IS NULL)",
    )
    .bind(partition_number(place.partition))
    .bind(place.grid_id)
    .bind(place.epoch)
    .bind(log_index(place.applied_index))
    .fetch_one(connection)
    .await
}
