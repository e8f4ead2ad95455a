//! The two threads behind the log: one writes and syncs, one keeps a zeroed segment ready.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes};
use parking_lot::Mutex;

use super::index::{Index, Place};
use super::record::{self, Kind};
use super::recovery::Tail;
use super::segment::{HEADER_BYTES, Header, Segment, fill_with_zeros};
use super::{Done, RecoveredGroup, WalError, WalOptions, WalStats};

/// The most bytes that are laid out before they are written and synced.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// How long a rotation waits for the next segment before the log gives up.
const SPARE_WAIT: Duration = Duration::from_secs(30);
/// How often the second thread tries again when the disk is full.
const SPARE_RETRY: Duration = Duration::from_secs(1);
/// Without a spare, the log counts as full when less than this part of the segment is left.
const LOW_SPACE_DIVISOR: u64 = 4;

/// Something to be written.
pub(super) struct Operation {
    pub(super) kind: Kind,
    pub(super) group: u32,
    pub(super) body: Vec<u8>,
    /// The index's number of an append, else 0.
    pub(super) number: u64,
    pub(super) done: Option<Done>,
}

impl Operation {
    pub(super) fn new(kind: Kind, group: u32, body: Vec<u8>, done: Option<Done>) -> Self {
        Self { kind, group, body, number: 0, done }
    }
}

/// What callers and the threads share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) index: Mutex<Index>,
    pub(super) segments: Mutex<BTreeMap<u64, Arc<Segment>>>,
    spare_ready: AtomicBool,
    left_in_segment: AtomicU64,
    segment_bytes: AtomicU64,
    syncs: AtomicU64,
    last_sync_us: AtomicU64,
}

impl Shared {
    pub(super) fn new(index: Index, segments: BTreeMap<u64, Arc<Segment>>) -> Self {
        Self {
            index: Mutex::new(index),
            segments: Mutex::new(segments),
            spare_ready: AtomicBool::new(false),
            left_in_segment: AtomicU64::new(0),
            segment_bytes: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            last_sync_us: AtomicU64::new(0),
        }
    }

    pub(super) fn writable(&self) -> bool {
        let low = self.segment_bytes.load(Ordering::Relaxed) / LOW_SPACE_DIVISOR;
        self.spare_ready.load(Ordering::Relaxed)
            || self.left_in_segment.load(Ordering::Relaxed) > low
    }

    pub(super) fn stats(&self) -> WalStats {
        let segments = self.segments.lock();
        WalStats {
            segments: segments.len() as u64,
            bytes: segments.values().map(|segment| segment.bytes).sum(),
            syncs: self.syncs.load(Ordering::Relaxed),
            last_sync_us: self.last_sync_us.load(Ordering::Relaxed),
        }
    }
}

/// The writer thread's state.
pub(super) struct Writer {
    options: WalOptions,
    shared: Arc<Shared>,
    held: BTreeMap<u32, RecoveredGroup>,
    active: Arc<Segment>,
    /// Where the next batch is written in the active segment.
    offset: u64,
    number: u64,
    synced: u64,
    batch: Vec<u8>,
    spares: Receiver<PathBuf>,
    /// Asks for a spare, with a freed file to use again if there is one.
    wanted: SyncSender<Option<PathBuf>>,
}

impl Writer {
    /// Starts both threads.
    pub(super) fn start(
        options: WalOptions,
        shared: Arc<Shared>,
        held: BTreeMap<u32, RecoveredGroup>,
        tail: Tail,
        operations: Receiver<Operation>,
    ) -> Result<JoinHandle<()>, WalError> {
        let io = |what: &str, source| WalError::Io { what: what.to_owned(), source };
        // Left over from another run; possibly not zeroed to the end.
        let spare_path = options.directory.join("spare");
        let _ = fs::remove_file(&spare_path);
        let (wanted, requests) = sync_channel(2);
        let (ready, spares) = sync_channel(1);
        let preparing = Arc::clone(&shared);
        let bytes = options.segment_bytes;
        std::thread::Builder::new()
            .name("wal-spare".to_owned())
            .spawn(move || prepare_spares(&spare_path, bytes, &preparing, &requests, &ready))
            .map_err(|source| io("cannot start a thread", source))?;
        shared.segment_bytes.store(options.segment_bytes, Ordering::Relaxed);
        let first_request = wanted.send(None);
        first_request.map_err(|_| io("cannot prepare a segment", io::ErrorKind::Other.into()))?;
        let number = tail.number;
        let (active, offset) = match tail.segment {
            Some(found) => found,
            None => {
                let first = take_spare(&options, &shared, &spares, &wanted, 1, number + 1)?;
                (first, HEADER_BYTES)
            }
        };
        let mut writer = Self {
            options,
            shared,
            held,
            active,
            offset,
            number,
            synced: number,
            batch: Vec::new(),
            spares,
            wanted,
        };
        writer.note_space();
        std::thread::Builder::new()
            .name("wal-writer".to_owned())
            .spawn(move || writer.run(&operations))
            .map_err(|source| io("cannot start a thread", source))
    }

