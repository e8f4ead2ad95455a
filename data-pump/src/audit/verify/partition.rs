//! One partition from its anchor to its end: blocks, the rows they list, the roots over them.
//!
//! Everything is read in one snapshot of the database, a page of blocks at a time.

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::finding::{Fault, Findings};
use super::naming::name_missing;
use super::roots::Roots;
use super::rows::{Comparison, Place};
use super::{PartitionReport, RootName, VerifyOptions};
use crate::audit::block::Head;
use crate::audit::cut::{Cut, read_cut};
use crate::audit::hash::{Hash, to_hex};
use crate::audit::key::AuditPublicKey;
use crate::audit::statement::SignedRoot;
use crate::audit::tables::{StoredBlock, blocks_after, newest_root, root_at};

/// One statement may take this long; a page of blocks is a few thousand rows.
const SESSION: &str = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; \
     SET LOCAL statement_timeout = '600s'; SET LOCAL jit = off; SET LOCAL enable_seqscan = off";

#[derive(Debug, sqlx::FromRow)]
struct Checkpoint {
    grid_id: Uuid,
    applied_index: i64,
    audit_base: i64,
    audit_blocks: i64,
    audit_chain: Option<Vec<u8>>,
}

/// Verifies a partition; `progress` is told of facts as they are looked at.
pub(super) async fn verify_partition(
    connection: &mut PgConnection,
    partition: i32,
    keys: &[AuditPublicKey],
    options: &VerifyOptions,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<PartitionReport, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql(SESSION).execute(&mut *transaction).await?;
    let mut walk = Walk::start(&mut transaction, partition, keys, options).await?;
    loop {
        let page = blocks_after(&mut transaction, partition, walk.head.blocks).await?;
        if page.is_empty() {
            break;
        }
        for block in page {
            let rows = block.block.rows();
            walk.block(&mut transaction, block).await?;
            progress(u64::try_from(rows).unwrap_or(0));
        }
        walk.rows(&mut transaction).await?;
    }
    let report = walk.finish(&mut transaction).await?;
    transaction.rollback().await?;
    Ok(report)
}

/// What was dropped for its age, if that is said by somebody to be trusted, and the root that stayed.
async fn cut_of(
    connection: &mut PgConnection,
    partition: i32,
    keys: &[AuditPublicKey],
    findings: &mut Findings,
) -> Result<Option<(Cut, Option<SignedRoot>)>, sqlx::Error> {
    let Some(cut) = read_cut(connection, partition).await? else {
        return Ok(None);
    };
    let has_roots = newest_root(connection, partition).await?.is_some();
    // A grid without a key has no roots, and its cuts are its word only.
    let is_right = match has_roots {
        true => cut.is_signed_by(keys),
        false => cut.root_number == 0,
    };
    if !is_right {
        let detail =
            "the record of what was dropped for its age is not signed by a key to be trusted";
        findings.general(Fault::CutAltered, i64::MIN, detail.to_owned());
        return Ok(None);
    }
    if cut.root_number == 0 {
        return Ok(Some((cut, None)));
    }
    let root = root_at(connection, partition, cut.root_number).await?;
    let root = root.filter(|root| root.is_signed() && keys.contains(&root.public_key));
    if root.is_none() {
        let detail = format!(
            "root {}, from which on there are blocks, is gone or edited",
            cut.root_number
        );
        findings.general(Fault::RootMissing, i64::MIN, detail);
    }
    Ok(Some((cut, root)))
}

struct Walk<'a> {
    partition: i32,
    checkpoint: Option<Checkpoint>,
    /// Where the chain must be; its link is known unless blocks are missing before.
    head: Head,
    is_chained: bool,
    from_index: i64,
    last_index: i64,
    /// Rows up to here are compared,
    compared_index: i64,
    /// and these come next.
    expected: Vec<(Place, Hash)>,
    dropped_index: i64,
    earlier_facts: i64,
    blocks: u64,
    comparison: Comparison,
    roots: Roots<'a>,
    findings: Findings,
}

