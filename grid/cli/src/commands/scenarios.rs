//! `grid load faults`, `restart`, `scale`, `snapshot` and `recovery`: the grid is measured while something
//! is done to it.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use grid::NodeId;
use jiff::SignedDuration;
use uuid::Uuid;

use super::load::{CheckArgs, latest_event, positive};
use crate::api::{Api, random_uuid};
use crate::context::Context;
use crate::failure::Failure;
use crate::load::recovery::{self, RecoveryPlan};
use crate::load::scale::{SCALE_TIME, ScalePlan};
use crate::load::scenario::{self, Played, SCRIPT_TIME_MAX, Scene, Story};
use crate::load::snapshots::{self, SnapshotPlan};
use crate::load::{Ending, Plan, kills, restarts, scale};

/// About how many entries a second buyers make, for the sale's tempo.
const FILL_ENTRIES_PER_S: u64 = 5_000;

/// What most understand.
#[derive(Debug, Args)]
pub(crate) struct ScenarioArgs {
    /// Requests a second in all, on a schedule fixed in advance
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) rate: u32,
    /// WebSocket connections, spread over the gateways
    #[arg(long, alias = "buyers", value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) connections: u32,
    /// The sale whose seats are copied [default: the one imported last]
    #[arg(long, value_name = "UUID")]
    event: Option<Uuid>,
    /// Copies of it that are sold, in as many partitions as chance will have it
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) events: u32,
    /// How long the grid is left alone before, between and afterwards
    #[arg(long, default_value = "3s")]
    pub(super) calm: SignedDuration,
    /// Threads of the load generator
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) threads: u32,
    #[command(flatten)]
    pub(super) check: CheckArgs,
}

/// `grid load faults`
#[derive(Debug, Args)]
pub(crate) struct FaultsArgs {
    #[command(flatten)]
    pub(super) common: ScenarioArgs,
    /// How often
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    kills: u32,
}

/// `grid load restart`
#[derive(Debug, Args)]
pub(crate) struct RestartArgs {
    #[command(flatten)]
    pub(super) common: ScenarioArgs,
    /// How often every node is restarted
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// `grid load scale`
#[derive(Debug, Args)]
pub(crate) struct ScaleArgs {
    #[command(flatten)]
    pub(super) common: ScenarioArgs,
    /// The node to remove [default: the lowest that was there before]
    #[arg(long, value_name = "NODE")]
    remove: Option<NodeId>,
    /// The configuration of the node that joins, if `grid up` has one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// `grid load snapshot`
#[derive(Debug, Args)]
pub(crate) struct SnapshotArgs {
    #[command(flatten)]
    pub(super) common: ScenarioArgs,
    /// Snapshots; so many times the p99 with one is compared with that without
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long is measured without a snapshot, and at least with one
    #[arg(long, default_value = "3s")]
    span: SignedDuration,
    /// How long the sale goes on before the first
    #[arg(long, default_value = "30s")]
    warm_up: SignedDuration,
    /// The partition [default: the one with the largest snapshot]
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    /// On all nodes that hold it at once, instead of the leader's alone
    #[arg(long)]
    all_replicas: bool,
}

/// `grid load recovery`
#[derive(Debug, Args)]
pub(crate) struct RecoveryArgs {
    /// Seats to create
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    seats: u32,
    /// Events that they are in, in as many partitions as chance will have it
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    events: u32,
    /// Buyers buy until the node's log holds so many entries, of all partitions
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    entries: u64,
    /// WebSocket connections meanwhile; the fewer, the fewer commands share an entry
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// The node [default: the first]
    #[arg(long, value_name = "NODE")]
    node: Option<NodeId>,
    /// How often it is stopped, and as often killed
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long the grid is left alone between two restarts
    #[arg(long, default_value = "3s")]
    calm: SignedDuration,
    /// Threads of the load generator
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) threads: u32,
    #[command(flatten)]
    check: CheckArgs,
}

/// Kills the busiest leader again and again.
pub(crate) async fn faults(context: &Context, args: &FaultsArgs) -> anyhow::Result<()> {
    let expected = kills::KILL_TIME * args.kills;
    run(
        context,
        &args.common,
        expected,
        async |scene, recorder, start| kills::script(scene, args.kills, recorder, start).await,
    )
    .await
}

/// Restarts every node, one after another.
pub(crate) async fn restart(context: &Context, args: &RestartArgs) -> anyhow::Result<()> {
    let nodes = u32::try_from(context.grid_file()?.nodes.len()).unwrap_or(u32::MAX);
    let expected = restarts::RESTART_TIME * args.rounds * nodes;
    run(
        context,
        &args.common,
        expected,
        async |scene, recorder, start| restarts::script(scene, args.rounds, recorder, start).await,
    )
    .await
}

/// Adds a node and removes another.
pub(crate) async fn scale(context: &Context, args: &ScaleArgs) -> anyhow::Result<()> {
    let plan = ScalePlan {
        remove: args.remove,
        config: args.config.clone(),
    };
    run(
        context,
        &args.common,
        SCALE_TIME,
        async |scene, recorder, start| scale::script(scene, &plan, recorder, start).await,
    )
    .await
}

/// Takes snapshots of the largest partition.
pub(crate) async fn snapshot(context: &Context, args: &SnapshotArgs) -> anyhow::Result<()> {
    let plan = SnapshotPlan {
        rounds: args.rounds,
        span: positive(args.span, "--span")?,
        warm_up: positive(args.warm_up, "--warm-up")?,
        partition: args.partition,
        all_replicas: args.all_replicas,
    };
    run(
        context,
        &args.common,
        plan.expected(),
        async |scene, recorder, start| snapshots::script(scene, &plan, recorder, start).await,
    )
    .await
}

/// Fills a node's log and restarts it.
pub(crate) async fn recovery(context: &Context, args: &RecoveryArgs) -> anyhow::Result<()> {
    context.grid_file()?;
    let api = context.api()?;
    let recovery = RecoveryPlan {
        seats: args.seats,
        events: args.events,
        entries: args.entries,
        node: args.node,
        rounds: args.rounds,
    };
    let scene = scene(context, &api, args.calm)?;
    let plan = plan(&api, args.connections, None)?;
    let expected = Duration::from_secs(args.entries / FILL_ENTRIES_PER_S + 1);
    let offers = recovery::offers(scene, &recovery).await?;
    let played = scenario::play(&plan, offers, expected, async |recorder, _| {
        recovery::script(scene, &recovery, &plan.ending, recorder).await
    })
    .await?;
    finish(context, &api, &args.check, played).await
}

impl ScenarioArgs {
    /// The sale whose seats are copied.
    pub(super) async fn event_id(&self, context: &Context, api: &Api) -> anyhow::Result<Uuid> {
        match self.event {
            Some(event_id) => Ok(event_id),
            None => latest_event(context, api).await,
        }
    }
}

/// Where a script plays.
pub(super) fn scene<'a>(
    context: &'a Context,
    api: &'a Api,
    calm: SignedDuration,
) -> anyhow::Result<Scene<'a>> {
    Ok(Scene {
        output: context.output,
        api,
        data_dir: &context.data_dir,
        calm: positive(calm, "--calm")?,
    })
}

