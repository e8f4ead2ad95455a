//! Signed roots, met one after another while blocks are read.

use std::collections::VecDeque;

use sqlx::PgConnection;
use uuid::Uuid;

use super::VerifyOptions;
use super::finding::{Fault, Findings};
use crate::audit::block::Head;
use crate::audit::hash::{Hash, to_hex};
use crate::audit::key::AuditPublicKey;
use crate::audit::merkle::Frontier;
use crate::audit::statement::{SignedRoot, Statement};
use crate::audit::tables::{StoredRoot, roots_after};

/// The roots of a partition beside its blocks.
#[derive(Debug)]
pub(super) struct Roots<'a> {
    grid_id: Option<Uuid>,
    partition: i32,
    keys: &'a [AuditPublicKey],
    /// Roots kept elsewhere that must be among them, and were not met yet.
    awaited: Vec<&'a SignedRoot>,
    /// The same by their hashes, of all partitions.
    awaited_hashes: &'a [Hash],
    pub(super) met_hashes: Vec<Hash>,
    page: VecDeque<StoredRoot>,
    is_read_through: bool,
    /// The number of the last root read from the database.
    read_number: i64,
    /// The last one met.
    number: i64,
    /// Its hash; unknown after a gap.
    previous: Option<Hash>,
    /// The facts since it; unknown where blocks are missing.
    tree: Option<Frontier>,
    pub(super) met: u64,
    pub(super) newest: Option<Statement>,
    /// Facts under a root that is signed by a trusted key.
    pub(super) signed_leaves: i64,
}

impl<'a> Roots<'a> {
    /// The roots after an anchor, or from the first on.
    pub(super) fn new(
        grid_id: Option<Uuid>,
        partition: i32,
        keys: &'a [AuditPublicKey],
        options: &'a VerifyOptions,
        anchor: Option<&Statement>,
    ) -> Self {
        let number = anchor.map_or(0, |root| root.number);
        Self {
            grid_id,
            partition,
            keys,
            awaited: options
                .since
                .iter()
                .filter(|root| {
                    root.statement.partition == partition && root.statement.number > number
                })
                .collect(),
            awaited_hashes: &options.since_hashes,
            met_hashes: Vec::new(),
            page: VecDeque::new(),
            is_read_through: false,
            read_number: number,
            number,
            previous: Some(anchor.map_or([0; 32], Statement::hash)),
            tree: Some(Frontier::default()),
            met: 0,
            newest: anchor.cloned(),
            signed_leaves: anchor.map_or(0, |root| root.first_leaf.saturating_add(root.leaves)),
        }
    }

    async fn next(
        &mut self,
        connection: &mut PgConnection,
    ) -> Result<Option<&StoredRoot>, sqlx::Error> {
        if self.page.is_empty() && !self.is_read_through {
            self.page = roots_after(connection, self.partition, self.read_number)
                .await?
                .into();
            self.is_read_through = self.page.is_empty();
            self.read_number = self.page.back().map_or(self.read_number, |root| root.0);
        }
        Ok(self.page.front())
    }

    /// Takes up a block's hashes; `head` is where the chain is after it, if that is known.
    pub(super) async fn block(
        &mut self,
        connection: &mut PgConnection,
        (number, last_index): (i64, i64),
        hashes: impl Iterator<Item = Hash>,
        head: Option<&Head>,
        findings: &mut Findings,
    ) -> Result<(), sqlx::Error> {
        // A root whose last block is missing; the next one may begin with this block.
        while let Some((_, last_block, _)) = self.next(connection).await?
            && *last_block < number
        {
            let is_before = *last_block == number - 1;
            let Some((root_number, _, root)) = self.page.pop_front() else {
                break;
            };
            self.tree = is_before.then(Frontier::default);
            self.meet(root_number, root, None, last_index, findings);
        }
        if let Some(tree) = &mut self.tree {
            hashes.for_each(|leaf| tree.push(leaf));
        }
        while let Some((_, last_block, _)) = self.next(connection).await?
            && *last_block == number
        {
            let Some((root_number, _, root)) = self.page.pop_front() else {
                break;
            };
            let facts = self.tree.replace(Frontier::default());
            self.meet(root_number, root, facts.zip(head), last_index, findings);
        }
        Ok(())
    }

