//! `grid up`: a whole grid on this machine.
//!
//! ```text
//!   lock, grid.json ─► nodes, gateways as child processes ─► every gateway ready ─► ready line ─► until a signal
//!                 └──► database, meanwhile ──────────────┘ (the grid does not wait for it)
//! ```

mod database;
mod demo;
mod processes;
mod ready;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use data_pump::database::DatabaseOptions;
use grid_config::PARTITIONS_MAX;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::gateway_tls;
use database::{DatabaseKeeper, DatabaseState};
use ready::Ready;

use crate::api::{Api, random_uuid};
use crate::context::Context;
use crate::data_dir::{GatewayPlace, GridFile, NodeEntry};
use crate::failure::Failure;
use crate::supervise::{NodeProcess, becomes_free, reserve_ports};

/// The most nodes of a grid on one machine.
const NODES_MAX: u32 = 16;
/// The most gateways beside them.
const GATEWAYS_MAX: u32 = 64;
const READY_PAUSE: Duration = Duration::from_millis(50);
/// How long the ready line waits for a database that is being started.
const DATABASE_WAIT: Duration = Duration::from_secs(15);
/// A grid whose nodes die this often before it is ready will not become so.
const DEATHS_BEFORE_READY_MAX: u32 = 5;
/// How much of a node's log an error quotes, in lines.
const LOG_TAIL_LINES: usize = 5;

/// `grid up`
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Nodes of a new grid [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(NODES_MAX)))]
    nodes: Option<u32>,
    /// Gateways in processes of their own, beside those of the nodes [default: as many as last time, at first
    /// none]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=i64::from(GATEWAYS_MAX)))]
    gateways: Option<u32>,
    /// The first node's gateway; the others follow, gateways of their own last. 0 for any free ports, kept in the data directory
    #[arg(long, value_name = "PORT", default_value_t = 7700)]
    port: u16,
    /// Partitions of a new grid [default: the configured number, 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(PARTITIONS_MAX)))]
    partitions: Option<u32>,
    /// A PostgreSQL to write to, instead of a private one (also DATABASE_URL)
    #[arg(long, value_name = "URL", conflicts_with = "no_database")]
    database_url: Option<String>,
    /// Run without a database
    #[arg(long)]
    no_database: bool,
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Use mutual TLS between the nodes; certificates are made in the data directory, and a grid that has
    /// them uses them from then on
    #[arg(long)]
    tls: bool,
    /// Create a sample sale and a few auctions, and say how to take part
    #[arg(long)]
    demo: bool,
}

/// Runs until a signal.
pub(crate) async fn run(mut context: Context, args: UpArgs) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    context.data_dir.create()?;
    let _lock = context.data_dir.lock()?;
    let settings = grid_config::load(args.config.as_deref())
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let mut grid = prepare(&context, &args, settings.cluster.partitions)?;
    claim_ports(&context, &mut grid).await?;
    let tls = gateway_tls::addresses(
        &settings.gateway.tls,
        grid.nodes.len() + grid.gateways.len(),
    )?;
    context.data_dir.ticket_key()?;
    context.data_dir.identity_key()?;
    context.data_dir.audit_key()?;
    context.data_dir.admin_token()?;
    let certificates = context.data_dir.certificates();
    if args.tls || certificates.has_ca() {
        for node in &grid.nodes {
            certificates.provide(node.id, &["127.0.0.1".to_owned()])?;
        }
        for gateway in &grid.gateways {
            certificates.provide_gateway(gateway.id)?;
        }
    }

    let (orders, ordered) = watch::channel(None);
    let nodes = processes::start_nodes(&context, &args, (&grid, &tls), &ordered)?;
    // A gateway is told nothing of the database.
    let (_no_orders, unordered) = watch::channel(None);
    let gateways = processes::start_gateways(&context, &args, (&grid, &tls), &unordered)?;
    let (state, database) = watch::channel(match args.no_database {
        true => DatabaseState::None,
        false => DatabaseState::Starting,
    });
    let mut options = DatabaseOptions::new(context.data_dir.path());
    options.database_url.clone_from(&args.database_url);
    let keeper = DatabaseKeeper {
        options,
        state,
        orders,
        context: &context,
        grid: grid.clone(),
    };
    let (stop_database, stopping) = watch::channel(false);

    let serving = async {
        let outcome = tokio::select! {
            outcome = serve(&context, &args, (&grid, &tls), (&nodes, &gateways), database) => outcome,
            name = signals.next() => {
                tracing::info!(name, "stopping");
                Ok(())
            }
        };
        context.output.say("stopping ...")?;
        let stops = gateways.into_iter().map(NodeProcess::stop);
        futures_util::future::join_all(stops).await;
        let stops = nodes.into_iter().map(NodeProcess::stop);
        futures_util::future::join_all(stops).await;
        stop_database.send_replace(true);
        outcome
    };
    let (outcome, ()) = tokio::join!(serving, keeper.run(args.no_database, stopping));
    outcome
}