/// What buyers do meanwhile: as many requests a second as `rate` says, else as many as they can.
pub(super) fn plan(api: &Api, connections: u32, rate: Option<u32>) -> anyhow::Result<Plan> {
    Ok(Plan {
        gateways: api.gateways().to_vec(),
        connections: connections as usize,
        rate: rate.map(f64::from),
        duration: SCRIPT_TIME_MAX,
        seed: random_uuid()?.as_u128() as u64,
        fault: None,
        ending: Ending::default(),
    })
}

pub(super) async fn run<T: Story>(
    context: &Context,
    args: &ScenarioArgs,
    expected: Duration,
    script: impl AsyncFnOnce(Scene<'_>, &crate::load::Recorder, std::time::Instant) -> anyhow::Result<T>,
) -> anyhow::Result<()> {
    // Processes are signalled, so the grid must be on this machine.
    context.grid_file()?;
    let api = context.api()?;
    let event_id = args.event_id(context, &api).await?;
    let plan = plan(&api, args.connections, Some(args.rate))?;
    let scene = scene(context, &api, args.calm)?;
    let offers = scenario::offers(&api, event_id, args.events).await?;
    let played: Played<T> = scenario::play(&plan, offers, expected, async |recorder, start| {
        script(scene, recorder, start).await
    })
    .await?;
    finish(context, &api, &args.check, played).await
}

/// Checks what was acknowledged, and reports.
async fn finish<T: Story>(
    context: &Context,
    api: &Api,
    check: &CheckArgs,
    mut played: Played<T>,
) -> anyhow::Result<()> {
    self::check(context, api, check, &mut played).await?;
    played.print(context.output)?;
    match played.ok {
        true => Ok(()),
        false => Err(Failure::Reported.into()),
    }
}

/// Checks what was acknowledged.
pub(super) async fn check<T: Story>(
    context: &Context,
    api: &Api,
    check: &CheckArgs,
    played: &mut Played<T>,
) -> anyhow::Result<()> {
    let mut checks = Vec::new();
    for (event_id, account) in played.accounts() {
        if let Some(checker) = check.checker(context, api).await? {
            checks.push(checker.sale(*event_id, account).await?);
        }
    }
    if !checks.is_empty() {
        played.checked(checks);
    }
    Ok(())
}
