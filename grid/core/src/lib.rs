//! The pure part of the data grid: what a replicated partition *is*, without anything that runs it.
//!
//! A [`Space`] holds the business state and changes it only in `apply`. A [`PartitionState`] wraps
//! one space with what every partition needs beside it: the position in the log, the idempotency
//! records, the running state hash, the pump's checkpoint. Feeding the same log [`Entry`]s to two
//! `PartitionState`s gives the same replies, the same changes and the same hash, byte for byte.
//!
//! ```text
//!   bytes of a log entry ──► Entry::decode ──► PartitionState::apply ──► Applied { outcomes, changes }
//!                                                   │  Space::apply / Space::fire_due
//!                                                   └► StateHash: hash(previous, index, outcomes, changes)
//! ```
//!
//! Invariants:
//! * nothing here reads a clock, random bytes, a file or a socket: the leader stamps time and
//!   entropy into the entry, and the manifest has no crate that could do otherwise;
//! * whatever is iterated is ordered; [`FixedHashMap`] is for look-ups only;
//! * a command key seen before yields the first reply and changes nothing.
//!
//! What it deliberately does not do: choose a leader, write a log, keep a queue, or know what an
//! auction is.

pub mod codec;
pub mod cow;
pub mod entry;
pub mod idempotency;
pub mod key;
pub mod partition;
#[cfg(feature = "planted-bugs")]
pub mod planted;
pub mod position;
pub mod sharded_map;
pub mod snapshot;
pub mod space;
pub mod state_hash;
pub mod time;

pub use codec::CodecError;
pub use cow::{CowVec, SlotMap};
pub use entry::{CommandRecord, Entry};
pub use idempotency::IdempotencyKey;
pub use key::{PartitionId, SLOT_COUNT, Slot, SlotLayout};
pub use partition::{Applied, ApplyError, ChangeBatch, Outcome, PartitionState};
pub use position::{Cursor, CursorParseError};
pub use sharded_map::ShardedMap;
pub use space::{ApplyContext, Space, SpaceView};
pub use state_hash::StateHash;
pub use time::Timestamp;

/// A hash map with a fixed hasher, so that two replicas behave alike. For look-ups only: iterate a
/// `BTreeMap` or a `Vec` instead. What may grow beyond some ten thousand entries is a [`ShardedMap`].
#[expect(
    clippy::disallowed_types,
    reason = "this is the fixed-hasher form that is allowed"
)]
pub type FixedHashMap<K, V> = std::collections::HashMap<K, V, rustc_hash::FxBuildHasher>;
