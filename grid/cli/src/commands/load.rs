//! `grid load`: measures the grid under load and checks afterwards.

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use grid::NodeId;
use jiff::SignedDuration;
use serde::Deserialize;
use uuid::Uuid;

use super::pump_loads::{self, DatabaseAwayArgs, PumpFaultsArgs, PumpLagArgs};
use super::rush::RushArgs;
use super::scenarios::{self, FaultsArgs, RecoveryArgs, RestartArgs, ScaleArgs, SnapshotArgs};
use super::watch::{self, BareWriterArgs, StormArgs, WatchArgs, WatchersArgs};
use crate::api::{Api, random_uuid};
use crate::context::Context;
use crate::failure::Failure;
use crate::load::check::Checker;
use crate::load::fault::Fault;
use crate::load::onsale::Offer;
use crate::load::overload::{self, OverloadPlan};
use crate::load::report::{Report, Stopwatch};
use crate::load::venue::{EventView, SeatMap, create};
use crate::load::{Ending, Plan, bidding, idle, onsale, rush};

/// `grid load …`
#[derive(Debug, Subcommand)]
pub(crate) enum LoadCommand {
    /// Buyers of seats. With --rate: hold, pay or let go, sold out over the run; without: each
    /// connection holds fresh seats as fast as it can
    Onsale(OnsaleArgs),
    /// People who arrive all at once in the waiting room of a sale and buy when they are admitted: whether a
    /// place is lost, whether the order is the lottery's, how fast the admitted get their seats
    Rush(RushArgs),
    /// Far more requests than the grid can do: what it still does, what it refuses, and how soon it is
    /// well again
    Overload(OverloadArgs),
    /// Bidders. With --rate at that rate, without as fast as they can
    Bidding(BiddingArgs),
    /// Buyers of seats while the node that leads the busiest partition is killed (kill -9), again and
    /// again: how long nothing succeeds, and whether anything is lost
    Faults(FaultsArgs),
    /// Buyers of seats while every node is restarted, one after another
    Restart(RestartArgs),
    /// Buyers of seats while a node joins the grid, to stay, and another is removed
    Scale(ScaleArgs),
    /// Nobody at all: what each node costs its machine while nothing is asked of the grid
    Idle(IdleArgs),
    /// Buyers of seats while the largest partition's snapshot is taken, again and again: whether the p99
    /// shows it, and whether anybody is elected
    Snapshot(SnapshotArgs),
    /// Buyers of seats with the pump and without it by turns: how far the database is behind, and what
    /// writing to it costs the sale
    PumpLag(PumpLagArgs),
    /// Buyers of seats while nodes that pump and the database are killed (kill -9), again and again:
    /// whether each fact is in SQL once, in its order
    PumpFaults(PumpFaultsArgs),
    /// Buyers of seats while the database is away, and then is back: what that costs, and how fast the
    /// pump catches up, beside the machine's bare rate
    DatabaseAway(DatabaseAwayArgs),
    /// A node with many seats and a long log is stopped and killed: how long it takes to be back
    Recovery(RecoveryArgs),
    /// Many who watch one auction: how soon each update is with everybody, and what that costs the gateways
    Watch(WatchArgs),
    /// Many who watch one auction are cut off at once and come back: how soon all are, and whether anybody
    /// misses anything
    Storm(StormArgs),
    #[command(hide = true)]
    Watchers(WatchersArgs),
    #[command(hide = true)]
    BareWriter(BareWriterArgs),
}

/// What both understand.
#[derive(Debug, Args)]
pub(crate) struct CommonArgs {
    /// WebSocket connections, spread over the gateways
    #[arg(long, alias = "buyers", alias = "bidders", value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Requests a second in all, on a schedule fixed in advance [default: as fast as answers come]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// How long, such as 60s
    #[arg(long, default_value = "60s")]
    duration: SignedDuration,
    /// Runs; with more than one, medians are given too
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Threads of the load generator
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    threads: u32,
    /// Kill the node that leads the busiest partition, so long after the start (needs the grid's data
    /// directory)
    #[arg(long, value_name = "DURATION")]
    kill_busiest_after: Option<SignedDuration>,
    #[command(flatten)]
    check: CheckArgs,
}

