//! A segment: one file of the log.

use std::io;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes};

use super::places::Place;
use super::record::{self, Read};
use super::{WalEntry, WalError, WalOptions};
use crate::platform::fs::{self, File, FileExt as _};
use crate::platform::random;

const MAGIC: &[u8; 8] = b"SGWAL\r\n\0";
/// The newest layout, which this build writes; it reads the older ones too. Since 2 there are checkpoints
/// with floors.
pub(super) const FORMAT: u32 = 2;
/// Where the first record begins.
pub(super) const HEADER_BYTES: u64 = 64;

/// The first bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) grid_id: u128,
    pub(super) node_id: u64,
    pub(super) segment: u64,
    pub(super) salt: u64,
    /// The number of its first record.
    pub(super) first_number: u64,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES as usize);
        bytes.put_slice(MAGIC);
        bytes.put_u32_le(FORMAT);
        bytes.put_u128_le(self.grid_id);
        bytes.put_u64_le(self.node_id);
        bytes.put_u64_le(self.segment);
        bytes.put_u64_le(self.salt);
        bytes.put_u64_le(self.first_number);
        let crc = crc32c::crc32c(&bytes);
        bytes.put_u32_le(crc);
        bytes
    }

    /// Reads a header; `Ok(None)` for one that was never written.
    pub(super) fn decode(file: &Path, bytes: &[u8]) -> Result<Option<Self>, WalError> {
        let bad = |what: &str| WalError::Corrupt {
            file: file.to_owned(),
            offset: 0,
            what: what.to_owned(),
        };
        let Some(bytes) = bytes.get(..HEADER_BYTES as usize) else {
            return Err(bad("the file is too short for a segment"));
        };
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let (covered, mut crc) = bytes.split_at(HEADER_BYTES as usize - 4);
        let mut fields = covered;
        if &fields[..8] != MAGIC {
            return Err(bad("not a segment of a log"));
        }
        fields.advance(8);
        let found = fields.get_u32_le();
        if found > FORMAT {
            let file = file.to_owned();
            return Err(WalError::NewerFormat {
                file,
                found,
                supported: FORMAT,
            });
        }
        if crc32c::crc32c(covered) != crc.get_u32_le() {
            return Err(bad("the segment's header fails its checksum"));
        }
        Ok(Some(Self {
            grid_id: fields.get_u128_le(),
            node_id: fields.get_u64_le(),
            segment: fields.get_u64_le(),
            salt: fields.get_u64_le(),
            first_number: fields.get_u64_le(),
        }))
    }
}

/// An open segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) header: Header,
    pub(super) bytes: u64,
}

impl Segment {
    /// The name of a segment's file.
    pub(super) fn path(directory: &Path, segment: u64) -> PathBuf {
        directory.join(format!("wal-{segment:016x}.seg"))
    }

    /// The number in the name of a segment's file.
    pub(super) fn number_of(path: &Path) -> Option<u64> {
        let digits = path
            .file_name()?
            .to_str()?
            .strip_prefix("wal-")?
            .strip_suffix(".seg")?;
        u64::from_str_radix(digits, 16).ok()
    }

    /// Makes a zeroed file the next segment. It gets its name when its header is on disk.
    pub(super) fn create(
        options: &WalOptions,
        spare: &Path,
        segment: u64,
        first_number: u64,
    ) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(spare)?;
        let mut salt = [0; 8];
        random::fill(&mut salt).map_err(|error| io::Error::other(error.to_string()))?;
        let header = Header {
            grid_id: options.grid_id,
            node_id: options.node_id,
            segment,
            salt: u64::from_le_bytes(salt),
            first_number,
        };
        file.write_all_at(&header.encode(), 0)?;
        file.sync_all()?;
        let path = Self::path(&options.directory, segment);
        fs::rename(spare, &path)?;
        File::open(&options.directory)?.sync_all()?;
        Ok(Self {
            path,
            file,
            header,
            bytes: options.segment_bytes,
        })
    }

    /// Reads the entries of one record that still count.
    pub(super) fn read_entries(&self, place: &Place) -> Result<Vec<WalEntry>, WalError> {
        let corrupt = |what: &str| WalError::Corrupt {
            file: self.path.clone(),
            offset: u64::from(place.offset),
            what: what.to_owned(),
        };
        let mut bytes = vec![0; place.span as usize];
        self.file
            .read_exact_at(&mut bytes, u64::from(place.offset))
            .map_err(|source| WalError::Io {
                what: format!("cannot read {}", self.path.display()),
                source,
            })?;
        let Read::Record(found) = record::read(&bytes, self.header.salt) else {
            return Err(corrupt("a record fails its checksum"));
        };
        let body = Bytes::copy_from_slice(found.body);
        let mut entries =
            record::decode_entries(body).ok_or_else(|| corrupt("a record is malformed"))?;
        entries.truncate(place.count as usize);
        match entries.first() {
            Some(first) if first.index == place.first_index => Ok(entries),
            _ => Err(corrupt("a record is not the one that was written there")),
        }
    }
}
