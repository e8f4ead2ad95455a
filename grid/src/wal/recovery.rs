//! Reads a log back: which votes, marks and entries it holds, and where the next record goes.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::index::Place;
use super::record::{self, Kind, Read, Record};
use super::segment::{HEADER_BYTES, Header, Segment};
use super::{RecoveredGroup, TornTail, WalError, WalOptions};

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
    pub(super) entries: BTreeMap<u32, VecDeque<Place>>,
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
        tail: Tail { segment: None, number: 0 },
    };
    let files = open_segments(options)?;
    let last = files.keys().next_back().copied();
    let mut expected = files.keys().next().copied();
    for (number, (segment, bytes)) in files {
        if expected != Some(number) {
            let file = segment.path.clone();
            let what = "the segment before this one is missing".to_owned();
            return Err(WalError::Corrupt { file, offset: 0, what });
        }
        expected = Some(number + 1);
        let end = recovery.replay(&segment, &bytes, last == Some(number))?;
        recovery.segments.insert(number, Arc::clone(&segment));
        recovery.tail.segment = Some((segment, end));
    }
    recovery.drop_purged();
    Ok(recovery)
}

type Opened = BTreeMap<u64, (Arc<Segment>, Vec<u8>)>;

fn open_segments(options: &WalOptions) -> Result<Opened, WalError> {
    let directory = &options.directory;
    let io = |path: &Path| {
        let what = format!("cannot read {}", path.display());
        move |source| WalError::Io { what, source }
    };
    let mut opened = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(io(directory))? {
        let path = entry.map_err(io(directory))?.path();
        if path.extension().is_none_or(|extension| extension != "seg") {
            continue;
        }
        let file = File::options().read(true).write(true).open(&path).map_err(io(&path))?;
        let length = file.metadata().map_err(io(&path))?.len();
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, 0).map_err(io(&path))?;
        let Some(header) = Header::decode(&path, &bytes)? else {
            // The machine stopped between naming the segment and writing to it.
            fs::remove_file(&path).map_err(io(&path))?;
            continue;
        };
        let (grid_id, node_id) = (header.grid_id, header.node_id);
        if (grid_id, node_id) != (options.grid_id, options.node_id) {
            return Err(WalError::ForeignLog { file: path, grid_id, node_id });
        }
        let segment = header.segment;
        let open = Segment { path, file, header, bytes: length };
        opened.insert(segment, (Arc::new(open), bytes));
    }
    Ok(opened)
}

impl Recovery {
    /// Takes in one segment's records and returns where they end.
    fn replay(
        &mut self,
        segment: &Arc<Segment>,
        bytes: &[u8],
        is_last: bool,
    ) -> Result<u64, WalError> {
        let mut offset = HEADER_BYTES as usize;
        if self.tail.number == 0 {
            self.tail.number = segment.header.first_number - 1;
        }
        while offset < bytes.len() {
            let corrupt = |what: &str| WalError::Corrupt {
                file: segment.path.clone(),
                offset: offset as u64,
                what: what.to_owned(),
            };
            match record::read(&bytes[offset..], segment.header.salt) {
                Read::Record(found) if found.number == self.tail.number + 1 => {
                    self.tail.number = found.number;
                    let span = found.span;
                    self.take(segment.header.segment, offset as u32, &found)
                        .ok_or_else(|| corrupt("a record's body is malformed"))?;
                    offset += span;
                }
                Read::Record(_) => return Err(corrupt("a record is missing before this one")),
                Read::Nothing | Read::Bad if is_last => {
                    self.cut(segment, bytes, offset)?;
                    return Ok(offset as u64);
                }
                Read::Nothing => return Ok(offset as u64),
                Read::Bad => return Err(corrupt("a record fails its checksum")),
            }
        }
        Ok(offset as u64)
    }

    /// Decides whether what stands at `offset` of the last segment is a torn tail, and cuts it.
    fn cut(&mut self, segment: &Segment, bytes: &[u8], offset: usize) -> Result<(), WalError> {
        let Some(last) = bytes[offset..].iter().rposition(|byte| *byte != 0) else {
            return Ok(());
        };
        // Damage, not a torn write, if a later record was laid out when this one was synced already.
        let missing = self.tail.number + 1;
        let mut at = offset + record::ALIGNMENT;
        while at + record::HEADER_BYTES <= offset + last + record::ALIGNMENT && at < bytes.len() {
            if let Read::Record(later) = record::read(&bytes[at..], segment.header.salt)
                && later.synced >= missing
            {
                return Err(WalError::Corrupt {
                    file: segment.path.clone(),
                    offset: offset as u64,
                    what: format!("record {missing} fails its checksum, and later ones follow"),
                });
            }
            at += record::ALIGNMENT;
        }
        let io = |source| WalError::Io {
            what: format!("cannot cut the torn end of {}", segment.path.display()),
            source,
        };
        let zeros = vec![0; bytes.len() - offset];
        segment.file.write_all_at(&zeros, offset as u64).map_err(io)?;
        segment.file.sync_all().map_err(io)?;
        self.torn_tail = Some(TornTail {
            file: segment.path.clone(),
            offset: offset as u64,
            bytes: last as u64 + 1,
        });
        Ok(())
    }

    fn take(&mut self, segment: u64, offset: u32, found: &Record<'_>) -> Option<()> {
        let body = || Bytes::copy_from_slice(found.body);
        match found.kind {
            Kind::Vote => self.groups.entry(found.group).or_default().vote = Some(body()),
            Kind::Committed => self.groups.entry(found.group).or_default().committed = Some(body()),
            Kind::PurgeTo => {
                let purged = record::decode_purge(found.body)?;
                self.groups.entry(found.group).or_default().purged = Some(purged);
            }
            Kind::TruncateAfter => {
                let end = record::decode_truncate(found.body)?.map_or(0, |last| last + 1);
                self.truncate(found.group, end);
            }
            Kind::Entries => {
                let (first_index, count) = record::entries_range(found.body)?;
                self.truncate(found.group, first_index);
                self.groups.entry(found.group).or_default();
                let span = u32::try_from(found.span).ok()?;
                let place = Place { first_index, segment, offset, span, count };
                self.entries.entry(found.group).or_default().push_back(place);
            }
            Kind::Checkpoint => {
                for (group, held) in super::writer::decode_checkpoint(found.body)? {
                    self.groups.insert(group, held);
                }
            }
        }
        Some(())
    }

    fn truncate(&mut self, group: u32, end: u64) {
        let Some(places) = self.entries.get_mut(&group) else { return };
        while let Some(place) = places.back_mut() {
            if place.first_index >= end {
                places.pop_back();
            } else {
                place.count = place.count.min((end - place.first_index) as u32);
                return;
            }
        }
    }

    fn drop_purged(&mut self) {
        for (group, recovered) in &self.groups {
            let Some((purged, _)) = recovered.purged else { continue };
            let Some(places) = self.entries.get_mut(group) else { continue };
            while places
                .front()
                .is_some_and(|place| place.first_index + u64::from(place.count) <= purged + 1)
            {
                places.pop_front();
            }
        }
    }
}
