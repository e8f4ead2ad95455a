//! Reads a log back: which votes, marks and entries it holds, and where the next record goes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::error::io_error;
use super::manifest::Bounds;
use super::places::{Place, Places};
use super::read_ahead::ReadAhead;
use super::record::{self, ALIGNMENT, Kind, Read};
use super::scan::{Buffers, Found, Scanned};
use super::segment::{HEADER_BYTES, Segment};
use super::{RecoveredGroup, TornTail, WalError, WalOptions, checkpoint, manifest};
use crate::platform::fs::{self, File, FileExt as _};

/// Where the writer goes on.
#[derive(Debug)]
pub(super) struct Tail {
    /// The last segment, if there is one, and the end of its last record.
    pub(super) segment: Option<(Arc<Segment>, u64)>,
    /// The number of the last record.
    pub(super) number: u64,
}

/// What recovery found.
#[derive(Debug)]
pub(super) struct Recovery {
    pub(super) groups: BTreeMap<u32, RecoveredGroup>,
    pub(super) entries: BTreeMap<u32, Places>,
    pub(super) segments: BTreeMap<u64, Arc<Segment>>,
    pub(super) torn_tail: Option<TornTail>,
    pub(super) tail: Tail,
}

/// Reads all segments in order.
///
/// # Errors
/// See [`WalError`]; nothing on disk is changed then.
pub(super) fn recover(options: &WalOptions) -> Result<Recovery, WalError> {
    let mut recovery = Recovery {
        groups: BTreeMap::new(),
        entries: BTreeMap::new(),
        segments: BTreeMap::new(),
        torn_tail: None,
        tail: Tail {
            segment: None,
            number: 0,
        },
    };
    let files = segment_files(options)?;
    let known = check_against_manifest(options, &files)?;
    let last = files.keys().next_back().copied();
    let mut expected = files.keys().next().copied();
    let paths: Vec<_> = files.values().cloned().collect();
    let mut ahead = ReadAhead::start(&paths).map_err(io_error("read", &options.directory))?;
    let mut torn = None;
    let mut unborn = None;
    for (number, path) in files {
        let corrupt = |what: &str| damage(&path, 0, what);
        if expected != Some(number) {
            return Err(corrupt("the segment before this one is missing"));
        }
        expected = Some(number + 1);
        let is_last = last == Some(number);
        let Some(read) = ahead.next() else {
            return Err(corrupt("the segment was not read"));
        };
        let Scanned {
            file,
            header,
            buffers,
            end,
            is_bad,
        } = read?;
        let bytes = &buffers.bytes;
        let is_newest_known = known.is_some_and(|known| known.newest == number);
        if is_newest_known && known.is_some_and(|known| (bytes.len() as u64) < known.newest_bytes) {
            return Err(damage(&path, bytes.len(), "the end of the file is missing"));
        }
        let header = match header {
            Ok(Some(header)) => header,
            // A header is synced before its segment's first record: one that is torn in a segment
            // without records is of a segment that nothing was written to.
            Ok(None) | Err(WalError::Corrupt { .. })
                if is_last
                    && !is_newest_known
                    && (recovery.tail.segment.is_some() || number == 1)
                    && bytes
                        .iter()
                        .skip(HEADER_BYTES as usize)
                        .all(|byte| *byte == 0) =>
            {
                unborn = Some(path);
                break;
            }
            Ok(None) => return Err(corrupt("the segment's header is missing")),
            Err(error) => return Err(error),
        };
        let (grid_id, node_id) = (header.grid_id, header.node_id);
        if (grid_id, node_id) != (options.grid_id, options.node_id) {
            return Err(WalError::ForeignLog {
                file: path,
                grid_id,
                node_id,
            });
        }
        let follows = header.first_number.checked_sub(1);
        let follows =
            follows.filter(|n| recovery.segments.is_empty() || *n == recovery.tail.number);
        if header.segment != number {
            return Err(corrupt("the file has another segment's name"));
        }
        let Some(follows) = follows else {
            return Err(corrupt("records are missing before this segment"));
        };
        recovery.tail.number = follows;
        let segment = Arc::new(Segment {
            path,
            file,
            header,
            bytes: bytes.len() as u64,
        });
        recovery.replay(&segment, &buffers)?;
        if is_bad && !is_last {
            return Err(damage(&segment.path, end, "a record fails its checksum"));
        }
        if is_last {
            torn = recovery.find_torn(&segment, bytes, end)?;
        }
        recovery.segments.insert(number, Arc::clone(&segment));
        recovery.tail.segment = Some((segment, end as u64));
        ahead.done(buffers);
    }
    // A truncation may have left a purged beginning.
    recovery.drop_purged();
    recovery.check_complete()?;
    recovery.settle(options, torn, unborn.as_deref())?;
    Ok(recovery)
}

