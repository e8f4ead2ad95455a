//! `grid load pump-lag`, `pump-faults` and `database-away`: the way to the database is measured.

use clap::Args;
use jiff::SignedDuration;
use serde_json::json;

use super::load::{CheckArgs, positive};
use super::scenarios::{self, ScenarioArgs};
use crate::api::random_uuid;
use crate::context::Context;
use crate::failure::Failure;
use crate::load::pump::away::{self, Away, AwayPlan};
use crate::load::pump::faults::{self, FAULT_TIME, FaultsPlan};
use crate::load::pump::lag::{self, LagPlan};
use crate::load::report::median;
use crate::load::scenario::{self, Played};
use crate::output::grouped;

/// `grid load pump-lag`
#[derive(Debug, Args)]
pub(crate) struct PumpLagArgs {
    #[command(flatten)]
    pub(super) common: ScenarioArgs,
    /// How long each side lasts in each round
    #[arg(long, default_value = "60s")]
    duration: SignedDuration,
    /// So many times both sides are measured, in the other order each time
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// `grid load pump-faults`
#[derive(Debug, Args)]
pub(crate) struct PumpFaultsArgs {
    #[command(flatten)]
    pub(super) common: ScenarioArgs,
    /// How often
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    kills: u32,
    /// Chooses whom, and when [default: a random one]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// `grid load database-away`
#[derive(Debug, Args)]
pub(crate) struct DatabaseAwayArgs {
    #[command(flatten)]
    pub(super) common: ScenarioArgs,
    /// How long is sold before the database goes; ten minutes fill what is remembered for retries
    #[arg(long, default_value = "20s")]
    warm_up: SignedDuration,
    /// How long the database is away
    #[arg(long, default_value = "60s")]
    away: SignedDuration,
    /// So many times; with more than one, the median is given too
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long the machine's bare rate is measured, with one connection and with two
    #[arg(long, default_value = "8s")]
    bare: SignedDuration,
}

/// Where the pump writes.
fn database_url(context: &Context, check: &CheckArgs) -> anyhow::Result<String> {
    context.database_url(check.database_url())?.ok_or_else(|| {
        let text = "no database is known: start the grid with one";
        Failure::Database(text.to_owned()).into()
    })
}

/// Measures how far the pump is behind, and what it costs the sale.
pub(crate) async fn lag(context: &Context, args: &PumpLagArgs) -> anyhow::Result<()> {
    let plan = LagPlan {
        side: positive(args.duration, "--duration")?,
        rounds: args.rounds,
        database_url: database_url(context, &args.common.check)?,
    };
    scenarios::run(
        context,
        &args.common,
        plan.expected(),
        async |scene, recorder, start| lag::script(scene, &plan, recorder, start).await,
    )
    .await
}

/// Kills nodes that pump, and the database.
pub(crate) async fn faults(context: &Context, args: &PumpFaultsArgs) -> anyhow::Result<()> {
    let plan = FaultsPlan {
        kills: args.kills,
        seed: match args.seed {
            Some(seed) => seed,
            None => random_uuid()?.as_u128() as u64,
        },
    };
    scenarios::run(
        context,
        &args.common,
        FAULT_TIME * args.kills,
        async |scene, recorder, start| faults::script(scene, plan, recorder, start).await,
    )
    .await
}

/// Takes the database away and gives it back.
pub(crate) async fn away(context: &Context, args: &DatabaseAwayArgs) -> anyhow::Result<()> {
    context.grid_file()?;
    let api = context.api()?;
    let common = &args.common;
    let event_id = common.event_id(context, &api).await?;
    let plan = AwayPlan {
        warm_up: positive(args.warm_up, "--warm-up")?,
        away: positive(args.away, "--away")?,
        bare: positive(args.bare, "--bare")?,
        database_url: database_url(context, &common.check)?,
    };
    let scene = scenarios::scene(context, &api, common.calm)?;
    let mut rounds: Vec<Played<Away>> = Vec::new();
    for _ in 0..args.rounds {
        let load = scenarios::plan(&api, common.connections, Some(common.rate))?;
        let offers = scenario::offers(&api, event_id, common.events).await?;
        let mut played = scenario::play(&load, offers, plan.expected(), async |recorder, _| {
            away::script(scene, &plan, &load.ending, recorder).await
        })
        .await?;
        scenarios::check(context, &api, &common.check, &mut played).await?;
        rounds.push(played);
    }
    print(context, &rounds)
}

fn print(context: &Context, rounds: &[Played<Away>]) -> anyhow::Result<()> {
    let rates = || rounds.iter().map(|round| round.story.changes_per_s);
    let ok = rounds.iter().all(|round| round.ok);
    let document = json!({
        "ok": ok,
        "median_changes_per_s": median(rates()),
        "rounds": rounds,
    });
    context.output.result(&document, || {
        let mut text = String::new();
        for round in rounds {
            text.push_str(&round.text());
            text.push('\n');
        }
        text.push_str(&format!(
            "caught up at {} changes/s, median of {} rounds\n",
            grouped(median(rates()) as u64),
            rounds.len()
        ));
        text
    })?;
    match ok {
        true => Ok(()),
        false => Err(Failure::Reported.into()),
    }
}
