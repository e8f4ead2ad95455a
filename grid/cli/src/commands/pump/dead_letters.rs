//! `grid pump dlq`: what the database refused.

use clap::{ArgGroup, Args, Subcommand};
use data_pump::pump::{
    ChangePlace, Dropped, OperatorError, ParkedChange, ParkedEntity, ParkedFilter, Retried,
};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::operator;
use crate::commands::database::DatabaseArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{grouped, table};

/// The most changes that one list shows.
const LIST_MAX: u32 = 10_000;
/// How much of an error a table shows, in characters.
const ERROR_CHARS_MAX: usize = 80;

/// `grid pump dlq …`
#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    /// List parked changes in the order of their logs
    List(ListArgs),
    /// Show one with the whole change
    Show(ShowArgs),
    /// Write an entity's parked changes in their order, once what they met is put right
    Retry(RetryArgs),
    /// Give parked changes up for good; what is dropped is recorded in dead_letter_dropped
    Drop(DropArgs),
}

/// `grid pump dlq list`
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Of this partition only
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    /// Of this auction, event or item only
    #[arg(long, value_name = "UUID")]
    entity: Option<Uuid>,
    /// The most changes
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(LIST_MAX)))]
    limit: u32,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// `grid pump dlq show`
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// PARTITION:INDEX:SEQ, as listed
    place: ChangePlace,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// `grid pump dlq retry`
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["entity", "all"])))]
pub(crate) struct RetryArgs {
    /// This auction, event or item
    #[arg(long, value_name = "UUID")]
    entity: Option<Uuid>,
    /// Every parked entity
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// `grid pump dlq drop`
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["place", "entity"])))]
pub(crate) struct DropArgs {
    /// One change: PARTITION:INDEX:SEQ, as listed
    place: Option<ChangePlace>,
    /// Every parked change of this auction, event or item
    #[arg(long, value_name = "UUID")]
    entity: Option<Uuid>,
    /// Why, which is recorded
    #[arg(long, value_name = "TEXT", required = true)]
    reason: String,
    /// The database will never have these changes
    #[arg(long)]
    accept_data_loss: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Debug, Serialize)]
struct List {
    /// How many are parked in all, over the limit too.
    parked: i64,
    entities: Vec<ParkedEntity>,
    changes: Vec<ParkedChange>,
}

/// Carries one out.
pub(super) async fn run(context: &Context, command: DlqCommand) -> anyhow::Result<()> {
    match command {
        DlqCommand::List(args) => list(context, &args).await,
        DlqCommand::Show(args) => show(context, &args).await,
        DlqCommand::Retry(args) => retry(context, &args).await,
        DlqCommand::Drop(args) => give_up(context, &args).await,
    }
}

async fn list(context: &Context, args: &ListArgs) -> anyhow::Result<()> {
    let mut operator = operator(&args.database, context).await?;
    let filter = ParkedFilter {
        partition: args.partition,
        entity: args.entity,
    };
    let partitions = operator.partitions().await.map_err(Failure::from)?;
    let list = List {
        parked: partitions.iter().map(|row| row.parked_changes).sum(),
        entities: operator
            .parked_entities(filter)
            .await
            .map_err(Failure::from)?,
        changes: operator
            .parked(filter, args.limit)
            .await
            .map_err(Failure::from)?,
    };
    operator.close().await;
    context.output.result(&list, || list_text(&list))
}

fn list_text(list: &List) -> String {
    if list.changes.is_empty() {
        return format!("nothing of that is parked ({} changes in all)", list.parked);
    }
    let mut rows = table([
        "place", "kind", "entity", "why", "SQLSTATE", "tried", "error",
    ]);
    for change in &list.changes {
        let mut error: String = change.error.chars().take(ERROR_CHARS_MAX).collect();
        if error.len() < change.error.len() {
            error.push('…');
        }
        rows.add_row([
            place(change),
            change.kind.clone(),
            change.entity.to_string(),
            change.reason.clone(),
            change.sqlstate.clone().unwrap_or_default(),
            change.attempts.to_string(),
            error,
        ]);
    }
    format!(
        "{rows}\n{} of {} parked changes, {} entities",
        list.changes.len(),
        list.parked,
        list.entities.len()
    )
}

