//! Writes a snapshot so that nobody notices: in pieces, with a pause after each.
//!
//! A snapshot may be as large as all of memory, and the disk that it goes to is the log's. Written and
//! synced in one go, it would keep the log's own syncs waiting behind it for as long as the disk needs;
//! encoded in one go, it would take a core from those who serve. So after each piece the writer rests
//! for a multiple of the time that the piece took, whatever slowed it: it takes a fixed part of the disk
//! and of a core at most, and less where these are busy.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::platform::fs::File;
use crate::platform::{self, monotonic_now};

/// What is encoded and written between two pauses.
const PIECE_BYTES: usize = 256 << 10;
/// What is written between two syncs.
const SYNC_EVERY_BYTES: usize = 1 << 20;
/// A pause is as many times as long as its piece took.
const PAUSE_FACTOR: u32 = 2;
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// A file that is written slowly.
#[derive(Debug)]
pub(super) struct Paced {
    out: BufWriter<Pieces>,
}

#[derive(Debug)]
struct Pieces {
    file: File,
    unsynced: usize,
    /// Written since the last pause.
    piece: usize,
    began: Instant,
}

impl Paced {
    /// Makes the file.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let pieces = Pieces {
            file: File::create(path)?,
            unsynced: 0,
            piece: 0,
            began: monotonic_now(),
        };
        Ok(Self {
            out: BufWriter::with_capacity(PIECE_BYTES, pieces),
        })
    }

    /// Writes and syncs what is left.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn finish(self) -> io::Result<()> {
        let pieces = self.out.into_inner();
        pieces.map_err(|error| error.into_error())?.file.sync_all()
    }
}

impl Write for Paced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A long section comes at once; the caller comes back with the rest of it.
        let left = PIECE_BYTES - self.piece;
        let written = self.file.write(&bytes[..bytes.len().min(left)])?;
        self.piece += written;
        self.unsynced += written;
        if self.unsynced >= SYNC_EVERY_BYTES {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        if self.piece >= PIECE_BYTES {
            let took = monotonic_now().saturating_duration_since(self.began);
            platform::rest((took * PAUSE_FACTOR).min(PAUSE_MAX));
            self.piece = 0;
            self.began = monotonic_now();
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(all(test, not(feature = "sim")))]
mod tests {
    use super::*;

    #[test]
    fn every_byte_arrives_in_pieces_that_are_no_longer_than_they_may_be() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("paced");
        let mut paced = Paced::create(&path).expect("a file");
        let bytes: Vec<u8> = (0..3 * PIECE_BYTES + 777)
            .map(|n| (n % 251) as u8)
            .collect();
        paced.write_all(&bytes[..5]).expect("written");
        paced.write_all(&bytes[5..]).expect("written");
        assert!(paced.out.get_ref().piece < PIECE_BYTES);
        assert_eq!(
            paced.out.get_mut().write(&bytes).expect("written"),
            PIECE_BYTES - paced.out.get_ref().piece % PIECE_BYTES
        );
        paced.finish().expect("synced");
        let written = std::fs::read(&path).expect("a file");
        assert_eq!(written[..bytes.len()], bytes);
    }
}