fn damage(file: &Path, offset: usize, what: &str) -> WalError {
    WalError::Corrupt {
        file: file.to_owned(),
        offset: offset as u64,
        what: what.to_owned(),
    }
}

fn segment_files(options: &WalOptions) -> Result<BTreeMap<u64, PathBuf>, WalError> {
    let directory = &options.directory;
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(io_error("read", directory))? {
        let path = entry.map_err(io_error("read", directory))?.path();
        if path.extension().is_none_or(|extension| extension != "seg") {
            continue;
        }
        let number = Segment::number_of(&path)
            .ok_or_else(|| damage(&path, 0, "the file's name is not a segment's"))?;
        files.insert(number, path);
    }
    Ok(files)
}

/// What the manifest says. Refuses a log that has lost its first or last segment. Where there is no segment at all, the node's
/// identity tells a new disk from an emptied one.
fn check_against_manifest(
    options: &WalOptions,
    files: &BTreeMap<u64, PathBuf>,
) -> Result<Option<Bounds>, WalError> {
    let directory = &options.directory;
    let Some((first, last)) = files.keys().next().zip(files.keys().next_back()) else {
        return Ok(None);
    };
    let known = manifest::read(directory).map_err(io_error("read the manifest in", directory))?;
    let Some(known) = known else { return Ok(None) };
    let missing = if *first > known.oldest {
        known.oldest
    } else if *last < known.newest {
        known.newest
    } else {
        return Ok(Some(known));
    };
    let path = Segment::path(directory, missing);
    Err(damage(&path, 0, "the segment is missing"))
}

impl Recovery {
    /// Takes in one segment's records.
    fn replay(&mut self, segment: &Segment, read: &Buffers) -> Result<(), WalError> {
        for found in &read.records {
            let corrupt = |what: &str| damage(&segment.path, found.offset as usize, what);
            if found.number != self.tail.number + 1 {
                return Err(corrupt("a record is missing before this one"));
            }
            self.tail.number = found.number;
            self.take(segment.header.segment, found, found.body(&read.bytes))
                .ok_or_else(|| corrupt("a record does not fit those before it"))?;
        }
        Ok(())
    }

    /// Decides whether what stands at `offset` of the last segment is a torn tail.
    fn find_torn(
        &self,
        segment: &Segment,
        bytes: &[u8],
        offset: usize,
    ) -> Result<Option<TornTail>, WalError> {
        let rest = bytes.get(offset..).unwrap_or_default();
        let Some(last) = rest.iter().rposition(|byte| *byte != 0) else {
            return Ok(None);
        };
        // Damage, not a torn write, if a later record was laid out when this one was synced already.
        let missing = self.tail.number + 1;
        for at in (ALIGNMENT..=last).step_by(ALIGNMENT) {
            if record::may_be_after(&rest[at..], missing)
                && let Read::Record(later) = record::read(&rest[at..], segment.header.salt)
                && later.synced >= missing
            {
                let what = format!("record {missing} fails its checksum, and later ones follow");
                return Err(damage(&segment.path, offset, &what));
            }
        }
        let (offset, bytes) = (offset as u64, last as u64 + 1);
        Ok(Some(TornTail {
            file: segment.path.clone(),
            offset,
            bytes,
        }))
    }

