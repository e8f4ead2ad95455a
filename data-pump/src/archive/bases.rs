//! Archived states: when one is due, its chunks, and what may go because of it.
//!
//! Each function is one short transaction, so that the lanes have their turn in between. A state counts
//! only once its row is there, which is written last and only for who still owns the partition; chunks
//! without one are rubbish, and go before the next state is written.

use grid_core::snapshot::SnapshotSummary;
use grid_core::{PartitionId, Timestamp};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{index_of, sql_index, sql_partition};

/// Rows that one transaction deletes at most.
const PRUNED_ROWS_MAX: i64 = 1_000;

/// When a state is due, of what was archived since the last one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BasePolicy {
    /// Bytes of entries.
    pub(crate) entry_bytes_max: u64,
    /// Blocks.
    pub(crate) blocks_max: u64,
}

/// Whose partition it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) grid_id: Uuid,
    pub(crate) partition: PartitionId,
    /// The term of its leader.
    pub(crate) epoch: i64,
}

/// What a partition's archive has, as far as it decides whether a state is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
struct Extent {
    first_index: Option<i64>,
    entry_bytes: i64,
    blocks: i64,
    base_index: Option<i64>,
    base_entry_bytes: Option<i64>,
    base_blocks: Option<i64>,
}

impl Extent {
    /// The least index that a state must stand at, if one is due.
    fn due(&self, policy: BasePolicy) -> Option<u64> {
        // While entries stay out there is nothing to lead on from a state.
        let first = index_of(self.first_index?);
        let base = self.base_index.map(index_of);
        let is_reached = first <= 1 || base.is_some_and(|base| base + 1 >= first);
        if !is_reached {
            return Some(first - 1);
        }
        let since = |total: i64, base: Option<i64>| index_of(total - base.unwrap_or(0));
        let is_long = since(self.entry_bytes, self.base_entry_bytes) >= policy.entry_bytes_max
            || since(self.blocks, self.base_blocks) >= policy.blocks_max;
        is_long.then(|| base.unwrap_or(0) + 1)
    }
}

/// The least index that the next archived state must stand at, if one is due.
pub(crate) async fn due(
    connection: &mut PgConnection,
    partition: PartitionId,
    policy: BasePolicy,
) -> Result<Option<u64>, sqlx::Error> {
    let extent: Option<Extent> = sqlx::query_as(
        "SELECT a.first_index, a.entry_bytes, a.blocks, s.log_index AS base_index,
                s.entry_bytes AS base_entry_bytes, s.blocks AS base_blocks
         FROM log_archive a
         LEFT JOIN LATERAL (SELECT * FROM log_snapshots s WHERE s.partition = a.partition
                            ORDER BY s.log_index DESC LIMIT 1) s ON true
         WHERE a.partition = $1",
    )
    .bind(sql_partition(partition))
    .fetch_optional(connection)
    .await?;
    Ok(extent.and_then(|extent| extent.due(policy)))
}

/// Removes chunks of states that were not finished.
pub(crate) async fn clear_unfinished(
    connection: &mut PgConnection,
    partition: PartitionId,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM log_snapshot_chunks c WHERE c.partition = $1 AND NOT EXISTS (
             SELECT FROM log_snapshots s
             WHERE s.partition = c.partition AND s.log_index = c.log_index)",
    )
    .bind(sql_partition(partition))
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes one chunk of a state.
pub(crate) async fn write_chunk(
    connection: &mut PgConnection,
    partition: PartitionId,
    index: u64,
    number: u32,
    bytes: &[u8],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO log_snapshot_chunks (partition, log_index, number, bytes)
         VALUES ($1, $2, $3, $4)",
    )
    .bind(sql_partition(partition))
    .bind(sql_index(index))
    .bind(i32::try_from(number).unwrap_or(i32::MAX))
    .bind(bytes)
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes a state count whose chunks are all there. `false` when the partition has another owner by now.
pub(crate) async fn finish(
    connection: &mut PgConnection,
    owner: Owner,
    summary: SnapshotSummary,
    chunks: u32,
) -> Result<bool, sqlx::Error> {
    let finished = sqlx::query(
        "INSERT INTO log_snapshots (partition, log_index, grid_id, at, state_hash, bytes, chunks,
                                    entry_bytes, blocks)
         SELECT $1, $2, $3, 'epoch'::timestamptz + $4::bigint * interval '1 millisecond', $5,
                (SELECT coalesce(sum(octet_length(k.bytes)), 0) FROM log_snapshot_chunks k
                 WHERE k.partition = $1 AND k.log_index = $2),
                $6, a.entry_bytes, a.blocks
         FROM pump_checkpoint c JOIN log_archive a USING (partition)
         WHERE c.partition = $1 AND c.grid_id = $3 AND c.epoch = $7
               AND (SELECT count(*) FROM log_snapshot_chunks k
                    WHERE k.partition = $1 AND k.log_index = $2) = $6
         ON CONFLICT DO NOTHING",
    )
    .bind(sql_partition(owner.partition))
    .bind(sql_index(summary.index))
    .bind(owner.grid_id)
    .bind(sql_index(summary.at.as_millis()))
    .bind(summary.state_hash.0.to_vec())
    .bind(i32::try_from(chunks).unwrap_or(i32::MAX))
    .bind(owner.epoch)
    .execute(connection)
    .await?;
    Ok(finished.rows_affected() == 1)
}

