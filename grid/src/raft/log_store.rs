//! One group's log and vote inside the node's write-ahead log.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use grid_core::codec;
use openraft::RaftLogReader;
use openraft::entry::EntryPayload;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::purge_delay::PurgeDelay;
use super::types::{Entry, EntryBytes, LeaderTerm, LogId, TypeConfig, Vote};
use crate::platform::monotonic_now;
use crate::wal::{Done, RecoveredGroup, Wal, WalEntry};

/// The most bytes of entries that are read from the log at once to be sent to one peer.
const READ_BYTES_MAX: usize = 4 << 20;

/// How long entries of another leader wait for room on the disk before their stream ends; shorter than
/// their sender waits for an answer.
const ROOM_WAIT: Duration = Duration::from_millis(1_500);
/// How often it is looked.
const ROOM_LOOK: Duration = Duration::from_millis(100);

const KIND_BLANK: u8 = 0;
const KIND_NORMAL: u8 = 1;
const KIND_MEMBERSHIP: u8 = 2;

/// A handle on one group's part of the log; clones see the same.
#[derive(Clone)]
pub(crate) struct LogStore {
    wal: Arc<Wal>,
    group: u32,
    known: Arc<Mutex<Known>>,
    delay: Arc<Mutex<PurgeDelay>>,
}

/// What is asked often and changes seldom, decoded.
#[derive(Debug, Default)]
struct Known {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    floor: Option<LogId>,
}

