//! The audit trail as the writer keeps it: a block for every transaction, in the statement that moves the
//! checkpoint.
//!
//! The head of the chain lies in the checkpoint's row and is compared with it, so a database that was
//! restored from a backup goes on from its own head, and two pumps never make two blocks of one number.

use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::QueryScalar;
use uuid::Uuid;

use super::rows::ChangeRow;
use crate::audit::block::{Block, Head};
use crate::audit::{Fact, Hash};

/// Where a partition's chain stands, as its pump left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trail {
    /// The index up to which changes have no blocks.
    pub(crate) base_index: i64,
    pub(crate) head: Head,
}

/// The same as it lies in the checkpoint's row.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct StoredTrail {
    audit_base: i64,
    audit_blocks: i64,
    audit_leaves: i64,
    audit_chain: Option<Vec<u8>>,
}

/// What a transaction adds: nothing, or a block and the head after it.
pub(super) struct Link(Option<(Block, Head)>);

impl Trail {
    /// What the row says; before the first block it says nothing.
    pub(super) fn open(grid_id: Uuid, partition: i32, stored: &StoredTrail) -> Self {
        let genesis = Head::genesis(grid_id, partition, stored.audit_base);
        let chain = stored.audit_chain.as_deref();
        let chain = chain.and_then(|bytes| Hash::try_from(bytes).ok());
        Self {
            base_index: stored.audit_base,
            head: chain.map_or(genesis, |chain| Head {
                blocks: stored.audit_blocks,
                leaves: stored.audit_leaves,
                chain,
            }),
        }
    }

    /// The block of a transaction's changes.
    pub(super) fn next(&self, partition: i32, changes: &[ChangeRow]) -> Link {
        let facts = changes.iter().map(|row| Fact {
            partition,
            log_index: row.log_index,
            seq: row.seq,
            at_ms: row.at,
            kind: row.kind,
            entity: row.entity,
            payload: &row.payload,
        });
        let block = Block::of(&self.head, partition, facts);
        Link(block.map(|block| {
            let head = self.head.after(&block);
            (block, head)
        }))
    }

    /// Goes on after a link that is committed.
    pub(super) fn follow(&mut self, link: &Link) {
        if let Some((_, head)) = &link.0 {
            self.head = *head;
        }
    }
}

impl Link {
    /// The fence, with a block or without: one statement either way. It returns how many changes are
    /// parked, or nothing where the row is not as it was left.
    pub(super) fn fence_statement(&self) -> &'static str {
        match self.0 {
            None => {
                "UPDATE pump_checkpoint SET applied_index = $1, updated_at = now()
                 WHERE partition = $2 AND grid_id = $3 AND epoch = $4 AND applied_index = $5
                       AND paused_at IS NULL
                 RETURNING parked"
            }
            Some(_) => {
                "WITH moved AS (
                     UPDATE pump_checkpoint
                     SET applied_index = $1, updated_at = now(), audit_blocks = $6, audit_leaves = $7,
                         audit_chain = $8
                     WHERE partition = $2 AND grid_id = $3 AND epoch = $4 AND applied_index = $5
                           AND paused_at IS NULL AND audit_blocks = $9
                           AND (audit_chain IS NULL OR audit_chain = $10)
                     RETURNING partition, parked),
                 added AS (
                     INSERT INTO audit_block (partition, number, first_leaf, first_index, last_index,
                                              entries, leaves, chain)
                     SELECT partition, $6, $11, $12, $13, $14, $15, $8 FROM moved)
                 SELECT parked FROM moved"
            }
        }
    }

    /// Binds what follows the fence's own parameters.
    pub(super) fn bind<'q>(
        &'q self,
        query: QueryScalar<'q, Postgres, i64, PgArguments>,
        before: &'q Trail,
    ) -> QueryScalar<'q, Postgres, i64, PgArguments> {
        let Some((block, head)) = &self.0 else {
            return query;
        };
        query
            .bind(head.blocks)
            .bind(head.leaves)
            .bind(head.chain.as_slice())
            .bind(before.head.blocks)
            .bind(before.head.chain.as_slice())
            .bind(block.first_leaf)
            .bind(block.first_index)
            .bind(block.last_index)
            .bind(block.entries.as_slice())
            .bind(block.leaves.as_slice())
    }
}