    fn run(&mut self, operations: &Receiver<Operation>) {
        let mut failure: Option<String> = None;
        while let Ok(first) = operations.recv() {
            let mut done: Vec<Done> = Vec::new();
            let mut result = self.check(failure.as_deref());
            let mut next = Some(first);
            let mut sync = false;
            let mut durable = 0;
            while let Some(operation) = next.take() {
                sync |= operation.kind.needs_sync();
                durable = durable.max(operation.number);
                if result.is_ok() {
                    result = self.lay_out(&operation);
                }
                done.extend(operation.done);
                if self.batch.len() < BATCH_BYTES_MAX {
                    next = operations.try_recv().ok();
                }
            }
            metrics::histogram!("grid_wal_batch_records").record(done.len() as f64);
            let result = result.and_then(|()| self.flush(sync));
            match &result {
                Ok(()) => self.shared.index.lock().durable(durable),
                Err(error) => {
                    tracing::error!(%error, "the log failed; the node must stop");
                    failure.get_or_insert_with(|| error.to_string());
                }
            }
            for done in done {
                let outcome = result.as_ref().map(|()| ());
                done(outcome.map_err(|error| io::Error::other(error.to_string())));
            }
            self.free_segments();
        }
    }

    fn check(&self, failure: Option<&str>) -> io::Result<()> {
        match failure {
            None => Ok(()),
            Some(failure) => Err(io::Error::other(format!("the log failed before: {failure}"))),
        }
    }

    fn lay_out(&mut self, operation: &Operation) -> io::Result<()> {
        self.hold(operation);
        let span = record::span(operation.body.len()) as u64;
        if self.offset + self.batch.len() as u64 + span > self.active.bytes {
            self.rotate(span)?;
        }
        let offset = self.offset + self.batch.len() as u64;
        let mut index = self.shared.index.lock();
        match operation.kind {
            Kind::Entries => {
                if let Some((first_index, count)) = record::entries_range(&operation.body) {
                    let segment = self.active.header.segment;
                    let (offset, span) = (offset as u32, span as u32);
                    let place = Place { first_index, segment, offset, span, count };
                    index.placed(operation.group, place);
                }
            }
            Kind::TruncateAfter => {
                if let Some(last) = record::decode_truncate(&operation.body) {
                    index.placed_truncation(operation.group, last);
                }
            }
            Kind::PurgeTo => {
                if let Some((purged, _)) = record::decode_purge(&operation.body) {
                    index.purge_to(operation.group, purged);
                }
            }
            Kind::Vote | Kind::Committed | Kind::Checkpoint => {}
        }
        drop(index);
        self.put(operation.kind, operation.group, &operation.body);
        Ok(())
    }

    fn put(&mut self, kind: Kind, group: u32, body: &[u8]) {
        self.number += 1;
        let salt = self.active.header.salt;
        record::lay_out(&mut self.batch, salt, self.number, self.synced, (kind, group), body);
    }

    /// Keeps what a checkpoint must repeat.
    fn hold(&mut self, operation: &Operation) {
        let body = || Bytes::copy_from_slice(&operation.body);
        let held = self.held.entry(operation.group).or_default();
        match operation.kind {
            Kind::Vote => held.vote = Some(body()),
            Kind::Committed => held.committed = Some(body()),
            Kind::PurgeTo => held.purged = record::decode_purge(&operation.body),
            Kind::Entries | Kind::TruncateAfter | Kind::Checkpoint => {}
        }
    }

    /// Writes what is laid out, and syncs it if anyone waits for that.
    fn flush(&mut self, sync: bool) -> io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.active.file.write_all_at(&self.batch, self.offset)?;
        self.offset += self.batch.len() as u64;
        metrics::counter!("grid_wal_bytes_total").increment(self.batch.len() as u64);
        self.batch.clear();
        self.note_space();
        if sync && self.options.sync {
            let started = Instant::now();
            self.active.file.sync_data()?;
            self.synced = self.number;
            let took = started.elapsed();
            self.shared.syncs.fetch_add(1, Ordering::Relaxed);
            self.shared.last_sync_us.store(took.as_micros() as u64, Ordering::Relaxed);
            metrics::histogram!("grid_wal_fsync_seconds").record(took.as_secs_f64());
        }
        Ok(())
    }

    fn note_space(&self) {
        let left = self.active.bytes.saturating_sub(self.offset);
        self.shared.left_in_segment.store(left, Ordering::Relaxed);
    }

    fn rotate(&mut self, span: u64) -> io::Result<()> {
        self.flush(true)?;
        let checkpoint = encode_checkpoint(&self.held);
        let needed = HEADER_BYTES + record::span(checkpoint.len()) as u64 + span;
        if needed > self.options.segment_bytes {
            return Err(io::Error::other("a record is larger than a segment"));
        }
        let next = self.active.header.segment + 1;
        let first = self.number + 1;
        self.active =
            take_spare(&self.options, &self.shared, &self.spares, &self.wanted, next, first)
                .map_err(|error| io::Error::other(error.to_string()))?;
        self.offset = HEADER_BYTES;
        self.put(Kind::Checkpoint, 0, &checkpoint);
        Ok(())
    }

    /// Gives back the segments before the oldest that holds a live entry.
    fn free_segments(&mut self) {
        let active = self.active.header.segment;
        let mut segments = self.shared.segments.lock();
        if segments.len() < 2 {
            return;
        }
        let oldest = self.shared.index.lock().pinned_by().map_or(active, |(segment, _)| segment);
        while let Some((number, segment)) = segments.first_key_value()
            && *number < oldest.min(active)
        {
            let (number, path) = (*number, segment.path.clone());
            segments.remove(&number);
            let freed = path.with_extension("free");
            let renamed = fs::rename(&path, &freed);
            // The spare thread zeroes it if it has use for it; otherwise it goes.
            if renamed.is_err() || self.wanted.try_send(Some(freed.clone())).is_err() {
                let _ = fs::remove_file(&freed);
            }
        }
    }
}