/// How it is checked afterwards.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Do not read back what was acknowledged
    #[arg(long)]
    no_check: bool,
    /// How long the check waits for the database to catch up, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    patience: u64,
    /// The database [default: DATABASE_URL, or that of the running grid]
    #[arg(long, value_name = "URL", conflicts_with = "no_database")]
    database_url: Option<String>,
    /// Check against the grid only
    #[arg(long)]
    no_database: bool,
}

impl CheckArgs {
    /// The database that was named.
    pub(super) fn database_url(&self) -> Option<&str> {
        self.database_url.as_deref()
    }

    /// Whoever checks; nobody where that is not wanted.
    pub(crate) async fn checker<'a>(
        &self,
        context: &Context,
        api: &'a Api,
    ) -> anyhow::Result<Option<Checker<'a>>> {
        if self.no_check {
            return Ok(None);
        }
        let url = match self.no_database {
            true => None,
            false => context.database_url(self.database_url.as_deref())?,
        };
        let patience = Duration::from_secs(self.patience);
        let checker = Checker::new(context.output, api, url.as_deref(), patience).await?;
        Ok(Some(checker))
    }
}

/// `grid load onsale`
#[derive(Debug, Args)]
pub(crate) struct OnsaleArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// The sale [default: the one imported last]
    #[arg(long, value_name = "UUID")]
    event: Option<Uuid>,
}

/// `grid load bidding`
#[derive(Debug, Args)]
pub(crate) struct BiddingArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// How many auctions to create
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    auctions: u32,
    /// Open auctions to use instead, separated by commas
    #[arg(long, value_name = "UUID", value_delimiter = ',')]
    auction: Vec<Uuid>,
}

/// `grid load overload`
#[derive(Debug, Args)]
pub(crate) struct OverloadArgs {
    /// The sale whose seats are copied [default: the one imported last]
    #[arg(long, value_name = "UUID")]
    event: Option<Uuid>,
    /// Copies of it, in as many partitions as chance will have it
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    events: u32,
    /// WebSocket connections, spread over the gateways
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Requests under way on one connection, at most; what is due beyond is not sent
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    in_flight: u32,
    /// How many times the sustainable load is asked for
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    factor: f64,
    /// The part of it that is asked for before and afterwards, in percent; where the load generator and the
    /// database share the processors, half of the peak is already all of them
    #[arg(long, value_name = "PERCENT", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=100))]
    base: u32,
    /// How long the overload lasts
    #[arg(long, default_value = "60s")]
    duration: SignedDuration,
    /// How long each of the other phases lasts
    #[arg(long, default_value = "15s")]
    calm: SignedDuration,
    /// Clients that are told to wait do not
    #[arg(long)]
    impatient: bool,
    /// Threads of the load generator
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    threads: u32,
}

/// `grid load idle`
#[derive(Debug, Args)]
pub(crate) struct IdleArgs {
    /// How long it is measured, such as 60s
    #[arg(long, default_value = "60s")]
    duration: SignedDuration,
}

impl LoadCommand {
    /// Threads of the load generator.
    pub(crate) fn threads(&self) -> usize {
        let threads = match self {
            Self::Onsale(args) => args.common.threads,
            Self::Bidding(args) => args.common.threads,
            Self::Overload(args) => args.threads,
            Self::Faults(args) => args.common.threads,
            Self::Restart(args) => args.common.threads,
            Self::Scale(args) => args.common.threads,
            Self::Idle(_) | Self::Rush(_) | Self::Watch(_) | Self::Storm(_) => 1,
            Self::Watchers(_) | Self::BareWriter(_) => 1,
            Self::Snapshot(args) => args.common.threads,
            Self::Recovery(args) => args.threads,
            Self::PumpLag(args) => args.common.threads,
            Self::PumpFaults(args) => args.common.threads,
            Self::DatabaseAway(args) => args.common.threads,
        };
        threads as usize
    }
}

