//! Snapshots outside a running grid: reading and checking one, and planting one, or a state that was made
//! of one, in the directory of a node that has not been started yet.
//!
//! A planted snapshot belongs to another grid and other voters than the one it came from, so its header
//! is written anew: the same index, but term 0, below any term that the new grid will have. The state
//! itself is the same byte for byte. Beside the snapshots a mark tells the node to keep them although it
//! has no log, until the grid is founded (see `identity`).
//!
//! What it deliberately does not do: merge with what a node already has, or know of the database, which
//! is at another place than the backup.

use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use grid_core::snapshot::{SnapshotSummary, summary};
use grid_core::{PartitionId, PartitionState, Space};
use parking_lot::Mutex;

use crate::cluster::first_holders;
use crate::identity::NodeDirectory;
use crate::node::NodeId;
use crate::platform::fs::{self, File};
use crate::raft::SnapshotPosition;
use crate::snapshot::{self, Header, SinkError};

/// Held while a directory is marked: two who replace one file at once would take it from each other.
static MARKING: Mutex<()> = Mutex::new(());

/// What a snapshot was found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedSnapshot {
    /// The log index it stands at.
    pub index: u64,
    /// The running state hash there, in hexadecimal.
    pub state_hash: String,
    /// Everything up to this index was in the database.
    pub pumped_index: u64,
}

/// Why a snapshot cannot be used. Take another one.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file cannot be read or written, or is damaged; the text names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The state breaks a rule of its domain.
    #[error("{}: {what}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// The rule.
        what: String,
    },
    /// The directory holds something already. Choose an empty one.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
}

/// Which nodes hold a partition of a new grid that has no zones, the first leader first.
#[must_use]
pub fn founding_holders(
    partition: PartitionId,
    nodes: &[NodeId],
    partitions: u32,
    replicas: u32,
) -> Vec<NodeId> {
    first_holders(partition, nodes, partitions, replicas)
}

/// Reads a whole snapshot: its checksums, its shape, and the rules of its domain.
///
/// # Errors
/// See [`BackupError`].
pub fn check_snapshot<S: Space>(
    path: &Path,
    grid_id: u128,
    partition: PartitionId,
) -> Result<CheckedSnapshot, BackupError> {
    let (state, position) = snapshot::restore::<S>(path, grid_id, partition)?;
    let broken = |what: String| BackupError::Broken {
        path: path.to_owned(),
        what,
    };
    state.check_invariants().map_err(broken)?;
    if position.index() != state.applied_index() {
        return Err(broken(
            "its header names another index than its state".to_owned(),
        ));
    }
    Ok(CheckedSnapshot {
        index: state.applied_index(),
        state_hash: state.hash().to_string(),
        pumped_index: state.pumped_index(),
    })
}

/// Reads where a snapshot stands from the beginning of its file.
///
/// # Errors
/// See [`BackupError`].
pub fn summarize_snapshot(
    path: &Path,
    grid_id: u128,
    partition: PartitionId,
) -> Result<SnapshotSummary, BackupError> {
    let (_, mut input) = snapshot::open(path, grid_id, partition)?;
    let head = snapshot::read_frame(&mut input, path)?
        .ok_or_else(|| snapshot::damaged(path, "it has no sections"))?;
    Ok(summary(&head).map_err(|error| snapshot::damaged(path, error))?)
}

/// Reads a snapshot from its bytes, wherever they are kept; `name` stands for them in errors.
///
/// # Errors
/// See [`BackupError`].
pub fn read_snapshot<S: Space>(
    input: impl Read,
    name: &str,
    grid_id: u128,
    partition: PartitionId,
) -> Result<PartitionState<S>, BackupError> {
    let (state, _) = snapshot::restore_from(input, Path::new(name), grid_id, partition)?;
    Ok(state)
}

/// For whom a snapshot is planted.
#[derive(Clone, Copy, Debug)]
pub struct Planting<'a> {
    /// The grid it came from.
    pub from_grid: u128,
    /// The grid it goes to.
    pub grid_id: u128,
    /// The partition.
    pub partition: PartitionId,
    /// Who will vote in it.
    pub voters: &'a [NodeId],
}

/// Writes a snapshot into the directory of a node that has never run. Checks the checksums on the way.
///
/// # Errors
/// See [`BackupError`].
pub fn plant_snapshot(
    source: &Path,
    node_dir: &Path,
    planting: Planting<'_>,
) -> Result<(), BackupError> {
    let (header, mut input) = snapshot::open(source, planting.from_grid, planting.partition)?;
    let index = header.position.index();
    plant(node_dir, planting, index, |out| {
        while let Some(section) = snapshot::read_frame(&mut input, source)? {
            snapshot::write_frame(out, &section)?;
        }
        Ok(())
    })?;
    Ok(())
}

/// Writes a state as a snapshot into the directory of a node that has never run, and returns the file,
/// from which [`plant_snapshot`] can make those of other nodes.
///
/// # Errors
/// See [`BackupError`].
pub fn plant_state<S: Space>(
    state: &PartitionState<S>,
    node_dir: &Path,
    planting: Planting<'_>,
) -> Result<PathBuf, BackupError> {
    plant(node_dir, planting, state.applied_index(), |out| {
        let written = state
            .view()
            .write_sections(|section| snapshot::write_frame(out, section).map_err(SinkError));
        written.map_err(|error: SinkError| error.0)
    })
}

/// Writes a file, complete under its final name or not at all.
fn plant(
    node_dir: &Path,
    planting: Planting<'_>,
    index: u64,
    write_sections: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<PathBuf, BackupError> {
    let partition = planting.partition;
    let directory = node_dir.join("snapshots").join(format!("p{partition}"));
    if directory.exists() {
        return Err(BackupError::Exists(directory));
    }
    fs::create_dir_all(&directory)?;
    let header = Header {
        format: snapshot::FORMAT,
        grid_id: planting.grid_id,
        partition,
        position: SnapshotPosition::founding(index, planting.voters),
    };
    let temporary = directory.join(format!("{index:016x}.part"));
    let mut out = BufWriter::with_capacity(1 << 18, File::create(&temporary)?);
    snapshot::write_header(&mut out, &header)?;
    write_sections(&mut out)?;
    out.flush()?;
    out.get_ref().sync_all()?;
    let path = directory.join(format!("{index:016x}.snap"));
    fs::rename(&temporary, &path)?;
    File::open(&directory)?.sync_all()?;
    // Partitions may be planted at the same time, and share the mark of their node.
    let _turn = MARKING.lock();
    NodeDirectory::new(node_dir.to_owned()).mark_planted()?;
    Ok(path)
}
