//! The truth as the simulation knows it: each partition's log, as the first replica applied it, and
//! what the rules make of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use grid_core::{
    ChangeBatch, Entry, IdempotencyKey, Outcome, PartitionId, PartitionState, StateHash, Timestamp,
};
use processing_unit::{Change, Reply, Unit};

/// An entry of the log with what it brought about.
#[derive(Clone, Debug)]
pub(crate) struct Committed {
    /// The partition.
    pub(crate) partition: PartitionId,
    /// The log index.
    pub(crate) index: u64,
    /// The node that applied it first.
    pub(crate) by: u64,
    /// Its bytes; `None` for one that carries nothing for the space.
    pub(crate) entry: Option<Vec<u8>>,
    /// The state's time after it.
    pub(crate) clock: Timestamp,
    /// The true time when it was first seen to be applied.
    pub(crate) seen_at: Timestamp,
    /// The state hash that the node had after it.
    pub(crate) hash: StateHash,
    /// The state hash by the rules.
    pub(crate) reference_hash: StateHash,
    /// The commands with what the rules say to them, in order.
    pub(crate) outcomes: Vec<(IdempotencyKey, Outcome<Reply>)>,
    /// The changes; `None` where there are none.
    pub(crate) batch: Option<Arc<ChangeBatch<Change>>>,
}

/// One partition's truth.
#[derive(Debug)]
pub(crate) struct Log {
    /// Its entries from the first.
    pub(crate) entries: BTreeMap<u64, Committed>,
    /// Where each key stands, in order.
    pub(crate) places: BTreeMap<u128, Vec<u64>>,
    /// The highest index that a client was given in a reply or an answer.
    pub(crate) acknowledged: u64,
    reference: PartitionState<Unit>,
}

/// All partitions' truth.
#[derive(Debug, Default)]
pub(crate) struct History {
    logs: BTreeMap<PartitionId, Log>,
}

impl History {
    /// A partition's log.
    pub(crate) fn log(&mut self, partition: PartitionId) -> &mut Log {
        self.logs.entry(partition).or_insert_with(|| Log {
            entries: BTreeMap::new(),
            places: BTreeMap::new(),
            acknowledged: 0,
            reference: PartitionState::new(partition),
        })
    }

    /// A partition's log, if anything is in it.
    #[must_use]
    pub(crate) fn get(&self, partition: PartitionId) -> Option<&Log> {
        self.logs.get(&partition)
    }

    /// All logs.
    pub(crate) fn logs(&self) -> impl Iterator<Item = (&PartitionId, &Log)> {
        self.logs.iter()
    }

    /// Takes in that a node applied an entry; returns it when no node had applied it before.
    ///
    /// # Errors
    /// When the rules cannot apply it or entries before it are missing.
    pub(crate) fn applied(
        &mut self,
        seen_at: Timestamp,
        (node, partition, index): (u64, PartitionId, u64),
        entry: Option<Vec<u8>>,
        hash: StateHash,
    ) -> Result<Option<Committed>, String> {
        let log = self.log(partition);
        if log.entries.contains_key(&index) {
            return Ok(None);
        }
        let describe = |error: String| format!("partition {partition} entry {index}: {error}");
        let (outcomes, batch) = match &entry {
            None => {
                let applied = log.reference.apply_blank(index);
                applied.map_err(|error| describe(error.to_string()))?;
                (Vec::new(), None)
            }
            Some(bytes) => {
                let applied = log.reference.apply(index, bytes);
                let applied = applied.map_err(|error| describe(error.to_string()))?;
                let decoded = Entry::decode(bytes).map_err(|error| describe(error.to_string()))?;
                let keys = decoded.commands.iter().map(|command| command.key);
                let outcomes = keys.zip(applied.outcomes).collect();
                (outcomes, Some(applied.batch))
            }
        };
        let committed = Committed {
            partition,
            index,
            by: node,
            entry,
            clock: log.reference.clock(),
            seen_at,
            hash,
            reference_hash: log.reference.hash(),
            outcomes,
            batch: batch.filter(|batch| !batch.changes.is_empty()),
        };
        for (key, _) in &committed.outcomes {
            log.places.entry(key.0).or_default().push(index);
        }
        log.entries.insert(index, committed.clone());
        Ok(Some(committed))
    }
}

impl Log {
    /// The last index.
    #[must_use]
    pub(crate) fn last_index(&self) -> u64 {
        self.entries.keys().next_back().copied().unwrap_or(0)
    }

    /// The reply that the rules gave to a key first, and where.
    #[must_use]
    pub(crate) fn first_outcome(&self, key: IdempotencyKey) -> Option<(u64, &Outcome<Reply>)> {
        let index = *self.places.get(&key.0)?.first()?;
        Some((index, self.outcome_at(index, key)?))
    }

    /// What the rules say to a key at an index, first.
    #[must_use]
    pub(crate) fn outcome_at(&self, index: u64, key: IdempotencyKey) -> Option<&Outcome<Reply>> {
        self.outcomes_at(index, key).next()
    }

    /// Everything that the rules say to a key at an index: a retry may be in the same batch.
    pub(crate) fn outcomes_at(
        &self,
        index: u64,
        key: IdempotencyKey,
    ) -> impl Iterator<Item = &Outcome<Reply>> {
        let outcomes = self.entries.get(&index).map(|entry| &entry.outcomes);
        outcomes
            .into_iter()
            .flatten()
            .filter(move |(found, _)| *found == key)
            .map(|(_, outcome)| outcome)
    }
}
