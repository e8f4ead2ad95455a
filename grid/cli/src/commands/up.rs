//! `grid up`: a whole grid on this machine.
//!
//! ```text
//!   lock, grid.json ─► nodes as child processes ─► every gateway ready ─► ready line ─► until a signal
//!                 └──► database, meanwhile ──────────────┘ (the grid does not wait for it)
//! ```

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use data_pump::database::{Database, DatabaseOptions, provide};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::up_demo;
use crate::api::{Api, random_uuid};
use crate::context::Context;
use crate::data_dir::{GridFile, NodeEntry};
use crate::failure::Failure;
use crate::output::Output;
use crate::supervise::{NodeProcess, NodeSpec, Order, reserve_ports};

/// The most nodes of a grid on one machine.
const NODES_MAX: u32 = 16;
const READY_PAUSE: Duration = Duration::from_millis(50);
/// How long the ready line waits for a database that is being started.
const DATABASE_WAIT: Duration = Duration::from_secs(15);
/// The pause before a database that could not be started is tried again, doubled up to the second.
const DATABASE_RETRY_MIN: Duration = Duration::from_secs(1);
/// See [`DATABASE_RETRY_MIN`].
const DATABASE_RETRY_MAX: Duration = Duration::from_secs(60);
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
    /// The first node's gateway; the others follow. 0 for any free ports, kept in the data directory
    #[arg(long, value_name = "PORT", default_value_t = 7700)]
    port: u16,
    /// Partitions of a new grid [default: the configured number, 16]
    #[arg(long, value_name = "N")]
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
    /// Create a sample sale and a few auctions, and say how to take part
    #[arg(long)]
    demo: bool,
}

/// Where the database stands.
#[derive(Clone, Debug)]
enum DatabaseState {
    None,
    Starting,
    Running {
        url: String,
        source: String,
        version: Option<String>,
        durable: bool,
    },
    Failed(String),
}

/// Runs until a signal.
pub(crate) async fn run(mut context: Context, args: UpArgs) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    context.data_dir.create()?;
    let _lock = context.data_dir.lock()?;
    let settings = grid_config::load(args.config.as_deref())
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let grid = prepare(&context, &args, settings.cluster.partitions)?;
    context.data_dir.ticket_key()?;

    let (orders, ordered) = watch::channel(None);
    let nodes = start_nodes(&context, &args, &grid, &ordered)?;
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
            outcome = serve(&context, &args, &grid, &nodes, database) => outcome,
            name = signals.next() => {
                tracing::info!(name, "stopping");
                Ok(())
            }
        };
        context.output.say("stopping ...")?;
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
    let grid = GridFile::new(random_uuid()?, args.partitions.unwrap_or(configured), nodes);
    context.data_dir.write(&grid)?;
    Ok(grid)
}

fn gateway_port(first: u16, place: usize) -> anyhow::Result<u16> {
    u16::try_from(place)
        .ok()
        .and_then(|place| first.checked_add(place))
        .ok_or_else(|| Failure::Usage("--port is too high".to_owned()).into())
}

fn start_nodes(
    context: &Context,
    args: &UpArgs,
    grid: &GridFile,
    orders: &watch::Receiver<Option<Order>>,
) -> anyhow::Result<Vec<NodeProcess>> {
    let members: Vec<String> = grid
        .nodes
        .iter()
        .map(|node| format!("{}=127.0.0.1:{}", node.id, node.raft_port))
        .collect();
    let members = members.join(",");
    let text = |path: PathBuf| {
        path.into_os_string().into_string().map_err(|path| {
            Failure::DataDirectory(format!("{} is no UTF-8; choose another", path.display()))
        })
    };
    let config = args
        .config
        .as_ref()
        .map(std::fs::canonicalize)
        .transpose()?;
    grid.nodes
        .iter()
        .map(|node| {
            let directory = context.data_dir.node(node.id);
            let mut arguments = vec![
                "node".to_owned(),
                "--supervised".to_owned(),
                format!("--grid-id={}", grid.grid_id),
                format!("--node-id={}", node.id),
                format!("--members={members}"),
                format!("--raft-listen=127.0.0.1:{}", node.raft_port),
                format!("--gateway-listen=127.0.0.1:{}", node.gateway_port),
                format!("--partitions={}", grid.partitions),
                format!("--node-dir={}", text(directory.clone())?),
                format!("--ticket-key={}", text(context.data_dir.ticket_key_path())?),
            ];
            if let Some(config) = &config {
                arguments.push(format!("--config={}", text(config.clone())?));
            }
            if args.no_database {
                arguments.push("--no-database".to_owned());
            }
            NodeProcess::start(
                NodeSpec {
                    id: node.id,
                    arguments,
                    directory,
                },
                orders.clone(),
            )
        })
        .collect()
}

