//! `grid load watch` and `grid load storm`, and the processes that they start.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Args;
use jiff::SignedDuration;
use uuid::Uuid;

use super::load::positive;
use crate::context::Context;
use crate::failure::Failure;
use crate::load::watch::watchers::{self, Greeting, Watching};
use crate::load::watch::{self, Peer, WatchPlan, bare, storm};

/// What both understand.
#[derive(Debug, Args)]
pub(crate) struct RoomArgs {
    /// Watchers of one auction, in as many processes as it takes
    #[arg(long, value_name = "N", default_value_t = 18_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    watchers: u32,
    /// Gateways to watch at, separated by commas [default: all that are asked]
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    at: Vec<String>,
    /// Updates a second, each a bid, on a schedule fixed in advance
    #[arg(long, value_name = "N", default_value_t = 3.0)]
    rate: f64,
}

/// `grid load watch`
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    room: RoomArgs,
    /// How long
    #[arg(long, default_value = "20s")]
    duration: SignedDuration,
    /// Then so many updates at once, for the most that can be delivered; 0 for none
    #[arg(long, value_name = "N", default_value_t = 20)]
    burst: u64,
    /// Then the same by a bare loop of writes to as many sockets as one gateway here has
    #[arg(long)]
    bare: bool,
    /// Then one update at a time, in turn with another server: uws=COMMAND or nats=COMMAND (see scripts/peers)
    #[arg(long = "peer", value_name = "NAME=COMMAND")]
    peers: Vec<Peer>,
}

/// `grid load storm`
#[derive(Debug, Args)]
pub(crate) struct StormArgs {
    #[command(flatten)]
    room: RoomArgs,
    /// Those who are cut off come back spread over so long, as gateways ask them to; 0s for all at once
    #[arg(long, default_value = "0s")]
    spread: SignedDuration,
}

/// A process full of watchers
#[derive(Debug, Args)]
pub(crate) struct WatchersArgs {
    #[arg(long, value_delimiter = ',')]
    gateways: Vec<SocketAddr>,
    #[arg(long)]
    local: Ipv4Addr,
    #[arg(long)]
    greeting: Greeting,
    #[arg(long)]
    auction: Uuid,
    #[arg(long)]
    watchers: usize,
    #[arg(long)]
    epoch_ms: u64,
    #[arg(long)]
    spread_ms: u64,
}

/// The process that writes without a gateway
#[derive(Debug, Args)]
pub(crate) struct BareWriterArgs {
    #[arg(long)]
    sockets: usize,
}

impl RoomArgs {
    fn plan(&self, context: &Context) -> anyhow::Result<WatchPlan> {
        if !(self.rate > 0.0 && self.rate <= 1_000.0) {
            return Err(Failure::Usage("--rate is above 0 and at most 1000".to_owned()).into());
        }
        let gateways = match self.at.as_slice() {
            [] => context.api()?.gateways().to_vec(),
            at => at.to_vec(),
        };
        Ok(WatchPlan {
            gateways,
            watchers: self.watchers as usize,
            rate: self.rate,
            duration: Duration::ZERO,
            burst: 0,
            bare: false,
            peers: Vec::new(),
            spread: Duration::ZERO,
        })
    }
}

/// Has many watch.
pub(crate) async fn watch(context: &Context, args: &WatchArgs) -> anyhow::Result<()> {
    let plan = WatchPlan {
        duration: positive(args.duration, "--duration")?,
        burst: args.burst,
        bare: args.bare,
        peers: args.peers.clone(),
        ..args.room.plan(context)?
    };
    let watched = watch::run(context.output, &plan, &context.api()?).await?;
    watched.print(context.output)?;
    match watched.ok {
        true => Ok(()),
        false => Err(Failure::Reported.into()),
    }
}

/// Cuts many off.
pub(crate) async fn storm(context: &Context, args: &StormArgs) -> anyhow::Result<()> {
    let plan = WatchPlan {
        spread: Duration::try_from(args.spread)
            .map_err(|_| Failure::Usage("--spread must not be negative".to_owned()))?,
        ..args.room.plan(context)?
    };
    let stormed = storm::run(context.output, &plan, &context.api()?).await?;
    stormed.print(context.output)?;
    match stormed.ok {
        true => Ok(()),
        false => Err(Failure::Reported.into()),
    }
}

/// Is one of the processes.
pub(crate) async fn watchers(args: &WatchersArgs) -> anyhow::Result<()> {
    let watching = Watching {
        gateways: args.gateways.clone(),
        local: args.local,
        greeting: args.greeting,
        auction: args.auction,
        watchers: args.watchers,
        epoch_ms: args.epoch_ms,
        spread_ms: args.spread_ms,
    };
    watchers::run(watching).await
}

/// Is the other one.
pub(crate) fn bare_writer(args: &BareWriterArgs) -> anyhow::Result<()> {
    bare::run(args.sockets)
}
