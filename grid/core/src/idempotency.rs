//! Idempotency records: the first reply to each command key, kept for a stated time in bounded memory.
//!
//! Records live in chunks of 1,024 in the order of arrival. A chunk leaves as a whole, when its newest
//! record is older than [`LIFETIME_MS`] or when more than [`RECORDS_MAX`] are kept; both are decided
//! by the entry's time and by counts, so every replica forgets the same record at the same entry.
//! After that, a retry under the same key is a new command.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ShardedMap;
use crate::time::Timestamp;

/// A record is kept for ten minutes, unless [`RECORDS_MAX`] pushes it out earlier.
pub const LIFETIME_MS: u64 = 600_000;

/// The most records of a partition, about 80 MB; at 10,000 commands a second into one partition the
/// oldest is 52 s old.
pub const RECORDS_MAX: usize = 1 << 19;

const CHUNK_RECORDS: usize = 1024;

/// A 128-bit hash of who asks and under which client-chosen key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IdempotencyKey(pub u128);

impl IdempotencyKey {
    /// The key of `caller`'s request `key`; two callers never share one.
    #[must_use]
    pub fn derive(caller: uuid::Uuid, key: &[u8]) -> Self {
        let mut hasher = xxhash_rust::xxh3::Xxh3::with_seed(0x5370_6163);
        hasher.update(caller.as_bytes());
        hasher.update(key);
        Self(hasher.digest128())
    }
}

/// A remembered command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    key: IdempotencyKey,
    fingerprint: u64,
    at: Timestamp,
    reply: Arc<[u8]>,
}

/// What the records say of a key.
#[derive(Debug)]
pub enum Seen<'a> {
    /// Nothing: carry the command out.
    Never,
    /// It was carried out; these are the encoded first reply's bytes.
    Before(&'a [u8]),
    /// The key was used for another request.
    Conflict,
}

/// The records of one partition.
#[derive(Debug, Default)]
pub struct IdempotencyRecords {
    chunks: VecDeque<Arc<Vec<Record>>>,
    /// Key → (chunk's number since the beginning, place in the chunk).
    places: ShardedMap<u128, (u64, u32)>,
    first_chunk: u64,
    len: usize,
}

impl IdempotencyRecords {
    /// Looks a command up.
    #[must_use]
    pub fn look_up(&self, key: IdempotencyKey, fingerprint: u64) -> Seen<'_> {
        let Some(&(chunk, place)) = self.places.get(&key.0) else {
            return Seen::Never;
        };
        let chunk = &self.chunks[(chunk - self.first_chunk) as usize];
        let record = &chunk[place as usize];
        if record.fingerprint == fingerprint {
            Seen::Before(&record.reply)
        } else {
            Seen::Conflict
        }
    }

    /// Remembers a command that [`Self::look_up`] has just called new.
    pub fn remember(&mut self, key: IdempotencyKey, fingerprint: u64, at: Timestamp, reply: &[u8]) {
        #[cfg(feature = "planted-bugs")]
        if crate::planted::forgets(key.0) {
            return;
        }
        if self
            .chunks
            .back()
            .is_none_or(|chunk| chunk.len() >= CHUNK_RECORDS)
        {
            self.chunks
                .push_back(Arc::new(Vec::with_capacity(CHUNK_RECORDS)));
        }
        let number = self.first_chunk + self.chunks.len() as u64 - 1;
        if let Some(chunk) = self.chunks.back_mut() {
            let chunk = Arc::make_mut(chunk);
            self.places.insert(key.0, (number, chunk.len() as u32));
            chunk.push(Record {
                key,
                fingerprint,
                at,
                reply: reply.into(),
            });
            self.len += 1;
        }
    }

    /// Forgets what is too old or too much at `now`.
    pub fn expire(&mut self, now: Timestamp) {
        while let Some(chunk) = self.chunks.front() {
            let full = chunk.len() >= CHUNK_RECORDS;
            let old = chunk
                .last()
                .is_some_and(|last| now.millis_since(last.at) > LIFETIME_MS);
            if !(full && (old || self.len > RECORDS_MAX)) {
                return;
            }
            for record in chunk.iter() {
                self.places.remove(&record.key.0);
            }
            self.len -= chunk.len();
            self.first_chunk += 1;
            self.chunks.pop_front();
        }
    }

    /// How many commands are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The chunks, shared, oldest first: the view for a snapshot.
    #[must_use]
    pub fn view(&self) -> Vec<Arc<Vec<Record>>> {
        self.chunks.iter().cloned().collect()
    }

    /// Adds a chunk of a snapshot; call in the snapshot's order.
    pub fn restore_chunk(&mut self, records: Vec<Record>) {
        let number = self.first_chunk + self.chunks.len() as u64;
        for (place, record) in records.iter().enumerate() {
            self.places.insert(record.key.0, (number, place as u32));
        }
        self.len += records.len();
        self.chunks.push_back(Arc::new(records));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> IdempotencyKey {
        IdempotencyKey(number as u128)
    }

    #[test]
    fn the_first_reply_is_kept_and_another_request_conflicts() {
        let mut records = IdempotencyRecords::default();
        records.remember(key(1), 5, Timestamp::ZERO, b"first");
        assert!(matches!(records.look_up(key(1), 5), Seen::Before(b"first")));
        assert!(matches!(records.look_up(key(1), 6), Seen::Conflict));
        assert!(matches!(records.look_up(key(2), 5), Seen::Never));
    }

    #[test]
    fn memory_is_bounded_by_count_and_by_age() {
        let mut records = IdempotencyRecords::default();
        for number in 0..RECORDS_MAX + 5000 {
            records.remember(key(number), 0, Timestamp::ZERO, b"");
            records.expire(Timestamp::ZERO);
        }
        assert!(records.len() <= RECORDS_MAX && records.len() > RECORDS_MAX - CHUNK_RECORDS);
        assert!(matches!(records.look_up(key(0), 0), Seen::Never));
        assert!(matches!(
            records.look_up(key(RECORDS_MAX + 4999), 0),
            Seen::Before(_)
        ));

        records.expire(Timestamp::from_millis(LIFETIME_MS + 1));
        assert!(records.len() < CHUNK_RECORDS);
        assert_eq!(records.places.len(), records.len());
    }

    #[test]
    fn a_restored_copy_forgets_at_the_same_entry() {
        let mut records = IdempotencyRecords::default();
        for number in 0..3000 {
            records.remember(key(number), 0, Timestamp::from_millis(number as u64), b"r");
        }
        let mut copy = IdempotencyRecords::default();
        for chunk in records.view() {
            copy.restore_chunk(chunk.to_vec());
        }
        for millis in [LIFETIME_MS + 1000, LIFETIME_MS + 1500, LIFETIME_MS + 5000] {
            records.expire(Timestamp::from_millis(millis));
            copy.expire(Timestamp::from_millis(millis));
            assert_eq!(records.len(), copy.len());
        }
    }
}
