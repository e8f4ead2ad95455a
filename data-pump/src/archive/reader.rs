//! Reads the archive: how far it reaches, archived states, and the blocks after them.
//!
//! A reader needs no grid, and writes nothing. It works beside running pumps.

use std::io::{self, Read};
use std::str::FromStr;

use grid::LoggedEntry;
use grid::backup::read_snapshot;
use grid_core::{PartitionId, PartitionState, StateHash, Timestamp};
use processing_unit::Unit;
use serde::Serialize;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use uuid::Uuid;

use super::block::{self, Range};
use super::rebuild::Target;
use super::{ArchiveError, index_of, sql_index, sql_partition};

/// The blocks of one page, at most; of blocks as large as they get there are fewer.
const PAGE_BLOCKS_MAX: i64 = 4_096;
/// A page ends with the block that brings it to so many bytes.
const PAGE_BYTES: i64 = 8 << 20;
/// A chunk of a state is decompressed to at most this much; more is damage.
const CHUNK_BYTES_MAX: usize = 4 << 20;

/// A connection to a database with an archive.
#[derive(Debug)]
pub struct ArchiveReader {
    pub(super) connection: PgConnection,
}

/// Whose log it is, and how far each partition's reaches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ArchiveReach {
    /// The grid that writes, or wrote, to the database.
    pub grid_id: Uuid,
    /// Its partitions, each with an entry in `reach` once its pump has written.
    pub partitions: u32,
    /// By partition.
    pub reach: Vec<PartitionReach>,
}

/// One partition's archive. Times in milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionReach {
    /// The partition.
    pub partition: PartitionId,
    /// Everything up to this log index is in the tables.
    pub applied_index: u64,
    /// The unbroken run of archived entries that ends at the newest; `None` after a gap or before the
    /// first.
    pub first_index: Option<u64>,
    /// See `first_index`.
    pub last_index: Option<u64>,
    /// How far the grid itself was when its pump last wrote.
    pub known_index: u64,
    /// Whether the grid was stopped in good order with everything written, and has not run since.
    pub is_drained: bool,
    /// Whether somebody has paused the partition's pump.
    pub is_paused: bool,
    /// When the pump last wrote.
    pub updated_at_ms: i64,
    /// Archived states.
    pub bases: u64,
    /// The newest of them.
    pub newest_base_index: Option<u64>,
    /// The earliest moment that can be reached; `None` where none can.
    pub earliest_ms: Option<i64>,
    /// What the entries in the archive take up, ever written, compressed.
    pub block_bytes: u64,
}

/// Whether a partition can be made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionReadiness {
    /// Up to everything that the tables hold, and the grid had nothing more.
    Complete,
    /// Up to everything that the tables hold; the grid may have had more, of which its pump knew this
    /// many entries.
    Behind {
        /// Entries that the pump knew of and had not written.
        known_entries: u64,
    },
    /// Not up to what the tables hold: entries are missing, and no state after them is archived yet.
    Broken,
}

impl PartitionReach {
    /// Whether, and how completely, the partition can be made anew.
    #[must_use]
    pub fn readiness(&self) -> PartitionReadiness {
        let reaches = self.last_index == Some(self.applied_index)
            && self.first_index.is_some_and(|first| {
                let begins = |base: u64| base + 1 >= first && base <= self.applied_index;
                first <= 1 || self.newest_base_index.is_some_and(begins)
            });
        if !reaches && self.newest_base_index != Some(self.applied_index) {
            return PartitionReadiness::Broken;
        }
        if self.is_drained {
            return PartitionReadiness::Complete;
        }
        PartitionReadiness::Behind {
            known_entries: self.known_index.saturating_sub(self.applied_index),
        }
    }
}

/// A state that a restore can begin from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ArchivedBase {
    /// The last entry in it.
    pub index: u64,
    /// The grid in which it was taken.
    pub grid_id: Uuid,
    /// That entry's time, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The running state hash after it.
    #[serde(skip)]
    pub state_hash: StateHash,
}