/// Reads `grid.json`, or makes it.
fn prepare(context: &Context, args: &UpArgs, configured: u32) -> anyhow::Result<GridFile> {
    if let Some(mut grid) = context.data_dir.read()? {
        let fixed = |what: &str, is: u64, wanted: u64| {
            let path = context.data_dir.path().display();
            Failure::Usage(format!(
                "the grid in {path} has {is} {what}, not {wanted}; leave the option out, or choose \
                 another directory with --data-dir"
            ))
        };
        let nodes = grid.nodes.len() as u64;
        if let Some(wanted) = args.nodes
            && u64::from(wanted) != nodes
        {
            return Err(fixed("nodes", nodes, wanted.into()).into());
        }
        if let Some(wanted) = args.partitions
            && wanted != grid.partitions
        {
            return Err(fixed("partitions", grid.partitions.into(), wanted.into()).into());
        }
        if args.port != 0 {
            for (place, node) in grid.nodes.iter_mut().enumerate() {
                node.gateway_port = gateway_port(args.port, place)?;
            }
        }
        place_gateways(&mut grid, args)?;
        grid.database_url = None;
        context.data_dir.write(&grid)?;
        return Ok(grid);
    }
    let count = args.nodes.unwrap_or(3) as usize;
    let ports = reserve_ports(2 * count)?;
    let nodes = (0..count)
        .map(|place| {
            let gateway_port = match args.port {
                0 => ports[count + place],
                first => gateway_port(first, place)?,
            };
            Ok(NodeEntry {
                id: place as u64 + 1,
                raft_port: ports[place],
                gateway_port,
            })
        })
        .collect::<anyhow::Result<_>>()?;
    let mut grid = GridFile::new(random_uuid()?, args.partitions.unwrap_or(configured), nodes);
    place_gateways(&mut grid, args)?;
    context.data_dir.write(&grid)?;
    Ok(grid)
}

/// Gives the grid as many gateways of their own as are wanted, with ports after those of the nodes' gateways.
/// They have no state, so there may be others than last time.
fn place_gateways(grid: &mut GridFile, args: &UpArgs) -> anyhow::Result<()> {
    let count = args
        .gateways
        .map_or(grid.gateways.len(), |wanted| wanted as usize);
    grid.gateways.truncate(count);
    let missing = count - grid.gateways.len();
    for port in reserve_ports(missing)? {
        let id = grid.gateways.len() as u64 + 1;
        grid.gateways.push(GatewayPlace { id, port });
    }
    if args.port != 0 {
        let nodes = grid.nodes.len();
        for (place, gateway) in grid.gateways.iter_mut().enumerate() {
            gateway.port = gateway_port(args.port, nodes + place)?;
        }
    }
    Ok(())
}

/// Makes sure that the ports can be used. Clients know the gateways' ports, so those do not change by
/// themselves; the nodes' own do.
async fn claim_ports(context: &Context, grid: &mut GridFile) -> anyhow::Result<()> {
    let mut has_moved = false;
    let of_nodes = grid.nodes.iter().map(|node| node.gateway_port);
    let of_gateways = grid.gateways.iter().map(|gateway| gateway.port);
    for port in of_nodes.chain(of_gateways) {
        if !becomes_free(port).await {
            let text = format!(
                "port {port} is in use, by another grid perhaps; choose others with --port, or with \
                 --port 0 any"
            );
            return Err(Failure::Usage(text).into());
        }
    }
    for node in &mut grid.nodes {
        if !becomes_free(node.raft_port).await {
            node.raft_port = *reserve_ports(1)?.first().context("there is no free port")?;
            has_moved = true;
        }
    }
    if has_moved {
        context.data_dir.write(grid)?;
    }
    Ok(())
}

fn gateway_port(first: u16, place: usize) -> anyhow::Result<u16> {
    u16::try_from(place)
        .ok()
        .and_then(|place| first.checked_add(place))
        .ok_or_else(|| Failure::Usage("--port is too high".to_owned()).into())
}

/// Waits until the grid is ready, says so, and stays.
async fn serve(
    context: &Context,
    args: &UpArgs,
    (grid, tls): (&GridFile, &[SocketAddr]),
    (nodes, gateways): (&[NodeProcess], &[NodeProcess]),
    mut database: watch::Receiver<DatabaseState>,
) -> anyhow::Result<()> {
    let started = Instant::now();
    await_gateways(grid, nodes, gateways).await?;
    let settled = database.wait_for(|state| !matches!(state, DatabaseState::Starting));
    // A database that takes longer is reported as starting.
    let _ = tokio::time::timeout(DATABASE_WAIT, settled).await;
    let state = database.borrow().clone();
    let demo = match args.demo {
        true => {
            let api = Api::new(grid.gateway_urls(), context.user)?;
            Some(demo::create(&api, &context.data_dir).await?)
        }
        false => None,
    };
    let report = Ready {
        context,
        grid,
        tls,
        nodes,
        gateways,
        state,
        took: started.elapsed(),
    };
    report.print(context.output, demo.as_ref())?;
    std::future::pending().await
}

/// Waits until every gateway says that it is ready.
async fn await_gateways(
    grid: &GridFile,
    nodes: &[NodeProcess],
    gateways: &[NodeProcess],
) -> anyhow::Result<()> {
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(2))
        .build()?;
    let of_nodes = grid.nodes.iter().map(NodeEntry::gateway_url).zip(nodes);
    let of_gateways = grid.gateways.iter().map(GatewayPlace::url).zip(gateways);
    for (url, node) in of_nodes.chain(of_gateways) {
        let url = format!("{url}/ready");
        while !node.state().was_removed {
            if let Ok(response) = http.get(&url).send().await
                && response.status().is_success()
            {
                break;
            }
            if let Some(dying) = nodes
                .iter()
                .chain(gateways)
                .find(|node| node.state().deaths >= DEATHS_BEFORE_READY_MAX)
            {
                return Err(will_not_start(dying).into());
            }
            tokio::time::sleep(READY_PAUSE).await;
        }
        tracing::debug!(process = node.name(), "ready");
    }
    Ok(())
}

fn will_not_start(node: &NodeProcess) -> Failure {
    let log = node.log();
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n  ");
    Failure::NodeStopped(format!(
        "{} does not start ({}); the end of {}:\n  {tail}",
        node.name(),
        node.state().last_end.unwrap_or_default(),
        log.display()
    ))
}

/// The signals that end it.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}
