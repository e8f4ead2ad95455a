//! Reads a snapshot for nothing but its checksums and its end, a little at a time: cheaper than restoring
//! it, and without the memory.

use std::io::{self, BufReader};
use std::path::Path;

use grid_core::PartitionId;
use grid_core::snapshot::is_end;

use super::{SnapshotFile, damaged, open, read_frame};
use crate::platform::fs::{self, File};

/// At least so much is read at a time.
const STEP_BYTES: u64 = 1 << 20;

/// A check under way.
#[derive(Debug)]
pub(crate) struct SnapshotCheck {
    file: SnapshotFile,
    grid_id: u128,
    partition: PartitionId,
    input: Option<BufReader<File>>,
    is_complete: bool,
}

impl SnapshotCheck {
    pub(super) fn new(file: SnapshotFile, grid_id: u128, partition: PartitionId) -> Self {
        Self {
            file,
            grid_id,
            partition,
            input: None,
            is_complete: false,
        }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.file.path
    }

    /// Checks some more and returns how many bytes were read; `None` when all is checked.
    ///
    /// # Errors
    /// The file is lost, damaged, incomplete, of another grid, or of a newer format.
    pub(crate) fn step(&mut self) -> io::Result<Option<u64>> {
        let path = &self.file.path;
        let input = match &mut self.input {
            Some(input) => input,
            None => {
                // What is in memory may be better than what is on the disk.
                fs::forget_cached(&File::open(path)?);
                let (_, opened) = open(path, self.grid_id, self.partition)?;
                self.input.insert(opened)
            }
        };
        let mut bytes = 0;
        while bytes < STEP_BYTES {
            let section = read_frame(input, path).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => damaged(path, "it ends within a section"),
                _ => error,
            });
            match section? {
                Some(section) => {
                    bytes += section.len() as u64;
                    self.is_complete = is_end(&section);
                }
                None if !self.is_complete => return Err(damaged(path, "its end is missing")),
                None if bytes == 0 => return Ok(None),
                None => break,
            }
        }
        Ok(Some(bytes))
    }
}

#[cfg(all(test, not(feature = "sim")))]
mod tests {
    use std::io;

    use grid_core::PartitionState;

    use crate::cluster::{META, MapSpace};
    use crate::raft::SnapshotPosition;
    use crate::snapshot::SnapshotStore;

    #[test]
    fn every_flipped_bit_and_every_cut_is_found_and_the_file_set_aside() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().to_owned();
        let store = SnapshotStore::open(path.clone(), 7, META).expect("a store");
        let state = PartitionState::<MapSpace>::new(META);
        let position = SnapshotPosition::default();
        let file = store.write(&state.view(), &position).expect("written");
        store.check(&file).expect("sound");
        let sound = std::fs::read(&file.path).expect("a snapshot");
        for at in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes[at] ^= 1 << (at % 8);
            std::fs::write(&file.path, &bytes).expect("written");
            store.check(&file).expect_err("flipped");
            std::fs::write(&file.path, &sound[..at]).expect("written");
            store.check(&file).expect_err("cut");
        }
        std::fs::remove_file(&file.path).expect("removed");
        let lost = store.check(&file).expect_err("lost");
        assert_eq!(lost.kind(), io::ErrorKind::NotFound);

        std::fs::write(&file.path, &sound).expect("written");
        assert!(store.set_aside(0, &io::Error::other("damaged")));
        assert!(!store.set_aside(0, &io::Error::other("damaged")), "once");
        assert!(store.newest_index().is_none() && store.missed().is_some());
        assert!(!file.path.exists() && file.path.with_extension("damaged").exists());
        store.write(&state.view(), &position).expect("another");
        assert!(store.missed().is_none());
    }
}
