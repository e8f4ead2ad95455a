//! The part of the archive that is not in the lanes' way: now and then a partition's whole state is written
//! to the database, and what is too old is deleted.
//!
//! One partition at a time, one chunk a transaction, with pauses as long as the work in between: whatever it
//! does is late by design, and the lanes and the sale come first. A state is read from the node's own
//! snapshot files, which are complete and checked; where none is new enough the node is asked to take one.
//! What is interrupted is begun anew at the next turn.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use grid::backup::{BackupError, summarize_snapshot};
use grid_core::{PartitionId, Timestamp};

use super::lane::{Shared, acquire};
use super::writer::WriteError;
use crate::archive::bases::{self, BasePolicy, Owner};

/// How often it looks what is due.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// How often it deletes what is too old.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);
/// A state is also due after so many blocks, however small: a restore reads them one by one.
const BLOCKS_MAX: u64 = 200_000;
/// How much of a snapshot file goes into one chunk.
const CHUNK_BYTES: usize = 1 << 20;
/// zstd's lowest level.
const CHUNK_LEVEL: i32 = 1;
/// How long a snapshot may take that is asked for.
const SNAPSHOT_WAIT: Duration = Duration::from_secs(60);

/// Why a turn ended early. The next one begins anew.
#[derive(Debug, thiserror::Error)]
enum TurnError {
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("the snapshot cannot be taken: {0}")]
    Snapshot(#[from] grid::OperationError),
    #[error("the snapshot cannot be read: {0}")]
    Read(#[from] BackupError),
}

impl From<std::io::Error> for TurnError {
    fn from(error: std::io::Error) -> Self {
        Self::Read(error.into())
    }
}

/// Works until stopped.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut stop = shared.stop.clone();
    if !shared.settings.archive {
        return;
    }
    let mut pruned_at = Instant::now();
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
        }
        let prunes = pruned_at.elapsed() >= PRUNE_INTERVAL;
        if prunes {
            pruned_at = Instant::now();
        }
        for partition in shared.client.layout().iter() {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                done = turn(&shared, partition, prunes) => {
                    if let Err(error) = done {
                        tracing::debug!(%partition, %error, "the archive's next turn tries again");
                    }
                }
            }
        }
    }
}

/// Marks the partitions whose lanes have written everything.
pub(super) async fn mark_drained(shared: &Shared) -> Result<(), WriteError> {
    if shared.drained.is_empty() {
        return Ok(());
    }
    let mut lease = acquire(shared).await?;
    let (client, grid_id) = (&shared.client, shared.grid_id);
    Arc::clone(&shared.drained)
        .mark(&mut lease, client, grid_id)
        .await?;
    lease.release().await;
    Ok(())
}

/// Who this node's pump is for a partition; `None` where another node leads it.
fn owner(shared: &Shared, partition: PartitionId) -> Option<Owner> {
    let leadership = shared.client.leadership(partition).ok()?;
    let leadership = leadership.borrow();
    leadership.is_local.then(|| Owner {
        grid_id: shared.grid_id,
        partition,
        epoch: i64::try_from(leadership.term).unwrap_or(i64::MAX),
    })
}

/// Looks after one partition, if this node leads it.
async fn turn(shared: &Shared, partition: PartitionId, prunes: bool) -> Result<(), TurnError> {
    let Some(owner) = owner(shared, partition) else {
        return Ok(());
    };
    // Before that there may be no tables.
    if !*shared.is_schema_ready.lock().await {
        return Ok(());
    }
    let policy = BasePolicy {
        entry_bytes_max: shared.settings.archive_state_every_bytes,
        blocks_max: BLOCKS_MAX,
    };
    let mut lease = acquire(shared).await?;
    let due = bases::due(&mut lease, partition, policy).await?;
    lease.release().await;
    if let Some(index_min) = due {
        archive_state(shared, owner, index_min).await?;
    }
    let keep_ms = shared.settings.archive_keep_hours.saturating_mul(3_600_000);
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_ms = now_ms.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    let keep_from = Timestamp::from_millis(now_ms.saturating_sub(keep_ms));
    while prunes && keep_ms > 0 && !*shared.stop.borrow() {
        let started = Instant::now();
        let mut lease = acquire(shared).await?;
        let pruned = bases::prune(&mut lease, partition, keep_from).await?;
        lease.release().await;
        if pruned == 0 {
            break;
        }
        tokio::time::sleep(started.elapsed()).await;
    }
    Ok(())
}

/// Writes the partition's newest snapshot, one at or after `index_min`, to the database.
async fn archive_state(shared: &Shared, owner: Owner, index_min: u64) -> Result<(), TurnError> {
    let partition = owner.partition;
    let client = &shared.client;
    let newest = client.newest_snapshot(partition);
    if newest.as_ref().is_none_or(|(index, _)| *index < index_min) {
        let deadline = Instant::now() + SNAPSHOT_WAIT;
        let node = client.node_id();
        client.take_snapshot(node, partition, deadline).await?;
    }
    let Some((index, path)) = client
        .newest_snapshot(partition)
        .filter(|(index, _)| *index >= index_min)
    else {
        return Ok(());
    };
    let grid_id = owner.grid_id.as_u128();
    let opening = tokio::task::spawn_blocking(move || {
        // Once it is open it stays readable, also when a newer one takes its place.
        let file = File::open(&path)?;
        Ok::<_, TurnError>((file, summarize_snapshot(&path, grid_id, partition)?))
    });
    let Ok(opened) = opening.await else {
        return Ok(());
    };
    let (mut file, summary) = opened?;
    let mut lease = acquire(shared).await?;
    bases::clear_unfinished(&mut lease, partition).await?;
    lease.release().await;
    let mut chunks = 0;
    loop {
        let started = Instant::now();
        let reading = tokio::task::spawn_blocking(move || {
            let chunk = next_chunk(&mut file)?;
            Ok::<_, std::io::Error>((file, chunk))
        });
        let Ok(read) = reading.await else {
            return Ok(());
        };
        let (again, chunk) = read?;
        file = again;
        let Some(chunk) = chunk else { break };
        let mut lease = acquire(shared).await?;
        bases::write_chunk(&mut lease, partition, index, chunks, &chunk).await?;
        lease.release().await;
        chunks += 1;
        tokio::time::sleep(started.elapsed()).await;
    }
    let mut lease = acquire(shared).await?;
    let finished = bases::finish(&mut lease, owner, summary, chunks).await?;
    lease.release().await;
    if finished {
        metrics::counter!("pump_archived_states_total", "partition" => partition.to_string())
            .increment(1);
        tracing::info!(%partition, index, chunks, "a state is archived");
    }
    Ok(())
}

/// The next part of a file, compressed; `None` at its end.
fn next_chunk(file: &mut File) -> std::io::Result<Option<Vec<u8>>> {
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    file.take(CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
    if chunk.is_empty() {
        return Ok(None);
    }
    zstd::bulk::compress(&chunk, CHUNK_LEVEL).map(Some)
}
