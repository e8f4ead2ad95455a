//! `grid backup`: a copy of the grid outside of it, checked, and made into a new grid.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::backup;
use crate::context::Context;
use crate::output::{grouped, table};

/// `grid backup …`
#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Copy every partition's present state into a new directory
    Create(DirectoryArgs),
    /// Read a backup again: checksums, shape, and the rules of sales and auctions
    Verify(DirectoryArgs),
    /// Make a new grid from a backup, in a data directory that is empty (--data-dir)
    Restore(RestoreArgs),
}

/// Where the backup is.
#[derive(Debug, Args)]
pub(crate) struct DirectoryArgs {
    /// The backup's directory
    directory: PathBuf,
}

/// `grid backup restore`
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The backup's directory
    directory: PathBuf,
    /// Nodes of the new grid
    #[arg(long, value_name = "N", default_value_t = 3,
        value_parser = clap::value_parser!(u32).range(1..=16))]
    nodes: u32,
    /// The configuration that the new grid will have, for its number of replicas
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Carries one out.
pub(crate) async fn run(mut context: Context, command: BackupCommand) -> anyhow::Result<()> {
    match command {
        BackupCommand::Create(args) => {
            let manifest = backup::create(&context, &args.directory).await?;
            let place = args.directory.display().to_string();
            context.output.result(&manifest, || {
                format!("{}\n\nthe backup is in {place}", manifest_text(&manifest))
            })
        }
        BackupCommand::Verify(args) => {
            let directory = args.directory;
            let checking = tokio::task::spawn_blocking(move || backup::verify(&directory));
            let manifest = checking.await??;
            context.output.result(&manifest, || {
                format!("{}\n\nthe backup is sound", manifest_text(&manifest))
            })
        }
        BackupCommand::Restore(args) => {
            let order = backup::RestoreOrder {
                directory: args.directory,
                nodes: args.nodes,
                config: args.config,
            };
            let restored = backup::restore(&mut context, &order)?;
            context.output.result(&restored, || {
                format!(
                    "grid {} with {} nodes and {} partitions was made in {}; start it with \
                     `grid --data-dir {} up`",
                    restored.grid_id,
                    restored.nodes,
                    restored.partitions,
                    restored.data_dir.display(),
                    restored.data_dir.display()
                )
            })
        }
    }
}

fn manifest_text(manifest: &backup::Manifest) -> String {
    let mut rows = table(["partition", "index", "bytes", "state hash"]);
    for file in &manifest.files {
        rows.add_row([
            file.partition.to_string(),
            grouped(file.index),
            grouped(file.bytes),
            file.state_hash.chars().take(16).collect(),
        ]);
    }
    format!(
        "grid {}, {} partitions, made {} by version {}\n{rows}",
        manifest.grid_id, manifest.partitions, manifest.created_at, manifest.version
    )
}