/// Consecutive entries as they stood in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedBlock {
    /// The partition.
    pub partition: PartitionId,
    /// Its first entry.
    pub first_index: u64,
    /// Its last.
    pub last_index: u64,
    /// The running state hash after one of its entries, by index, where it is known.
    pub state_hash: Option<(u64, StateHash)>,
    bytes: Vec<u8>,
}

impl ArchivedBlock {
    /// The entries: decompresses and checks them, which takes a moment of the processor.
    ///
    /// # Errors
    /// [`ArchiveError::Block`].
    pub fn entries(&self) -> Result<Vec<LoggedEntry>, ArchiveError> {
        let range = Range {
            partition: self.partition.0,
            first_index: self.first_index,
            last_index: self.last_index,
        };
        block::decode(range, &self.bytes).map_err(|source| ArchiveError::Block {
            partition: self.partition,
            first_index: self.first_index,
            last_index: self.last_index,
            source,
        })
    }

    /// Bytes in the database.
    #[must_use]
    pub fn stored_bytes(&self) -> usize {
        self.bytes.len()
    }
}

fn hash_of(bytes: &[u8]) -> Option<StateHash> {
    bytes.try_into().ok().map(StateHash)
}

#[derive(sqlx::FromRow)]
struct ReachRow {
    partition: i32,
    grid_id: Uuid,
    applied_index: i64,
    is_paused: bool,
    partitions: Option<i32>,
    first_index: Option<i64>,
    last_index: Option<i64>,
    known_index: Option<i64>,
    is_drained: bool,
    updated_at_ms: i64,
    block_bytes: Option<i64>,
    bases: i64,
    newest_base_index: Option<i64>,
    earliest_base_ms: Option<i64>,
    beginning_ms: Option<i64>,
}

impl From<ReachRow> for PartitionReach {
    fn from(row: ReachRow) -> Self {
        let applied_index = index_of(row.applied_index);
        Self {
            partition: PartitionId(u32::try_from(row.partition).unwrap_or(u32::MAX)),
            applied_index,
            first_index: row.first_index.map(index_of),
            last_index: row.last_index.map(index_of),
            known_index: row.known_index.map_or(applied_index, index_of),
            is_drained: row.is_drained,
            is_paused: row.is_paused,
            updated_at_ms: row.updated_at_ms,
            bases: index_of(row.bases),
            newest_base_index: row.newest_base_index.map(index_of),
            earliest_ms: row.beginning_ms.or(row.earliest_base_ms),
            block_bytes: row.block_bytes.map_or(0, index_of),
        }
    }
}

const REACH: &str = "
    SELECT c.partition, c.grid_id, c.applied_index, c.paused_at IS NOT NULL AS is_paused,
           a.partitions, a.first_index, a.last_index, a.known_index, a.block_bytes,
           coalesce(a.drained_index = c.applied_index, false) AS is_drained,
           (extract(epoch FROM greatest(c.updated_at, a.updated_at)) * 1000)::bigint AS updated_at_ms,
           (SELECT count(*) FROM log_snapshots s WHERE s.partition = c.partition) AS bases,
           (SELECT max(s.log_index) FROM log_snapshots s
            WHERE s.partition = c.partition AND s.log_index <= c.applied_index) AS newest_base_index,
           (SELECT (extract(epoch FROM min(s.at)) * 1000)::bigint FROM log_snapshots s
            WHERE s.partition = c.partition) AS earliest_base_ms,
           (SELECT (extract(epoch FROM e.first_at) * 1000)::bigint
            FROM (SELECT first_index, first_at FROM log_entries e
                  WHERE e.partition = c.partition ORDER BY last_index LIMIT 1) e
            WHERE e.first_index <= 1) AS beginning_ms
    FROM pump_checkpoint c LEFT JOIN log_archive a USING (partition)
    ORDER BY c.partition";

impl ArchiveReader {
    /// Connects.
    ///
    /// # Errors
    /// [`ArchiveError::Database`], and [`ArchiveError::NoArchive`] where no pump of this build has been.
    pub async fn connect(database_url: &str) -> Result<Self, ArchiveError> {
        let options = PgConnectOptions::from_str(database_url)?
            .application_name("spacegrid-archive")
            .disable_statement_logging();
        let mut connection = PgConnection::connect_with(&options).await?;
        let has_archive: bool = sqlx::query_scalar("SELECT to_regclass('log_archive') IS NOT NULL")
            .fetch_one(&mut connection)
            .await?;
        if !has_archive {
            return Err(ArchiveError::NoArchive);
        }
        Ok(Self { connection })
    }

