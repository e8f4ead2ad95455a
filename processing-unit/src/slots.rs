//! What every domain keeps by slot, and how a slot's part of it is encoded.
//!
//! Entities are encoded one by one, after their count, so that no single decoded value grows with their
//! number.

use std::collections::BTreeMap;
use std::sync::Arc;

use grid_core::{CodecError, Slot, SlotMap, codec};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a domain keeps in one slot. Its entities are shared with views until they are written.
pub(crate) trait SlotState: Clone + Default {
    /// Appends the encoding.
    ///
    /// # Errors
    /// When a value cannot be encoded, a bug of the types.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// Reads what [`Self::encode`] wrote and returns what follows it.
    ///
    /// # Errors
    /// When the bytes are not such a state.
    fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), CodecError>;
}

/// A domain's entities of one kind in a slot, by their ids.
pub(crate) type Entities<K, V> = BTreeMap<K, Arc<V>>;

/// Appends one slot's state; an empty slot has an encoding too.
///
/// # Errors
/// When a value cannot be encoded, a bug of the types.
pub(crate) fn encode_slot<T: SlotState>(
    slots: &SlotMap<T>,
    slot: Slot,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    match slots.get(slot) {
        Some(state) => state.encode(out),
        None => T::default().encode(out),
    }
}

/// Appends entities by their ids.
///
/// # Errors
/// When a value cannot be encoded, a bug of the types.
pub(crate) fn encode_entities<K: Serialize, V: Serialize>(
    entities: &Entities<K, V>,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    for entry in entities {
        codec::encode_into(&entry, out)?;
    }
    Ok(())
}

/// Reads `count` entities at the start of `bytes` and returns them with what follows.
///
/// # Errors
/// When the bytes are not so many entities.
pub(crate) fn decode_entities<K, V>(
    count: u64,
    bytes: &[u8],
) -> Result<(Entities<K, V>, &[u8]), CodecError>
where
    K: DeserializeOwned + Ord,
    V: DeserializeOwned,
{
    let mut entities = Entities::new();
    let mut rest = bytes;
    for _ in 0..count {
        let ((id, entity), after) = codec::decode_prefix(rest)?;
        entities.insert(id, Arc::new(entity));
        rest = after;
    }
    Ok((entities, rest))
}