impl<'a> Walk<'a> {
    async fn start(
        connection: &mut PgConnection,
        partition: i32,
        keys: &'a [AuditPublicKey],
        options: &'a VerifyOptions,
    ) -> Result<Self, sqlx::Error> {
        let mut findings = Findings::default();
        let checkpoint: Option<Checkpoint> = sqlx::query_as(
            "SELECT grid_id, applied_index, audit_base, audit_blocks, audit_chain
             FROM pump_checkpoint WHERE partition = $1",
        )
        .bind(partition)
        .fetch_optional(&mut *connection)
        .await?;
        if checkpoint.is_none() {
            let detail = "the partition's row in pump_checkpoint is gone".to_owned();
            findings.general(Fault::Truncated, i64::MIN, detail);
        }
        let grid_id = checkpoint.as_ref().map(|row| row.grid_id);
        let base_index = checkpoint.as_ref().map_or(0, |row| row.audit_base);
        let mut head = Head::genesis(grid_id.unwrap_or_default(), partition, base_index);
        let cut = cut_of(connection, partition, keys, &mut findings).await?;
        let dropped_index = cut.as_ref().map_or(0, |(cut, _)| cut.last_index);
        let anchor = cut.and_then(|(_, root)| root).map(|root| root.statement);
        if let Some(anchor) = &anchor {
            head = Head {
                blocks: anchor.last_block,
                leaves: anchor.first_leaf.saturating_add(anchor.leaves),
                chain: anchor.chain,
            };
        }
        let last_index = anchor.as_ref().map_or(base_index, |root| root.last_index);
        let earlier_facts = match base_index {
            0 => 0,
            _ => {
                sqlx::query_scalar(
                    "SELECT count(*) FROM changes WHERE partition = $1 AND log_index <= $2",
                )
                .bind(partition)
                .bind(base_index)
                .fetch_one(&mut *connection)
                .await?
            }
        };
        let has_parked: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM dead_letter WHERE partition = $1)
                 OR EXISTS (SELECT FROM dead_letter_dropped WHERE partition = $1)",
        )
        .bind(partition)
        .fetch_one(&mut *connection)
        .await?;
        Ok(Self {
            partition,
            is_chained: checkpoint.is_some() || anchor.is_some(),
            checkpoint,
            head,
            from_index: last_index.max(dropped_index),
            last_index,
            compared_index: last_index,
            expected: Vec::new(),
            dropped_index,
            earlier_facts,
            blocks: 0,
            comparison: Comparison::new(partition, dropped_index, has_parked),
            roots: Roots::new(grid_id, partition, keys, options, anchor.as_ref()),
            findings,
        })
    }

    async fn block(
        &mut self,
        connection: &mut PgConnection,
        stored: StoredBlock,
    ) -> Result<(), sqlx::Error> {
        let block = stored.block;
        self.blocks += 1;
        let number = block.number;
        let order = block.first_index;
        let is_later = block.first_index > self.last_index;
        if !is_later || number != self.head.blocks.saturating_add(1) {
            self.rows(connection).await?;
        }
        if number != self.head.blocks.saturating_add(1) {
            self.gap(number, block.first_index);
            self.compared_index = self.last_index.max(block.first_index.saturating_sub(1));
        }
        let places = block.places();
        if places.is_none() || !is_later {
            let detail = format!(
                "block {number} does not say which rows it lists, or lists rows of a block before"
            );
            self.findings.general(Fault::BlockAltered, order, detail);
        }
        let places = places.filter(|_| is_later).unwrap_or_default();
        self.expected.extend(places.into_iter().zip(block.hashes()));
        self.last_index = block.last_index.max(self.last_index);
        let is_next = block.first_leaf == self.head.leaves;
        let link = block.link(&self.head.chain);
        if self.is_chained && (link != stored.chain.as_slice() || !is_next) {
            let detail = format!("block {number} is not as it was written: the chain breaks there");
            self.findings.general(Fault::BlockAltered, order, detail);
        }
        // What the block says of itself is gone on from, so that one edit is one finding.
        let known = stored.chain.as_slice().try_into().ok();
        self.head = Head {
            blocks: number,
            leaves: block.first_leaf.saturating_add(block.rows()),
            chain: known.unwrap_or(link),
        };
        self.is_chained = known.is_some();
        let head = self.is_chained.then_some(self.head);
        let place = (number, self.last_index);
        let hashes = block.hashes();
        self.roots
            .block(connection, place, hashes, head.as_ref(), &mut self.findings)
            .await
    }

    /// Compares the rows that the blocks read so far list, all at once.
    async fn rows(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let expected = std::mem::take(&mut self.expected);
        let range = (self.compared_index, self.last_index);
        self.compared_index = self.last_index;
        self.comparison
            .compare(connection, range, &expected, &mut self.findings)
            .await
    }

    /// Blocks are not there.
    fn gap(&mut self, found: i64, first_index: i64) {
        let (first, last) = (self.head.blocks.saturating_add(1), found.saturating_sub(1));
        let detail = format!(
            "blocks {first} to {last} are gone, of log indexes above {} and below {first_index}",
            self.last_index
        );
        self.findings.general(
            Fault::BlockMissing,
            self.last_index.saturating_add(1),
            detail,
        );
        self.roots.gap();
        self.is_chained = false;
        self.head.leaves = i64::MIN;
    }

    /// What is behind the last block, and what says that there was more.
    async fn finish(
        mut self,
        connection: &mut PgConnection,
    ) -> Result<PartitionReport, sqlx::Error> {
        self.comparison
            .compare(
                connection,
                (self.last_index, i64::MAX),
                &[],
                &mut self.findings,
            )
            .await?;
        if let Some(checkpoint) = &self.checkpoint {
            let blocks = self.head.blocks;
            let is_at_end = match &checkpoint.audit_chain {
                Some(chain) => self.head.chain == chain.as_slice(),
                None => blocks == 0,
            };
            let detail = if checkpoint.audit_blocks > blocks {
                let last = checkpoint.audit_blocks;
                Some(format!(
                    "the checkpoint counts {last} blocks, and {blocks} are there"
                ))
            } else if checkpoint.audit_blocks < blocks || !is_at_end {
                Some("the checkpoint does not stand at the last block".to_owned())
            } else if checkpoint.applied_index < self.last_index {
                Some("the checkpoint stands before the last block's facts".to_owned())
            } else {
                None
            };
            if let Some(detail) = detail {
                self.findings.general(Fault::Truncated, i64::MAX, detail);
            }
        }
        self.roots
            .finish(connection, self.head.blocks, &mut self.findings)
            .await?;
        let compared = self.comparison.finish(&mut self.findings);
        let findings_in_all = self.findings.in_all;
        let mut findings = self.findings.sorted();
        name_missing(connection, self.partition, &mut findings).await?;
        let unsigned = self.head.leaves.saturating_sub(self.roots.signed_leaves);
        Ok(PartitionReport {
            partition: self.partition,
            from_index: self.from_index,
            to_index: self.last_index,
            facts: compared.facts,
            parked_facts: compared.parked,
            dropped_index: self.dropped_index,
            expired_facts: compared.expired,
            met_hashes: self.roots.met_hashes,
            earlier_facts: u64::try_from(self.earlier_facts).unwrap_or(0),
            unsigned_facts: u64::try_from(unsigned).unwrap_or(0),
            blocks: self.blocks,
            roots: self.roots.met,
            newest_root: self.roots.newest.as_ref().map(|root| RootName {
                number: root.number,
                hash: to_hex(&root.hash()),
                signed_at_ms: root.signed_at_ms,
            }),
            findings_in_all,
            findings,
        })
    }
}
