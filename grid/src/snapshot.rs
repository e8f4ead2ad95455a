//! A replica's snapshot files: written whole or not at all, checked when read.
//!
//! ```text
//!   magic │ frame(header) │ frame(section) … │ frame(end)      frame = length u32 │ crc32c u32 │ bytes
//! ```
//!
//! A file is written under a temporary name, synced, renamed, and its directory synced. Two are kept:
//! the newest, from which a restart is quick, and the *replay base*, the newest that the pump has
//! passed, from which any change that the pump may still need can be produced again. A newest file
//! that turns out damaged is set aside, and the base serves instead, since the log reaches back to it.
//!
//! What it deliberately does not do: decide when to take one (see `retention`).

use std::collections::BTreeMap;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use grid_core::codec::{self, CodecError};
use grid_core::snapshot::{PartitionView, Restore};
use grid_core::{PartitionId, PartitionState, Space, SpaceView};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::disk;
use crate::files;
use crate::platform::fs::{self, File};
use crate::raft::SnapshotPosition;
use crate::status::{Divergence, SnapshotStatus};

mod check;

pub(crate) use check::SnapshotCheck;

const MAGIC: &[u8; 8] = b"SGSNAP\r\n";
/// The newest format that this build reads.
const FORMAT: u16 = 1;
/// A snapshot is synced in pieces of this size.
const SYNC_EVERY_BYTES: usize = 1 << 20;
/// Says that the replica differs from the others.
const DIVERGED_FILE: &str = "diverged.json";
/// The longest section; a longer one is damage.
const SECTION_BYTES_MAX: u32 = 256 << 20;

/// A complete snapshot on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotFile {
    pub(crate) path: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) format: u16,
    pub(crate) grid_id: u128,
    pub(crate) partition: PartitionId,
    pub(crate) position: SnapshotPosition,
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

/// An error that names the file.
pub(crate) fn damaged(path: &Path, what: impl std::fmt::Display) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{}: {what}", path.display()),
    )
}

/// A codec error as a sink's error.
struct SinkError(io::Error);

impl From<CodecError> for SinkError {
    fn from(error: CodecError) -> Self {
        Self(io::Error::new(
            io::ErrorKind::InvalidData,
            error.to_string(),
        ))
    }
}

/// Syncs as it goes: one sync of a whole snapshot would keep the log's own syncs waiting behind it.
struct Paced {
    file: File,
    unsynced: usize,
}

impl Write for Paced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unsynced += written;
        if self.unsynced >= SYNC_EVERY_BYTES {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes a length, a checksum and the bytes.
pub(crate) fn write_frame(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len())
        .ok()
        .filter(|length| *length <= SECTION_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::other("a section is too long for a snapshot"))?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&crc32c::crc32c(bytes).to_le_bytes())?;
    out.write_all(bytes)
}

/// Reads what [`write_frame`] wrote; `None` at the file's end.
pub(crate) fn read_frame(input: &mut impl Read, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut prefix = [0; 8];
    match input.read_exact(&mut prefix) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let [a, b, c, d, e, f, g, h] = prefix;
    let length = u32::from_le_bytes([a, b, c, d]);
    if length > SECTION_BYTES_MAX {
        return Err(damaged(path, "a section's length is impossible"));
    }
    let mut bytes = vec![0; length as usize];
    input.read_exact(&mut bytes)?;
    if crc32c::crc32c(&bytes) != u32::from_le_bytes([e, f, g, h]) {
        return Err(damaged(path, "a section's checksum is wrong"));
    }
    Ok(Some(bytes))
}

/// Writes what a file begins with.
pub(crate) fn write_header(out: &mut impl Write, header: &Header) -> io::Result<()> {
    out.write_all(MAGIC)?;
    let header = codec::encode(header).map_err(|error| io::Error::other(error.to_string()))?;
    write_frame(out, &header)
}

/// Opens a file and reads its header; the sections follow.
pub(crate) fn open(
    path: &Path,
    grid_id: u128,
    partition: PartitionId,
) -> io::Result<(Header, BufReader<File>)> {
    let mut input = BufReader::with_capacity(1 << 18, File::open(path)?);
    let mut magic = [0; MAGIC.len()];
    input.read_exact(&mut magic)?;
    if &magic != MAGIC {
        return Err(damaged(path, "not a snapshot"));
    }
    let header = read_frame(&mut input, path)?.ok_or_else(|| damaged(path, "no header"))?;
    let header: Header = codec::decode(&header).map_err(|error| damaged(path, error))?;
    if header.format > FORMAT {
        return Err(damaged(
            path,
            format!("format {} is newer than {FORMAT}", header.format),
        ));
    }
    if header.grid_id != grid_id || header.partition != partition {
        return Err(damaged(
            path,
            "the snapshot is of another grid or partition",
        ));
    }
    Ok((header, input))
}

/// Reads a whole snapshot.
///
/// # Errors
/// When it is damaged, of another grid or partition, or of a newer format.
pub(crate) fn restore<S: Space>(
    path: &Path,
    grid_id: u128,
    partition: PartitionId,
) -> io::Result<(PartitionState<S>, SnapshotPosition)> {
    let (header, mut input) = open(path, grid_id, partition)?;
    let mut restore = Restore::<S>::default();
    while let Some(section) = read_frame(&mut input, path)? {
        restore
            .section(&section)
            .map_err(|error| damaged(path, error))?;
    }
    let state = restore.finish().map_err(|error| damaged(path, error))?;
    Ok((state, header.position))
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
        let paced = Paced {
            file: File::create(temporary)?,
            unsynced: 0,
        };
        let mut out = BufWriter::with_capacity(1 << 18, paced);
        let header = Header {
            format: FORMAT,
            grid_id: self.inner.grid_id,
            partition: self.inner.partition,
            position: position.clone(),
        };
        write_header(&mut out, &header)?;
        view.write_sections(|section| write_frame(&mut out, section).map_err(SinkError))
            .map_err(|error: SinkError| error.0)?;
        let paced = out.into_inner().map_err(|error| error.into_error())?;
        paced.file.sync_all()
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

    /// Removes what is neither the newest nor the replay base for a pump at `pumped_index`. Returns
    /// the base's index: the log before it may go.
    pub(crate) fn retain(&self, pumped_index: u64) -> Option<u64> {
        let (base, newest) = {
            let kept = self.inner.kept.lock();
            let base = kept
                .range(..=pumped_index)
                .next_back()
                .map(|(index, _)| *index);
            // Until the pump has passed one, the oldest is the nearest to a base there is.
            let oldest = kept.keys().next().copied();
            (base.or(oldest), kept.keys().next_back().copied())
        };
        let keep: Vec<u64> = base.into_iter().chain(newest).collect();
        self.forget_except(&keep);
        base.filter(|base| *base <= pumped_index)
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
