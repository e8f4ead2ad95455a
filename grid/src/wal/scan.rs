//! One segment on its own: its bytes read, each record found and its checksum computed.
//!
//! That is most of the work of a start and needs nothing of other segments, so it is done for several of
//! them side by side. What the records mean together, `recovery` says, in their order.

use std::io::Read as _;
use std::path::Path;

use super::WalError;
use super::error::io_error;
use super::record::{self, Kind, Read};
use super::segment::{HEADER_BYTES, Header};
use crate::platform::fs::{self, File};

/// A record in a segment's bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) number: u64,
    pub(super) kind: Kind,
    pub(super) group: u32,
    /// From the segment's beginning.
    pub(super) offset: u32,
    /// Up to the next record.
    pub(super) span: u32,
    body_bytes: u32,
    /// The first index and the count of an entries record; `None` where the body does not say.
    pub(super) entries: Option<(u64, u32)>,
}

impl Found {
    /// What the record says, in the segment's bytes.
    pub(super) fn body<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let start = self.offset as usize + record::HEADER_BYTES;
        bytes
            .get(start..start + self.body_bytes as usize)
            .unwrap_or_default()
    }
}

/// Memory of a segment that was gone through, to be used again.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    pub(super) bytes: Vec<u8>,
    pub(super) records: Vec<Found>,
}

/// A segment as it was read.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) file: File,
    pub(super) header: Result<Option<Header>, WalError>,
    /// All of the file, and its records in order, up to the first place that has none.
    pub(super) buffers: Buffers,
    /// That place.
    pub(super) end: usize,
    /// Whether something else stands there, rather than nothing.
    pub(super) is_bad: bool,
}

/// Reads a segment; the last one from the disk itself.
///
/// # Errors
/// When the file cannot be read. A header or a record that is damaged is no error here.
pub(super) fn scan(path: &Path, mut buffers: Buffers, is_last: bool) -> Result<Scanned, WalError> {
    let file = read_whole(path, &mut buffers.bytes, is_last)?;
    let header = Header::decode(path, &buffers.bytes);
    buffers.records.clear();
    let mut end = HEADER_BYTES as usize;
    let mut is_bad = false;
    if let Ok(Some(header)) = &header {
        while end < buffers.bytes.len() {
            match record::read(&buffers.bytes[end..], header.salt) {
                Read::Record(found) => {
                    let is_entries = found.kind == Kind::Entries;
                    buffers.records.push(Found {
                        number: found.number,
                        kind: found.kind,
                        group: found.group,
                        offset: end as u32,
                        span: found.span as u32,
                        body_bytes: found.body.len() as u32,
                        entries: is_entries
                            .then(|| record::entries_range(found.body))
                            .flatten(),
                    });
                    end += found.span;
                }
                Read::Nothing => break,
                Read::Bad => {
                    is_bad = true;
                    break;
                }
            }
        }
    }
    Ok(Scanned {
        file,
        header,
        buffers,
        end,
        is_bad,
    })
}

/// Reads a file. After a failed sync memory may hold what the disk does not, and only the last segment
/// may have seen one.
fn read_whole(path: &Path, bytes: &mut Vec<u8>, is_last: bool) -> Result<File, WalError> {
    let mut file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .map_err(io_error("open", path))?;
    if is_last {
        fs::forget_cached(&file);
    }
    bytes.clear();
    file.read_to_end(bytes).map_err(io_error("read", path))?;
    Ok(file)
}