fn place(change: &ParkedChange) -> String {
    format!("{}:{}:{}", change.partition, change.log_index, change.seq)
}

async fn show(context: &Context, args: &ShowArgs) -> anyhow::Result<()> {
    let mut operator = operator(&args.database, context).await?;
    let change = operator
        .parked_at(args.place)
        .await
        .map_err(Failure::from)?;
    operator.close().await;
    let payload: Value =
        serde_json::from_str(&change.payload).unwrap_or_else(|_| json!(change.payload));
    let mut document = serde_json::to_value(&change)?;
    document["payload"] = payload.clone();
    context.output.result(&document, || {
        let pretty = serde_json::to_string_pretty(&payload).unwrap_or_default();
        format!(
            "{} {} of {}\nwhy: {} {}\nerror: {}\nrefused {} times\n{pretty}",
            place(&change),
            change.kind,
            change.entity,
            change.reason,
            change.sqlstate.as_deref().unwrap_or(""),
            change.error,
            change.attempts
        )
    })
}

async fn retry(context: &Context, args: &RetryArgs) -> anyhow::Result<()> {
    let mut operator = operator(&args.database, context).await?;
    let filter = ParkedFilter {
        partition: None,
        entity: args.entity,
    };
    let entities = operator
        .parked_entities(filter)
        .await
        .map_err(Failure::from)?;
    if entities.is_empty() && args.entity.is_some() {
        return Err(Failure::from(OperatorError::NotParked).into());
    }
    let bar = context.output.bar(entities.len() as u64, "entities");
    let mut retried: Vec<Retried> = Vec::with_capacity(entities.len());
    for entity in &entities {
        retried.push(operator.retry(entity).await.map_err(Failure::from)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    operator.close().await;
    let ok = retried.iter().all(|retried| retried.left == 0);
    let document = json!({"ok": ok, "entities": retried});
    context.output.result(&document, || retry_text(&retried))?;
    if ok {
        Ok(())
    } else {
        Err(Failure::Reported.into())
    }
}

fn retry_text(retried: &[Retried]) -> String {
    if retried.is_empty() {
        return "nothing is parked".to_owned();
    }
    let mut rows = table([
        "partition",
        "entity",
        "written",
        "still parked",
        "refused again",
    ]);
    for entity in retried {
        let refused = entity.refused.as_ref();
        rows.add_row([
            entity.partition.to_string(),
            entity.entity.to_string(),
            grouped(entity.written),
            grouped(entity.left),
            refused.map_or(String::new(), |refused| {
                format!("{}: {}", refused.place, refused.error)
            }),
        ]);
    }
    rows.to_string()
}

async fn give_up(context: &Context, args: &DropArgs) -> anyhow::Result<()> {
    if !args.accept_data_loss {
        let text = "dropping means that the database never has these changes; say so with \
                    --accept-data-loss, or put right what they met and use `grid pump dlq retry`";
        return Err(Failure::Usage(text.to_owned()).into());
    }
    let what = match (args.place, args.entity) {
        (Some(place), _) => Dropped::Change(place),
        (None, Some(entity)) => Dropped::Entity(entity),
        (None, None) => return Err(Failure::Usage("name a change or an entity".to_owned()).into()),
    };
    let mut operator = operator(&args.database, context).await?;
    let by = context.user.to_string();
    let dropped = operator
        .drop_parked(what, &by, &args.reason)
        .await
        .map_err(Failure::from)?;
    operator.close().await;
    context.output.result(&json!({ "dropped": dropped }), || {
        format!(
            "dropped {} changes, recorded in dead_letter_dropped. What was parked behind them waits for \
             `grid pump dlq retry`",
            grouped(dropped)
        )
    })
}
