//! Idempotency records: the first reply to each command key, kept for a stated time in bounded memory.
//!
//! Records live in chunks of 1,024 in the order of arrival. A chunk leaves as a whole, when its newest
//! record is older than [`LIFETIME_MS`] or when more than [`RECORDS_MAX`] are kept; both are decided
//! by the entry's time and by counts, so every replica forgets the same record at the same entry.
//! After that, a retry under the same key is a new command.
//!
//! Every command leaves a record, so its size is most of what a busy partition grows by: a chunk holds
//! the replies' bytes in one run, and the look-up keeps a record's number and half of its key's hash, for
//! about a hundred bytes a command with a reply of forty.
//!
//! Invariant: all chunks but the newest are full; a record's number, counted from the first ever, says
//! its chunk and place.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use hashbrown::HashTable;
use serde::de::{Error, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::time::Timestamp;

/// A record is kept for ten minutes, unless [`RECORDS_MAX`] pushes it out earlier.
pub const LIFETIME_MS: u64 = 600_000;

/// The most records of a partition, about 55 MB; at 10,000 commands a second into one partition the
/// oldest is 52 s old.
pub const RECORDS_MAX: usize = 1 << 19;

const CHUNK_RECORDS: usize = 1024;

/// The look-up is in 2^8 tables, each of which grows by itself: one table of half a million would stop its
/// partition for a tenth of a second when it grows.
const TABLE_BITS: u32 = 8;

/// 2^64 divided by the golden ratio: multiplying by it spreads what differs in few bits over the high
/// ones (Knuth, The Art of Computer Programming, volume 3, section 6.4).
const SPREADING_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

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

/// A remembered command; its reply is in its chunk.
#[derive(Clone, Copy, Debug)]
struct Record {
    /// The key's halves: as one number it would take more room.
    key: [u64; 2],
    fingerprint: u64,
    at: Timestamp,
    /// Where the reply ends in the chunk's bytes; it begins where the one before ends.
    reply_end: u32,
}

/// Records in the order of arrival, at most 1,024.
///
/// A snapshot holds it as a list of key, fingerprint, time and reply.
#[derive(Clone, Debug, Default)]
pub struct Chunk {
    records: Vec<Record>,
    replies: Vec<u8>,
}

/// A record as a snapshot holds it.
#[derive(Serialize, Deserialize)]
struct StoredRecord<R> {
    key: IdempotencyKey,
    fingerprint: u64,
    at: Timestamp,
    reply: R,
}

impl Chunk {
    fn is_full(&self) -> bool {
        self.records.len() >= CHUNK_RECORDS
    }

    fn push(&mut self, key: IdempotencyKey, fingerprint: u64, at: Timestamp, reply: &[u8]) {
        self.replies.extend_from_slice(reply);
        self.records.push(Record {
            key: halves(key),
            fingerprint,
            at,
            reply_end: self.replies.len() as u32,
        });
        if self.is_full() {
            self.replies.shrink_to_fit();
        }
    }

    fn reply(&self, place: usize) -> &[u8] {
        let start = match place.checked_sub(1) {
            Some(before) => self.records[before].reply_end,
            None => 0,
        };
        &self.replies[start as usize..self.records[place].reply_end as usize]
    }
}

impl Serialize for Chunk {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.records.len()))?;
        for (place, record) in self.records.iter().enumerate() {
            list.serialize_element(&StoredRecord {
                key: whole(record.key),
                fingerprint: record.fingerprint,
                at: record.at,
                reply: self.reply(place),
            })?;
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for Chunk {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ChunkVisitor)
    }
}

struct ChunkVisitor;

impl<'de> Visitor<'de> for ChunkVisitor {
    type Value = Chunk;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of idempotency records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Chunk, A::Error> {
        let mut chunk = Chunk::default();
        let announced = list.size_hint().unwrap_or(0);
        chunk.records.reserve_exact(announced.min(CHUNK_RECORDS));
        while let Some(record) = list.next_element::<StoredRecord<Vec<u8>>>()? {
            if chunk.is_full() {
                return Err(A::Error::custom("more records than a chunk holds"));
            }
            chunk.push(record.key, record.fingerprint, record.at, &record.reply);
        }
        Ok(chunk)
    }
}

fn halves(key: IdempotencyKey) -> [u64; 2] {
    [(key.0 >> 64) as u64, key.0 as u64]
}

fn whole([high, low]: [u64; 2]) -> IdempotencyKey {
    IdempotencyKey(u128::from(high) << 64 | u128::from(low))
}

/// Where a record is, in eight bytes.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Half of the key's hash, so that a table grows without looking at records.
    hash: u32,
    /// The record's number, its low half: far fewer are kept at a time.
    number: u32,
}

/// A key's hash. Keys are hashes themselves, save those of tests.
fn hash_of([high, low]: [u64; 2]) -> u32 {
    ((high ^ low.rotate_left(32)).wrapping_mul(SPREADING_FACTOR) >> 32) as u32
}

/// The table of a hash: by its highest bits, since the tables look at the lower ones.
fn table_of(hash: u32) -> usize {
    (hash >> (u32::BITS - TABLE_BITS)) as usize
}

/// A table looks at the lowest and the highest bits of 64.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(SPREADING_FACTOR)
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
#[derive(Debug)]
pub struct IdempotencyRecords {
    chunks: VecDeque<Arc<Chunk>>,
    tables: Vec<HashTable<Place>>,
    /// The number of the oldest record kept.
    first_number: u64,
    len: usize,
}

impl Default for IdempotencyRecords {
    fn default() -> Self {
        Self {
            chunks: VecDeque::new(),
            tables: (0..1 << TABLE_BITS).map(|_| HashTable::new()).collect(),
            first_number: 0,
            len: 0,
        }
    }
}

