//! Verifying: SQL alone, every row hashed again, compared with blocks, chain and signed roots.
//!
//! Partitions are verified side by side, a connection each, a few at a time. Memory is a page of blocks
//! a connection; rows are streamed.

mod finding;
mod naming;
mod partition;
mod roots;
mod rows;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;
use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;

pub use finding::{Fault, Finding};

use super::hash::{Hash, to_hex};
use super::key::AuditPublicKey;
use super::statement::SignedRoot;
use super::tables::newest_root;

/// Partitions that are verified at a time.
const WORKERS_MAX: usize = 4;
/// The most partitions of a grid.
const PARTITIONS_MAX: i32 = 256;

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The database is away or refuses. Retry, or read what it says.
    #[error("{0}")]
    Database(#[from] sqlx::Error),
    /// The database has no audit trail: no pump of this build has written to it.
    #[error("the database has no audit trail; a node of this build begins one")]
    NoTrail,
    /// The verifying itself broke off.
    #[error("the verifying broke off: {0}")]
    Stopped(#[from] tokio::task::JoinError),
}

impl AuditError {
    /// Whether the same question may be answered later without anybody's help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Database(_))
    }
}

/// What to verify, and whom to trust.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// This partition only.
    pub partition: Option<u32>,
    /// Keys to be trusted. Without any, those that the database names are, which shows only that it goes
    /// together with itself.
    pub keys: Vec<AuditPublicKey>,
    /// Roots that were kept elsewhere: they must be there, unchanged.
    pub since: Vec<SignedRoot>,
    /// The same, known by their hashes only; of whichever partition.
    pub since_hashes: Vec<Hash>,
}

/// What verifying came to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether nothing was found.
    pub ok: bool,
    /// Whether the keys are only the database's own word.
    pub keys_from_database: bool,
    /// The trusted keys.
    pub keys: Vec<String>,
    /// Hashes of [`VerifyOptions::since_hashes`] that no root has.
    pub roots_not_found: Vec<String>,
    /// By partition.
    pub partitions: Vec<PartitionReport>,
}

/// A root, by what names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(
    missing_docs,
    reason = "plain names; times in milliseconds since the Unix epoch"
)]
pub struct RootName {
    pub number: i64,
    pub hash: String,
    pub signed_at_ms: i64,
}

/// What verifying a partition came to.
#[derive(Clone, Debug, Serialize)]
pub struct PartitionReport {
    /// The partition.
    pub partition: i32,
    /// Facts above this log index are verified.
    pub from_index: i64,
    /// Up to this one.
    pub to_index: i64,
    /// Facts that are as they were written.
    pub facts: u64,
    /// Of those, changes that the database refused and that are parked or were given up.
    pub parked_facts: u64,
    /// Facts up to this log index were dropped for their age; 0 if none were.
    pub dropped_index: i64,
    /// Of those, facts that blocks still list.
    pub expired_facts: u64,
    /// Rows from before there was an audit trail.
    pub earlier_facts: u64,
    /// Facts after the newest signed root.
    pub unsigned_facts: u64,
    /// Blocks read.
    pub blocks: u64,
    /// Signed roots met.
    pub roots: u64,
    /// The newest root that is right.
    pub newest_root: Option<RootName>,
    /// Which of [`VerifyOptions::since_hashes`] are here.
    #[serde(skip)]
    met_hashes: Vec<Hash>,
    /// Findings, also those that are too many to be listed.
    pub findings_in_all: u64,
    /// In the order of the log.
    pub findings: Vec<Finding>,
}