    /// Blocks are missing: the facts since the last root are not known.
    pub(super) fn gap(&mut self) {
        self.tree = None;
    }

    /// What is left when there are no more blocks.
    pub(super) async fn finish(
        &mut self,
        connection: &mut PgConnection,
        blocks: i64,
        findings: &mut Findings,
    ) -> Result<(), sqlx::Error> {
        let mut is_told = false;
        while self.next(connection).await?.is_some() {
            let Some((number, last_block, root)) = self.page.pop_front() else {
                break;
            };
            self.meet(number, root, None, i64::MAX, findings);
            if !is_told {
                is_told = true;
                let detail = format!(
                    "root {number} is signed up to block {last_block}, and the blocks end with {blocks}"
                );
                findings.general(Fault::Truncated, i64::MAX, detail);
            }
        }
        for root in &self.awaited {
            let detail = format!(
                "root {} of partition {}, which was kept elsewhere, is not here: what it stands for was cut \
                 off or replaced",
                root.statement.number, self.partition
            );
            findings.general(Fault::Truncated, i64::MAX, detail);
        }
        Ok(())
    }

    fn meet(
        &mut self,
        number: i64,
        root: Option<SignedRoot>,
        mut facts: Option<(Frontier, &Head)>,
        order: i64,
        findings: &mut Findings,
    ) {
        self.met += 1;
        let mut previous = self.previous.take();
        let expected = self.number.saturating_add(1);
        self.number = number;
        if number != expected {
            let detail = format!("roots {expected} to {} are gone", number - 1);
            findings.general(Fault::RootMissing, order, detail);
            // Where this one's facts begin is not known, nor what it must follow on.
            (facts, previous) = (None, None);
        }
        let Some(root) = root else {
            let detail = format!("root {number} holds no root");
            findings.general(Fault::RootAltered, order, detail);
            return;
        };
        let hash = root.statement.hash();
        self.previous = Some(hash);
        if self.awaited_hashes.contains(&hash) {
            self.met_hashes.push(hash);
        }
        self.awaited
            .retain(|awaited| awaited.statement.hash() != hash);
        if let Some((fault, detail)) = self.wrong(&root, previous, facts) {
            findings.general(fault, order, format!("root {number}: {detail}"));
            return;
        }
        let statement = root.statement;
        self.signed_leaves = statement.first_leaf.saturating_add(statement.leaves);
        self.newest = Some(statement);
    }

    /// What is wrong with a root, if anything.
    fn wrong(
        &self,
        root: &SignedRoot,
        previous: Option<Hash>,
        facts: Option<(Frontier, &Head)>,
    ) -> Option<(Fault, String)> {
        let statement = &root.statement;
        if !self.keys.contains(&root.public_key) {
            let id = root.public_key.id();
            return Some((
                Fault::ForeignKey,
                format!("key {id} is not one to be trusted"),
            ));
        }
        if !root.is_signed() {
            return Some((Fault::RootAltered, "its signature does not fit".to_owned()));
        }
        if self
            .grid_id
            .is_some_and(|grid_id| grid_id != statement.grid_id)
        {
            let detail = format!("it is of grid {}", statement.grid_id);
            return Some((Fault::RootAltered, detail));
        }
        if previous.is_some_and(|previous| previous != statement.previous) {
            let detail = "it does not follow on the root before".to_owned();
            return Some((Fault::RootAltered, detail));
        }
        let (tree, head) = facts?;
        if tree.root() != statement.root || head.chain != statement.chain {
            let detail = format!(
                "what is signed is {}, and the blocks come to {}",
                to_hex(&statement.root),
                to_hex(&tree.root())
            );
            return Some((Fault::RootAltered, detail));
        }
        None
    }
}
