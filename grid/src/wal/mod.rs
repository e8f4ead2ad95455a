//! One write-ahead log a node, shared by all its Raft groups.
//!
//! ```text
//!   append / save_vote / truncate / purge ─► bounded queue ─► one writer thread:
//!        │                                        lay out in the segment ─► one write ─► one fdatasync
//!        └─► cache (readable at once)                                  └─► callbacks, in order
//! ```
//!
//! A segment is a file of 64 MiB, zeroed beforehand by a second thread so that syncing it changes no
//! metadata and rotation never waits; a freed one is zeroed and used again. Every segment begins with
//! a checkpoint of all votes and purge marks, so that an old segment can go although it held the last
//! vote of a group. Truncation, purge and the forgetting of a whole
//! group are records, not deletions.
//!
//! Invariants:
//! * a callback says yes only after the record and everything before it is synced;
//! * records carry a running number and a checksum salted per use of the segment, so that no stale
//!   byte is ever taken for a record;
//! * a record that fails its checksum is a torn tail only if nothing that was written after it was
//!   known to be synced; anything else is damage, and the log does not open; nor does it without the
//!   segments that its manifest says there are;
//! * a failed write or sync poisons the log: nothing is retried, every later call fails. A disk without
//!   room is no failure: the log refuses early (see [`RoomLevel`]), and waits when it comes to that.
//!
//! What it deliberately does not do: know what the bytes mean, repair damage (see `scrubber`, which has
//! damaged segments made needless), compact live entries of a slow group (see `retention`, which makes
//! that group take a snapshot).

mod checkpoint;
mod error;
mod index;
mod manifest;
mod pins;
mod places;
#[cfg(feature = "sim")]
#[path = "read_ahead_inline.rs"]
mod read_ahead;
#[cfg(not(feature = "sim"))]
mod read_ahead;
mod record;
mod recovery;
mod room;
mod scan;
mod scrub;
mod segment;
mod shared;
#[cfg(feature = "sim")]
#[path = "spare_inline.rs"]
mod spare;
#[cfg(not(feature = "sim"))]
mod spare;
mod sync_times;
#[cfg(test)]
mod tests;
#[cfg(feature = "sim")]
#[path = "worker_task.rs"]
mod worker;
#[cfg(not(feature = "sim"))]
mod worker;
mod writer;
mod zeros;

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

pub(crate) use error::WalError;
pub(crate) use room::RoomLevel;
pub(crate) use scrub::{ScrubTarget, SegmentCheck};

use error::lost;
use index::{Index, Source};
use pins::Pins;
use places::Place;
use record::Kind;
use shared::{Operation, Shared};
use worker::{Queue, Worker};
use writer::Writer;

use crate::platform::fs::{self, File, TryLockError};

/// The size of a segment.
pub(crate) const SEGMENT_BYTES: u64 = if cfg!(feature = "sim") {
    // A simulated log rotates all the time.
    256 << 10
} else {
    64 << 20
};
/// Memory for recent entries, on one node.
const CACHE_BYTES_MAX: usize = 64 << 20;
/// Operations waiting for the writer; beyond it the caller waits. Raft keeps far fewer in flight.
const QUEUE_MAX: usize = 8_192;

/// An append is laid out in records of at most this part of a segment; no entry may be larger.
const RECORD_DIVISOR: u64 = 2;
/// The length of an entry's meta has one byte.
const META_BYTES_MAX: usize = u8::MAX as usize;

/// What is called when an operation is durable, or failed.
pub(crate) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// How to open a log.
#[derive(Clone, Debug)]
pub(crate) struct WalOptions {
    /// Where its segments are.
    pub(crate) directory: PathBuf,
    /// The grid it must belong to.
    pub(crate) grid_id: u128,
    /// The node it must belong to.
    pub(crate) node_id: u64,
    /// Whether to sync; without, a power cut may lose the last moments.
    pub(crate) sync: bool,
    /// The size of new segments.
    pub(crate) segment_bytes: u64,
    /// Memory for recent entries.
    pub(crate) cache_bytes_max: usize,
    /// No segment is made ready when less than this would be left on the disk.
    pub(crate) keep_free_bytes: u64,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self {
            directory: PathBuf::new(),
            grid_id: 0,
            node_id: 0,
            sync: true,
            segment_bytes: SEGMENT_BYTES,
            cache_bytes_max: CACHE_BYTES_MAX,
            keep_free_bytes: 0,
        }
    }
}

/// One entry of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WalEntry {
    pub(crate) index: u64,
    /// Short: term and kind.
    pub(crate) meta: Bytes,
    pub(crate) payload: Bytes,
}

/// What the log knew when it was opened.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) groups: BTreeMap<u32, RecoveredGroup>,
    pub(crate) torn_tail: Option<TornTail>,
}