/// The chunk and the place in it of a record's number.
fn resolve(first_number: u64, number: u32) -> (usize, usize) {
    let offset = number.wrapping_sub(first_number as u32) as usize;
    (offset / CHUNK_RECORDS, offset % CHUNK_RECORDS)
}

impl IdempotencyRecords {
    /// Looks a command up.
    #[must_use]
    pub fn look_up(&self, key: IdempotencyKey, fingerprint: u64) -> Seen<'_> {
        let key = halves(key);
        let hash = hash_of(key);
        let is_it = |place: &Place| {
            let (chunk, place) = resolve(self.first_number, place.number);
            self.chunks[chunk].records[place].key == key
        };
        let Some(found) = self.tables[table_of(hash)]
            .find(spread(hash), |place| place.hash == hash && is_it(place))
        else {
            return Seen::Never;
        };
        let (chunk, place) = resolve(self.first_number, found.number);
        let chunk = &self.chunks[chunk];
        if chunk.records[place].fingerprint == fingerprint {
            Seen::Before(chunk.reply(place))
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
        self.append(key, fingerprint, at, reply);
    }

    fn append(&mut self, key: IdempotencyKey, fingerprint: u64, at: Timestamp, reply: &[u8]) {
        if self.chunks.back().is_none_or(|chunk| chunk.is_full()) {
            // Replies of one time are alike.
            let reply_bytes = self.chunks.back().map_or(0, |chunk| chunk.replies.len());
            self.chunks.push_back(Arc::new(Chunk {
                records: Vec::with_capacity(CHUNK_RECORDS),
                replies: Vec::with_capacity(reply_bytes),
            }));
        }
        self.enter(halves(key));
        if let Some(chunk) = self.chunks.back_mut() {
            Arc::make_mut(chunk).push(key, fingerprint, at, reply);
        }
    }

    /// Makes the record that comes next findable.
    fn enter(&mut self, key: [u64; 2]) {
        let hash = hash_of(key);
        let number = self.first_number.wrapping_add(self.len as u64) as u32;
        let place = Place { hash, number };
        self.tables[table_of(hash)].insert_unique(spread(hash), place, |place| spread(place.hash));
        self.len += 1;
    }

    /// Forgets what is too old or too much at `now`.
    pub fn expire(&mut self, now: Timestamp) {
        while let Some(chunk) = self.chunks.front() {
            let old = chunk
                .records
                .last()
                .is_some_and(|last| now.millis_since(last.at) > LIFETIME_MS);
            if !(chunk.is_full() && (old || self.len > RECORDS_MAX)) {
                return;
            }
            for (place, record) in chunk.records.iter().enumerate() {
                let hash = hash_of(record.key);
                let number = self.first_number.wrapping_add(place as u64) as u32;
                let found = self.tables[table_of(hash)]
                    .find_entry(spread(hash), |place| place.number == number);
                if let Ok(found) = found {
                    found.remove();
                }
            }
            self.len -= chunk.records.len();
            self.first_number += chunk.records.len() as u64;
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
    pub fn view(&self) -> Vec<Arc<Chunk>> {
        self.chunks.iter().cloned().collect()
    }

    /// Adds the records of a snapshot's chunk; call in the snapshot's order.
    pub fn restore_chunk(&mut self, chunk: Chunk) {
        if self.chunks.back().is_none_or(|newest| newest.is_full()) {
            for record in &chunk.records {
                self.enter(record.key);
            }
            if !chunk.records.is_empty() {
                self.chunks.push_back(Arc::new(chunk));
            }
            return;
        }
        for (place, record) in chunk.records.iter().enumerate() {
            let key = whole(record.key);
            self.append(key, record.fingerprint, record.at, chunk.reply(place));
        }
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
        let fullest = records.tables.iter().map(HashTable::len).max();
        assert!(fullest.is_some_and(|most| most <= 2 * records.len() / records.tables.len() + 8));
        let places: usize = records.tables.iter().map(HashTable::len).sum();
        assert_eq!(places, records.len());
    }

    #[test]
    fn a_chunk_comes_back_from_its_bytes_with_every_reply() {
        let mut records = IdempotencyRecords::default();
        for number in 0..CHUNK_RECORDS + 10 {
            let reply = vec![number as u8; number % 70];
            records.remember(key(number), number as u64, Timestamp::ZERO, &reply);
        }
        let mut copy = IdempotencyRecords::default();
        for chunk in records.view() {
            let bytes = crate::codec::encode(&*chunk).unwrap();
            copy.restore_chunk(crate::codec::decode(&bytes).unwrap());
        }
        for number in 0..CHUNK_RECORDS + 10 {
            let reply = vec![number as u8; number % 70];
            let seen = copy.look_up(key(number), number as u64);
            assert!(matches!(seen, Seen::Before(bytes) if bytes == reply));
        }
    }

    #[test]
    fn a_restored_copy_forgets_at_the_same_entry() {
        let mut records = IdempotencyRecords::default();
        for number in 0..3000 {
            records.remember(key(number), 0, Timestamp::from_millis(number as u64), b"r");
        }
        let mut copy = IdempotencyRecords::default();
        for chunk in records.view() {
            copy.restore_chunk(Chunk::clone(&chunk));
        }
        for millis in [LIFETIME_MS + 1000, LIFETIME_MS + 1500, LIFETIME_MS + 5000] {
            records.expire(Timestamp::from_millis(millis));
            copy.expire(Timestamp::from_millis(millis));
            assert_eq!(records.len(), copy.len());
        }
    }
}
