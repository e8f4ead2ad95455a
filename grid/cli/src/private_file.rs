//! Small files that are their owner's only and hold either the old content or the new.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context as _;

/// Replaces a file, durably. Until then its new content is in a file beside it, which ends with `.part`.
pub(crate) fn replace(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    replace_io(path, content).with_context(|| format!("cannot write {}", path.display()))
}

fn replace_io(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&part)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}
