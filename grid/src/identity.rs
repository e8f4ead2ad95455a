//! Whose directory it is, and which disk: `node.json`, and the last cluster map seen, `cluster.map`.
//!
//! The *incarnation* is a random number that is made together with the log. A directory that lost its
//! log, or all it had, gets a new one, by which the grid knows that this node's old votes and entries
//! are gone: whoever counted on them must not count on this disk.
//!
//! Such a directory's snapshots are removed, too, unless they were *planted* there from a backup: the
//! file `planted` says so until the node has its first map, by which its groups begin from them.
//!
//! What it deliberately does not do: decide whether such a node may come back (see `cluster`).

use std::path::{Path, PathBuf};

use grid_core::codec;
use serde::{Deserialize, Serialize};

use crate::cluster::ClusterMap;
use crate::error::StartError;
use crate::files;
use crate::node::NodeId;
use crate::platform::{fs, random};

/// The layout of a node's directory.
const DATA_FORMAT: u32 = 2;
/// The format of the stored map.
const MAP_FORMAT: u16 = 1;
/// The file that marks planted snapshots.
const PLANTED: &str = "planted";
/// The end of a log segment's name.
const SEGMENT_EXTENSION: &str = "seg";

/// Whose directory this is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) format: u32,
    pub(crate) grid_id: String,
    pub(crate) node_id: NodeId,
    pub(crate) partitions: u32,
    /// In hexadecimal: a number of 64 bits does not survive every reader of JSON.
    pub(crate) incarnation: String,
}

/// What the directory held.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) incarnation: u64,
    /// The last map that this disk has seen; `None` on a new one.
    pub(crate) map: Option<ClusterMap>,
}

/// A node's directory.
#[derive(Clone, Debug)]
pub(crate) struct NodeDirectory {
    path: PathBuf,
}

pub(crate) fn in_file(what: &str, path: &Path) -> impl Fn(std::io::Error) -> StartError + use<> {
    let what = format!("{what} {}", path.display());
    move |source| StartError::Io {
        what: what.clone(),
        source,
    }
}

fn has_log(directory: &Path) -> std::io::Result<bool> {
    let files = files::list(&directory.join("wal"))?;
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|end| end == SEGMENT_EXTENSION);
    Ok(files.iter().any(is_segment))
}

impl NodeDirectory {
    /// Names it; nothing is made.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the directory is this node's, or makes it so. To be called before the log is
    /// opened.
    ///
    /// # Errors
    /// See [`StartError`]; nothing was changed then.
    pub(crate) fn claim(
        &self,
        grid_id: u128,
        node_id: NodeId,
        partitions: u32,
    ) -> Result<Claimed, StartError> {
        fs::create_dir_all(&self.path).map_err(in_file("cannot make", &self.path))?;
        let path = self.path.join("node.json");
        let has_log = has_log(&self.path).map_err(in_file("cannot read", &self.path))?;
        let expected = Identity {
            format: DATA_FORMAT,
            grid_id: format!("{grid_id:032x}"),
            node_id,
            partitions,
            incarnation: String::new(),
        };
        let text = files::read(&path).map_err(in_file("cannot read", &path))?;
        let Some(text) = text else {
            if has_log {
                return Err(StartError::Damaged(format!(
                    "{} is missing beside a log",
                    path.display()
                )));
            }
            return self.begin(&path, expected);
        };
        let found = Self::read(&path, &text, &expected)?;
        if !has_log {
            tracing::warn!(
                directory = %self.path.display(),
                "the directory has lost its log; the node comes back as one with an empty disk"
            );
            return self.begin(&path, expected);
        }
        let incarnation = u64::from_str_radix(&found.incarnation, 16)
            .map_err(|error| StartError::Damaged(format!("{}: {error}", path.display())))?;
        Ok(Claimed {
            incarnation,
            map: self.stored_map()?,
        })
    }

    /// Makes it a new disk's directory.
    fn begin(&self, path: &Path, mut identity: Identity) -> Result<Claimed, StartError> {
        let map = self.path.join("cluster.map");
        files::remove(&map).map_err(in_file("cannot remove", &map))?;
        let snapshots = self.path.join("snapshots");
        let stores = files::list(&snapshots).map_err(in_file("cannot read", &snapshots))?;
        let is_planted = self
            .is_planted()
            .map_err(in_file("cannot read", &self.path))?;
        for store in stores.iter().filter(|_| !is_planted) {
            files::remove_all(store).map_err(in_file("cannot empty", store))?;
        }
        let incarnation = random::u64().map_err(|error| StartError::Io {
            what: "the system gives no random bytes".to_owned(),
            source: std::io::Error::other(error.to_string()),
        })?;
        #[cfg(feature = "planted-bugs")]
        let incarnation = if crate::platform::simulated::is_planted("same-disk") {
            identity.node_id
        } else {
            incarnation
        };
        identity.incarnation = format!("{incarnation:016x}");
        let text = serde_json::to_vec_pretty(&identity)
            .map_err(|error| StartError::Options(error.to_string()))?;
        files::replace(path, &text).map_err(in_file("cannot write", path))?;
        Ok(Claimed {
            incarnation,
            map: None,
        })
    }

