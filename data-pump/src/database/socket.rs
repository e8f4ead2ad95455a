//! The socket of a private database: a folder that only its user may enter, with a path short enough.

use std::fs::{self, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::DatabaseError;

/// The number in the socket's name; nothing listens on a network.
pub(super) const SOCKET_PORT: u16 = 5432;
/// A socket's path holds 107 bytes; this leaves room for `/.s.PGSQL.5432`.
const SOCKET_DIR_BYTES_MAX: usize = 90;

/// Makes a folder that only its owner may enter.
pub(super) fn private_folder(folder: &Path) -> Result<(), DatabaseError> {
    let io = || DatabaseError::io(format!("make the folder {}", folder.display()));
    fs::create_dir_all(folder).map_err(io())?;
    if fs::symlink_metadata(folder).map_err(io())?.is_symlink() {
        return Err(DatabaseError::Start(format!(
            "{} is a link, which somebody else may have placed",
            folder.display()
        )));
    }
    if fs::metadata(folder).map_err(io())?.mode() & 0o777 != 0o700 {
        fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(io())?;
    }
    Ok(())
}

/// The socket's folder: with the cluster, or under a short name when that path is too long.
pub(super) fn socket_dir(home: &Path) -> PathBuf {
    let beside = home.join("run");
    if beside.as_os_str().len() <= SOCKET_DIR_BYTES_MAX {
        return beside;
    }
    let mut hasher = DefaultHasher::new();
    home.hash(&mut hasher);
    std::env::temp_dir().join(format!("spacegrid-{:016x}", hasher.finish()))
}

/// A URL that sqlx and psql understand.
pub(super) fn url(user: &str, database: &str, socket_dir: &Path) -> String {
    let mut host = String::new();
    for &byte in socket_dir.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte) {
            host.push(char::from(byte));
        } else {
            host.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("postgres://{user}@localhost:{SOCKET_PORT}/{database}?host={host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_folder_gets_a_short_socket() {
        assert_eq!(
            socket_dir(Path::new("/d/postgres")),
            Path::new("/d/postgres/run")
        );
        let deep = PathBuf::from(format!("/{}/postgres", "x".repeat(120)));
        assert!(socket_dir(&deep).as_os_str().len() <= SOCKET_DIR_BYTES_MAX);
        assert_eq!(socket_dir(&deep), socket_dir(&deep));
    }

    #[test]
    fn the_url_escapes_what_urls_cannot_hold() {
        assert_eq!(
            url("u", "d", Path::new("/a b/run")),
            "postgres://u@localhost:5432/d?host=/a%20b/run"
        );
    }
}
