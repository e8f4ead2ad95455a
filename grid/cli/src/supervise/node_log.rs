//! A node's log, which is bounded while the node writes it.
//!
//! The node's standard error *is* the file, so nobody has to copy lines, and what a node says last is
//! there also when `grid up` was killed with it. A file that a process writes cannot be renamed away from
//! it: it is copied to `node.log.1`, replacing the one before, and cut to nothing; the node appends, so it
//! goes on at the beginning. A line written in the moment between the two is lost.
//!
//! Bounds: `node.log` is at most [`LOG_BYTES_MAX`] and what a node writes in [`LOG_LOOK_PAUSE`] long,
//! `node.log.1` as long.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

/// A log beyond this is set aside.
const LOG_BYTES_MAX: u64 = 64 << 20;
/// How often it is looked at.
pub(super) const LOG_LOOK_PAUSE: Duration = Duration::from_secs(30);

/// A node's log.
#[derive(Clone, Debug)]
pub(super) struct NodeLog {
    path: PathBuf,
    bytes_max: u64,
}

impl NodeLog {
    /// The log in the directory of a process of that kind.
    pub(super) fn in_directory(directory: &Path, kind: &str) -> Self {
        Self {
            path: directory.join(format!("{kind}.log")),
            bytes_max: LOG_BYTES_MAX,
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it for a process that is about to start.
    ///
    /// # Errors
    /// When it cannot be bounded or written.
    pub(super) fn open(&self) -> anyhow::Result<File> {
        let name = self.path.display();
        self.bound()
            .with_context(|| format!("cannot set {name} aside"))?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path);
        log.with_context(|| format!("cannot write {name}"))
    }

    /// Sets it aside when it is too long.
    ///
    /// # Errors
    /// When it cannot be cut. Where there is no room for a copy it is cut without: a log must not fill
    /// the disk that the grid writes to.
    pub(super) fn bound(&self) -> io::Result<()> {
        if !fs::metadata(&self.path).is_ok_and(|found| found.len() > self.bytes_max) {
            return Ok(());
        }
        let aside = self.path.with_extension("log.1");
        if let Err(error) = fs::copy(&self.path, &aside) {
            tracing::warn!(%error, "there is no copy of {} before it is cut", self.path.display());
            // Part of a copy is of no use, and takes room.
            let _ = fs::remove_file(&aside);
        }
        OpenOptions::new().write(true).open(&self.path)?.set_len(0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_log_is_bounded_while_it_is_written() {
        let folder = tempfile::tempdir().expect("temporary directory");
        let log = NodeLog {
            bytes_max: 10,
            ..NodeLog::in_directory(folder.path(), "node")
        };
        let aside = folder.path().join("node.log.1");
        let text = |path: &Path| fs::read_to_string(path).expect("text");
        let mut process = log.open().expect("a log");
        process.write_all(b"ten bytes.").expect("written");
        log.bound().expect("looked at");
        assert!(!aside.exists(), "it is not too long");
        process.write_all(b"more").expect("written");
        log.bound().expect("set aside");
        assert_eq!(
            (text(&aside).as_str(), text(log.path()).as_str()),
            ("ten bytes.more", "")
        );
        process
            .write_all(b"the same process goes on")
            .expect("written");
        assert_eq!(text(log.path()), "the same process goes on");
        drop(process);
        drop(log.open().expect("a log"));
        assert_eq!(text(&aside), "the same process goes on");
    }
}