/// A time that is not nothing.
pub(super) fn positive(duration: SignedDuration, option: &str) -> Result<Duration, Failure> {
    Duration::try_from(duration)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| Failure::Usage(format!("{option} must be positive")))
}

impl CommonArgs {
    fn plan(&self, context: &Context, api: &Api, seed: u64) -> anyhow::Result<Plan> {
        let fault = match self.kill_busiest_after {
            Some(after) => {
                let after = Duration::try_from(after).map_err(|_| {
                    Failure::Usage("--kill-busiest-after must not be negative".to_owned())
                })?;
                let fault = Fault::new(context.api()?, context.data_dir.clone(), after);
                Some(Arc::new(fault))
            }
            None => None,
        };
        let duration = positive(self.duration, "--duration")?;
        Ok(Plan {
            gateways: api.gateways().to_vec(),
            connections: self.connections as usize,
            rate: self.rate.map(f64::from),
            duration,
            seed,
            fault,
            ending: Ending::default(),
        })
    }
}

/// Loads, checks, reports.
pub(crate) async fn run(context: &Context, command: LoadCommand) -> anyhow::Result<()> {
    match &command {
        LoadCommand::Watch(args) => return watch::watch(context, args).await,
        LoadCommand::Storm(args) => return watch::storm(context, args).await,
        LoadCommand::Watchers(args) => return watch::watchers(args).await,
        LoadCommand::BareWriter(args) => return watch::bare_writer(args),
        _ => {}
    }
    let api = context.api()?;
    let report = match &command {
        LoadCommand::Onsale(args) => run_onsale(context, &api, args).await?,
        LoadCommand::Bidding(args) => run_bidding(context, &api, args).await?,
        LoadCommand::Rush(args) => return super::rush::run(context, args).await,
        LoadCommand::Overload(args) => return run_overload(context, &api, args).await,
        LoadCommand::Faults(args) => return scenarios::faults(context, args).await,
        LoadCommand::Restart(args) => return scenarios::restart(context, args).await,
        LoadCommand::Scale(args) => return scenarios::scale(context, args).await,
        LoadCommand::Idle(args) => return run_idle(context, &api, args).await,
        LoadCommand::Snapshot(args) => return scenarios::snapshot(context, args).await,
        LoadCommand::Recovery(args) => return scenarios::recovery(context, args).await,
        LoadCommand::PumpLag(args) => return pump_loads::lag(context, args).await,
        LoadCommand::PumpFaults(args) => return pump_loads::faults(context, args).await,
        LoadCommand::DatabaseAway(args) => return pump_loads::away(context, args).await,
        LoadCommand::Watch(_)
        | LoadCommand::Storm(_)
        | LoadCommand::Watchers(_)
        | LoadCommand::BareWriter(_) => return Ok(()),
    };
    report.print(context.output)?;
    if report.is_ok() {
        Ok(())
    } else {
        Err(Failure::Reported.into())
    }
}

async fn run_onsale(context: &Context, api: &Api, args: &OnsaleArgs) -> anyhow::Result<Report> {
    let common = &args.common;
    let event_id = match args.event {
        Some(event_id) => event_id,
        None => latest_event(context, api).await?,
    };
    let event = EventView::read(api, event_id).await?;
    let seed = random_uuid()?.as_u128() as u64;
    let checked = if common.rate.is_some() {
        "tickets"
    } else {
        "holds"
    };
    let mut report = Report::new("hold", checked);
    for number in 1..=common.runs {
        let plan = common.plan(context, api, seed.wrapping_add(u64::from(number)))?;
        let map = SeatMap::read(api, event_id).await?;
        if common.rate.is_none() {
            let watch = Stopwatch::start();
            let (recorder, stages) = rush::run(context.output, &plan, api, &event, &map).await?;
            let mut run = watch.stop(&recorder, &plan)?;
            if let Some(checker) = common.check.checker(context, api).await? {
                run.check = Some(checker.rush(&stages).await?);
            }
            report.add(run);
            continue;
        }
        // The first run sells the event itself, every further one a copy of it.
        let (sold_id, map) = if number == 1 {
            (event_id, map)
        } else {
            let copy = create(api, &event.copy(&map, number, true)).await?;
            (copy, SeatMap::read(api, copy).await?)
        };
        let limit = event.max_seats_per_buyer;
        let watch = Stopwatch::start();
        let offer = Offer {
            event_id: sold_id,
            limit,
            map,
        };
        let (recorder, account) = onsale::run(context.output, &plan, offer).await?;
        let mut run = watch.stop(&recorder, &plan)?;
        if let Some(checker) = common.check.checker(context, api).await? {
            run.check = Some(checker.sale(sold_id, &account).await?);
        }
        report.add(run);
    }
    Ok(report)
}