/// Deletes some of what is not needed to reach any moment from `keep_from` on: entries and states before
/// the newest state that is older. Returns how many rows went; as long as there are some, call again.
pub(crate) async fn prune(
    connection: &mut PgConnection,
    partition: PartitionId,
    keep_from: Timestamp,
) -> Result<u64, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let base: Option<i64> = sqlx::query_scalar(
        "SELECT max(log_index) FROM log_snapshots
         WHERE partition = $1 AND at <= 'epoch'::timestamptz + $2::bigint * interval '1 millisecond'",
    )
    .bind(sql_partition(partition))
    .bind(sql_index(keep_from.as_millis()))
    .fetch_one(&mut *transaction)
    .await?;
    let Some(base) = base else {
        transaction.rollback().await?;
        return Ok(0);
    };
    let mut pruned = 0;
    for statement in [
        "DELETE FROM log_entries WHERE partition = $1 AND last_index IN (
             SELECT last_index FROM log_entries WHERE partition = $1 AND last_index <= $2
             ORDER BY last_index LIMIT $3)",
        "DELETE FROM log_snapshot_chunks WHERE partition = $1 AND (log_index, number) IN (
             SELECT log_index, number FROM log_snapshot_chunks WHERE partition = $1 AND log_index < $2
             ORDER BY log_index, number LIMIT $3)",
        "DELETE FROM log_snapshots s WHERE s.partition = $1 AND s.log_index IN (
             SELECT log_index FROM log_snapshots WHERE partition = $1 AND log_index < $2
             ORDER BY log_index LIMIT $3)",
    ] {
        let deleted = sqlx::query(statement)
            .bind(sql_partition(partition))
            .bind(base)
            .bind(PRUNED_ROWS_MAX)
            .execute(&mut *transaction)
            .await?;
        pruned += deleted.rows_affected();
    }
    sqlx::query(
        "UPDATE log_archive SET first_index = $2 + 1
         WHERE partition = $1 AND first_index <= $2 AND last_index >= $2",
    )
    .bind(sql_partition(partition))
    .bind(base)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(pruned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_due_after_a_gap_and_after_much_log() {
        let policy = BasePolicy {
            entry_bytes_max: 1_000,
            blocks_max: 10,
        };
        let extent = |first_index, entry_bytes, blocks| Extent {
            first_index,
            entry_bytes,
            blocks,
            ..Extent::default()
        };
        let with_base = |extent: Extent, index, entry_bytes, blocks| Extent {
            base_index: Some(index),
            base_entry_bytes: Some(entry_bytes),
            base_blocks: Some(blocks),
            ..extent
        };
        assert_eq!(extent(None, 5_000, 50).due(policy), None);
        assert_eq!(extent(Some(0), 999, 9).due(policy), None);
        assert_eq!(extent(Some(0), 1_000, 1).due(policy), Some(1));
        assert_eq!(extent(Some(1), 10, 10).due(policy), Some(1));
        assert_eq!(extent(Some(41), 10, 1).due(policy), Some(40));
        let reached = with_base(extent(Some(41), 1_500, 15), 40, 501, 6);
        assert_eq!(reached.due(policy), None);
        let long = with_base(extent(Some(41), 1_501, 15), 40, 501, 6);
        assert_eq!(long.due(policy), Some(41));
        let before_a_gap = with_base(extent(Some(41), 10, 1), 39, 0, 0);
        assert_eq!(before_a_gap.due(policy), Some(40));
    }
}
