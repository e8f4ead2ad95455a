//! In a simulation, which has no threads: segments are read when they are wanted.

use std::path::PathBuf;
use std::vec::IntoIter;

use super::WalError;
use super::scan::{Buffers, Scanned, scan};

/// Segments in the order given.
pub(super) struct ReadAhead {
    files: IntoIter<PathBuf>,
    used: Buffers,
}

impl ReadAhead {
    pub(super) fn start(files: &[PathBuf]) -> std::io::Result<Self> {
        Ok(Self {
            files: files.to_vec().into_iter(),
            used: Buffers::default(),
        })
    }

    pub(super) fn next(&mut self) -> Option<Result<Scanned, WalError>> {
        let path = self.files.next()?;
        let buffers = std::mem::take(&mut self.used);
        Some(scan(&path, buffers, self.files.len() == 0))
    }

    pub(super) fn done(&mut self, buffers: Buffers) {
        self.used = buffers;
    }
}
