//! What the log's worker does: lays operations out, writes, syncs, rotates and frees segments.
//!
//! It holds no lock while it writes, syncs, renames or waits.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use super::index::{Index, Place};
use super::pins::Pins;
use super::record::{self, Kind};
use super::recovery::Tail;
use super::segment::{HEADER_BYTES, Segment};
use super::spare::{SpareState, Spares};
use super::{Done, RecoveredGroup, WalError, WalOptions, WalStats, checkpoint};
use crate::platform::fs::FileExt as _;
use crate::platform::monotonic_now;

/// The most bytes that are laid out before they are written and synced.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// How long the slowest sync is remembered, at least.
const SLOWEST_WINDOW: Duration = Duration::from_secs(10);
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
    pub(super) fn new(kind: Kind, group: u32, body: Vec<u8>) -> Self {
        Self {
            kind,
            group,
            body,
            number: 0,
            done: None,
        }
    }
}

/// What callers and the threads share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) index: Mutex<Index>,
    pub(super) segments: Mutex<BTreeMap<u64, Arc<Segment>>>,
    pub(super) pins: Mutex<Pins>,
    /// Committed positions that wait for the next batch.
    pub(super) committed: Mutex<BTreeMap<u32, Bytes>>,
    spares: Arc<SpareState>,
    failed: AtomicBool,
    left_in_segment: AtomicU64,
    segment_bytes: u64,
    syncs: AtomicU64,
    last_sync_us: AtomicU64,
    slowest: Mutex<Slowest>,
}

/// The slowest sync of this window and of the one before.
#[derive(Debug)]
struct Slowest {
    since: Instant,
    present_us: u64,
    before_us: u64,
}

impl Slowest {
    fn roll(&mut self) {
        let now = monotonic_now();
        let age = now.saturating_duration_since(self.since);
        if age >= SLOWEST_WINDOW {
            let is_adjacent = age < SLOWEST_WINDOW * 2;
            self.before_us = if is_adjacent { self.present_us } else { 0 };
            self.present_us = 0;
            self.since = now;
        }
    }

    fn note(&mut self, us: u64) {
        self.roll();
        self.present_us = self.present_us.max(us);
    }

    fn read(&mut self) -> u64 {
        self.roll();
        self.present_us.max(self.before_us)
    }
}

impl Shared {
    pub(super) fn new(
        index: Index,
        segments: BTreeMap<u64, Arc<Segment>>,
        pins: Pins,
        segment_bytes: u64,
    ) -> Self {
        Self {
            index: Mutex::new(index),
            segments: Mutex::new(segments),
            pins: Mutex::new(pins),
            committed: Mutex::default(),
            spares: Arc::default(),
            failed: AtomicBool::new(false),
            left_in_segment: AtomicU64::new(0),
            segment_bytes,
            syncs: AtomicU64::new(0),
            last_sync_us: AtomicU64::new(0),
            slowest: Mutex::new(Slowest {
                since: monotonic_now(),
                present_us: 0,
                before_us: 0,
            }),
        }
    }

    pub(super) fn writable(&self) -> bool {
        let low = self.segment_bytes / LOW_SPACE_DIVISOR;
        let room = self.spares.is_ready() || self.left_in_segment.load(Ordering::Relaxed) > low;
        room && !self.failed.load(Ordering::Relaxed)
    }

    pub(super) fn stats(&self) -> WalStats {
        let segments = self.segments.lock();
        WalStats {
            segments: segments.len() as u64,
            bytes: segments.values().map(|segment| segment.bytes).sum(),
            syncs: self.syncs.load(Ordering::Relaxed),
            last_sync_us: self.last_sync_us.load(Ordering::Relaxed),
            slowest_sync_us: self.slowest.lock().read(),
            spare_ready: self.spares.is_ready(),
            segment_bytes: self.segment_bytes,
        }
    }
}

/// The state of whoever writes.
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
    spares: Spares,
    failure: Option<String>,
}

/// Operations that were written together, before they are synced.
pub(super) struct Batch {
    result: io::Result<()>,
    sync: bool,
    /// The newest append among them, as the index numbers them.
    durable: u64,
    done: Vec<Done>,
}

