//! Copy-on-write containers: a view is a handful of reference counts, and a write copies at most one
//! small piece that a view still holds.

use std::sync::Arc;

use serde::de::{SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::key::{SLOT_COUNT, Slot};

/// One value a slot, each shared until it is written.
///
/// `clone` is the view: it copies one pointer a slot.
#[derive(Clone, Debug)]
pub struct SlotMap<T> {
    slots: Vec<Option<Arc<T>>>,
}

impl<T> Default for SlotMap<T> {
    fn default() -> Self {
        Self {
            slots: vec![None; usize::from(SLOT_COUNT)],
        }
    }
}

impl<T: Clone + Default> SlotMap<T> {
    /// The slot's value, if it holds one.
    #[must_use]
    pub fn get(&self, slot: Slot) -> Option<&T> {
        self.slots[usize::from(slot.number())].as_deref()
    }

    /// The slot's value for writing; an empty one is made, a shared one is copied first.
    pub fn get_mut(&mut self, slot: Slot) -> &mut T {
        Arc::make_mut(self.slots[usize::from(slot.number())].get_or_insert_default())
    }

    /// The occupied slots with their values, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &T)> {
        self.slots.iter().enumerate().filter_map(|(number, value)| {
            let slot = Slot::new(number as u16)?;
            Some((slot, value.as_deref()?))
        })
    }
}

/// How many elements a [`CowVec`] shares as one piece.
const CHUNK_LEN: usize = 256;

/// A vector in shared pieces of 256 elements: `clone` copies the pieces' pointers, a write copies at
/// most one piece.
#[derive(Clone, Debug)]
pub struct CowVec<T> {
    chunks: Vec<Arc<Vec<T>>>,
    len: usize,
}

impl<T> Default for CowVec<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
        }
    }
}

impl<T: Clone> CowVec<T> {
    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The element at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.chunks.get(index / CHUNK_LEN)?.get(index % CHUNK_LEN)
    }

    /// The element at `index` for writing.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        if index >= self.len {
            return None;
        }
        Arc::make_mut(self.chunks.get_mut(index / CHUNK_LEN)?).get_mut(index % CHUNK_LEN)
    }

    /// Appends an element.
    pub fn push(&mut self, value: T) {
        if self.len.is_multiple_of(CHUNK_LEN) {
            self.chunks.push(Arc::new(Vec::with_capacity(4)));
        }
        if let Some(chunk) = self.chunks.last_mut() {
            Arc::make_mut(chunk).push(value);
            self.len += 1;
        }
    }

    /// The elements in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// The elements from `start` on.
    pub fn iter_from(&self, start: usize) -> impl Iterator<Item = &T> {
        let skip = start % CHUNK_LEN;
        self.chunks
            .iter()
            .skip(start / CHUNK_LEN)
            .flat_map(|chunk| chunk.iter())
            .skip(skip)
    }

    /// The last element.
    #[must_use]
    pub fn last(&self) -> Option<&T> {
        self.len.checked_sub(1).and_then(|index| self.get(index))
    }
}

impl<T: Clone> FromIterator<T> for CowVec<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut vector = Self::default();
        for value in values {
            vector.push(value);
        }
        vector
    }
}

impl<T: Clone + PartialEq> PartialEq for CowVec<T> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<T: Clone + Serialize> Serialize for CowVec<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sequence = serializer.serialize_seq(Some(self.len))?;
        for value in self.iter() {
            sequence.serialize_element(value)?;
        }
        sequence.end()
    }
}

impl<'de, T: Clone + Deserialize<'de>> Deserialize<'de> for CowVec<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<T>(std::marker::PhantomData<T>);

        impl<'de, T: Clone + Deserialize<'de>> Visitor<'de> for Elements<T> {
            type Value = CowVec<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a sequence")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<CowVec<T>, A::Error> {
                let mut vector = CowVec::default();
                while let Some(value) = sequence.next_element()? {
                    vector.push(value);
                }
                Ok(vector)
            }
        }

        deserializer.deserialize_seq(Elements(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_does_not_see_later_writes() {
        let mut vector: CowVec<u32> = (0..1000).collect();
        let view = vector.clone();
        *vector.get_mut(700).expect("in range") = 1;
        vector.push(7);
        assert_eq!(view.get(700), Some(&700));
        assert_eq!((view.len(), vector.len()), (1000, 1001));
        assert_eq!(vector.get(700), Some(&1));
        assert_eq!(
            vector.iter_from(998).copied().collect::<Vec<_>>(),
            [998, 999, 7]
        );
        assert_eq!(vector.get(1001), None);
    }

    #[test]
    fn a_vector_survives_the_codec() {
        let vector: CowVec<u32> = (0..600).collect();
        let bytes = crate::codec::encode(&vector).expect("plain");
        assert_eq!(
            crate::codec::decode::<CowVec<u32>>(&bytes).expect("same"),
            vector
        );
    }

    #[test]
    fn slots_are_iterated_in_order_and_shared_until_written() {
        let mut map: SlotMap<u32> = SlotMap::default();
        *map.get_mut(Slot::new(9).expect("in range")) = 9;
        *map.get_mut(Slot::new(3).expect("in range")) = 3;
        let view = map.clone();
        *map.get_mut(Slot::new(3).expect("in range")) = 4;
        let seen: Vec<_> = view
            .iter()
            .map(|(slot, value)| (slot.number(), *value))
            .collect();
        assert_eq!(seen, [(3, 3), (9, 9)]);
    }
}
