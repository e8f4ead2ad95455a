//! Snapshots outside a running grid: checking one, and planting one in the directory of a node that has
//! not been started yet.
//!
//! A planted snapshot belongs to another grid and other voters than the one it came from, so its header
//! is written anew: the same index, but term 0, below any term that the new grid will have. The state
//! itself is copied byte for byte. Beside the snapshots a mark tells the node to keep them although it
//! has no log, until the grid is founded (see `identity`).
//!
//! What it deliberately does not do: merge with what a node already has, or know of the database, which
//! is at another place than the backup.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use grid_core::{PartitionId, Space};

use crate::cluster::first_holders;
use crate::identity::NodeDirectory;
use crate::node::NodeId;
use crate::platform::fs::{self, File};
use crate::raft::SnapshotPosition;
use crate::snapshot::{self, Header};

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
    let partition = planting.partition;
    let directory = node_dir.join("snapshots").join(format!("p{partition}"));
    if directory.exists() {
        return Err(BackupError::Exists(directory));
    }
    fs::create_dir_all(&directory)?;
    let (header, mut input) = snapshot::open(source, planting.from_grid, partition)?;
    let index = header.position.index();
    let header = Header {
        grid_id: planting.grid_id,
        position: SnapshotPosition::founding(index, planting.voters),
        ..header
    };
    let temporary = directory.join(format!("{index:016x}.part"));
    let mut out = BufWriter::with_capacity(1 << 18, File::create(&temporary)?);
    snapshot::write_header(&mut out, &header)?;
    while let Some(section) = snapshot::read_frame(&mut input, source)? {
        snapshot::write_frame(&mut out, &section)?;
    }
    out.flush()?;
    out.get_ref().sync_all()?;
    fs::rename(&temporary, directory.join(format!("{index:016x}.snap")))?;
    File::open(&directory)?.sync_all()?;
    NodeDirectory::new(node_dir.to_owned()).mark_planted()?;
    Ok(())
}
