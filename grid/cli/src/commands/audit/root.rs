//! `grid audit root`: the newest signed roots.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use data_pump::audit::{ProofRoot, newest_roots, to_hex};
use serde::{Deserialize, Serialize};

use super::time;
use crate::commands::database::DatabaseArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{grouped, table};

/// `grid audit root`
#[derive(Debug, Args)]
pub(crate) struct RootArgs {
    /// Also write them to this file, for `grid audit verify --since-root`
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Roots as a document.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RootsDocument {
    pub(super) roots: Vec<ProofRoot>,
}

/// Lists them.
pub(super) async fn run(context: &Context, args: &RootArgs) -> anyhow::Result<()> {
    let url = args.database.url(context)?;
    let roots = newest_roots(&url).await.map_err(Failure::from)?;
    let document = RootsDocument {
        roots: roots.iter().map(ProofRoot::from).collect(),
    };
    if let Some(path) = &args.out {
        std::fs::write(path, serde_json::to_vec_pretty(&document)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    context.output.result(&document, || {
        if roots.is_empty() {
            return "no root is signed yet: a minute after the first change, if the nodes have an audit key"
                .to_owned();
        }
        let mut rows = table(["partition", "root", "facts so far", "signed at", "key", "hash"]);
        for root in &roots {
            let statement = &root.statement;
            let facts = statement.first_leaf.saturating_add(statement.leaves);
            rows.add_row([
                statement.partition.to_string(),
                statement.number.to_string(),
                grouped(facts.unsigned_abs()),
                time(statement.signed_at_ms),
                root.public_key.id(),
                to_hex(&statement.hash()),
            ]);
        }
        rows.to_string()
    })
}