/// Waits until the grid is ready, says so, and stays.
async fn serve(
    context: &Context,
    args: &UpArgs,
    grid: &GridFile,
    nodes: &[NodeProcess],
    mut database: watch::Receiver<DatabaseState>,
) -> anyhow::Result<()> {
    let started = Instant::now();
    await_gateways(grid, nodes).await?;
    let settled = database.wait_for(|state| !matches!(state, DatabaseState::Starting));
    // A database that takes longer is reported as starting.
    let _ = tokio::time::timeout(DATABASE_WAIT, settled).await;
    let state = database.borrow().clone();
    let demo = match args.demo {
        true => {
            let api = Api::new(grid.gateway_urls(), context.user)?;
            Some(up_demo::create(&api, &context.data_dir).await?)
        }
        false => None,
    };
    let report = Ready {
        context,
        grid,
        nodes,
        state,
        took: started.elapsed(),
    };
    report.print(context.output, demo.as_ref())?;
    std::future::pending().await
}

/// Waits until every gateway says that it is ready.
async fn await_gateways(grid: &GridFile, nodes: &[NodeProcess]) -> anyhow::Result<()> {
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(2))
        .build()?;
    for (entry, node) in grid.nodes.iter().zip(nodes) {
        let url = format!("{}/ready", entry.gateway_url());
        loop {
            if let Ok(response) = http.get(&url).send().await
                && response.status().is_success()
            {
                break;
            }
            if let Some(dying) = nodes
                .iter()
                .find(|node| node.state().deaths >= DEATHS_BEFORE_READY_MAX)
            {
                return Err(will_not_start(dying).into());
            }
            tokio::time::sleep(READY_PAUSE).await;
        }
        tracing::debug!(node = node.id(), "ready");
    }
    Ok(())
}

fn will_not_start(node: &NodeProcess) -> Failure {
    let log = node.log();
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n  ");
    Failure::NodeStopped(format!(
        "node {} does not start ({}); the end of {}:\n  {tail}",
        node.id(),
        node.state().last_end.unwrap_or_default(),
        log.display()
    ))
}

/// What is said when the grid is ready.
struct Ready<'a> {
    context: &'a Context,
    grid: &'a GridFile,
    nodes: &'a [NodeProcess],
    state: DatabaseState,
    took: Duration,
}

