//! How much room the disk has.

use std::path::Path;

use crate::platform::fs;

/// A file system's room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DiskRoom {
    /// For unprivileged users.
    pub(crate) free_bytes: u64,
    /// In all.
    pub(crate) total_bytes: u64,
}

/// The room of the file system that a path is on; `None` where the system does not say.
pub(crate) fn room(path: &Path) -> Option<DiskRoom> {
    fs::room(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_room_and_a_missing_path_has_none() {
        let found = room(Path::new("/")).expect("the root");
        assert!(found.free_bytes <= found.total_bytes && found.total_bytes > 0);
        assert_eq!(room(Path::new("/nowhere/at/all")), None);
    }
}
