//! PostgreSQL installations on this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::given::{SERVER_MAJOR_MIN, major_of};

/// A folder with `postgres` and `initdb` of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Installation {
    pub(super) folder: PathBuf,
    /// Such as `15.18`.
    pub(super) version: String,
    pub(super) major: u32,
}

impl Installation {
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Where distributions keep one folder a version, with the binaries in `bin`.
const VERSIONED_FOLDERS: &[&str] = &["/usr/lib/postgresql", "/usr/local/lib/postgresql"];

/// Every usable installation: PATH first, then `pg_config`, then the distribution's folders, newest
/// first.
pub(super) fn installed() -> Vec<Installation> {
    let mut folders = Vec::new();
    if let Some(path) = std::env::var_os("PATH") {
        for folder in std::env::split_paths(&path) {
            // A link on the PATH may stand alone: initdb lies beside what it points to.
            if let Ok(real) = folder.join("postgres").canonicalize()
                && let Some(parent) = real.parent()
            {
                folders.push(parent.to_owned());
            }
        }
    }
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        folders.push(PathBuf::from(
            String::from_utf8_lossy(&output.stdout).trim(),
        ));
    }
    folders.extend(versioned_folders());
    let mut found: Vec<Installation> = Vec::new();
    for folder in folders {
        let Ok(folder) = folder.canonicalize() else {
            continue;
        };
        if found.iter().any(|known| known.folder == folder) {
            continue;
        }
        if let Some(installation) = inspect(&folder)
            && installation.major >= SERVER_MAJOR_MIN
        {
            found.push(installation);
        }
    }
    found
}

fn versioned_folders() -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = VERSIONED_FOLDERS
        .iter()
        .filter_map(|root| std::fs::read_dir(root).ok())
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let major = entry.file_name().to_str()?.parse().ok()?;
            Some((major, entry.path().join("bin")))
        })
        .collect();
    versions.sort_by(|left, right| right.cmp(left));
    versions.into_iter().map(|(_, folder)| folder).collect()
}

fn inspect(folder: &Path) -> Option<Installation> {
    if !folder.join("initdb").is_file() {
        return None;
    }
    let output = Command::new(folder.join("postgres"))
        .arg("--version")
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
    let version = text
        .split("(PostgreSQL)")
        .nth(1)?
        .split_whitespace()
        .next()?;
    Some(Installation {
        folder: folder.to_owned(),
        version: version.to_owned(),
        major: major_of(version)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_initdb_is_no_installation() {
        assert_eq!(inspect(Path::new("/")), None);
    }

    #[test]
    fn what_is_found_can_make_a_cluster() {
        for installation in installed() {
            assert!(installation.program("initdb").is_file());
            assert!(installation.major >= SERVER_MAJOR_MIN);
        }
    }
}
