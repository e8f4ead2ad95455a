//! Blocks: what one transaction of the pump wrote, hash by hash, each chained to the one before.
//!
//! A block lists the hash of every change of its log entries, also of those that the database refused:
//! what is parked and perhaps written later has its place in the chain from the beginning. Entries are
//! never split, so a block says where its facts are with two small numbers an entry.

use uuid::Uuid;

use super::fact::Fact;
use super::hash::{HASH_BYTES, Hash, sha256};

/// The first byte of what is hashed for a link of the chain.
const LINK: &[u8] = &[2];

/// How far a partition's chain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Blocks so far, which is the next block's number less one.
    pub(crate) blocks: i64,
    /// Facts so far.
    pub(crate) leaves: i64,
    /// The last block's link.
    pub(crate) chain: Hash,
}

impl Head {
    /// Before the first block of a partition, whose facts up to `base_index` have none.
    pub(crate) fn genesis(grid_id: Uuid, partition: i32, base_index: i64) -> Self {
        let text = format!("spacegrid-chain-1\n{grid_id}\n{partition}\n{base_index}\n");
        Self {
            blocks: 0,
            leaves: 0,
            chain: sha256(&[LINK, text.as_bytes()]),
        }
    }

    /// After a block that follows.
    pub(crate) fn after(&self, block: &Block) -> Self {
        Self {
            blocks: block.number,
            leaves: block.first_leaf.saturating_add(block.rows()),
            chain: block.link(&self.chain),
        }
    }
}

/// A block as it lies in `audit_block`, but for its link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) partition: i32,
    /// From 1.
    pub(crate) number: i64,
    /// How many facts of the partition come before it.
    pub(crate) first_leaf: i64,
    pub(crate) first_index: i64,
    pub(crate) last_index: i64,
    /// For each entry: by how much its index is above the one before (the first: above `first_index`),
    /// and how many changes it has; both as LEB128.
    pub(crate) entries: Vec<u8>,
    /// The hashes of the facts, one after another.
    pub(crate) leaves: Vec<u8>,
}

impl Block {
    /// The block of the facts that one transaction writes, in the order of the log, after `head`; `None`
    /// without facts.
    pub(crate) fn of<'a>(
        head: &Head,
        partition: i32,
        facts: impl Iterator<Item = Fact<'a>>,
    ) -> Option<Self> {
        let mut entries: Vec<(i64, u64)> = Vec::new();
        let mut leaves = Vec::new();
        for fact in facts {
            match entries.last_mut() {
                Some((index, rows)) if *index == fact.log_index => *rows += 1,
                _ => entries.push((fact.log_index, 1)),
            }
            leaves.extend_from_slice(&fact.leaf());
        }
        let ((first_index, _), (last_index, _)) = (*entries.first()?, *entries.last()?);
        let mut coded = Vec::with_capacity(3 * entries.len());
        let mut before = first_index;
        for (index, rows) in entries {
            put_number(&mut coded, index.abs_diff(before));
            put_number(&mut coded, rows);
            before = index;
        }
        Some(Self {
            partition,
            number: head.blocks.saturating_add(1),
            first_leaf: head.leaves,
            first_index,
            last_index,
            entries: coded,
            leaves,
        })
    }

    /// How many facts it lists.
    pub(crate) fn rows(&self) -> i64 {
        i64::try_from(self.leaves.len() / HASH_BYTES).unwrap_or(i64::MAX)
    }

    /// Its link in the chain after the link of the block before.
    pub(crate) fn link(&self, before: &Hash) -> Hash {
        let text = format!(
            "spacegrid-block-1\n{}\n{}\n{}\n{}\n{}\n{}\n",
            self.partition,
            self.number,
            self.first_leaf,
            self.first_index,
            self.last_index,
            self.rows()
        );
        sha256(&[LINK, before, text.as_bytes(), &self.leaves, &self.entries])
    }

    /// The hashes.
    pub(crate) fn hashes(&self) -> impl ExactSizeIterator<Item = Hash> {
        self.leaves.chunks_exact(HASH_BYTES).map(|bytes| {
            let mut hash = [0; HASH_BYTES];
            hash.copy_from_slice(bytes);
            hash
        })
    }

    /// Where each of its facts is: log index and place among the entry's changes. `None` if what it says
    /// of itself does not go together.
    pub(crate) fn places(&self) -> Option<Vec<(i64, i32)>> {
        let rows = usize::try_from(self.rows()).ok()?;
        if self.leaves.len() != rows * HASH_BYTES {
            return None;
        }
        let mut places = Vec::with_capacity(rows);
        let mut coded = self.entries.as_slice();
        let mut index = self.first_index;
        while !coded.is_empty() {
            let step = take_number(&mut coded)?;
            let changes = take_number(&mut coded)?;
            if changes == 0
                || changes > (rows - places.len()) as u64
                || (step == 0) != places.is_empty()
            {
                return None;
            }
            index = index.checked_add_unsigned(step)?;
            for seq in 0..changes {
                places.push((index, i32::try_from(seq).ok()?));
            }
        }
        (index == self.last_index && places.len() == rows).then_some(places)
    }
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        let digit = u64::from(first & 0x7f);
        if digit << shift >> shift != digit {
            return None;
        }
        number |= digit << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fact(log_index: i64, seq: i32) -> Fact<'static> {
        Fact {
            partition: 3,
            log_index,
            seq,
            at_ms: 5,
            kind: "bid_placed",
            entity: Uuid::nil(),
            payload: "{}",
        }
    }

    proptest! {
        #[test]
        fn a_block_says_where_its_facts_are(
            steps in prop::collection::vec((1_i64..1 << 40, 1_i32..300), 1..40),
            first in 0_i64..1 << 40,
        ) {
            let mut index = first;
            let mut places = Vec::new();
            for (step, rows) in steps {
                index += step;
                places.extend((0..rows).map(|seq| (index, seq)));
            }
            let head = Head::genesis(Uuid::nil(), 3, 0);
            let facts = places.iter().map(|(index, seq)| fact(*index, *seq));
            let block = Block::of(&head, 3, facts).expect("not empty");
            prop_assert_eq!(block.rows() as usize, places.len());
            prop_assert_eq!(block.places(), Some(places));
        }

        #[test]
        fn any_bytes_are_read_or_refused(entries in prop::collection::vec(any::<u8>(), 0..40), rows in 0_usize..9) {
            let block = Block {
                partition: 1, number: 1, first_leaf: 0, first_index: 5, last_index: 9,
                entries, leaves: vec![0; rows * HASH_BYTES],
            };
            if let Some(places) = block.places() {
                prop_assert_eq!(places.len(), rows);
            }
        }
    }

    #[test]
    fn every_part_of_a_block_is_in_its_link() {
        let head = Head::genesis(Uuid::nil(), 3, 0);
        let block = Block::of(&head, 3, [fact(7, 0), fact(9, 0)].into_iter()).expect("not empty");
        let link = block.link(&head.chain);
        let changes: [fn(&mut Block); 7] = [
            |block| block.partition += 1,
            |block| block.number += 1,
            |block| block.first_leaf += 1,
            |block| block.first_index += 1,
            |block| block.last_index += 1,
            |block| block.entries[0] += 1,
            |block| block.leaves[40] ^= 1,
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut changed = block.clone();
            change(&mut changed);
            assert_ne!(changed.link(&head.chain), link, "{number}");
        }
        assert_ne!(block.link(&Head::genesis(Uuid::nil(), 4, 0).chain), link);
        assert_ne!(block.link(&Head::genesis(Uuid::nil(), 3, 1).chain), link);
    }
}
