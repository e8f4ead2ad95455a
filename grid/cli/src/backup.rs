//! Backups: every partition's newest snapshot, and a manifest that says what they must be.
//!
//! ```text
//!   DIR/manifest.json    the grid, its partitions, and each file's size, checksum, index and state hash
//!   DIR/pN.snap          partition N, consistent in itself, at the index that the manifest says
//!   DIR/ticket.key       what ticket codes are signed with, where this machine has it
//! ```
//!
//! Partitions are copied one after the other, each at its own moment: a backup is consistent within a
//! partition, which is also how far a sale or an auction reaches. The manifest is written last, so a
//! directory without one is a backup that did not end.
//!
//! What it deliberately does not do: copy the database, which has its own tools.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use grid::backup::check_snapshot;
use grid_core::PartitionId;
use processing_unit::Unit;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::api::Api;
use crate::cluster::{self, ClusterStatus};
use crate::commands::snapshot;
use crate::context::Context;
use crate::failure::Failure;
use crate::new_grid::NewGrid;

/// The newest format that this build reads.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
const TICKET_KEY: &str = "ticket.key";
/// How long the copy of one partition may take.
const TRANSFER_WAIT: Duration = Duration::from_secs(600);

/// `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    format: u32,
    /// The grid it is of.
    pub(crate) grid_id: Uuid,
    /// Its partitions.
    pub(crate) partitions: u32,
    /// When it was made.
    pub(crate) created_at: String,
    /// By which build.
    pub(crate) version: String,
    /// One a partition.
    pub(crate) files: Vec<BackupFile>,
    /// Whether the key of ticket codes is with it.
    ticket_key: bool,
}

/// One partition's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BackupFile {
    /// The partition.
    pub(crate) partition: u32,
    /// Its name in the directory.
    pub(crate) file: String,
    /// The log index it stands at.
    pub(crate) index: u64,
    /// Its size.
    pub(crate) bytes: u64,
    /// Its checksum, in hexadecimal.
    pub(crate) blake3: String,
    /// The running state hash at its index.
    pub(crate) state_hash: String,
}

/// What to make of a backup.
#[derive(Debug)]
pub(crate) struct RestoreOrder {
    /// Where it is.
    pub(crate) directory: PathBuf,
    /// Nodes of the new grid.
    pub(crate) nodes: u32,
    /// Its configuration.
    pub(crate) config: Option<PathBuf>,
}

/// What was made.
#[derive(Debug, Serialize)]
pub(crate) struct Restored {
    /// The new grid.
    pub(crate) grid_id: Uuid,
    /// The one the backup is of.
    pub(crate) from_grid: Uuid,
    pub(crate) nodes: u32,
    pub(crate) partitions: u32,
    pub(crate) data_dir: PathBuf,
}

fn unusable(directory: &Path, why: &str) -> anyhow::Error {
    Failure::BadInput(format!("the backup in {} {why}", directory.display())).into()
}

