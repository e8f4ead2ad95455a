//! A hash map that grows without a pause.
//!
//! A hash table that is full moves all of its entries into one of twice the size: at half a million
//! entries that is a tenth of a second in which a partition applies nothing, on every replica at the
//! same entry. This map splits itself, while that is still cheap, into many tables, each of which grows
//! on its own; since none is filled at the same moment as another, the moves are short and apart.
//!
//! For look-ups only, as [`FixedHashMap`]: its order depends on the history of its table sizes.

use std::hash::{BuildHasher, Hash};

use rustc_hash::FxBuildHasher;

use crate::FixedHashMap;

/// With more entries than this a map splits; below, it is one table and as small.
const WHOLE_ENTRIES_MAX: usize = 2_048;
const SHARDS: usize = 256;
/// Where the shard's number is in a key's hash: bits that tables of these sizes don't look at.
const SHARD_SHIFT: u32 = 44;

/// See the module.
#[derive(Clone, Debug)]
pub struct ShardedMap<K, V> {
    /// One, or [`SHARDS`].
    shards: Vec<FixedHashMap<K, V>>,
    len: usize,
}

impl<K, V> Default for ShardedMap<K, V> {
    fn default() -> Self {
        Self {
            shards: vec![FixedHashMap::default()],
            len: 0,
        }
    }
}

impl<K: Hash + Eq, V> ShardedMap<K, V> {
    fn shard_of(&self, key: &K) -> usize {
        if self.shards.len() == 1 {
            0
        } else {
            (FxBuildHasher.hash_one(key) >> SHARD_SHIFT) as usize % SHARDS
        }
    }

    fn split(&mut self) {
        let whole = std::mem::take(&mut self.shards);
        self.shards
            .resize_with(SHARDS, || FixedHashMap::with_hasher(FxBuildHasher));
        for (key, value) in whole.into_iter().flatten() {
            let shard = self.shard_of(&key);
            self.shards[shard].insert(key, value);
        }
    }

    fn shard_to_grow(&mut self, key: &K) -> &mut FixedHashMap<K, V> {
        if self.shards.len() == 1 && self.len >= WHOLE_ENTRIES_MAX {
            self.split();
        }
        let shard = self.shard_of(key);
        &mut self.shards[shard]
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.shards[self.shard_of(key)].get(key)
    }

    /// The value of a key, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let shard = self.shard_of(key);
        self.shards[shard].get_mut(key)
    }

    /// The value of a key, which is made if there is none.
    pub fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let is_new = self.get(&key).is_none();
        self.len += usize::from(is_new);
        self.shard_to_grow(&key).entry(key).or_insert_with(make)
    }

    /// Puts a value under a key and returns the one that was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let before = self.shard_to_grow(&key).insert(key, value);
        self.len += usize::from(before.is_none());
        before
    }

    /// Takes a key's value out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let shard = self.shard_of(key);
        let before = self.shards[shard].remove(key);
        self.len -= usize::from(before.is_some());
        before
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All entries in no order that means anything; for sums and comparisons.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flatten()
    }
}

impl<K: Hash + Eq, V> FromIterator<(K, V)> for ShardedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::default();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

impl<K: Hash + Eq, V: Eq> Eq for ShardedMap<K, V> {}

impl<K: Hash + Eq, V: PartialEq> PartialEq for ShardedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len
            && self
                .iter()
                .all(|(key, value)| other.get(key) == Some(value))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_does_what_an_ordered_map_does(
            steps in prop::collection::vec((0..3_u8, 0..6_000_u64, any::<u32>()), 1..9_000)
        ) {
            let mut map = ShardedMap::<u64, u32>::default();
            let mut model = BTreeMap::new();
            for (kind, key, value) in steps {
                match kind {
                    0 => prop_assert_eq!(map.insert(key, value), model.insert(key, value)),
                    1 => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                    _ => {
                        let of_map = map.get_or_insert_with(key, u32::default);
                        *of_map = of_map.wrapping_add(1);
                        let of_model = model.entry(key).or_default();
                        *of_model = of_model.wrapping_add(1);
                    }
                }
                prop_assert_eq!(map.len(), model.len());
                prop_assert_eq!(map.get(&key), model.get(&key));
            }
            let copy: ShardedMap<u64, u32> = model.iter().map(|(key, value)| (*key, *value)).collect();
            prop_assert!(map == copy);
            let ordered: BTreeMap<_, _> = map.iter().map(|(key, value)| (*key, *value)).collect();
            prop_assert_eq!(ordered, model);
        }
    }

    #[test]
    fn its_tables_stay_small_and_even() {
        let mut map = ShardedMap::default();
        for number in 0..SHARDS as u128 * 1_000 {
            let key = xxhash_rust::xxh3::xxh3_128(&number.to_le_bytes());
            map.insert(key, ());
        }
        let largest = map.shards.iter().map(FixedHashMap::len).max();
        assert!(
            largest.is_some_and(|entries| entries < 1_300),
            "{largest:?}"
        );

        // Numbers in a row, as slabs give them out.
        let mut map = ShardedMap::default();
        for number in 0..SHARDS as u64 * 1_000 {
            map.insert(number, ());
        }
        let largest = map.shards.iter().map(FixedHashMap::len).max();
        assert!(
            largest.is_some_and(|entries| entries < 2_000),
            "{largest:?}"
        );
    }
}
