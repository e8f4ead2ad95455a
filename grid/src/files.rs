//! Small files beside the log: replaced as a whole, and perhaps not there.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::platform::fs;

/// Replaces a file so that it has either the old or the new content, whatever happens. Until then the new
/// content is in a file of the same name that ends with `.part`.
///
/// # Errors
/// The file system's.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut file = fs::File::create(&part)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    match path.parent() {
        Some(directory) => fs::File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// A file's content, if the file is there.
///
/// # Errors
/// The file system's.
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a file, if it is there.
///
/// # Errors
/// The file system's.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What is in a directory; nothing where there is none.
///
/// # Errors
/// The file system's.
pub(crate) fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry?.path());
    }
    Ok(paths)
}

/// Removes the files in a directory, which stays. Returns whether there were any.
///
/// # Errors
/// The file system's.
pub(crate) fn remove_all(directory: &Path) -> io::Result<bool> {
    let files = list(directory)?;
    let had_files = !files.is_empty();
    files.into_iter().try_for_each(fs::remove_file)?;
    Ok(had_files)
}
