//! `grid pump pause` and `grid pump resume`.

use clap::Args;
use data_pump::pump::PumpOperator;
use serde::Serialize;

use super::operator;
use crate::commands::database::DatabaseArgs;
use crate::context::Context;
use crate::failure::Failure;

/// `grid pump pause`
#[derive(Debug, Args)]
pub(crate) struct PauseArgs {
    /// This partition only
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    /// Why, for whoever looks later
    #[arg(long, value_name = "TEXT", default_value = "no reason given")]
    reason: String,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// `grid pump resume`
#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// This partition only
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Debug, Serialize)]
struct Outcome {
    /// Partitions that this command paused or resumed.
    changed: Vec<i32>,
    /// Partitions that are paused now.
    paused: Vec<i32>,
}

/// Pauses.
pub(crate) async fn pause(context: &Context, args: &PauseArgs) -> anyhow::Result<()> {
    let mut operator = operator(&args.database, context).await?;
    let by = context.user.to_string();
    let changed = operator
        .pause(args.partition, &by, &args.reason)
        .await
        .map_err(Failure::from)?;
    let outcome = finish(operator, args.partition, changed).await?;
    context.output.result(&outcome, || {
        format!(
            "paused now: {}. Nothing more of them is written until `grid pump resume`; sales go on, and \
             the nodes' logs grow meanwhile",
            list(&outcome.paused)
        )
    })
}

/// Resumes.
pub(crate) async fn resume(context: &Context, args: &ResumeArgs) -> anyhow::Result<()> {
    let mut operator = operator(&args.database, context).await?;
    let changed = operator
        .resume(args.partition)
        .await
        .map_err(Failure::from)?;
    let outcome = finish(operator, args.partition, changed).await?;
    context.output.result(&outcome, || {
        format!(
            "resumed: {}; still paused: {}",
            list(&outcome.changed),
            list(&outcome.paused)
        )
    })
}

/// Reads what is paused now. A partition that no pump has opened is none that can be named.
async fn finish(
    mut operator: PumpOperator,
    partition: Option<u32>,
    changed: Vec<i32>,
) -> anyhow::Result<Outcome> {
    let rows = operator.partitions().await.map_err(Failure::from)?;
    operator.close().await;
    let is_known = |number: u32| {
        let mut rows = rows.iter();
        rows.any(|row| u32::try_from(row.partition) == Ok(number))
    };
    if let Some(number) = partition.filter(|number| !is_known(*number)) {
        let text = format!(
            "the database knows no partition {number}; `grid pump status` shows those that a pump has \
             opened"
        );
        return Err(Failure::Usage(text).into());
    }
    let paused = rows
        .iter()
        .filter(|row| row.paused_at_ms.is_some())
        .map(|row| row.partition)
        .collect();
    Ok(Outcome { changed, paused })
}

fn list(partitions: &[i32]) -> String {
    match partitions {
        [] => "no partition".to_owned(),
        [one] => format!("partition {one}"),
        many => {
            let many: Vec<String> = many.iter().map(i32::to_string).collect();
            format!("partitions {}", many.join(", "))
        }
    }
}
