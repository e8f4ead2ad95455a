//! Reads a segment again as it is on disk and checks every record in it, a little at a time.
//!
//! What is checked no longer changes: a segment before the present one, or what is synced of that. Its
//! file is opened by its name, so that a lost one is noticed although the log still has it open.

use std::path::PathBuf;
use std::sync::Arc;

use super::WalError;
use super::record::{self, Read};
use super::segment::{HEADER_BYTES, Header, Segment};
use crate::platform::fs::{self, File, FileExt as _};

/// What is read at a time, unless a record is longer.
const BLOCK_BYTES: u64 = 1 << 20;

/// What is to be checked.
#[derive(Clone, Debug)]
pub(crate) struct ScrubTarget {
    pub(super) segment: Arc<Segment>,
    /// The number of its last record that counts.
    pub(super) last_number: u64,
}

impl ScrubTarget {
    /// The segment's number.
    pub(crate) fn segment(&self) -> u64 {
        self.segment.header.segment
    }

    /// Its file.
    pub(crate) fn path(&self) -> PathBuf {
        self.segment.path.clone()
    }
}

/// A check under way.
#[derive(Debug)]
pub(crate) struct SegmentCheck {
    target: ScrubTarget,
    file: File,
    bytes: u64,
    offset: u64,
    number: u64,
    block_bytes: u64,
}

impl SegmentCheck {
    /// Opens the file and checks its header.
    ///
    /// # Errors
    /// [`WalError::Corrupt`] and [`WalError::Io`]: the file is lost or damaged.
    pub(crate) fn open(target: ScrubTarget) -> Result<Self, WalError> {
        let path = &target.segment.path;
        let io = |what: &str| {
            let what = format!("cannot {what} {}", path.display());
            move |source| WalError::Io { what, source }
        };
        let file = File::open(path).map_err(io("open"))?;
        // What is in memory may be better than what is on the disk.
        fs::forget_cached(&file);
        let bytes = file.metadata().map_err(io("look at"))?.len();
        let mut header = [0; HEADER_BYTES as usize];
        let read = file.read_exact_at(&mut header, 0);
        read.map_err(io("read"))?;
        match Header::decode(path, &header)? {
            Some(found) if found == target.segment.header => {}
            _ => {
                return Err(WalError::Corrupt {
                    file: path.clone(),
                    offset: 0,
                    what: "the header is not the one that was written".to_owned(),
                });
            }
        }
        Ok(Self {
            number: target.segment.header.first_number.saturating_sub(1),
            target,
            file,
            bytes,
            offset: HEADER_BYTES,
            block_bytes: BLOCK_BYTES,
        })
    }

    fn corrupt(&self, offset: u64, what: &str) -> WalError {
        WalError::Corrupt {
            file: self.target.segment.path.clone(),
            offset,
            what: what.to_owned(),
        }
    }

    /// Checks some more and returns how many bytes were read; `None` when all is checked.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn step(&mut self) -> Result<Option<u64>, WalError> {
        if self.number >= self.target.last_number {
            return Ok(None);
        }
        let rest = self.bytes.saturating_sub(self.offset);
        let length = self.block_bytes.min(rest);
        let mut block = vec![0; length as usize];
        let read = self.file.read_exact_at(&mut block, self.offset);
        read.map_err(|source| WalError::Io {
            what: format!("cannot read {}", self.target.segment.path.display()),
            source,
        })?;
        let mut at = 0;
        while self.number < self.target.last_number {
            match record::read(&block[at..], self.target.segment.header.salt) {
                Read::Record(found) if found.number == self.number + 1 => {
                    self.number = found.number;
                    at += found.span;
                }
                Read::Record(_) => {
                    let offset = self.offset + at as u64;
                    return Err(self.corrupt(offset, "a record is missing before this one"));
                }
                // The block ends within it: the next one begins here.
                Read::Nothing | Read::Bad if at > 0 => break,
                Read::Nothing => return Err(self.corrupt(self.offset, "a record is missing")),
                Read::Bad => {
                    let claimed = record::claimed_span(&block).unwrap_or(0);
                    if claimed <= length || claimed > rest {
                        return Err(self.corrupt(self.offset, "a record fails its checksum"));
                    }
                    self.block_bytes = claimed;
                    return Ok(Some(length));
                }
            }
        }
        self.offset += at as u64;
        self.block_bytes = BLOCK_BYTES;
        Ok(Some(length))
    }
}