async fn run_bidding(context: &Context, api: &Api, args: &BiddingArgs) -> anyhow::Result<Report> {
    let common = &args.common;
    let seed = random_uuid()?.as_u128() as u64;
    let mut report = Report::new("bid", "bids");
    for number in 1..=common.runs {
        let plan = common.plan(context, api, seed.wrapping_add(u64::from(number)))?;
        let watch = Stopwatch::start();
        let count = args.auctions as usize;
        let (recorder, lots) =
            bidding::run(context.output, &plan, api, &args.auction, count).await?;
        let mut run = watch.stop(&recorder, &plan)?;
        if let Some(checker) = common.check.checker(context, api).await? {
            run.check = Some(checker.bids(&lots).await?);
        }
        report.add(run);
    }
    Ok(report)
}

async fn run_overload(context: &Context, api: &Api, args: &OverloadArgs) -> anyhow::Result<()> {
    if !(1.0..=1_000.0).contains(&args.factor) {
        return Err(Failure::Usage("--factor is between 1 and 1000".to_owned()).into());
    }
    let event_id = match args.event {
        Some(event_id) => event_id,
        None => latest_event(context, api).await?,
    };
    let event = EventView::read(api, event_id).await?;
    let map = SeatMap::read(api, event_id).await?;
    let plan = OverloadPlan {
        gateways: api.gateways().to_vec(),
        connections: args.connections as usize,
        in_flight_max: args.in_flight as usize,
        events: args.events as usize,
        factor: args.factor,
        base: f64::from(args.base) / 100.0,
        overload: positive(args.duration, "--duration")?,
        calm: positive(args.calm, "--calm")?,
        impatient: args.impatient,
        seed: random_uuid()?.as_u128() as u64,
    };
    let report = overload::run(context.output, &plan, api, &context.data_dir, &event, &map).await?;
    report.print(context.output)?;
    match report.ok {
        true => Ok(()),
        false => Err(Failure::Reported.into()),
    }
}

async fn run_idle(context: &Context, api: &Api, args: &IdleArgs) -> anyhow::Result<()> {
    let duration = positive(args.duration, "--duration")?;
    let grid = context.grid_file()?;
    let nodes: Vec<NodeId> = grid.nodes.iter().map(|node| node.id).collect();
    let (output, data_dir) = (context.output, &context.data_dir);
    let idle = idle::run(output, api, data_dir, &nodes, grid.partitions, duration).await?;
    idle.print(output)
}

/// The sale imported last, or the only one.
pub(super) async fn latest_event(context: &Context, api: &Api) -> anyhow::Result<Uuid> {
    #[derive(Deserialize)]
    struct Listed {
        event_id: Uuid,
    }
    let events: Vec<Listed> = api.list("/v1/events").await?;
    let remembered = context
        .data_dir
        .last_event()
        .and_then(|text| text.parse().ok());
    if let Some(known) = remembered
        && events.iter().any(|event| event.event_id == known)
    {
        return Ok(known);
    }
    match events.as_slice() {
        [only] => Ok(only.event_id),
        [] => Err(Failure::Usage(
            "there is no sale; create one with `grid import venue samples/arena.json`".to_owned(),
        )
        .into()),
        _ => Err(Failure::Usage(
            "there are several sales; name one with --event (see `grid event list`)".to_owned(),
        )
        .into()),
    }
}
