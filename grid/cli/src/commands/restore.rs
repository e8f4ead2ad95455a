//! `grid restore`.

use std::path::PathBuf;

use clap::Args;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{grouped, table};
use crate::restore::{RestoreOrder, Restored, restore};

/// `grid restore`
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The database that the old grid's pump has written to (also DATABASE_URL)
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Nodes of the new grid
    #[arg(long, value_name = "N", default_value_t = 3,
        value_parser = clap::value_parser!(u32).range(1..=16))]
    nodes: u32,
    /// The configuration that the new grid will have, for its number of replicas
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Leave out what happened after this moment, such as 2026-11-21T20:15:00Z. The database keeps what
    /// happened later and stays the old grid's: the new one needs another
    #[arg(long, value_name = "TIME")]
    until: Option<jiff::Timestamp>,
    /// Restore although the old grid may have accepted what is not in the database
    #[arg(long)]
    accept_data_loss: bool,
    /// The old grid's ticket.key, by which the tickets that it sold stay good at the doors
    #[arg(long, value_name = "FILE")]
    ticket_key: Option<PathBuf>,
}

/// Makes a new grid of the database.
pub(crate) async fn run(mut context: Context, args: RestoreArgs) -> anyhow::Result<()> {
    let Some(database_url) = context.database_url(args.database_url.as_deref())? else {
        let text = "which database? Name it with --database-url or DATABASE_URL";
        return Err(Failure::Usage(text.to_owned()).into());
    };
    let order = RestoreOrder {
        database_url,
        nodes: args.nodes,
        config: args.config,
        until: args.until,
        accept_data_loss: args.accept_data_loss,
        ticket_key: args.ticket_key,
        by: context.user.to_string(),
    };
    let restored = restore(&mut context, &order).await?;
    let restored = &restored;
    context.output.result(restored, || text(restored))
}

fn text(restored: &Restored) -> String {
    let mut rows = table([
        "partition",
        "up to entry",
        "accepted at",
        "from the state at",
        "entries applied",
        "hash proven at",
        "state hash",
        "took",
    ]);
    for one in &restored.partitions {
        rows.add_row([
            one.partition.to_string(),
            grouped(one.index),
            one.at.to_string(),
            grouped(one.base_index),
            grouped(one.entries),
            grouped(one.proven_index),
            one.state_hash.chars().take(16).collect(),
            format!("{:.1} s", one.took_ms as f64 / 1_000.0),
        ]);
    }
    let lost = match (restored.accepted_data_loss, restored.missing_entries) {
        (false, _) => String::new(),
        (true, 0) => "; what the old grid accepted after its pump last wrote, if anything, is lost"
            .to_owned(),
        (true, entries) => format!("; at least {} log entries are lost", grouped(entries)),
    };
    let directory = restored.data_dir.display();
    let next = if restored.continued {
        format!(
            "the database is the new grid's now, and the old one can't write there any more; start it \
             with `grid --data-dir {directory} up` and the same --database-url"
        )
    } else {
        format!(
            "the database was left as it is; start the grid with `grid --data-dir {directory} up` and \
             another database"
        )
    };
    format!(
        "{rows}\n\ngrid {} with {} nodes was made from grid {} in {:.1} s{lost}\n{next}",
        restored.grid_id,
        restored.nodes,
        restored.from_grid,
        restored.took_ms as f64 / 1_000.0
    )
}