    /// Lets others at a database that answers one connection at a time.
    pub async fn close(self) {
        if let Err(error) = self.connection.close().await {
            tracing::debug!(%error, "the database had gone already");
        }
    }

    /// How far every partition's archive reaches.
    ///
    /// # Errors
    /// [`ArchiveError::Database`]; [`ArchiveError::NoArchive`] where no pump has written;
    /// [`ArchiveError::TwoGrids`].
    pub async fn reach(&mut self) -> Result<ArchiveReach, ArchiveError> {
        let rows: Vec<ReachRow> = sqlx::query_as(REACH)
            .fetch_all(&mut self.connection)
            .await?;
        let first = rows.first().ok_or(ArchiveError::NoArchive)?;
        let grid_id = first.grid_id;
        if let Some(other) = rows.iter().find(|row| row.grid_id != grid_id) {
            return Err(ArchiveError::TwoGrids(grid_id, other.grid_id));
        }
        let partitions = rows.iter().filter_map(|row| row.partitions).max();
        let partitions = partitions.and_then(|count| u32::try_from(count).ok());
        Ok(ArchiveReach {
            grid_id,
            partitions: partitions.ok_or(ArchiveError::NoArchive)?,
            reach: rows.into_iter().map(PartitionReach::from).collect(),
        })
    }

    /// The newest archived state of a partition at or before a place.
    ///
    /// # Errors
    /// [`ArchiveError::Database`].
    pub async fn base_before(
        &mut self,
        partition: PartitionId,
        target: Target,
    ) -> Result<Option<ArchivedBase>, ArchiveError> {
        let row: Option<(i64, Uuid, i64, Vec<u8>)> = sqlx::query_as(
            "SELECT log_index, grid_id, (extract(epoch FROM at) * 1000)::bigint, state_hash
             FROM log_snapshots
             WHERE partition = $1 AND log_index <= $2
                   AND ($3::bigint IS NULL
                        OR at <= 'epoch'::timestamptz + $3 * interval '1 millisecond')
             ORDER BY log_index DESC LIMIT 1",
        )
        .bind(sql_partition(partition))
        .bind(sql_index(target.upto_index))
        .bind(target.until.map(|until| sql_index(until.as_millis())))
        .fetch_optional(&mut self.connection)
        .await?;
        let Some((index, grid_id, at_ms, hash)) = row else {
            return Ok(None);
        };
        let index = index_of(index);
        let damaged = || ArchiveError::Base {
            partition,
            index,
            what: "its hash has another length".to_owned(),
        };
        Ok(Some(ArchivedBase {
            index,
            grid_id,
            at_ms,
            state_hash: hash_of(&hash).ok_or_else(damaged)?,
        }))
    }

    /// Reads an archived state and checks that it is what it was.
    ///
    /// # Errors
    /// [`ArchiveError::Database`] or [`ArchiveError::Base`].
    pub async fn state(
        &mut self,
        partition: PartitionId,
        base: ArchivedBase,
    ) -> Result<PartitionState<Unit>, ArchiveError> {
        let chunks: Vec<Vec<u8>> = sqlx::query_scalar(
            "SELECT bytes FROM log_snapshot_chunks
             WHERE partition = $1 AND log_index = $2 ORDER BY number",
        )
        .bind(sql_partition(partition))
        .bind(sql_index(base.index))
        .fetch_all(&mut self.connection)
        .await?;
        let reading = tokio::task::spawn_blocking(move || {
            let grid_id = base.grid_id.as_u128();
            let name = format!("state at {}", base.index);
            read_snapshot::<Unit>(Chunks::new(chunks), &name, grid_id, partition)
        });
        let unusable = |what: String| ArchiveError::Base {
            partition,
            index: base.index,
            what,
        };
        let state = reading
            .await
            .map_err(|_| ArchiveError::Ended(partition))?
            .map_err(|error| unusable(error.to_string()))?;
        if (state.applied_index(), state.hash()) != (base.index, base.state_hash) {
            return Err(unusable("it is another state than was archived".to_owned()));
        }
        Ok(state)
    }

