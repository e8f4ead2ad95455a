//! What the log's worker does: lays operations out, writes, syncs; see `segments` for what they are
//! written to.
//!
//! It holds no lock while it writes, syncs, renames or waits.

mod segments;

use std::collections::BTreeMap;
use std::io;
#[cfg(feature = "sim")]
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::manifest::{Bounds, Manifest};
use super::places::Place;
use super::record::{self, Kind};
use super::recovery::Tail;
use super::segment::{HEADER_BYTES, Segment};
use super::shared::{Operation, Shared};
#[cfg(feature = "sim")]
use super::spare::SpareState;
use super::spare::Spares;
use super::{Done, RecoveredGroup, WalError, WalOptions, checkpoint};
use crate::platform::fs::FileExt as _;
use crate::platform::monotonic_now;
use segments::open_next;

/// The most bytes that are laid out before they are written and synced.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// How long the first segment of a new log waits for room.
const FIRST_SEGMENT_WAIT: Duration = Duration::from_secs(10);

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
    manifest: Manifest,
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
        let mut spares = Spares::start(&options, state).map_err(io("cannot prepare segments"))?;
        let number = tail.number;
        let (active, offset) = match tail.segment {
            Some(found) => found,
            None => {
                let spare = spares
                    .take_within(FIRST_SEGMENT_WAIT)
                    .map_err(io("cannot open the first segment"))?;
                let first = open_next(&options, &shared, &spare, 1, number + 1)
                    .map_err(io("cannot open the first segment"))?;
                (first, HEADER_BYTES)
            }
        };
        let newest = active.header.segment;
        let oldest = shared.segments.lock().keys().next().copied();
        let bounds = Bounds {
            oldest: oldest.unwrap_or(newest),
            newest,
            newest_bytes: active.bytes,
        };
        let manifest = Manifest::open(&options.directory, bounds)
            .map_err(io("cannot write the log's manifest"))?;
        shared.synced_number.store(number, Ordering::Relaxed);
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
            manifest,
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
        let mut result = check(self.shared.failure.borrow().as_deref());
        if result.is_ok() {
            result = self
                .seal_if_wanted()
                .and_then(|()| self.lay_out_committed());
        }
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
        let result = result.and_then(|()| self.flush(false));
        if sync && self.options.sync {
            self.shared.times.lock().begin(monotonic_now());
        }
        Batch {
            result,
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

    /// Whether an operation can be written without a segment that is not there yet.
    #[cfg(feature = "sim")]
    pub(super) fn has_room_for(&self, operation: &Operation) -> bool {
        // Committed positions come first.
        let margin = self.options.segment_bytes / 16;
        let span = record::span(operation.body.len()) as u64;
        self.shared.spares.is_ready() || self.offset + span + margin <= self.active.bytes
    }

    /// Whether the next segment is ready.
    #[cfg(feature = "sim")]
    pub(super) fn spare_state(&self) -> Arc<SpareState> {
        Arc::clone(&self.shared.spares)
    }

    /// Where the log is.
    #[cfg(feature = "sim")]
    pub(super) fn directory(&self) -> &Path {
        &self.options.directory
    }

    /// Tries again to have the next segment ready.
    #[cfg(feature = "sim")]
    pub(super) fn prepare_spare(&mut self) {
        self.spares.prepare();
    }

    /// Nobody waits for a committed position, but an orderly stop keeps it.
    pub(super) fn finish(&mut self) {
        if !self.shared.has_failed()
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

    /// The first failure is the one that counts: nothing is written after it, and nothing is synced
    /// again. After a failed sync the system may call pages clean that it has not written, so a second
    /// one could succeed without them.
    fn fail(&mut self, error: &io::Error) {
        if !self.shared.has_failed() {
            let text = format!("the log failed at {}: {error}", self.active.path.display());
            tracing::error!("{text}; the node must stop");
            self.shared.failure.send_replace(Some(text));
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
            Kind::Vote | Kind::Committed | Kind::Checkpoint | Kind::CheckpointWithoutFloors => {}
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
            match checkpoint::decode_remains(&operation.body).flatten() {
                Some(remains) => self.held.insert(operation.group, remains),
                None => self.held.remove(&operation.group),
            };
            return;
        }
        let held = self.held.entry(operation.group).or_default();
        match operation.kind {
            Kind::Vote => held.vote = Some(body()),
            Kind::Committed => held.committed = Some(body()),
            Kind::PurgeTo => held.advance_purged(record::decode_purge(&operation.body)),
            Kind::Entries
            | Kind::TruncateAfter
            | Kind::Checkpoint
            | Kind::CheckpointWithoutFloors
            | Kind::Forget => {}
        }
    }

    /// Writes what is laid out, and syncs it if told so.
    fn flush(&mut self, sync: bool) -> io::Result<()> {
        if !self.batch.is_empty() {
            self.write_batch()?;
            self.offset += self.batch.len() as u64;
            metrics::counter!("grid_wal_bytes_total").increment(self.batch.len() as u64);
            self.batch.clear();
            self.note_space();
        }
        if !sync || self.synced >= self.number {
            if sync {
                self.shared.times.lock().cancel();
            }
            return Ok(());
        }
        self.shared.times.lock().begin(monotonic_now());
        #[cfg(feature = "planted-bugs")]
        let skip = crate::platform::simulated::is_planted("skip-fsync");
        #[cfg(not(feature = "planted-bugs"))]
        let skip = false;
        if !skip {
            sync_segment(&self.active)?;
        }
        self.synced = self.number;
        self.shared
            .synced_number
            .store(self.number, Ordering::Relaxed);
        let took = self.shared.times.lock().end(monotonic_now());
        metrics::histogram!("grid_wal_fsync_seconds").record(took.as_secs_f64());
        Ok(())
    }

    /// Writes what is laid out. A segment has all its blocks, but some file systems take new ones for
    /// every write: there a full disk is waited out. Nothing counts before it is synced, so the same
    /// bytes can be written again.
    fn write_batch(&self) -> io::Result<()> {
        loop {
            match self.active.file.write_all_at(&self.batch, self.offset) {
                Err(error)
                    if error.kind() == io::ErrorKind::StorageFull
                        && self.spares.wait_for_room() => {}
                result => return result,
            }
        }
    }

    fn note_space(&self) {
        let left = self.active.bytes.saturating_sub(self.offset);
        self.shared.room.set_left_in_segment(left);
    }
}

fn sync_segment(segment: &Segment) -> io::Result<()> {
    #[cfg(feature = "planted-bugs")]
    if crate::platform::simulated::is_planted("ignore-sync-error") {
        return segment.file.sync_data().or(Ok(()));
    }
    segment.file.sync_data()
}

fn check(failure: Option<&str>) -> io::Result<()> {
    match failure {
        None => Ok(()),
        Some(failure) => Err(io::Error::other(format!(
            "the log failed before: {failure}"
        ))),
    }
}