    fn read(path: &Path, text: &[u8], expected: &Identity) -> Result<Identity, StartError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let damaged = |error| StartError::Damaged(format!("{}: {error}", path.display()));
        let Format { format } = serde_json::from_slice(text).map_err(damaged)?;
        if format > DATA_FORMAT {
            return Err(StartError::NewerFormat {
                path: path.to_owned(),
                found: format,
                supported: DATA_FORMAT,
            });
        }
        if format < DATA_FORMAT {
            return Err(StartError::OlderFormat {
                path: path.to_owned(),
                found: format,
                supported: DATA_FORMAT,
            });
        }
        let found: Identity = serde_json::from_slice(text).map_err(damaged)?;
        let same = found.grid_id == expected.grid_id
            && found.node_id == expected.node_id
            && found.partitions == expected.partitions;
        if !same {
            let words = |identity: &Identity| {
                format!(
                    "node {} of grid {} with {} partitions",
                    identity.node_id, identity.grid_id, identity.partitions
                )
            };
            return Err(StartError::ForeignData {
                path: path.to_owned(),
                found: words(&found),
                expected: words(expected),
            });
        }
        Ok(found)
    }

    fn stored_map(&self) -> Result<Option<ClusterMap>, StartError> {
        let path = self.path.join("cluster.map");
        let Some(bytes) = files::read(&path).map_err(in_file("cannot read", &path))? else {
            return Ok(None);
        };
        let stored: Result<(u16, ClusterMap), _> = codec::decode(&bytes);
        match stored {
            Ok((MAP_FORMAT, map)) => Ok(Some(map)),
            Ok((found, _)) => Err(StartError::NewerFormat {
                path,
                found: u32::from(found),
                supported: u32::from(MAP_FORMAT),
            }),
            Err(error) => Err(StartError::Damaged(format!("{}: {error}", path.display()))),
        }
    }

    fn is_planted(&self) -> std::io::Result<bool> {
        let mark = self.path.join(PLANTED);
        Ok(files::list(&self.path)?.contains(&mark))
    }

    /// Notes that the snapshots here are from a backup and belong to a grid that is not founded yet.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn mark_planted(&self) -> std::io::Result<()> {
        files::replace(&self.path.join(PLANTED), b"")
    }

    /// Keeps the map, durably. From the first one on the snapshots are the log's, planted or not.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn store_map(&self, map: &ClusterMap) -> std::io::Result<()> {
        let bytes = codec::encode(&(MAP_FORMAT, map))
            .map_err(|error| std::io::Error::other(error.to_string()))?;
        files::replace(&self.path.join("cluster.map"), &bytes)?;
        files::remove(&self.path.join(PLANTED))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Claimed, DATA_FORMAT, NodeDirectory, Path, StartError};

    fn claim(directory: &Path, grid_id: u128) -> Result<Claimed, StartError> {
        NodeDirectory::new(directory.to_owned()).claim(grid_id, 1, 4)
    }

    fn make_log(directory: &Path) {
        fs::create_dir_all(directory.join("wal")).expect("made");
        fs::write(directory.join("wal").join("1.seg"), b"").expect("written");
    }

    #[test]
    fn a_directory_of_another_grid_or_format_is_refused() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let first = claim(directory.path(), 1).expect("empty");
        make_log(directory.path());
        let again = claim(directory.path(), 1).expect("its own");
        assert_eq!(first.incarnation, again.incarnation);
        let refused = claim(directory.path(), 2);
        assert!(
            matches!(refused, Err(StartError::ForeignData { .. })),
            "{refused:?}"
        );
        let path = directory.path().join("node.json");
        fs::write(&path, format!("{{\"format\": {}}}", DATA_FORMAT + 1)).expect("written");
        let refused = claim(directory.path(), 1);
        assert!(
            matches!(refused, Err(StartError::NewerFormat { .. })),
            "{refused:?}"
        );
        fs::write(&path, "{\"format\": 1}").expect("written");
        let refused = claim(directory.path(), 1);
        assert!(
            matches!(refused, Err(StartError::OlderFormat { .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn planted_snapshots_are_kept_until_there_is_a_map() {
        let temporary = tempfile::tempdir().expect("temporary directory");
        let directory = NodeDirectory::new(temporary.path().to_owned());
        let store = temporary.path().join("snapshots").join("p0");
        fs::create_dir_all(&store).expect("made");
        let snapshot = store.join("1.snap");
        fs::write(&snapshot, b"state").expect("written");
        directory.mark_planted().expect("marked");
        for _ in 0..2 {
            claim(temporary.path(), 1).expect("planted");
            assert!(snapshot.exists());
        }

        let map = crate::cluster::found(Vec::new(), 4, 3);
        directory.store_map(&map).expect("stored");
        claim(temporary.path(), 1).expect("its own");
        assert!(!snapshot.exists());
    }

    #[test]
    fn a_disk_without_its_log_is_another_disk() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let first = claim(directory.path(), 1).expect("empty");
        make_log(directory.path());
        fs::write(directory.path().join("cluster.map"), b"stale").expect("written");
        fs::remove_dir_all(directory.path().join("wal")).expect("removed");
        let second = claim(directory.path(), 1).expect("its own");
        assert_ne!(first.incarnation, second.incarnation);
        assert!(second.map.is_none());

        make_log(directory.path());
        fs::remove_file(directory.path().join("node.json")).expect("removed");
        let refused = claim(directory.path(), 1);
        assert!(
            matches!(refused, Err(StartError::Damaged(_))),
            "{refused:?}"
        );
    }
}