    /// The next blocks of a partition that hold entries after an index, in order; none at the end. They
    /// may begin before it, and there may be a gap between it and them: compare.
    ///
    /// # Errors
    /// [`ArchiveError::Database`].
    pub async fn blocks(
        &mut self,
        partition: PartitionId,
        after_index: u64,
    ) -> Result<Vec<ArchivedBlock>, ArchiveError> {
        type Row = (i64, i64, Option<i64>, Option<Vec<u8>>, Vec<u8>);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT first_index, last_index, hash_index, state_hash, entries
             FROM (SELECT *, sum(octet_length(entries)) OVER (ORDER BY last_index)
                             - octet_length(entries) AS bytes_before
                   FROM log_entries WHERE partition = $1 AND last_index > $2
                   ORDER BY last_index LIMIT $3) page
             WHERE bytes_before < $4 ORDER BY last_index",
        )
        .bind(sql_partition(partition))
        .bind(sql_index(after_index))
        .bind(PAGE_BLOCKS_MAX)
        .bind(PAGE_BYTES)
        .fetch_all(&mut self.connection)
        .await?;
        let blocks = rows
            .into_iter()
            .map(|(first, last, hash_index, hash, bytes)| ArchivedBlock {
                partition,
                first_index: index_of(first),
                last_index: index_of(last),
                state_hash: hash_index
                    .zip(hash.as_deref().and_then(hash_of))
                    .map(|(index, hash)| (index_of(index), hash)),
                bytes,
            });
        Ok(blocks.collect())
    }

    /// The state at the newest archived place at or before `target`, or the empty one where the log's
    /// beginning is archived.
    ///
    /// # Errors
    /// [`ArchiveError::TooEarly`] where there is neither, and those of [`Self::state`].
    pub async fn begin(
        &mut self,
        partition: PartitionId,
        target: Target,
    ) -> Result<PartitionState<Unit>, ArchiveError> {
        if let Some(base) = self.base_before(partition, target).await? {
            return self.state(partition, base).await;
        }
        let beginning: Option<i64> = sqlx::query_scalar(
            "SELECT first_index FROM log_entries WHERE partition = $1 ORDER BY last_index LIMIT 1",
        )
        .bind(sql_partition(partition))
        .fetch_optional(&mut self.connection)
        .await?;
        let is_empty = beginning.is_none() && target.upto_index == 0;
        if is_empty || beginning.is_some_and(|first| first <= 1) {
            return Ok(PartitionState::new(partition));
        }
        let earliest: Option<(i64, i64)> = sqlx::query_as(
            "SELECT log_index, (extract(epoch FROM at) * 1000)::bigint FROM log_snapshots
             WHERE partition = $1 ORDER BY log_index LIMIT 1",
        )
        .bind(sql_partition(partition))
        .fetch_optional(&mut self.connection)
        .await?;
        Err(ArchiveError::TooEarly {
            partition,
            wanted: target.to_string(),
            earliest: earliest.map_or("none is archived at all".to_owned(), |(index, at_ms)| {
                let at = Timestamp::from_millis(index_of(at_ms));
                format!("the earliest is at entry {index}, of {at} since the epoch")
            }),
        })
    }
}

/// A state's chunks as one stream of bytes, decompressed one at a time.
struct Chunks {
    left: std::vec::IntoIter<Vec<u8>>,
    present: io::Cursor<Vec<u8>>,
}

impl Chunks {
    fn new(chunks: Vec<Vec<u8>>) -> Self {
        Self {
            left: chunks.into_iter(),
            present: io::Cursor::default(),
        }
    }
}

impl Read for Chunks {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.present.read(out)?;
            if read > 0 || out.is_empty() {
                return Ok(read);
            }
            let Some(chunk) = self.left.next() else {
                return Ok(0);
            };
            self.present = io::Cursor::new(zstd::bulk::decompress(&chunk, CHUNK_BYTES_MAX)?);
        }
    }
}