/// Copies every partition into a directory that is made for it.
pub(crate) async fn create(context: &Context, directory: &Path) -> anyhow::Result<Manifest> {
    let api = context.api()?;
    let cluster = ClusterStatus::ask(&api).await?;
    let grid_id = cluster
        .statuses()
        .next()
        .map(|status| status.grid_id.clone());
    let grid_id = grid_id.context("no node says which grid it is of")?;
    let grid_id = Uuid::try_parse(&grid_id).context("the grid's id")?;
    fs::create_dir(directory).map_err(|error| {
        let text = format!("{} cannot be made: {error}", directory.display());
        Failure::Usage(text)
    })?;
    let partitions = &cluster.health.partitions;
    let bar = context.output.bar(partitions.len() as u64, "partitions");
    let mut files = Vec::with_capacity(partitions.len());
    for health in partitions {
        let PartitionId(partition) = health.partition;
        let source = health.leader.and_then(|leader| {
            let status = cluster.statuses().find(|status| status.node_id == leader)?;
            Some((leader, cluster::gateway_url(status)?))
        });
        let (leader, url) = source.ok_or_else(|| {
            let text = format!("partition {partition} has no leader just now; see `grid doctor`");
            Failure::Unreachable(text)
        })?;
        snapshot::take_one(&api, partition, leader).await?;
        files.push(fetch(&api, &url, grid_id, partition, directory).await?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let ticket_key = copy_ticket_key(context, directory)?;
    let manifest = Manifest {
        format: FORMAT,
        grid_id,
        partitions: u32::try_from(files.len())?,
        created_at: jiff::Timestamp::now().to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        files,
        ticket_key,
    };
    write_synced(
        &directory.join(MANIFEST),
        &serde_json::to_vec_pretty(&manifest)?,
    )?;
    File::open(directory)?.sync_all()?;
    Ok(manifest)
}

/// Copies one partition's newest snapshot from the gateway of the node that has it, and checks it.
async fn fetch(
    api: &Api,
    url: &str,
    grid_id: Uuid,
    partition: u32,
    directory: &Path,
) -> anyhow::Result<BackupFile> {
    let name = format!("p{partition}.snap");
    let path = directory.join(&name);
    let address = format!("/admin/v1/partitions/{partition}/snapshot");
    let mut response = api
        .fetch(url, &address, TRANSFER_WAIT)
        .await
        .with_context(|| format!("partition {partition} cannot be read from {url}"))?;
    let mut file = private_file(&path)?;
    let mut hasher = blake3::Hasher::new();
    let mut bytes = 0;
    while let Some(chunk) = response.chunk().await? {
        file.write_all(&chunk)?;
        hasher.update(&chunk);
        bytes += chunk.len() as u64;
    }
    file.sync_all()?;
    let checked = tokio::task::spawn_blocking(move || {
        check_snapshot::<Unit>(&path, grid_id.as_u128(), PartitionId(partition))
    });
    let checked = checked.await??;
    Ok(BackupFile {
        partition,
        file: name,
        index: checked.index,
        bytes,
        blake3: hasher.finalize().to_hex().to_string(),
        state_hash: checked.state_hash,
    })
}

/// Readable by its owner only: it holds who bought what.
fn private_file(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a new file that only its owner may read, and syncs it.
pub(crate) fn write_synced(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let mut file = private_file(path)?;
    file.write_all(content)?;
    file.sync_all()?;
    Ok(())
}

fn copy_ticket_key(context: &Context, directory: &Path) -> anyhow::Result<bool> {
    match fs::read(context.data_dir.ticket_key_path()) {
        Ok(key) => write_synced(&directory.join(TICKET_KEY), &key).map(|()| true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).context("the ticket key cannot be read"),
    }
}

/// Reads a backup's manifest.
fn read_manifest(directory: &Path) -> anyhow::Result<Manifest> {
    let text = fs::read(directory.join(MANIFEST)).map_err(|error| {
        unusable(
            directory,
            &format!("has no readable manifest, so it did not end: {error}"),
        )
    })?;
    let damaged = |error| unusable(directory, &format!("has a damaged manifest: {error}"));
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let Format { format } = serde_json::from_slice(&text).map_err(damaged)?;
    if format > FORMAT {
        let why =
            format!("has format {format}, this build reads up to {FORMAT}; use a newer build");
        return Err(unusable(directory, &why));
    }
    let manifest: Manifest = serde_json::from_slice(&text).map_err(damaged)?;
    let is_whole = manifest
        .files
        .iter()
        .map(|file| file.partition)
        .eq(0..manifest.partitions);
    if !is_whole {
        return Err(unusable(directory, "does not have one file a partition"));
    }
    Ok(manifest)
}

/// Reads everything again and compares it with the manifest.
pub(crate) fn verify(directory: &Path) -> anyhow::Result<Manifest> {
    let manifest = read_manifest(directory)?;
    for file in &manifest.files {
        let path = directory.join(&file.file);
        let mut hasher = blake3::Hasher::new();
        let mut input = File::open(&path)
            .map_err(|error| unusable(directory, &format!("lacks {}: {error}", file.file)))?;
        std::io::copy(&mut input, &mut hasher)
            .map_err(|error| unusable(directory, &format!("cannot be read: {error}")))?;
        if hasher.finalize().to_hex().as_str() != file.blake3 {
            let why = format!("is damaged: {} has another checksum", file.file);
            return Err(unusable(directory, &why));
        }
        let partition = PartitionId(file.partition);
        let checked = check_snapshot::<Unit>(&path, manifest.grid_id.as_u128(), partition)
            .map_err(|error| unusable(directory, &format!("is damaged: {error}")))?;
        if (checked.index, &checked.state_hash) != (file.index, &file.state_hash) {
            let why = format!("is damaged: {} is not what the manifest says", file.file);
            return Err(unusable(directory, &why));
        }
    }
    Ok(manifest)
}

/// Makes a new grid of a backup, in an empty data directory.
pub(crate) fn restore(context: &mut Context, order: &RestoreOrder) -> anyhow::Result<Restored> {
    let manifest = verify(&order.directory)?;
    let new = NewGrid::begin(
        context,
        manifest.partitions,
        order.nodes,
        order.config.as_deref(),
    )?;
    for file in &manifest.files {
        let source = order.directory.join(&file.file);
        new.plant_snapshot(PartitionId(file.partition), manifest.grid_id, &source)?;
    }
    if manifest.ticket_key {
        let key = fs::read(order.directory.join(TICKET_KEY)).map_err(|error| {
            unusable(&order.directory, &format!("lacks its ticket key: {error}"))
        })?;
        write_synced(&context.data_dir.ticket_key_path(), &key)?;
    }
    let (grid_id, path) = (new.grid_id, new.path());
    new.finish()?;
    Ok(Restored {
        grid_id,
        from_grid: manifest.grid_id,
        nodes: order.nodes,
        partitions: manifest.partitions,
        data_dir: path,
    })
}
