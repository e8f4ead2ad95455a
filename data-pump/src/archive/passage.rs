//! What a lane's transaction archives: the entries that its checkpoint passes.
//!
//! They are read from the node's own log, which has them: the log is kept back to the replay base, and the
//! pump is behind that only when the database was taken back. Then the entries stay out, the archive has a
//! gap, and the keeper sees to a state after it.

use grid::{GridClient, LoggedEntry};
use grid_core::{Entry, PartitionId, StateHash, Timestamp};
use processing_unit::Unit;
use sqlx::PgConnection;

use super::block::{self, BLOCK_ENTRIES_MAX, BLOCK_ENTRY_BYTES, Range};
use super::{sql_index, sql_partition};

/// The entries that one transaction passes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passage<'a> {
    /// Whose log; `None` to archive nothing.
    client: Option<&'a GridClient<Unit>>,
    /// A hash known from the feed, and the index after which it is that.
    hash: Option<(u64, StateHash)>,
}

/// Blocks of one partition in the order of its log, each a statement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Writing {
    pub(super) partition: PartitionId,
    /// Partitions of the grid.
    pub(super) partitions: u32,
    /// How far the grid is.
    pub(super) known_index: u64,
}

impl<'a> Passage<'a> {
    /// A transaction that archives nothing.
    pub(crate) const NONE: Passage<'static> = Passage {
        client: None,
        hash: None,
    };

    /// What the checkpoint passes is read from this client's node.
    pub(crate) fn new(client: &'a GridClient<Unit>, hash: Option<(u64, StateHash)>) -> Self {
        Self {
            client: Some(client),
            hash,
        }
    }

    /// Archives the entries after `after_index` up to `upto_index`. To be called in the transaction that
    /// moves the checkpoint from one to the other. Returns the bytes written.
    pub(crate) async fn archive(
        &self,
        connection: &mut PgConnection,
        partition: PartitionId,
        after_index: u64,
        upto_index: u64,
    ) -> Result<u64, sqlx::Error> {
        let Some(client) = self.client else {
            return Ok(0);
        };
        let writing = Writing {
            partition,
            partitions: client.layout().partitions(),
            known_index: client
                .applied_index(partition)
                .unwrap_or(upto_index)
                .max(upto_index),
        };
        // A log's first index is 0, which is also the place of a database that has nothing.
        let mut first = if after_index == 0 { 0 } else { after_index + 1 };
        let mut written = 0;
        while first <= upto_index {
            let last = upto_index.min(first + BLOCK_ENTRIES_MAX - 1);
            let read = client.read_log(partition, first, last, BLOCK_ENTRY_BYTES);
            let entries = match read.await {
                Ok(entries) if !entries.is_empty() => entries,
                Ok(_) => return writing.skip(connection, first).await.map(|()| written),
                Err(error) => {
                    tracing::warn!(
                        %partition, %error, first, upto_index,
                        "entries are not archived; a state after them will be"
                    );
                    writing.skip(connection, first).await?;
                    return Ok(written);
                }
            };
            first = entries.last().map_or(upto_index, |entry| entry.index) + 1;
            let hash = client
                .state_hash_at(partition, first - 1)
                .map(|hash| (first - 1, hash))
                .or(self.hash);
            written += writing.block(connection, &entries, hash).await?;
        }
        Ok(written)
    }
}

/// The first and the last time stamp among entries.
fn stamps(entries: &[LoggedEntry]) -> (Option<i64>, Option<i64>) {
    let stamp = |entry: &LoggedEntry| {
        let stamp: Timestamp = Entry::stamp(entry.payload.as_ref()?).ok()?;
        i64::try_from(stamp.as_millis()).ok()
    };
    let first = entries.iter().find_map(stamp);
    (first, entries.iter().rev().find_map(stamp))
}

impl Writing {
    /// Writes consecutive entries as a block. A hash of another index than theirs is left out.
    pub(super) async fn block(
        self,
        connection: &mut PgConnection,
        entries: &[LoggedEntry],
        hash: Option<(u64, StateHash)>,
    ) -> Result<u64, sqlx::Error> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Ok(0);
        };
        let range = Range {
            partition: self.partition.0,
            first_index: first.index,
            last_index: last.index,
        };
        let Some(block) = block::encode(range, entries) else {
            self.skip(connection, first.index).await?;
            return Ok(0);
        };
        let entry_bytes: usize = entries.iter().map(block::bytes_of).sum();
        let (first_at, last_at) = stamps(entries);
        let hash = hash.filter(|(index, _)| (first.index..=last.index).contains(index));
        let bytes = block.len() as u64;
        // What is there already came from the same log, before the checkpoint was moved back by hand.
        sqlx::query(
            "WITH block AS (
                 INSERT INTO log_entries (partition, first_index, last_index, first_at, last_at,
                                          hash_index, state_hash, entries)
                 VALUES ($1, $2, $3,
                         'epoch'::timestamptz + $4::bigint * interval '1 millisecond',
                         'epoch'::timestamptz + $5::bigint * interval '1 millisecond', $6, $7, $8)
                 ON CONFLICT DO NOTHING)
             INSERT INTO log_archive AS a (partition, partitions, first_index, last_index, blocks,
                                           entry_bytes, block_bytes, known_index)
             VALUES ($1, $9, $2, $3, 1, $10, $11, $12)
             ON CONFLICT (partition) DO UPDATE SET
                 partitions = EXCLUDED.partitions,
                 first_index = CASE
                     WHEN EXCLUDED.first_index BETWEEN a.first_index AND a.last_index + 1
                     THEN a.first_index ELSE EXCLUDED.first_index END,
                 last_index = EXCLUDED.last_index,
                 blocks = a.blocks + 1,
                 entry_bytes = a.entry_bytes + EXCLUDED.entry_bytes,
                 block_bytes = a.block_bytes + EXCLUDED.block_bytes,
                 known_index = EXCLUDED.known_index,
                 drained_index = NULL,
                 updated_at = now()",
        )
        .bind(sql_partition(self.partition))
        .bind(sql_index(first.index))
        .bind(sql_index(last.index))
        .bind(first_at)
        .bind(last_at)
        .bind(hash.map(|(index, _)| sql_index(index)))
        .bind(hash.map(|(_, hash)| hash.0.to_vec()))
        .bind(block)
        .bind(i32::try_from(self.partitions).unwrap_or(i32::MAX))
        .bind(sql_index(entry_bytes as u64))
        .bind(sql_index(bytes))
        .bind(sql_index(self.known_index))
        .execute(connection)
        .await?;
        Ok(bytes)
    }

    /// Notes that the entries from `first_index` on are not archived.
    async fn skip(
        self,
        connection: &mut PgConnection,
        first_index: u64,
    ) -> Result<(), sqlx::Error> {
        let label = self.partition.to_string();
        metrics::counter!("pump_archive_gaps_total", "partition" => label).increment(1);
        tracing::debug!(partition = %self.partition, first_index, "the archive has a gap");
        sqlx::query(
            "INSERT INTO log_archive AS a (partition, partitions, known_index) VALUES ($1, $2, $3)
             ON CONFLICT (partition) DO UPDATE SET
                 partitions = EXCLUDED.partitions, first_index = NULL, last_index = NULL,
                 known_index = EXCLUDED.known_index, drained_index = NULL, updated_at = now()",
        )
        .bind(sql_partition(self.partition))
        .bind(i32::try_from(self.partitions).unwrap_or(i32::MAX))
        .bind(sql_index(self.known_index))
        .execute(connection)
        .await?;
        Ok(())
    }
}