impl Ready<'_> {
    fn print(&self, output: Output, demo: Option<&up_demo::Demo>) -> anyhow::Result<()> {
        let nodes: Vec<_> = self
            .grid
            .nodes
            .iter()
            .zip(self.nodes)
            .map(|(entry, node)| {
                json!({
                    "id": entry.id,
                    "pid": node.state().pid,
                    "gateway": entry.gateway_url(),
                    "raft": format!("127.0.0.1:{}", entry.raft_port),
                    "log": node.log(),
                })
            })
            .collect();
        let database = match &self.state {
            DatabaseState::None => json!(null),
            DatabaseState::Starting => json!({"state": "starting"}),
            DatabaseState::Running {
                url,
                source,
                version,
                durable,
            } => json!({
                "state": "running", "url": url, "source": source, "version": version,
                "durable": durable,
            }),
            DatabaseState::Failed(error) => json!({"state": "failed", "error": error}),
        };
        let document = json!({
            "ready": true,
            "grid_id": self.grid.grid_id,
            "partitions": self.grid.partitions,
            "gateways": self.grid.gateway_urls(),
            "nodes": nodes,
            "data_dir": self.context.data_dir.path(),
            "database": database,
            "started_in_ms": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            "demo": demo.map(up_demo::Demo::document),
        });
        output.result(&document, || self.text(demo))
    }

    fn text(&self, demo: Option<&up_demo::Demo>) -> String {
        let mut text = format!(
            "The grid is ready: {} nodes, {} partitions, in {:.1} s.\n\n",
            self.grid.nodes.len(),
            self.grid.partitions,
            self.took.as_secs_f64()
        );
        for node in &self.grid.nodes {
            let port = node.gateway_port;
            let url = node.gateway_url();
            text.push_str(&format!(
                "  gateway {}   {url}   ws://127.0.0.1:{port}/v1/ws\n",
                node.id
            ));
        }
        let directory = self.context.data_dir.path().display();
        text.push_str(&format!("  data        {directory}\n"));
        let database = match &self.state {
            DatabaseState::None => "none; changes are not written to SQL".to_owned(),
            DatabaseState::Starting => "still starting; the grid does not wait for it".to_owned(),
            DatabaseState::Running {
                url,
                source,
                version,
                durable,
            } => {
                let version = version.as_deref().unwrap_or("not reached yet");
                let durable = if *durable {
                    ""
                } else {
                    "; not safe against power loss"
                };
                format!("{source}, PostgreSQL {version}{durable}\n              {url}")
            }
            DatabaseState::Failed(error) => format!("none: {error}"),
        };
        text.push_str(&format!("  database    {database}\n\n"));
        match demo {
            Some(demo) => text.push_str(&demo.text(&self.grid.nodes[0].gateway_url())),
            None => text.push_str(
                "What to type next, in another terminal:\n\
                 \x20 grid import venue samples/arena.json    a sale of 20,000 seats\n\
                 \x20 grid import lots samples/lots.csv       500 auctions\n\
                 \x20 grid load onsale --rate 1000 --duration 10s\n\
                 \x20 grid status\n",
            ),
        }
        if self.context.data_dir.path() != std::path::Path::new("data")
            && self.context.data_dir.path()
                != std::env::current_dir().unwrap_or_default().join("data")
        {
            text.push_str(&format!("(each with --data-dir {directory})\n"));
        }
        text.push_str("Ctrl-C stops the grid; its data stays.\n");
        text
    }
}

/// Starts the database, tells the nodes, and stops it last.
struct DatabaseKeeper<'a> {
    options: DatabaseOptions,
    state: watch::Sender<DatabaseState>,
    orders: watch::Sender<Option<Order>>,
    context: &'a Context,
    grid: GridFile,
}

impl DatabaseKeeper<'_> {
    async fn run(mut self, without: bool, mut stopping: watch::Receiver<bool>) {
        if without {
            return;
        }
        let database = tokio::select! {
            database = self.provide() => database,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        let Some(database) = database else { return };
        // The sender lives as long as the nodes.
        let _ = stopping.wait_for(|stop| *stop).await;
        if let Err(error) = database.stop().await {
            tracing::warn!(%error, "the database did not stop in order");
        }
    }

    async fn provide(&mut self) -> Option<Database> {
        let mut pause = DATABASE_RETRY_MIN;
        loop {
            match provide(self.options.clone()).await {
                Ok(database) => {
                    self.announce(&database);
                    return Some(database);
                }
                Err(error) => {
                    tracing::warn!(%error, "there is no database; the grid sells without it");
                    self.state
                        .send_replace(DatabaseState::Failed(error.to_string()));
                    if !error.is_retryable() {
                        return None;
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(DATABASE_RETRY_MAX);
        }
    }

    fn announce(&mut self, database: &Database) {
        self.grid.database_url = Some(database.url.clone());
        let written = self.context.data_dir.write(&self.grid).context("grid.json");
        if let Err(error) = written {
            tracing::warn!(
                error = format!("{error:#}"),
                "reports will not find the database"
            );
        }
        self.orders.send_replace(Some(Order::Database {
            url: database.url.clone(),
            single_connection: database.single_connection,
        }));
        self.state.send_replace(DatabaseState::Running {
            url: database.url.clone(),
            source: match database.source {
                data_pump::database::DatabaseSource::Given(_) => "given".to_owned(),
                data_pump::database::DatabaseSource::Supervised => "private".to_owned(),
                data_pump::database::DatabaseSource::Embedded => "embedded".to_owned(),
            },
            version: database.version.clone(),
            durable: database.durable,
        });
    }
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