/// One group's part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RecoveredGroup {
    pub(crate) vote: Option<Bytes>,
    pub(crate) committed: Option<Bytes>,
    /// Entries up to this index are gone; with the last one's meta.
    pub(crate) purged: Option<(u64, Bytes)>,
    /// What the group's replica had come to when it was last forgotten here; opaque to the log.
    pub(crate) floor: Option<Bytes>,
}

impl RecoveredGroup {
    fn advance_purged(&mut self, purged: Option<(u64, Bytes)>) {
        let index = |purged: &Option<(u64, Bytes)>| purged.as_ref().map(|(index, _)| *index);
        if index(&purged) > index(&self.purged) {
            self.purged = purged;
        }
    }
}

/// A record that was being written when the machine stopped; it has been cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TornTail {
    pub(crate) file: PathBuf,
    pub(crate) offset: u64,
    /// From there to the last byte that was not zero.
    pub(crate) bytes: u64,
}

/// Figures for the node's status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WalStats {
    pub(crate) segments: u64,
    pub(crate) bytes: u64,
    pub(crate) syncs: u64,
    pub(crate) last_sync_us: u64,
    /// Of the last ten to twenty seconds.
    pub(crate) slowest_sync_us: u64,
    /// Half of the latest took at most this; `None` when there were few.
    pub(crate) usual_sync_us: Option<u64>,
    pub(crate) spare_ready: bool,
    pub(crate) segment_bytes: u64,
}

/// The log. Dropping it stops the writer after what is queued.
#[derive(Debug)]
pub(crate) struct Wal {
    shared: Arc<Shared>,
    /// Held while an operation is entered in the index and queued, so that both see one order.
    queue: Mutex<Option<Queue>>,
    record_bytes_max: usize,
    writer: Mutex<Option<Worker>>,
    /// Keeps other processes out until the log is closed.
    lock: Mutex<Option<File>>,
}

