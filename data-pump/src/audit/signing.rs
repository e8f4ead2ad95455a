//! Signing: every so often a partition's leader puts a signed root over the facts since the last one.
//!
//! Blocks are read back for it, and their chain must end where the pump's own memory of it ends: what
//! was edited between writing and signing is not signed, and said. Two pumps may sign at the same time,
//! when one leads no more: the first root of a number stays.

use std::time::{SystemTime, UNIX_EPOCH};

use sqlx::PgConnection;
use uuid::Uuid;

use super::block::Head;
use super::key::AuditKey;
use super::merkle::Frontier;
use super::statement::Statement;
use super::tables::{StoredBlock, blocks_after, insert_root, newest_root};

/// Why facts were not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The database is away or refuses. The next interval tries again.
    #[error("{0}")]
    Database(#[from] sqlx::Error),
    /// What would be signed is not what was written. Somebody must look: `grid audit verify`.
    #[error("{0}, so nothing more is signed; see `grid audit verify`")]
    Tampered(String),
}

/// Whose facts, with which key, how many at most under one root.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signing<'a> {
    pub(crate) grid_id: Uuid,
    pub(crate) partition: i32,
    /// The index up to which facts have no blocks.
    pub(crate) base_index: i64,
    pub(crate) key: &'a AuditKey,
    /// Facts under one root; a block is never split.
    pub(crate) leaves_max: i64,
}

impl Signing<'_> {
    /// Signs everything up to `head`, which is where the pump left the chain. Returns how many roots were
    /// written.
    pub(crate) async fn sign(
        &self,
        connection: &mut PgConnection,
        head: &Head,
    ) -> Result<u64, SignError> {
        let mut reached = Head::genesis(self.grid_id, self.partition, self.base_index);
        let (mut number, mut previous) = (0, [0; 32]);
        if let Some((newest, _, root)) = newest_root(connection, self.partition).await? {
            let root = root.filter(|root| {
                // Another key may be an older one of the grid's; its statements were verified by nobody
                // but are what the chain goes on from.
                root.is_signed() && root.statement.grid_id == self.grid_id
            });
            let Some(root) = root else {
                let text = format!("the signature of root {newest} is not right");
                return Err(SignError::Tampered(text));
            };
            number = newest;
            previous = root.statement.hash();
            reached = Head {
                blocks: root.statement.last_block,
                leaves: root.statement.first_leaf + root.statement.leaves,
                chain: root.statement.chain,
            };
        }
        if reached.blocks > head.blocks {
            // Another pump has written and signed since.
            return Ok(0);
        }
        let mut statements = Vec::new();
        let mut tree = Frontier::default();
        let mut from = reached;
        'blocks: while reached.blocks < head.blocks {
            let page = blocks_after(connection, self.partition, reached.blocks).await?;
            if page.is_empty() {
                break;
            }
            for StoredBlock { block, .. } in page {
                if block.number != reached.blocks + 1 {
                    break 'blocks;
                }
                block.hashes().for_each(|leaf| tree.push(leaf));
                reached = reached.after(&block);
                let is_full = tree.leaves() >= self.leaves_max.unsigned_abs();
                if is_full || reached.blocks == head.blocks {
                    number += 1;
                    let statement = Statement {
                        grid_id: self.grid_id,
                        partition: self.partition,
                        number,
                        first_leaf: from.leaves,
                        leaves: reached.leaves - from.leaves,
                        first_block: from.blocks + 1,
                        last_block: reached.blocks,
                        last_index: block.last_index,
                        root: tree.root(),
                        chain: reached.chain,
                        previous,
                        signed_at_ms: now_ms(),
                    };
                    previous = statement.hash();
                    statements.push(statement);
                    tree = Frontier::default();
                    from = reached;
                }
                if reached.blocks == head.blocks {
                    break 'blocks;
                }
            }
        }
        if reached != *head {
            let text = format!(
                "the newest blocks of partition {} are not as they were written",
                self.partition
            );
            return Err(SignError::Tampered(text));
        }
        let signed = statements.len() as u64;
        for statement in statements {
            insert_root(connection, &statement.sign(self.key)).await?;
        }
        Ok(signed)
    }
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
