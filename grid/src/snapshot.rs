//! A replica's snapshot files: written whole or not at all, checked when read.
//!
//! A file (see `format`) is written under a temporary name, synced, renamed, and its directory synced. Two are kept:
//! the newest, from which a restart is quick, and the *replay base*, the newest that the pump has
//! passed, from which any change that the pump may still need can be produced again. A newest file
//! that turns out damaged is set aside, and the base serves instead, since the log reaches back to it.
//!
//! What it deliberately does not do: decide when to take one (see `retention`).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use grid_core::snapshot::PartitionView;
use grid_core::{PartitionId, PartitionState, Space, SpaceView};
use parking_lot::Mutex;

use crate::disk;
use crate::files;
use crate::platform::fs::{self, File};
use crate::raft::SnapshotPosition;
use crate::status::{Divergence, SnapshotStatus};

mod check;
mod format;
mod kinds;
mod paced;

pub(crate) use check::SnapshotCheck;
pub(crate) use format::{
    FORMAT, Header, SinkError, damaged, open, read_frame, restore, restore_from, write_frame,
    write_header,
};

pub(crate) use kinds::Reach;

use kinds::Kinds;
use paced::Paced;

/// Says that the replica differs from the others.
const DIVERGED_FILE: &str = "diverged.json";

/// A complete snapshot on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotFile {
    pub(crate) path: PathBuf,
}

#[derive(Debug)]
struct Kept {
    position: SnapshotPosition,
    file: SnapshotFile,
    bytes: u64,
    written_at_ms: u64,
}

impl Kept {
    fn new(position: SnapshotPosition, file: SnapshotFile) -> Self {
        let found = File::open(&file.path).and_then(|found| found.metadata());
        Self {
            position,
            bytes: found.map_or(0, |found| found.len()),
            written_at_ms: fs::modified_ms(&file.path).unwrap_or(0),
            file,
        }
    }
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    grid_id: u128,
    partition: PartitionId,
    kept: Mutex<BTreeMap<u64, Kept>>,
    /// The damaged file for which no other one was written yet.
    missed: Mutex<Option<PathBuf>>,
    /// How often one could not be written.
    failures: AtomicU64,
}

/// One replica's snapshots; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotStore {
    inner: Arc<Inner>,
}