    /// Refuses a log whose oldest segments are missing.
    fn check_complete(&self) -> Result<(), WalError> {
        let Some(oldest) = self.segments.values().next() else {
            return Ok(());
        };
        for (group, places) in &self.entries {
            let Some(first) = places.first() else {
                continue;
            };
            let purged = self.groups.get(group).and_then(|held| held.purged.as_ref());
            let is_complete = match purged {
                Some((purged, _)) => first.first_index <= purged.saturating_add(1),
                None => oldest.header.segment == 1 || first.first_index <= 1,
            };
            if !is_complete {
                let what = format!("group {group} misses entries before {}", first.first_index);
                return Err(damage(&oldest.path, 0, &what));
            }
        }
        Ok(())
    }

    /// Cuts the torn tail and makes sure that all that was found is on disk: from now on it counts
    /// as synced.
    fn settle(
        &mut self,
        options: &WalOptions,
        torn: Option<TornTail>,
        unborn: Option<&Path>,
    ) -> Result<(), WalError> {
        if let Some(path) = unborn {
            fs::remove_file(path).map_err(io_error("remove", path))?;
        }
        if let (Some(torn), Some((segment, _))) = (&torn, &self.tail.segment) {
            let zeros = vec![0; torn.bytes as usize];
            let path = &segment.path;
            segment
                .file
                .write_all_at(&zeros, torn.offset)
                .map_err(io_error("cut", path))?;
            segment.file.sync_all().map_err(io_error("sync", path))?;
        }
        self.torn_tail = torn;
        if options.sync {
            for segment in self.segments.values() {
                segment
                    .file
                    .sync_all()
                    .map_err(io_error("sync", &segment.path))?;
            }
            let directory = &options.directory;
            let opened = File::open(directory).map_err(io_error("open", directory))?;
            opened.sync_all().map_err(io_error("sync", directory))?;
        }
        Ok(())
    }

    fn take(&mut self, segment: u64, found: &Found, body: &[u8]) -> Option<()> {
        let held = || Some(Bytes::copy_from_slice(body));
        match found.kind {
            Kind::Vote => self.groups.entry(found.group).or_default().vote = held(),
            Kind::Committed => self.groups.entry(found.group).or_default().committed = held(),
            Kind::PurgeTo => {
                let purged = record::decode_purge(body)?;
                self.purge(found.group, purged.0);
                self.groups
                    .entry(found.group)
                    .or_default()
                    .advance_purged(Some(purged));
            }
            Kind::TruncateAfter => {
                let end = record::decode_truncate(body)?.map_or(0, |last| last.saturating_add(1));
                self.truncate(found.group, end);
            }
            Kind::Entries => {
                let (first_index, count) = found.entries?;
                // One look-up: a start goes through millions of these.
                let places = self.entries.entry(found.group).or_default();
                places.truncate(first_index);
                if places.is_empty() {
                    self.groups.entry(found.group).or_default();
                }
                let before = places.last();
                if count == 0 || before.is_some_and(|before| before.end() != first_index) {
                    return None;
                }
                let place = Place {
                    first_index,
                    segment,
                    offset: found.offset,
                    span: found.span,
                    count,
                };
                places.push(place);
            }
            Kind::Forget => {
                match checkpoint::decode_remains(body)? {
                    Some(remains) => self.groups.insert(found.group, remains),
                    None => self.groups.remove(&found.group),
                };
                self.entries.remove(&found.group);
            }
            Kind::Checkpoint | Kind::CheckpointWithoutFloors => {
                let has_floors = found.kind == Kind::Checkpoint;
                self.groups = checkpoint::decode(body, has_floors)?;
                self.drop_purged();
            }
        }
        Some(())
    }

    fn truncate(&mut self, group: u32, end: u64) {
        if let Some(places) = self.entries.get_mut(&group) {
            places.truncate(end);
        }
    }

    fn drop_purged(&mut self) {
        let purged = |(group, held): (&u32, &RecoveredGroup)| {
            held.purged.as_ref().map(|(index, _)| (*group, *index))
        };
        let purged: Vec<_> = self.groups.iter().filter_map(purged).collect();
        for (group, index) in purged {
            self.purge(group, index);
        }
    }

    fn purge(&mut self, group: u32, index: u64) {
        if let Some(places) = self.entries.get_mut(&group) {
            places.purge_to(index);
        }
    }
}
