//! A bounded cache of immutable facts.

use std::hash::Hash;

use grid_core::FixedHashMap;
use parking_lot::Mutex;

/// Remembers at most `capacity` values in two generations: what was used since the last turn is
/// young, and when the young fill half of the capacity the old are dropped. Used values survive, unused
/// ones leave, and nothing is ordered or timed.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    half: usize,
    generations: Mutex<Generations<K, V>>,
}

#[derive(Debug)]
struct Generations<K, V> {
    young: FixedHashMap<K, V>,
    old: FixedHashMap<K, V>,
}

impl<K: Eq + Hash + Copy, V: Clone> Cache<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            half: capacity.div_ceil(2).max(1),
            generations: Mutex::new(Generations {
                young: FixedHashMap::default(),
                old: FixedHashMap::default(),
            }),
        }
    }

    pub(crate) fn get(&self, key: K) -> Option<V> {
        let mut generations = self.generations.lock();
        if let Some(value) = generations.young.get(&key) {
            return Some(value.clone());
        }
        let value = generations.old.remove(&key)?;
        generations.insert(self.half, key, value.clone());
        Some(value)
    }

    pub(crate) fn insert(&self, key: K, value: V) {
        self.generations.lock().insert(self.half, key, value);
    }
}

impl<K: Eq + Hash, V> Generations<K, V> {
    fn insert(&mut self, half: usize, key: K, value: V) {
        if self.young.len() >= half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_what_is_used_stays() {
        let cache = Cache::new(10);
        cache.insert(0, "used");
        for number in 1..100 {
            cache.insert(number, "passing");
            assert_eq!(cache.get(0), Some("used"), "after {number}");
            let generations = cache.generations.lock();
            assert!(generations.young.len() + generations.old.len() <= 10);
        }
        assert_eq!(cache.get(1), None);
    }
}