impl SnapshotStore {
    /// Takes up the snapshots in a directory; half-written ones are removed, damaged ones set aside.
    ///
    /// # Errors
    /// When the directory cannot be read or made.
    pub(crate) fn open(
        directory: PathBuf,
        grid_id: u128,
        partition: PartitionId,
    ) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        let mut kept = BTreeMap::new();
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("snap") => match open(&path, grid_id, partition) {
                    Ok((header, _)) => {
                        let position = header.position;
                        let file = SnapshotFile { path };
                        kept.insert(position.index(), Kept::new(position, file));
                    }
                    Err(error) => set_aside(&path, &error),
                },
                Some("part") => fs::remove_file(&path)?,
                _ => {}
            }
        }
        let inner = Inner {
            directory,
            grid_id,
            partition,
            kept: Mutex::new(kept),
            missed: Mutex::default(),
            failures: AtomicU64::new(0),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Restores the newest snapshot that can be read; a damaged one is set aside and the next older
    /// one tried.
    pub(crate) fn restore_newest<S: Space>(&self) -> Option<(PartitionState<S>, SnapshotPosition)> {
        loop {
            let file = self.inner.kept.lock().values().next_back()?.file.clone();
            match self.read(&file) {
                Ok(restored) => return Some(restored),
                Err(error) => {
                    set_aside(&file.path, &error);
                    self.inner.kept.lock().pop_last();
                }
            }
        }
    }

    /// Restores the newest snapshot at or before `index`, for a replay.
    pub(crate) fn restore_before<S: Space>(&self, index: u64) -> Option<PartitionState<S>> {
        let file = {
            let kept = self.inner.kept.lock();
            kept.range(..=index).next_back()?.1.file.clone()
        };
        match self.read(&file) {
            Ok((state, _)) => Some(state),
            Err(error) => {
                tracing::error!(%error, "a snapshot could not be read for a replay");
                None
            }
        }
    }

    /// Reads a snapshot.
    ///
    /// # Errors
    /// When it is damaged, of another grid, or of a newer format.
    pub(crate) fn read<S: Space>(
        &self,
        file: &SnapshotFile,
    ) -> io::Result<(PartitionState<S>, SnapshotPosition)> {
        restore(&file.path, self.inner.grid_id, self.inner.partition)
    }

    /// Writes a view, synced and under its final name when this returns.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn write<V: SpaceView>(
        &self,
        view: &PartitionView<V>,
        position: &SnapshotPosition,
    ) -> io::Result<SnapshotFile> {
        let temporary = self.incoming(position).path;
        let written = self
            .write_file(&temporary, view, position)
            .and_then(|()| self.publish(&temporary, position));
        if written.is_err() {
            self.inner.failures.fetch_add(1, Ordering::Relaxed);
            discard(&temporary);
        }
        written
    }

    fn write_file<V: SpaceView>(
        &self,
        temporary: &Path,
        view: &PartitionView<V>,
        position: &SnapshotPosition,
    ) -> io::Result<()> {
        let likely = self
            .inner
            .kept
            .lock()
            .values()
            .next_back()
            .map(|kept| kept.bytes);
        self.check_room(likely.unwrap_or(0))?;
        let mut out = Paced::create(temporary)?;
        let header = Header {
            format: FORMAT,
            grid_id: self.inner.grid_id,
            partition: self.inner.partition,
            position: position.clone(),
        };
        write_header(&mut out, &header)?;
        view.write_sections(|section| write_frame(&mut out, section).map_err(SinkError))
            .map_err(|error: SinkError| error.0)?;
        out.finish()
    }

    /// Refuses what would not fit: the room that half of it would take meanwhile is needed.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`].
    pub(crate) fn check_room(&self, bytes: u64) -> io::Result<()> {
        match disk::room(&self.inner.directory) {
            Some(room) if room.free_bytes < bytes => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    /// How often a snapshot could not be written.
    pub(crate) fn failures(&self) -> u64 {
        self.inner.failures.load(Ordering::Relaxed)
    }

    /// The indexes of the snapshots, oldest first.
    pub(crate) fn indexes(&self) -> Vec<u64> {
        self.inner.kept.lock().keys().copied().collect()
    }

    /// Begins to read a snapshot for nothing but its checksums.
    pub(crate) fn begin_check(&self, index: u64) -> Option<SnapshotCheck> {
        let kept = self.inner.kept.lock();
        let file = kept.get(&index)?.file.clone();
        Some(SnapshotCheck::new(
            file,
            self.inner.grid_id,
            self.inner.partition,
        ))
    }

    /// Checks a whole file at once, such as one that a peer has sent.
    ///
    /// # Errors
    /// When it is damaged, incomplete, of another grid, or of a newer format.
    pub(crate) fn check(&self, file: &SnapshotFile) -> io::Result<()> {
        let (grid_id, partition) = (self.inner.grid_id, self.inner.partition);
        let mut check = SnapshotCheck::new(file.clone(), grid_id, partition);
        while check.step()?.is_some() {}
        Ok(())
    }

    /// Takes a damaged snapshot out of use; `false` when it was no longer in use.
    pub(crate) fn set_aside(&self, index: u64, error: &io::Error) -> bool {
        let Some(kept) = self.inner.kept.lock().remove(&index) else {
            return false;
        };
        set_aside(&kept.file.path, error);
        *self.inner.missed.lock() = Some(kept.file.path);
        true
    }

    /// The damaged file in whose place there is no other yet.
    pub(crate) fn missed(&self) -> Option<String> {
        let missed = self.inner.missed.lock();
        missed.as_ref().map(|path| path.display().to_string())
    }

    /// Where a snapshot from a peer is written before [`Self::adopt`].
    pub(crate) fn incoming(&self, position: &SnapshotPosition) -> SnapshotFile {
        let name = format!("{:016x}.part", position.index());
        SnapshotFile {
            path: self.inner.directory.join(name),
        }
    }

    /// Makes a received and checked snapshot the only one.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn adopt(&self, file: &SnapshotFile, position: &SnapshotPosition) -> io::Result<()> {
        self.publish(&file.path, position)?;
        self.forget_except(&[position.index()]);
        Ok(())
    }

    /// Where a rebuild writes the snapshot that it fetches, before [`Self::adopt`].
    pub(crate) fn fetched(&self) -> SnapshotFile {
        SnapshotFile {
            path: self.inner.directory.join("fetched.part"),
        }
    }

    /// Writes down that the replica differs from the others, for the next start.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn mark_diverged(&self, divergence: &Divergence) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(divergence).map_err(io::Error::other)?;
        files::replace(&self.inner.directory.join(DIVERGED_FILE), &text)
    }

    /// Takes [`Self::mark_diverged`] back.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn unmark_diverged(&self) -> io::Result<()> {
        files::remove(&self.inner.directory.join(DIVERGED_FILE))?;
        File::open(&self.inner.directory)?.sync_all()
    }

    /// What [`Self::mark_diverged`] wrote.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub(crate) fn diverged(&self) -> io::Result<Option<Divergence>> {
        let path = self.inner.directory.join(DIVERGED_FILE);
        let text = files::read(&path)?;
        text.map(|text| serde_json::from_slice(&text).map_err(|error| damaged(&path, error)))
            .transpose()
    }

    /// The snapshots, oldest first.
    pub(crate) fn list(&self) -> Vec<SnapshotStatus> {
        let kept = self.inner.kept.lock();
        kept.iter()
            .map(|(index, kept)| SnapshotStatus {
                index: *index,
                bytes: kept.bytes,
                written_at_ms: kept.written_at_ms,
            })
            .collect()
    }

    /// The newest snapshot.
    pub(crate) fn newest(&self) -> Option<(SnapshotPosition, SnapshotFile)> {
        let kept = self.inner.kept.lock();
        kept.values()
            .next_back()
            .map(|kept| (kept.position.clone(), kept.file.clone()))
    }

    /// Removes the snapshots before `index`. To be called with the place up to which the log is gone:
    /// after a power cut a removed file may be back, and nothing leads on from it.
    pub(crate) fn forget_before(&self, index: u64) {
        let keep: Vec<u64> = {
            let kept = self.inner.kept.lock();
            kept.range(index..).map(|(index, _)| *index).collect()
        };
        self.forget_except(&keep);
    }

    /// The newest snapshot's index.
    pub(crate) fn newest_index(&self) -> Option<u64> {
        self.inner.kept.lock().keys().next_back().copied()
    }

    /// The oldest snapshot.
    pub(crate) fn oldest(&self) -> Option<(SnapshotPosition, SnapshotFile)> {
        self.oldest_from(0)
    }

    /// The oldest snapshot at or after `index`.
    pub(crate) fn oldest_from(&self, index: u64) -> Option<(SnapshotPosition, SnapshotFile)> {
        let kept = self.inner.kept.lock();
        let (_, kept) = kept.range(index..).next()?;
        Some((kept.position.clone(), kept.file.clone()))
    }

    /// Removes what is not needed of a pump at `pumped_index`, see [`Kinds`]. Returns the replay base's
    /// index: the log before it may go.
    pub(crate) fn retain(&self, pumped_index: u64, reach: Reach<'_>) -> Option<u64> {
        let kinds = Kinds::of(&self.indexes(), pumped_index, reach);
        let keep = [kinds.base, kinds.next_base, kinds.newest];
        let keep: Vec<u64> = keep.into_iter().flatten().collect();
        self.forget_except(&keep);
        kinds.base.filter(|base| *base <= pumped_index)
    }

    fn forget_except(&self, keep: &[u64]) {
        let mut kept = self.inner.kept.lock();
        kept.retain(|index, snapshot| {
            let stays = keep.contains(index);
            if !stays && let Err(error) = fs::remove_file(&snapshot.file.path) {
                tracing::warn!(%error, "an old snapshot could not be removed");
            }
            stays
        });
    }

    fn publish(&self, temporary: &Path, position: &SnapshotPosition) -> io::Result<SnapshotFile> {
        let path = self
            .inner
            .directory
            .join(format!("{:016x}.snap", position.index()));
        fs::rename(temporary, &path)?;
        File::open(&self.inner.directory)?.sync_all()?;
        let file = SnapshotFile { path };
        let kept = Kept::new(position.clone(), file.clone());
        self.inner.kept.lock().insert(position.index(), kept);
        *self.inner.missed.lock() = None;
        Ok(file)
    }
}

/// Removes what could not be finished: the room may be what was missing.
pub(crate) fn discard(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, file = %path.display(), "half a snapshot could not be removed");
        }
        _ => {}
    }
}

fn set_aside(path: &Path, error: &io::Error) {
    tracing::error!(%error, "a damaged snapshot is set aside");
    if let Err(error) = fs::rename(path, path.with_extension("damaged")) {
        tracing::error!(%error, "the damaged snapshot could not be renamed");
    }
}
