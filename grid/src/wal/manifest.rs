//! Which segments there must be: the first and the last, so that a lost one is noticed also where the
//! others fit together without it; and how long the last one's file is, whose end could be missing
//! likewise.
//!
//! ```text
//!   slot 0 │ slot 1      slot = magic │ sequence u64 │ oldest u64 │ newest u64 │ newest's bytes u64 │ crc32c u32
//! ```
//!
//! Little endian. The slots are written in turn and synced, so that a torn write leaves the other one.
//! The newest segment is noted after it has its header and its name and before anything in it is
//! acknowledged; the oldest before those in front of it are freed. So a log never has fewer segments
//! than its manifest says. A manifest that is missing or unreadable itself says nothing: a log of an
//! earlier build has none.

use std::io;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut};

use crate::platform::fs::{self, File, FileExt as _};

const MAGIC: &[u8; 8] = b"SGWALM\r\n";
/// The slots are in sectors of their own.
const SLOT_BYTES: u64 = 512;
const SLOTS: u64 = 2;
const FIELDS_BYTES: usize = 44;

/// The segments that there must be, both included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) oldest: u64,
    pub(super) newest: u64,
    /// The length of the newest one's file.
    pub(super) newest_bytes: u64,
}

fn path(directory: &Path) -> PathBuf {
    directory.join("manifest")
}

fn encode(sequence: u64, bounds: Bounds) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FIELDS_BYTES);
    bytes.put_slice(MAGIC);
    bytes.put_u64_le(sequence);
    bytes.put_u64_le(bounds.oldest);
    bytes.put_u64_le(bounds.newest);
    bytes.put_u64_le(bounds.newest_bytes);
    let crc = crc32c::crc32c(&bytes);
    bytes.put_u32_le(crc);
    bytes
}

fn decode(slot: &[u8]) -> Option<(u64, Bounds)> {
    let (covered, mut crc) = slot.get(..FIELDS_BYTES)?.split_at(FIELDS_BYTES - 4);
    if crc32c::crc32c(covered) != crc.get_u32_le() {
        return None;
    }
    let mut fields = covered.strip_prefix(MAGIC.as_slice())?;
    let sequence = fields.get_u64_le();
    let bounds = Bounds {
        oldest: fields.get_u64_le(),
        newest: fields.get_u64_le(),
        newest_bytes: fields.get_u64_le(),
    };
    Some((sequence, bounds))
}

fn newest_slot(bytes: &[u8]) -> Option<(u64, Bounds)> {
    bytes
        .chunks(SLOT_BYTES as usize)
        .filter_map(decode)
        .max_by_key(|(sequence, _)| *sequence)
}

/// What the manifest says, if there is one that says something.
///
/// # Errors
/// The file system's.
pub(super) fn read(directory: &Path) -> io::Result<Option<Bounds>> {
    let path = path(directory);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let found = newest_slot(&bytes);
    if found.is_none() {
        tracing::warn!(file = %path.display(), "the log's manifest is unreadable and is made anew");
    }
    Ok(found.map(|(_, bounds)| bounds))
}

/// The open manifest.
#[derive(Debug)]
pub(super) struct Manifest {
    file: File,
    sequence: u64,
    bounds: Bounds,
}

impl Manifest {
    /// Opens or makes it so that it says `bounds`.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn open(directory: &Path, bounds: Bounds) -> io::Result<Self> {
        let path = path(directory);
        let known = match fs::read(&path) {
            Ok(bytes) => newest_slot(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        let mut manifest = Self {
            file,
            sequence: known.map_or(0, |(sequence, _)| sequence),
            bounds: known.map_or(Bounds::default(), |(_, bounds)| bounds),
        };
        if known.is_none() {
            manifest.file.set_len(SLOTS * SLOT_BYTES)?;
            manifest.write(bounds)?;
            manifest.file.sync_all()?;
            File::open(directory)?.sync_all()?;
        }
        manifest.set(bounds)?;
        Ok(manifest)
    }

    /// Notes other bounds, durably.
    ///
    /// # Errors
    /// The file system's; what it says on disk is then the one or the other.
    pub(super) fn set(&mut self, bounds: Bounds) -> io::Result<()> {
        if bounds == self.bounds {
            return Ok(());
        }
        self.write(bounds)
    }

    /// Notes another first segment, durably.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub(super) fn set_oldest(&mut self, oldest: u64) -> io::Result<()> {
        self.set(Bounds {
            oldest,
            ..self.bounds
        })
    }

    /// Notes another last segment, durably.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub(super) fn set_newest(&mut self, newest: u64, newest_bytes: u64) -> io::Result<()> {
        self.set(Bounds {
            newest,
            newest_bytes,
            ..self.bounds
        })
    }

    fn write(&mut self, bounds: Bounds) -> io::Result<()> {
        self.sequence += 1;
        let offset = self.sequence % SLOTS * SLOT_BYTES;
        self.file
            .write_all_at(&encode(self.sequence, bounds), offset)?;
        self.file.sync_data()?;
        self.bounds = bounds;
        Ok(())
    }
}

#[cfg(all(test, not(feature = "sim")))]
mod tests {
    use super::*;

    fn bounds(oldest: u64, newest: u64) -> Bounds {
        Bounds {
            oldest,
            newest,
            newest_bytes: 4_096,
        }
    }

    #[test]
    fn it_says_what_was_noted_last() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(read(directory.path()).expect("readable"), None);
        let mut manifest = Manifest::open(directory.path(), bounds(1, 1)).expect("made");
        manifest.set_newest(2, 4_096).expect("noted");
        manifest.set_newest(3, 4_096).expect("noted");
        manifest.set_oldest(2).expect("noted");
        assert_eq!(
            read(directory.path()).expect("readable"),
            Some(bounds(2, 3))
        );
        drop(manifest);
        Manifest::open(directory.path(), bounds(3, 4)).expect("opened");
        assert_eq!(
            read(directory.path()).expect("readable"),
            Some(bounds(3, 4))
        );
    }

    #[test]
    fn a_torn_write_leaves_what_was_noted_before_and_rubbish_says_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut manifest = Manifest::open(directory.path(), bounds(1, 1)).expect("made");
        manifest.set_newest(2, 4_096).expect("noted");
        let before = std::fs::read(path(directory.path())).expect("readable");
        manifest.set_newest(3, 4_096).expect("noted");
        let after = std::fs::read(path(directory.path())).expect("readable");
        let at = (0..before.len())
            .find(|at| before[*at] != after[*at])
            .expect("a difference");
        let mut torn = after.clone();
        torn[at] ^= 0x40;
        std::fs::write(path(directory.path()), &torn).expect("written");
        assert_eq!(
            read(directory.path()).expect("readable"),
            Some(bounds(1, 2))
        );
        std::fs::write(path(directory.path()), b"rubbish").expect("written");
        assert_eq!(read(directory.path()).expect("readable"), None);
    }
}