fn invalid(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

impl LogStore {
    /// Takes up the group as recovery found it.
    ///
    /// # Errors
    /// When the stored vote or positions do not decode.
    pub(crate) fn open(
        wal: Arc<Wal>,
        group: u32,
        recovered: Option<&RecoveredGroup>,
    ) -> Result<Self, io::Error> {
        let mut known = Known::default();
        if let Some(recovered) = recovered {
            let vote = recovered.vote.as_deref().map(codec::decode).transpose();
            known.vote = vote.map_err(invalid)?;
            let committed = recovered
                .committed
                .as_deref()
                .map(codec::decode)
                .transpose();
            known.committed = committed.map_err(invalid)?;
            if let Some((index, meta)) = &recovered.purged {
                known.purged = Some(log_id(*index, meta)?);
            }
            let floor = recovered.floor.as_deref().map(codec::decode).transpose();
            known.floor = floor.map_err(invalid)?;
        }
        // The mark goes to the disk with whatever is written next, which may be before the entries that
        // it is about: other replicas had synced those when this one had not. After a power cut it can
        // therefore lie beyond the log's end. Then it is as good as none: what is committed the next
        // leader says, and nothing of this log may be applied on its word.
        let end = wal
            .last_index(group)
            .max(known.purged.map(|purged| purged.index));
        known.committed = known.committed.filter(|mark| Some(mark.index) <= end);
        Ok(Self {
            wal,
            group,
            known: Arc::new(Mutex::new(known)),
            delay: Arc::default(),
        })
    }

    /// Whom this node voted for in the group, or followed, last; it may be the node itself.
    pub(super) fn voted_for(&self) -> Option<u64> {
        let vote = self.known.lock().vote;
        vote.map(|vote| vote.leader_id.voted_for)
    }

    /// What this node's replica had come to when the group last left the node, if it did. Others may count
    /// on its having acknowledged everything up to here, so until it has all that again it must neither
    /// lead nor help one to lead who has less.
    pub(super) fn floor(&self) -> Option<LogId> {
        self.known.lock().floor
    }

    /// Whether a candidate whose log ends there has less than that, and must not get this node's vote.
    pub(super) fn outranks(&self, candidate_last: Option<&LogId>) -> bool {
        candidate_last < self.floor().as_ref()
    }

    /// Whether this replica has less than that. A log that cannot be read is taken for one.
    pub(super) fn is_below_floor(&self) -> bool {
        let floor = self.floor();
        floor.is_some() && self.last().ok().flatten() < floor
    }

    /// The last entry that is held, or was purged.
    pub(super) fn last(&self) -> io::Result<Option<LogId>> {
        match self.wal.last_entry(self.group).map_err(invalid)? {
            Some((index, meta)) => Ok(Some(log_id(index, &meta)?)),
            None => Ok(self.known.lock().purged),
        }
    }

    /// Whether nothing is here but what remains of a group that has left.
    pub(crate) fn has_left(&self) -> bool {
        let known = self.known.lock();
        let is_empty = known.purged.is_none() && self.wal.last_index(self.group).is_none();
        is_empty && known.floor.is_some()
    }

    /// Lets all entries and marks go, since the group is held here no more. Returns what remains of it in
    /// the log: the vote and the floor.
    ///
    /// # Errors
    /// When the log cannot be read or written.
    pub(crate) async fn leave(&self) -> io::Result<RecoveredGroup> {
        let floor = self.floor().max(self.last()?);
        let vote = self.known.lock().vote;
        let remains = RecoveredGroup {
            vote: encoded(vote.as_ref())?,
            floor: encoded(floor.as_ref())?,
            ..RecoveredGroup::default()
        };
        let (done, receiver) = completion();
        self.wal.forget(self.group, &remains, done);
        completed(receiver).await?;
        Ok(remains)
    }

    /// The group's number.
    pub(crate) fn group(&self) -> u32 {
        self.group
    }

    /// Whether entries of another leader can be taken; waits for some time that they can.
    pub(super) async fn wait_for_room(&self) -> bool {
        let deadline = tokio::time::Instant::now() + ROOM_WAIT;
        while !self.wal.takes_entries() {
            if tokio::time::Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(ROOM_LOOK).await;
        }
        true
    }

    /// Frees what the group let go of long enough ago, see [`PurgeDelay`].
    pub(crate) fn free_purged(&self) {
        let due = self.delay.lock().take_due(monotonic_now());
        if let Some(upto) = due {
            self.free(upto);
        }
    }

    /// Whether entries wait to be freed.
    pub(crate) fn is_freeing(&self) -> bool {
        self.delay.lock().is_waiting()
    }

    fn free(&self, upto: LogId) {
        // Nobody relies on it before it is stored: a purge that is lost leaves entries that a snapshot
        // covers. Waiting would keep the group from sending heartbeats for as long as a sync takes.
        let group = self.group;
        let done = Box::new(move |result: io::Result<()>| {
            if let Err(error) = result {
                tracing::debug!(%error, group, "a purge was not stored");
            }
        });
        self.wal
            .purge_to(group, upto.index, &meta(&upto, KIND_BLANK), done);
    }

    /// Committed entries' bytes from `first` on up to `last`, for replays: `None` for entries that
    /// carry nothing for the space.
    ///
    /// # Errors
    /// When the log does not reach back to `first` or cannot be read.
    pub(crate) fn read_for_replay(
        &self,
        first: u64,
        last: u64,
        bytes_max: usize,
    ) -> Result<Vec<(u64, Option<Bytes>)>, io::Error> {
        let entries = self
            .wal
            .read(self.group, first..last + 1, bytes_max)
            .map_err(invalid)?;
        let normal = |entry: &WalEntry| entry.meta.last() == Some(&KIND_NORMAL);
        Ok(entries
            .into_iter()
            .map(|entry| (entry.index, normal(&entry).then_some(entry.payload)))
            .collect())
    }

    /// Entries up to here are known to be committed.
    pub(super) fn committed(&self) -> Option<LogId> {
        self.known.lock().committed
    }

    /// Entries in a range, fewer where it ends earlier or `bytes_max` is reached.
    ///
    /// # Errors
    /// When the log does not reach back so far or cannot be read.
    pub(super) fn read(
        &self,
        range: impl RangeBounds<u64>,
        bytes_max: usize,
    ) -> io::Result<Vec<Entry>> {
        let first = match range.start_bound() {
            Bound::Included(&first) => first,
            Bound::Excluded(&before) => before + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last.saturating_add(1),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => u64::MAX,
        };
        let entries = self
            .wal
            .read(self.group, first..end, bytes_max)
            .map_err(invalid)?;
        entries.into_iter().map(from_wal).collect()
    }
}

fn encoded<T: serde::Serialize>(value: Option<&T>) -> io::Result<Option<Bytes>> {
    let encoded = value.map(codec::encode).transpose().map_err(invalid)?;
    Ok(encoded.map(Bytes::from))
}

fn log_id(index: u64, meta: &[u8]) -> io::Result<LogId> {
    let term = meta.get(..8).and_then(|bytes| bytes.try_into().ok());
    let term = term.ok_or_else(|| invalid("an entry's term is missing"))?;
    Ok(LogId {
        leader_id: LeaderTerm::new(u64::from_le_bytes(term)),
        index,
    })
}

fn meta(log_id: &LogId, kind: u8) -> Bytes {
    let mut meta = BytesMut::with_capacity(9);
    meta.put_u64_le(*log_id.leader_id);
    meta.put_u8(kind);
    meta.freeze()
}

fn to_wal(entry: Entry) -> io::Result<WalEntry> {
    let (kind, payload) = match entry.payload {
        EntryPayload::Blank => (KIND_BLANK, Bytes::new()),
        EntryPayload::Normal(bytes) => (KIND_NORMAL, bytes.0),
        EntryPayload::Membership(membership) => (
            KIND_MEMBERSHIP,
            codec::encode(&membership).map_err(invalid)?.into(),
        ),
    };
    Ok(WalEntry {
        index: entry.log_id.index,
        meta: meta(&entry.log_id, kind),
        payload,
    })
}

fn from_wal(entry: WalEntry) -> io::Result<Entry> {
    let log_id = log_id(entry.index, &entry.meta)?;
    let payload = match entry.meta.get(8) {
        Some(&KIND_BLANK) => EntryPayload::Blank,
        Some(&KIND_NORMAL) => EntryPayload::Normal(EntryBytes(entry.payload)),
        Some(&KIND_MEMBERSHIP) => {
            EntryPayload::Membership(codec::decode(&entry.payload).map_err(invalid)?)
        }
        _ => return Err(invalid("an entry's kind is unknown")),
    };
    Ok(Entry { log_id, payload })
}

/// A completion that an async caller waits for.
fn completion() -> (Done, oneshot::Receiver<io::Result<()>>) {
    let (sender, receiver) = oneshot::channel();
    let done = move |result| {
        // The caller may have gone away; the write stands all the same.
        let _ = sender.send(result);
    };
    (Box::new(done), receiver)
}

async fn completed(receiver: oneshot::Receiver<io::Result<()>>) -> io::Result<()> {
    receiver
        .await
        .unwrap_or_else(|_| Err(io::Error::other("the log's writer has stopped")))
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(range, usize::MAX)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(start..end, READ_BYTES_MAX)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.known.lock().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let purged = self.known.lock().purged;
        Ok(LogState {
            last_purged_log_id: purged,
            last_log_id: self.last()?,
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let bytes = codec::encode(vote).map_err(invalid)?;
        let (done, receiver) = completion();
        self.wal.save_vote(self.group, bytes.into(), done);
        completed(receiver).await?;
        self.known.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        if let Some(committed) = committed {
            let bytes = codec::encode(&committed).map_err(invalid)?;
            self.wal.save_committed(self.group, bytes.into());
            self.known.lock().committed = Some(committed);
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.known.lock().committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries = entries
            .into_iter()
            .map(to_wal)
            .collect::<io::Result<Vec<_>>>()?;
        let done = Box::new(move |result| callback.io_completed(result));
        self.wal.append(self.group, entries, done);
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let (done, receiver) = completion();
        self.wal
            .truncate_after(self.group, last.map(|id| id.index), done);
        completed(receiver).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.known.lock().purged = Some(upto);
        let last = self.wal.last_index(self.group);
        if last.is_none_or(|last| last < upto.index) {
            // What comes next does not follow what is there.
            self.delay.lock().clear();
            self.free(upto);
        } else {
            self.delay.lock().note(upto, monotonic_now());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use openraft::storage::RaftLogStorageExt;

    use super::super::types::at;
    use super::*;
    use crate::wal::WalOptions;

    const GROUP: u32 = 5;

    fn open(directory: &std::path::Path) -> LogStore {
        let (wal, recovered) = Wal::open(WalOptions {
            directory: directory.to_owned(),
            grid_id: 7,
            node_id: 3,
            sync: false,
            segment_bytes: 1 << 20,
            cache_bytes_max: 1 << 20,
            keep_free_bytes: 0,
        })
        .unwrap();
        LogStore::open(Arc::new(wal), GROUP, recovered.groups.get(&GROUP)).unwrap()
    }

    async fn with_entries(directory: &std::path::Path, last: u64) -> LogStore {
        let mut store = open(directory);
        let entries: Vec<_> = (1..=last)
            .map(|index| Entry {
                log_id: at(index),
                payload: EntryPayload::Blank,
            })
            .collect();
        store.blocking_append(entries).await.unwrap();
        store
    }

    #[tokio::test]
    async fn who_sends_purged_entries_can_still_read_them() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = with_entries(directory.path(), 10).await;
        store.purge(at(8)).await.unwrap();
        let state = store.get_log_state().await.unwrap();
        assert_eq!(state.last_purged_log_id, Some(at(8)));
        store.free_purged();
        let read = store.clone().limited_get_log_entries(5, 11).await.unwrap();
        assert_eq!(read.first().map(|entry| entry.log_id), Some(at(5)));
        assert!(store.is_freeing());
    }

    #[tokio::test]
    async fn a_log_that_ends_before_the_snapshot_is_freed_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = with_entries(directory.path(), 10).await;
        store.purge(at(8)).await.unwrap();
        store.purge(at(20)).await.unwrap();
        assert!(!store.is_freeing());
        let after = Entry {
            log_id: at(21),
            payload: EntryPayload::Blank,
        };
        store.blocking_append([after]).await.unwrap();
        let state = store.get_log_state().await.unwrap();
        assert_eq!(state.last_log_id, Some(at(21)));
        assert!(store.limited_get_log_entries(5, 22).await.is_err());
    }

    #[tokio::test]
    async fn a_group_that_left_and_came_back_knows_what_it_had() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = with_entries(directory.path(), 10).await;
        store.save_vote(&Vote::new(2, 3)).await.unwrap();
        store.save_committed(Some(at(9))).await.unwrap();
        assert!(!store.is_below_floor() && !store.has_left());
        store.leave().await.unwrap();
        drop(store);

        let mut store = open(directory.path());
        assert!(store.has_left() && store.is_below_floor());
        assert!(store.outranks(None) && store.outranks(Some(&at(9))));
        assert!(!store.outranks(Some(&at(10))));
        assert_eq!(store.read_vote().await.unwrap(), Some(Vote::new(2, 3)));
        let state = store.get_log_state().await.unwrap();
        assert_eq!((state.last_purged_log_id, state.last_log_id), (None, None));
        assert_eq!(store.read_committed().await.unwrap(), None);

        // It comes back as far as the fourth entry, and leaves again: the floor does not sink.
        let entry = |index| Entry {
            log_id: at(index),
            payload: EntryPayload::Blank,
        };
        store.blocking_append((1..=4).map(entry)).await.unwrap();
        assert!(store.is_below_floor() && !store.has_left());
        store.leave().await.unwrap();
        assert_eq!(open_again(store, directory.path()).floor(), Some(at(10)));

        let mut store = open(directory.path());
        store.blocking_append((1..=10).map(entry)).await.unwrap();
        assert!(!store.is_below_floor());
    }

    fn open_again(store: LogStore, directory: &std::path::Path) -> LogStore {
        drop(store);
        open(directory)
    }

    #[tokio::test]
    async fn a_mark_of_what_is_committed_counts_only_as_far_as_the_log_goes() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = with_entries(directory.path(), 10).await;
        store.save_committed(Some(at(7))).await.unwrap();
        // Whatever comes next takes the mark along.
        store.save_vote(&Vote::new(1, 3)).await.unwrap();
        drop(store);
        let mut store = open(directory.path());
        assert_eq!(store.read_committed().await.unwrap(), Some(at(7)));

        store.save_committed(Some(at(12))).await.unwrap();
        store.save_vote(&Vote::new(2, 3)).await.unwrap();
        drop(store);
        let mut store = open(directory.path());
        assert_eq!(store.read_committed().await.unwrap(), None);
        let state = store.get_log_state().await.unwrap();
        assert_eq!(state.last_log_id, Some(at(10)));
    }
}
