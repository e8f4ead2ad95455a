//! The files that become segments: how they are named, zeroed, freed and used again.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::disk;
use crate::platform::fs::{self, File};

const SPARE_EXTENSION: &str = "spare";
const FREED_EXTENSION: &str = "free";

/// The name of a spare; every one has its own.
pub(super) fn spare_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number}.{SPARE_EXTENSION}"))
}

/// Removes what an earlier run left over.
///
/// # Errors
/// The file system's.
pub(super) fn remove_left_over(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let extension = path.extension();
        if extension.is_some_and(|e| e == SPARE_EXTENSION || e == FREED_EXTENSION) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Takes a segment out of the log; `None` when that is not possible, and it stays.
pub(super) fn free(segment: &Path) -> Option<PathBuf> {
    let freed = segment.with_extension(FREED_EXTENSION);
    match fs::rename(segment, &freed) {
        Ok(()) => Some(freed),
        Err(error) => {
            tracing::warn!(%error, file = %segment.display(), "cannot free a segment");
            None
        }
    }
}

/// Removes a file that nobody needs.
pub(super) fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(%error, file = %path.display(), "cannot remove a file of the log");
    }
}

/// Removes what there is of a spare that could not be made.
pub(super) fn remove_part(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, file = %path.display(), "cannot remove half a segment");
        }
        _ => {}
    }
}

/// What a log says that has no room.
pub(super) fn no_room() -> io::Error {
    io::Error::new(
        io::ErrorKind::StorageFull,
        "there is no room for the next segment",
    )
}

/// Refuses to begin what the disk has no room for, where it can be told before.
pub(super) fn check_room(directory: &Path, bytes: u64) -> io::Result<()> {
    match disk::room(directory) {
        Some(room) if room.free_bytes < bytes => Err(no_room()),
        _ => Ok(()),
    }
}

/// Makes a freed segment the beginning of a spare. The directory is synced before the zeros come: a
/// segment must not come back under its old name without its records.
pub(super) fn take_freed(directory: &Path, freed: &Path, spare: &Path) -> io::Result<()> {
    fs::rename(freed, spare)?;
    File::open(directory)?.sync_all()
}

/// Fills a file with zeros up to `bytes` and syncs it.
pub(super) fn fill_with_zeros(path: &Path, bytes: u64, stop: &AtomicBool) -> io::Result<()> {
    const BLOCK_BYTES: usize = 1 << 20;
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    let block = vec![0; BLOCK_BYTES.min(bytes as usize)];
    let mut left = bytes;
    while left > 0 {
        if stop.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let part = left.min(BLOCK_BYTES as u64) as usize;
        file.write_all(&block[..part])?;
        // Block by block: one sync of all of it would keep the log's own syncs waiting behind it.
        file.sync_data()?;
        left -= part as u64;
    }
    file.set_len(bytes)?;
    file.sync_all()
}
