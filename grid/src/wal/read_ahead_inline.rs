//! In a simulation, which has no threads: segments are read when they are wanted.

use std::path::PathBuf;
use std::vec::IntoIter;

use super::WalError;
use super::recovery::read_whole;
use crate::platform::fs::File;

/// A segment's file and all of its bytes.
pub(super) type ReadSegment = Result<(File, Vec<u8>), WalError>;

/// Segments in the order given.
#[derive(Debug)]
pub(super) struct ReadAhead {
    files: IntoIter<PathBuf>,
    used: Vec<u8>,
}

impl ReadAhead {
    pub(super) fn start(files: Vec<PathBuf>) -> std::io::Result<Self> {
        Ok(Self {
            files: files.into_iter(),
            used: Vec::new(),
        })
    }

    pub(super) fn next(&mut self) -> Option<ReadSegment> {
        let path = self.files.next()?;
        let mut bytes = std::mem::take(&mut self.used);
        let read = read_whole(&path, &mut bytes, self.files.len() == 0);
        Some(read.map(|file| (file, bytes)))
    }

    pub(super) fn done(&mut self, bytes: Vec<u8>) {
        self.used = bytes;
    }
}