impl Wal {
    /// Opens or makes the log in a directory and recovers what is in it.
    ///
    /// # Errors
    /// See [`WalError`]; a damaged log is left as it is.
    pub(crate) fn open(options: WalOptions) -> Result<(Self, Recovered), WalError> {
        let directory = options.directory.clone();
        let io = |what: &str| {
            let what = format!("{what} {}", directory.display());
            move |source| WalError::Io {
                what: what.clone(),
                source,
            }
        };
        fs::create_dir_all(&directory).map_err(io("cannot make"))?;
        let lock = File::create(directory.join("lock")).map_err(io("cannot lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(WalError::InUse(directory)),
            Err(TryLockError::Error(error)) => return Err(io("cannot lock")(error)),
        }
        let recovery = recovery::recover(&options)?;
        let recovered = Recovered {
            groups: recovery.groups.clone(),
            torn_tail: recovery.torn_tail.clone(),
        };
        let pins = Pins::of(&recovery.entries, &recovery.groups);
        let index = Index::new(recovery.entries, &recovery.groups, options.cache_bytes_max);
        let shared = Arc::new(Shared::new(
            index,
            recovery.segments,
            pins,
            options.segment_bytes,
        ));
        let record_bytes_max = (options.segment_bytes / RECORD_DIVISOR) as usize;
        let (queue, operations) = worker::queue(QUEUE_MAX);
        let writer = Writer::open(options, Arc::clone(&shared), recovery.groups, recovery.tail)?;
        let writer = Worker::start(writer, operations).map_err(io("cannot start a writer in"))?;
        let wal = Self {
            shared,
            queue: Mutex::new(Some(queue)),
            record_bytes_max,
            writer: Mutex::new(Some(writer)),
            lock: Mutex::new(Some(lock)),
        };
        Ok((wal, recovered))
    }

    /// Enters an operation with `enter`, in one order with all others, and queues what it returns.
    ///
    /// Waits while the queue is full, and lets others wait.
    fn submit(&self, done: Option<Done>, enter: impl FnOnce(&mut Index) -> Vec<Operation>) {
        let queue = self.queue.lock();
        let refused = match &*queue {
            None => done,
            Some(sender) => {
                let mut operations = enter(&mut self.shared.index.lock());
                if let Some(last) = operations.last_mut() {
                    last.done = done;
                }
                let refused = operations
                    .into_iter()
                    .find_map(|next| sender.send(next).err());
                refused.and_then(|error| error.0.done)
            }
        };
        drop(queue);
        if let Some(done) = refused {
            done(Err(io::Error::other("the log is closed")));
        }
    }

    /// Appends entries that follow the group's last. They can be read at once.
    ///
    /// `done` gets [`io::ErrorKind::InvalidInput`] when they do not follow, or when one is larger
    /// than half a segment; the log is as before then. It runs on the writer's thread and must not
    /// call the log.
    pub(crate) fn append(&self, group: u32, entries: Vec<WalEntry>, done: Done) {
        if entries.is_empty() {
            return done(Ok(()));
        }
        let refuse = |done: Done, what: &str| {
            done(Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("group {group}: {what}"),
            )));
        };
        let fits = |entry: &WalEntry| {
            entry.meta.len() <= META_BYTES_MAX
                && record::entry_bytes(entry) <= self.record_bytes_max
        };
        if !entries.iter().all(fits) {
            return refuse(done, "an entry is too large for the log");
        }
        let follows = |pair: &[WalEntry]| pair[0].index.checked_add(1) == Some(pair[1].index);
        let last = self.shared.index.lock().last_index(group);
        let first = entries[0].index;
        if last.is_some_and(|last| last + 1 != first) || !entries.windows(2).all(follows) {
            return refuse(done, "entries do not follow without a gap");
        }
        let chunks = self.chunks(entries);
        self.submit(Some(done), |index| {
            let append = |(body, entries): (Vec<u8>, Vec<WalEntry>)| {
                let number = index.append(group, entries);
                Operation {
                    kind: Kind::Entries,
                    group,
                    body,
                    number,
                    done: None,
                }
            };
            chunks.into_iter().map(append).collect()
        });
    }

    /// Divides entries so that each part fits a record.
    fn chunks(&self, entries: Vec<WalEntry>) -> Vec<(Vec<u8>, Vec<WalEntry>)> {
        let mut chunks = Vec::with_capacity(1);
        let mut chunk = Vec::with_capacity(entries.len());
        let mut bytes = 0;
        for entry in entries {
            let more = record::entry_bytes(&entry);
            if bytes + more > self.record_bytes_max && !chunk.is_empty() {
                let full = std::mem::take(&mut chunk);
                chunks.push((record::encode_entries(&full), full));
                bytes = 0;
            }
            bytes += more;
            chunk.push(entry);
        }
        chunks.push((record::encode_entries(&chunk), chunk));
        chunks
    }

    /// Keeps a group's vote.
    pub(crate) fn save_vote(&self, group: u32, vote: Bytes, done: Done) {
        self.submit(Some(done), |_| {
            vec![Operation::new(Kind::Vote, group, vote.into())]
        });
    }

    /// Keeps a group's committed position with the next batch that is written for another reason, and
    /// at an orderly close: it is a hint, and not worth a write of its own.
    pub(crate) fn save_committed(&self, group: u32, committed: Bytes) {
        self.shared.committed.lock().insert(group, committed);
    }

    /// Forgets a group's entries after `last`, or all of them.
    pub(crate) fn truncate_after(&self, group: u32, last: Option<u64>, done: Done) {
        self.submit(Some(done), |index| {
            index.truncate_after(group, last);
            vec![Operation::new(
                Kind::TruncateAfter,
                group,
                record::encode_truncate(last),
            )]
        });
    }

    /// Lets a group's entries up to `index` go; `meta` is that entry's.
    pub(crate) fn purge_to(&self, group: u32, index: u64, meta: &[u8], done: Done) {
        let body = record::encode_purge(index, meta);
        self.submit(Some(done), |entries| {
            entries.purge_to(group, index);
            vec![Operation::new(Kind::PurgeTo, group, body)]
        });
    }

    /// Forgets a group: its entries and marks. What remains is the vote and the floor of `remains`.
    /// Nothing may be appended to it until `done` was called.
    pub(crate) fn forget(&self, group: u32, remains: &RecoveredGroup, done: Done) {
        let body = checkpoint::encode_remains(remains);
        self.submit(Some(done), |_| {
            vec![Operation::new(Kind::Forget, group, body)]
        });
    }

    /// A group's entries in a range, fewer when it ends earlier or `bytes_max` is reached (but at
    /// least one).
    ///
    /// # Errors
    /// [`WalError::Purged`] when the range begins before what is kept; else damage or the system's.
    pub(crate) fn read(
        &self,
        group: u32,
        range: Range<u64>,
        bytes_max: usize,
    ) -> Result<Vec<WalEntry>, WalError> {
        let mut entries: Vec<WalEntry> = Vec::new();
        let mut bytes = 0;
        let mut next = range.start;
        while next < range.end && (entries.is_empty() || bytes < bytes_max) {
            let found = self
                .shared
                .index
                .lock()
                .look_up(group, next, range.end, bytes_max)?;
            let run = match found {
                Source::End => break,
                Source::Cached(run) => run,
                Source::Lost => return Err(lost(group, next)),
                Source::OnDisk(place) => match self.read_place(&place, group, next) {
                    Ok(run) => run,
                    Err(error) => {
                        // A purge or truncation may have freed the segment meanwhile.
                        let again = self
                            .shared
                            .index
                            .lock()
                            .look_up(group, next, range.end, 1)?;
                        match again {
                            Source::OnDisk(same) if same == place => return Err(error),
                            _ => continue,
                        }
                    }
                },
            };
            let before = next;
            for entry in run {
                if entry.index < next {
                    continue;
                }
                if entry.index >= range.end || (!entries.is_empty() && bytes >= bytes_max) {
                    break;
                }
                bytes += entry.payload.len();
                next = entry.index + 1;
                entries.push(entry);
            }
            if next == before {
                return Err(lost(group, next));
            }
        }
        Ok(entries)
    }

    fn read_place(&self, place: &Place, group: u32, index: u64) -> Result<Vec<WalEntry>, WalError> {
        let segment = self.shared.segments.lock().get(&place.segment).cloned();
        segment
            .ok_or_else(|| lost(group, index))?
            .read_entries(place)
    }

    /// A group's last entry's index; `None` when it has no entries.
    pub(crate) fn last_index(&self, group: u32) -> Option<u64> {
        self.shared.index.lock().last_index(group)
    }

    /// A group's last entry's index and meta; `None` when it has no entries.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn last_entry(&self, group: u32) -> Result<Option<(u64, Bytes)>, WalError> {
        let Some(last) = self.last_index(group) else {
            return Ok(None);
        };
        let entry = self
            .read(group, last..last.saturating_add(1), usize::MAX)?
            .pop();
        let entry = entry.ok_or_else(|| lost(group, last))?;
        Ok(Some((entry.index, entry.meta)))
    }

    /// Whether new commands should be taken: the log works, and they would not eat what is needed to
    /// make room again. See [`RoomLevel`].
    pub(crate) fn writable(&self) -> bool {
        !self.shared.has_failed() && self.shared.room_level() == RoomLevel::Plenty
    }

    /// Whether entries of other leaders should be taken.
    pub(crate) fn takes_entries(&self) -> bool {
        !self.shared.has_failed() && self.shared.room_level() < RoomLevel::Scarce
    }

    /// How much room there is, on the disk and in the segments.
    pub(crate) fn room(&self) -> RoomLevel {
        self.shared.room_level()
    }

    /// Tells the log how much room the disk has.
    pub(crate) fn set_disk_room(&self, level: RoomLevel) {
        self.shared.room.set_disk(level);
    }

    /// Why the log failed, once it has.
    pub(crate) fn failure(&self) -> watch::Receiver<Option<String>> {
        self.shared.failure.subscribe()
    }

    /// What a scrub is to check: every segment, the present one as far as it is synced.
    pub(crate) fn scrub_targets(&self) -> Vec<ScrubTarget> {
        let synced = self.shared.synced_number.load(Ordering::Relaxed);
        let segments = self.shared.segments.lock();
        let next = segments.values().skip(1).map(Some).chain([None]);
        segments
            .values()
            .zip(next)
            .map(|(segment, next)| ScrubTarget {
                segment: Arc::clone(segment),
                last_number: next.map_or(synced, |next| next.header.first_number - 1),
            })
            .collect()
    }

    /// Whether a segment is still needed.
    pub(crate) fn has_segment(&self, segment: u64) -> bool {
        self.shared.segments.lock().contains_key(&segment)
    }

    /// Notes that a segment is damaged: no more is written to it, and its groups are asked for snapshots
    /// (see [`Self::must_unpin`]).
    pub(crate) fn condemn(&self, segment: u64) {
        self.shared.condemned.fetch_max(segment, Ordering::Relaxed);
        let newest = self.shared.segments.lock().keys().next_back().copied();
        if newest == Some(segment) {
            self.shared.seal_wanted.store(true, Ordering::Relaxed);
        }
    }

    /// The groups whose entries keep a damaged segment, or one before it.
    pub(crate) fn must_unpin(&self) -> Vec<u32> {
        let condemned = self.shared.condemned.load(Ordering::Relaxed);
        self.shared.pins.lock().up_to(condemned)
    }

    /// Figures for the status.
    pub(crate) fn stats(&self) -> WalStats {
        self.shared.stats()
    }

    /// About how many bytes of a group's log come after `index`.
    pub(crate) fn bytes_after(&self, group: u32, index: u64) -> u64 {
        self.shared.index.lock().bytes_after(group, index)
    }

    /// The oldest segment and the group whose entries keep it.
    pub(crate) fn pinned_by(&self) -> Option<(u64, u32)> {
        self.shared.pins.lock().oldest()
    }

    /// Writes and syncs what is queued and stops the writer. Later operations fail.
    pub(crate) fn close(&self) {
        self.shared.spares.close();
        self.queue.lock().take();
        if let Some(writer) = self.writer.lock().take() {
            writer.join();
        }
        self.lock.lock().take();
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.close();
    }
}
