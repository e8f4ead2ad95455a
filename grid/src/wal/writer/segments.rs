//! From one segment to the next, and what becomes of those that nobody needs any more.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Writer;
use crate::wal::record::{self, Kind};
use crate::wal::segment::{HEADER_BYTES, Segment};
use crate::wal::shared::Shared;
use crate::wal::{WalOptions, checkpoint};

impl Writer {
    /// Ends the present segment where somebody has asked for it.
    pub(super) fn seal_if_wanted(&mut self) -> io::Result<()> {
        if self.shared.seal_wanted.swap(false, Ordering::Relaxed) {
            return self.rotate(0);
        }
        Ok(())
    }

    pub(super) fn rotate(&mut self, span: u64) -> io::Result<()> {
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
        if self.shared.spares.is_ready() {
            let room = self.options.segment_bytes;
            self.shared.room.set_left_in_segment(room);
        }
        let spare = self.spares.take()?;
        self.active = open_next(&self.options, &self.shared, &spare, next, self.number + 1)?;
        self.manifest.set_newest(next, self.active.bytes)?;
        self.offset = HEADER_BYTES;
        self.note_space();
        self.put(Kind::Checkpoint, 0, &checkpoint);
        Ok(())
    }

    /// Gives back the segments before the oldest that holds a live entry.
    ///
    /// The checkpoint, purge or truncation that allows it must be durable before.
    pub(super) fn free_segments(&mut self) -> io::Result<()> {
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
        self.manifest.set_oldest(oldest)?;
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

pub(super) fn open_next(
    options: &WalOptions,
    shared: &Shared,
    spare: &Path,
    segment: u64,
    first_number: u64,
) -> io::Result<Arc<Segment>> {
    let opened = Arc::new(Segment::create(options, spare, segment, first_number)?);
    shared.segments.lock().insert(segment, Arc::clone(&opened));
    Ok(opened)
}