/// Verifies the facts in a database. `progress` is told first how many facts there are in all, as the
/// checkpoints say, and then of facts as they are looked at.
///
/// # Errors
/// See [`AuditError`]. What is wrong with the facts is no error but a finding.
pub async fn verify(
    database_url: &str,
    options: VerifyOptions,
    progress: impl Fn(Progress) + Send + Sync + 'static,
) -> Result<Report, AuditError> {
    let mut connection = PgConnection::connect(database_url).await?;
    let has_trail: bool = sqlx::query_scalar("SELECT to_regclass('audit_block') IS NOT NULL")
        .fetch_one(&mut connection)
        .await?;
    if !has_trail {
        return Err(AuditError::NoTrail);
    }
    let partitions = partitions(&mut connection, options.partition).await?;
    let total: i64 = sqlx::query_scalar(
        "SELECT coalesce(sum(audit_leaves), 0)::bigint FROM pump_checkpoint
         WHERE $1::integer IS NULL OR partition = $1",
    )
    .bind(options.partition.map(crate::pump::partition_number))
    .fetch_one(&mut connection)
    .await?;
    progress(Progress::Total(u64::try_from(total).unwrap_or(0)));
    let keys_from_database = options.keys.is_empty();
    let keys = match keys_from_database {
        true => known_keys(&mut connection).await?,
        false => options.keys.clone(),
    };
    connection.close().await?;

    let shared = Arc::new(Work {
        database_url: database_url.to_owned(),
        next: AtomicUsize::new(0),
        reports: Mutex::new(Vec::with_capacity(partitions.len())),
        partitions,
        keys,
        options,
        progress: Box::new(move |facts| progress(Progress::Facts(facts))),
    });
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS_MAX.min(shared.partitions.len()) {
        let shared = Arc::clone(&shared);
        workers.spawn(async move { shared.run().await });
    }
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    let mut partitions = std::mem::take(&mut *shared.reports());
    partitions.sort_by_key(|report| report.partition);
    let is_met = |hash: &Hash| {
        let mut met = partitions.iter().flat_map(|report| &report.met_hashes);
        met.any(|other| other == hash)
    };
    let roots_not_found: Vec<String> = shared
        .options
        .since_hashes
        .iter()
        .filter(|hash| !is_met(hash))
        .map(|hash| to_hex(hash))
        .collect();
    Ok(Report {
        ok: roots_not_found.is_empty()
            && partitions.iter().all(|report| report.findings_in_all == 0),
        roots_not_found,
        keys_from_database,
        keys: shared.keys.iter().map(ToString::to_string).collect(),
        partitions,
    })
}

/// How far verifying is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many facts are to be looked at.
    Total(u64),
    /// So many more were.
    Facts(u64),
}

/// What the workers share.
struct Work {
    database_url: String,
    partitions: Vec<i32>,
    next: AtomicUsize,
    keys: Vec<AuditPublicKey>,
    options: VerifyOptions,
    reports: Mutex<Vec<PartitionReport>>,
    progress: Box<dyn Fn(u64) + Send + Sync>,
}

impl Work {
    fn reports(&self) -> std::sync::MutexGuard<'_, Vec<PartitionReport>> {
        // A worker that panicked is told by its own end; what others found stays right.
        self.reports
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takes partitions until none is left. A worker at a database that answers one connection at a time
    /// comes in when the one before has done it all.
    async fn run(&self) -> Result<(), AuditError> {
        let mut connection = None;
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(partition) = self.partitions.get(number).copied() else {
                break;
            };
            let open = match connection.take() {
                Some(open) => open,
                None => PgConnection::connect(&self.database_url).await?,
            };
            let open = connection.insert(open);
            let report = partition::verify_partition(
                open,
                partition,
                &self.keys,
                &self.options,
                &*self.progress,
            )
            .await?;
            self.reports().push(report);
        }
        if let Some(connection) = connection {
            connection.close().await?;
        }
        Ok(())
    }
}

/// The partitions that have left anything in the database.
async fn partitions(
    connection: &mut PgConnection,
    only: Option<u32>,
) -> Result<Vec<i32>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT p FROM generate_series(0, $1 - 1) AS p
         WHERE ($2::integer IS NULL OR p = $2)
           AND (EXISTS (SELECT FROM pump_checkpoint t WHERE t.partition = p)
             OR EXISTS (SELECT FROM audit_block t WHERE t.partition = p)
             OR EXISTS (SELECT FROM audit_root t WHERE t.partition = p)
             OR EXISTS (SELECT FROM changes t WHERE t.partition = p))
         ORDER BY p",
    )
    .bind(PARTITIONS_MAX)
    .bind(only.map(crate::pump::partition_number))
    .fetch_all(connection)
    .await
}

async fn known_keys(connection: &mut PgConnection) -> Result<Vec<AuditPublicKey>, sqlx::Error> {
    let keys: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT public_key FROM audit_key ORDER BY first_used_at, public_key")
            .fetch_all(connection)
            .await?;
    let keys = keys
        .iter()
        .filter_map(|key| AuditPublicKey::from_slice(key));
    Ok(keys.collect())
}

/// The newest signed root of every partition that has one.
///
/// # Errors
/// [`AuditError::Database`], [`AuditError::NoTrail`].
pub async fn newest_roots(database_url: &str) -> Result<Vec<SignedRoot>, AuditError> {
    let mut connection = PgConnection::connect(database_url).await?;
    let has_trail: bool = sqlx::query_scalar("SELECT to_regclass('audit_root') IS NOT NULL")
        .fetch_one(&mut connection)
        .await?;
    if !has_trail {
        return Err(AuditError::NoTrail);
    }
    let mut newest = Vec::new();
    for partition in partitions(&mut connection, None).await? {
        if let Some((_, _, Some(root))) = newest_root(&mut connection, partition).await? {
            newest.push(root);
        }
    }
    connection.close().await?;
    Ok(newest)
}