fn prepare_spares(
    path: &Path,
    bytes: u64,
    shared: &Shared,
    requests: &Receiver<Option<PathBuf>>,
    ready: &SyncSender<PathBuf>,
) {
    let mut pending: Option<PathBuf> = None;
    loop {
        match requests.recv_timeout(SPARE_RETRY) {
            Ok(Some(freed)) => {
                // Kept for the next spare; an older one that was not needed goes.
                if let Some(older) = pending.replace(freed) {
                    let _ = fs::remove_file(older);
                }
                continue;
            }
            Ok(None) => {}
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if let Some(freed) = pending.take() {
            let _ = fs::rename(freed, path);
        }
        while let Err(error) = fill_with_zeros(path, bytes) {
            tracing::error!(%error, "no room for the next segment of the log");
            std::thread::sleep(SPARE_RETRY);
        }
        shared.spare_ready.store(true, Ordering::Relaxed);
        if ready.send(path.to_owned()).is_err() {
            return;
        }
    }
}

fn take_spare(
    options: &WalOptions,
    shared: &Shared,
    spares: &Receiver<PathBuf>,
    wanted: &SyncSender<Option<PathBuf>>,
    segment: u64,
    first_number: u64,
) -> Result<Arc<Segment>, WalError> {
    let io = |what: &str, source| WalError::Io { what: what.to_owned(), source };
    let spare = spares
        .recv_timeout(SPARE_WAIT)
        .map_err(|_| io("there is no room for the next segment", io::ErrorKind::StorageFull.into()))?;
    shared.spare_ready.store(false, Ordering::Relaxed);
    let open = || -> io::Result<Segment> {
        let path = Segment::path(&options.directory, segment);
        fs::rename(&spare, &path)?;
        let file = File::options().read(true).write(true).open(&path)?;
        let mut salt = [0; 8];
        getrandom::fill(&mut salt).map_err(|error| io::Error::other(error.to_string()))?;
        let header = Header {
            grid_id: options.grid_id,
            node_id: options.node_id,
            segment,
            salt: u64::from_le_bytes(salt),
            first_number,
        };
        file.write_all_at(&header.encode(), 0)?;
        file.sync_all()?;
        File::open(&options.directory)?.sync_all()?;
        Ok(Segment { path, file, header, bytes: options.segment_bytes })
    };
    let opened = Arc::new(open().map_err(|source| io("cannot open the next segment", source))?);
    shared.segments.lock().insert(segment, Arc::clone(&opened));
    // When the thread is gone the next rotation says so.
    let _ = wanted.try_send(None);
    Ok(opened)
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    out.put_u32_le(bytes.map_or(0, |bytes| bytes.len() as u32 + 1));
    out.put_slice(bytes.unwrap_or_default());
}

fn take_bytes(bytes: &mut Bytes) -> Option<Option<Bytes>> {
    if bytes.len() < 4 {
        return None;
    }
    match bytes.get_u32_le().checked_sub(1) {
        None => Some(None),
        Some(length) if length as usize <= bytes.len() => {
            Some(Some(bytes.split_to(length as usize)))
        }
        Some(_) => None,
    }
}

fn encode_checkpoint(held: &BTreeMap<u32, RecoveredGroup>) -> Vec<u8> {
    let mut body = Vec::new();
    for (group, held) in held {
        body.put_u32_le(*group);
        put_bytes(&mut body, held.vote.as_deref());
        put_bytes(&mut body, held.committed.as_deref());
        let purged = held.purged.as_ref().map(|(index, meta)| record::encode_purge(*index, meta));
        put_bytes(&mut body, purged.as_deref());
    }
    body
}

/// Reads a checkpoint's body back.
pub(super) fn decode_checkpoint(body: &[u8]) -> Option<Vec<(u32, RecoveredGroup)>> {
    let mut body = Bytes::copy_from_slice(body);
    let mut groups = Vec::new();
    while !body.is_empty() {
        if body.len() < 4 {
            return None;
        }
        let group = body.get_u32_le();
        let vote = take_bytes(&mut body)?;
        let committed = take_bytes(&mut body)?;
        let purged = match take_bytes(&mut body)? {
            Some(bytes) => Some(record::decode_purge(&bytes)?),
            None => None,
        };
        groups.push((group, RecoveredGroup { vote, committed, purged }));
    }
    Some(groups)
}
