//! A paused lane: it leaves the database alone, but for a look whether it may go on.
//!
//! The pause itself is in the database (see `control`), and every write meets it; this only spares the
//! lane the trying.

use std::time::Duration;

use grid::Leadership;
use grid_core::PartitionId;
use tokio::sync::watch;

use super::lane::{End, LaneError, Shared, acquire};
use super::status::LaneStatus;
use super::writer::{WriteError, is_paused};

/// How often a paused lane looks whether it may go on.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Waits until somebody resumes the partition, or this node no longer leads it.
pub(super) async fn wait_while_paused(
    shared: &Shared,
    partition: PartitionId,
    status: &watch::Sender<LaneStatus>,
    term: u64,
    leadership: &mut watch::Receiver<Leadership>,
    stop: &mut watch::Receiver<bool>,
) -> Result<End, LaneError> {
    tracing::info!(partition = partition.0, "the pump is paused");
    status.send_modify(|status| {
        status.paused = true;
        status.last_error = None;
        status.trouble = None;
        status.stuck = false;
    });
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return Ok(End::Stopped),
            led = leadership.wait_for(|now| !now.is_local || now.term != term) => {
                return Ok(if led.is_ok() { End::NotLeader } else { End::Stopped });
            }
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
        }
        let mut lease = acquire(shared).await?;
        match is_paused(&mut lease, partition.0).await {
            Ok(true) => lease.release().await,
            Ok(false) => {
                lease.release().await;
                status.send_modify(|status| status.paused = false);
                return Ok(End::Resumed);
            }
            Err(error) => {
                lease.discard().await;
                return Err(WriteError::from(error).into());
            }
        }
    }
}
