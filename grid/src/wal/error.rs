//! What can go wrong with the log.

use std::io;
use std::path::{Path, PathBuf};

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WalError {
    /// Bytes that must be a record are not. Move the directory away; the node rejoins its peers.
    #[error("{} is damaged at offset {offset}: {what}", file.display())]
    Corrupt {
        file: PathBuf,
        offset: u64,
        what: String,
    },
    /// The directory is another node's. Use the right one.
    #[error("{} belongs to node {node_id} of grid {grid_id:032x}", file.display())]
    ForeignLog {
        file: PathBuf,
        grid_id: u128,
        node_id: u64,
    },
    /// Written by a newer build. Use that one.
    #[error("{} has format {found}, this build reads up to {supported}", file.display())]
    NewerFormat {
        file: PathBuf,
        found: u32,
        supported: u32,
    },
    /// Another process has the directory open.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The entries asked for are gone.
    #[error("entries up to {purged} are purged")]
    Purged { purged: u64 },
    /// The operating system said no; after a write or sync the log is unusable.
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
}

/// An entry that should be there and is not.
pub(super) fn lost(group: u32, index: u64) -> WalError {
    WalError::Io {
        what: format!("entry {index} of group {group} is in no segment"),
        source: io::ErrorKind::NotFound.into(),
    }
}

/// Of what was tried with a file.
pub(super) fn io_error(what: &str, path: &Path) -> impl FnOnce(io::Error) -> WalError + use<> {
    let what = format!("cannot {what} {}", path.display());
    move |source| WalError::Io { what, source }
}