impl Writer {
    /// Opens the active segment. What recovery found must be synced.
    pub(super) fn open(
        options: WalOptions,
        shared: Arc<Shared>,
        held: BTreeMap<u32, RecoveredGroup>,
        tail: Tail,
    ) -> Result<Self, WalError> {
        let io = |what: &str| {
            let what = what.to_owned();
            move |source| WalError::Io { what, source }
        };
        let state = Arc::clone(&shared.spares);
        let mut spares = Spares::start(&options.directory, options.segment_bytes, state)
            .map_err(io("cannot prepare segments"))?;
        let number = tail.number;
        let (active, offset) = match tail.segment {
            Some(found) => found,
            None => {
                let first = open_next(&options, &shared, &mut spares, 1, number + 1)
                    .map_err(io("cannot open the first segment"))?;
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
            failure: None,
        };
        if offset == HEADER_BYTES {
            // The machine may have stopped before the checkpoint was written. Without it the votes
            // would go with the segments before this one.
            let body = checkpoint::encode(&writer.held);
            writer.put(Kind::Checkpoint, 0, &body);
            writer
                .flush(true)
                .map_err(io("cannot write a checkpoint"))?;
        }
        writer.note_space();
        Ok(writer)
    }

    /// Lays out and writes an operation and those that `more` gives, as many as make a batch.
    pub(super) fn write(
        &mut self,
        first: Operation,
        mut more: impl FnMut() -> Option<Operation>,
    ) -> Batch {
        let mut done: Vec<Done> = Vec::new();
        let mut result = check(self.failure.as_deref()).and_then(|()| self.lay_out_committed());
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
                next = more();
            }
        }
        metrics::histogram!("grid_wal_batch_records").record(done.len() as f64);
        Batch {
            result: result.and_then(|()| self.flush(false)),
            sync,
            durable,
            done,
        }
    }

    /// Syncs a batch that was written, tells who waits, and frees what is no longer needed.
    pub(super) fn settle(&mut self, batch: Batch) {
        let sync = batch.sync && self.options.sync;
        let result = batch.result.and_then(|()| self.flush(sync));
        match &result {
            Ok(()) => self.shared.index.lock().durable(batch.durable),
            Err(error) => self.fail(error),
        }
        for done in batch.done {
            done(match &result {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            });
        }
        if result.is_ok()
            && let Err(error) = self.free_segments()
        {
            self.fail(&error);
        }
    }

    /// Where the log is.
    #[cfg(feature = "sim")]
    pub(super) fn directory(&self) -> &std::path::Path {
        &self.options.directory
    }

    /// Tries again to have the next segment ready.
    #[cfg(feature = "sim")]
    pub(super) fn prepare_spare(&mut self) {
        self.spares.prepare();
    }

    /// Nobody waits for a committed position, but an orderly stop keeps it.
    pub(super) fn finish(&mut self) {
        if self.failure.is_none()
            && let Err(error) = self.lay_out_committed().and_then(|()| self.flush(true))
        {
            tracing::error!(%error, "cannot sync the log at its end");
        }
    }

    fn lay_out_committed(&mut self) -> io::Result<()> {
        let committed = std::mem::take(&mut *self.shared.committed.lock());
        for (group, position) in committed {
            self.lay_out(&Operation::new(Kind::Committed, group, position.into()))?;
        }
        Ok(())
    }

    /// The first failure is the one that counts: nothing is written after it.
    fn fail(&mut self, error: &io::Error) {
        if self.failure.is_none() {
            tracing::error!(%error, "the log failed; the node must stop");
            self.shared.failed.store(true, Ordering::Relaxed);
            self.failure = Some(error.to_string());
        }
    }

    fn lay_out(&mut self, operation: &Operation) -> io::Result<()> {
        let span = record::span(operation.body.len()) as u64;
        if self.offset + self.batch.len() as u64 + span > self.active.bytes {
            self.rotate(span)?;
        }
        self.hold(operation);
        let group = operation.group;
        match operation.kind {
            Kind::Entries => {
                if let Some((first_index, count)) = record::entries_range(&operation.body) {
                    let segment = self.active.header.segment;
                    let offset = (self.offset + self.batch.len() as u64) as u32;
                    let place = Place {
                        first_index,
                        segment,
                        offset,
                        span: span as u32,
                        count,
                    };
                    self.shared.index.lock().placed(group, place);
                    self.shared.pins.lock().place(group, &place);
                }
            }
            Kind::TruncateAfter => {
                if let Some(last) = record::decode_truncate(&operation.body) {
                    let end = last.map_or(0, |last| last.saturating_add(1));
                    self.shared.index.lock().placed_truncation(group, end);
                    self.shared.pins.lock().truncate(group, end);
                }
            }
            Kind::PurgeTo => {
                if let Some((purged, _)) = record::decode_purge(&operation.body) {
                    self.shared.index.lock().purge_to(group, purged);
                    self.shared.pins.lock().purge(group, purged);
                }
            }
            Kind::Forget => {
                self.shared.committed.lock().remove(&group);
                self.shared.index.lock().forget(group);
                self.shared.pins.lock().forget(group);
            }
            Kind::Vote | Kind::Committed | Kind::Checkpoint => {}
        }
        self.put(operation.kind, group, &operation.body);
        Ok(())
    }

    fn put(&mut self, kind: Kind, group: u32, body: &[u8]) {
        self.number += 1;
        let salt = self.active.header.salt;
        record::lay_out(
            &mut self.batch,
            salt,
            self.number,
            self.synced,
            (kind, group),
            body,
        );
    }

    /// Keeps what a checkpoint must repeat.
    fn hold(&mut self, operation: &Operation) {
        let body = || Bytes::copy_from_slice(&operation.body);
        if operation.kind == Kind::Forget {
            self.held.remove(&operation.group);
            return;
        }
        let held = self.held.entry(operation.group).or_default();
        match operation.kind {
            Kind::Vote => held.vote = Some(body()),
            Kind::Committed => held.committed = Some(body()),
            Kind::PurgeTo => held.advance_purged(record::decode_purge(&operation.body)),
            Kind::Entries | Kind::TruncateAfter | Kind::Checkpoint | Kind::Forget => {}
        }
    }

    /// Writes what is laid out, and syncs it if told so.
    fn flush(&mut self, sync: bool) -> io::Result<()> {
        if !self.batch.is_empty() {
            self.active.file.write_all_at(&self.batch, self.offset)?;
            self.offset += self.batch.len() as u64;
            metrics::counter!("grid_wal_bytes_total").increment(self.batch.len() as u64);
            self.batch.clear();
            self.note_space();
        }
        if sync && self.synced < self.number {
            let started = monotonic_now();
            #[cfg(feature = "planted-bugs")]
            let skip = crate::platform::simulated::is_planted("skip-fsync");
            #[cfg(not(feature = "planted-bugs"))]
            let skip = false;
            if !skip {
                sync_segment(&self.active)?;
            }
            self.synced = self.number;
            let took = monotonic_now().saturating_duration_since(started);
            self.shared.syncs.fetch_add(1, Ordering::Relaxed);
            let took_us = took.as_micros() as u64;
            self.shared.last_sync_us.store(took_us, Ordering::Relaxed);
            self.shared.slowest.lock().note(took_us);
            metrics::histogram!("grid_wal_fsync_seconds").record(took.as_secs_f64());
        }
        Ok(())
    }

    fn note_space(&self) {
        let left = self.active.bytes.saturating_sub(self.offset);
        self.shared.left_in_segment.store(left, Ordering::Relaxed);
    }

    fn rotate(&mut self, span: u64) -> io::Result<()> {
        // Even when batches are not synced: only the last segment may have a torn tail.
        self.flush(true)?;
        let checkpoint = checkpoint::encode(&self.held);
        let needed = HEADER_BYTES + record::span(checkpoint.len()) as u64 + span;
        if needed > self.options.segment_bytes {
            return Err(io::Error::other("a record is larger than a segment"));
        }
        let next = self.active.header.segment + 1;
        // From here on the room is that of the next segment: without this, callers would see a full
        // segment and no spare for the moment of the change, and refuse writes.
        let room = self.options.segment_bytes;
        self.shared.left_in_segment.store(room, Ordering::Relaxed);
        self.active = open_next(
            &self.options,
            &self.shared,
            &mut self.spares,
            next,
            self.number + 1,
        )?;
        self.offset = HEADER_BYTES;
        self.put(Kind::Checkpoint, 0, &checkpoint);
        Ok(())
    }

    /// Gives back the segments before the oldest that holds a live entry.
    ///
    /// The checkpoint, purge or truncation that allows it must be durable before.
    fn free_segments(&mut self) -> io::Result<()> {
        let active = self.active.header.segment;
        let oldest = self
            .shared
            .pins
            .lock()
            .oldest()
            .map_or(active, |(segment, _)| segment);
        let oldest = oldest.min(active);
        let first = self.shared.segments.lock().keys().next().copied();
        if first.is_none_or(|first| first >= oldest) {
            return Ok(());
        }
        self.flush(true)?;
        let freed: Vec<PathBuf> = {
            let mut segments = self.shared.segments.lock();
            let kept = segments.split_off(&oldest);
            let freed = std::mem::replace(&mut *segments, kept);
            freed
                .into_values()
                .map(|segment| segment.path.clone())
                .collect()
        };
        // Oldest first: a crash in between must not leave a gap.
        for path in freed {
            self.spares.recycle(&path);
        }
        Ok(())
    }
}

fn sync_segment(segment: &Segment) -> io::Result<()> {
    let synced = segment.file.sync_data();
    #[cfg(feature = "planted-bugs")]
    if crate::platform::simulated::is_planted("ignore-sync-error") {
        return Ok(());
    }
    synced
}

fn check(failure: Option<&str>) -> io::Result<()> {
    match failure {
        None => Ok(()),
        Some(failure) => Err(io::Error::other(format!(
            "the log failed before: {failure}"
        ))),
    }
}

fn open_next(
    options: &WalOptions,
    shared: &Shared,
    spares: &mut Spares,
    segment: u64,
    first_number: u64,
) -> io::Result<Arc<Segment>> {
    let spare = spares.take()?;
    let opened = Arc::new(Segment::create(options, &spare, segment, first_number)?);
    shared.segments.lock().insert(segment, Arc::clone(&opened));
    Ok(opened)
}
