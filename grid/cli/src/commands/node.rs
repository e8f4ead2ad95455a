//! `grid node`: one node with its gateway and its pump.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use data_pump::pump::{LaneStatus, Pump, PumpOptions};
use gateway::{Gateway, GatewayOptions, Mode};
use grid::{GridClient, GridNode, NodeId, NodeOptions};
use grid_config::{PumpSettings, Settings};
use processing_unit::Unit;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::cluster::{ATTACHED_GATEWAY, ATTACHED_PUMP, AttachedPump};
use crate::data_dir::parse_ticket_key;
use crate::failure::Failure;
use crate::supervise::Order;
use crate::telemetry::Telemetry;

/// How long a predecessor of a killed `grid up` may take to let go of the ports and the log.
const PREDECESSOR_WAIT: Duration = Duration::from_secs(20);
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Orders that wait to be carried out.
const ORDERS_MAX: usize = 8;

/// `grid node`
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// The grid's id
    #[arg(long, value_name = "UUID")]
    grid_id: Uuid,
    /// This node's number
    #[arg(long, value_name = "N")]
    node_id: NodeId,
    /// Every node with its address for other nodes, such as 1=127.0.0.1:7801,2=127.0.0.1:7802
    #[arg(long, value_delimiter = ',', value_parser = parse_member, required = true)]
    members: Vec<(NodeId, String)>,
    /// Where to listen for other nodes
    #[arg(long, value_name = "ADDRESS")]
    raft_listen: SocketAddr,
    /// Where to listen for clients; a loopback address
    #[arg(long, value_name = "ADDRESS")]
    gateway_listen: SocketAddr,
    /// Where the node keeps its log and snapshots
    #[arg(long, value_name = "DIR")]
    node_dir: PathBuf,
    /// The file with the secret key of ticket codes, in hexadecimal
    #[arg(long, value_name = "FILE")]
    ticket_key: PathBuf,
    /// Partitions of the grid, instead of the configured number
    #[arg(long, value_name = "N")]
    partitions: Option<u32>,
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The database to write to
    #[arg(long, value_name = "URL", conflicts_with = "no_database")]
    database_url: Option<String>,
    /// Write to no database, and keep no log for one
    #[arg(long)]
    no_database: bool,
    /// Read orders from standard input and stop at its end, as under `grid up`
    #[arg(long)]
    supervised: bool,
    /// Log in JSON
    #[arg(long)]
    pub(crate) log_json: bool,
}

fn parse_member(text: &str) -> Result<(NodeId, String), String> {
    let (id, address) = text.split_once('=').ok_or("a member is NUMBER=ADDRESS")?;
    let id = id
        .parse()
        .map_err(|_| format!("{id} is no node's number"))?;
    Ok((id, address.to_owned()))
}

/// Why a node stops.
enum End {
    Asked(&'static str),
    Failed(String),
}

/// Runs until it is asked to stop or fails.
pub(crate) async fn run(args: NodeArgs) -> anyhow::Result<()> {
    let mut settings = grid_config::load(args.config.as_deref())
        .map_err(|error| Failure::Usage(error.to_string()))?;
    if let Some(partitions) = args.partitions {
        settings.cluster.partitions = partitions;
    }
    settings.node.data_dir.clone_from(&args.node_dir);
    let ticket_key = std::fs::read_to_string(&args.ticket_key)
        .ok()
        .and_then(|text| parse_ticket_key(text.trim()))
        .ok_or_else(|| {
            let path = args.ticket_key.display();
            Failure::Usage(format!(
                "{path} holds no ticket key (64 hexadecimal digits)"
            ))
        })?;
    let _lock = lock(&args.node_dir).await?;
    // Before anything that measures.
    let telemetry = Telemetry::install().context("the metrics cannot be recorded")?;
    tokio::spawn(telemetry.clone().upkeep());
    let node = start_node(&args, &settings).await?;
    let gateway = Gateway::start(GatewayOptions {
        listener: listen(args.gateway_listen).await?,
        client: node.client(),
        settings: settings.gateway.clone(),
        ticket_key,
        mode: Mode::Trusted,
    })?;
    tracing::info!(node = args.node_id, gateway = %gateway.address(), "the node has started");
    attach(&node.client(), &gateway, telemetry);
    let mut pump = Pumping {
        client: node.client(),
        grid_id: args.grid_id,
        settings: settings.pump.clone(),
        running: None,
    };
    attach_pump(&node.client(), !args.no_database, Vec::new);
    if let Some(url) = &args.database_url {
        pump.start(url.clone(), false);
    }
    let end = serve(&args, &node, &mut pump).await?;
    match &end {
        End::Asked(by) => tracing::info!(by, "the node stops"),
        End::Failed(reason) => tracing::error!(reason, "the node stops"),
    }
    gateway.shutdown().await;
    if let Some(pump) = pump.running.take() {
        pump.shutdown().await;
    }
    node.shutdown().await;
    match end {
        End::Asked(_) => Ok(()),
        End::Failed(reason) => {
            let text = format!("node {} stopped: {reason}", args.node_id);
            Err(Failure::NodeStopped(text).into())
        }
    }
}

async fn start_node(args: &NodeArgs, settings: &Settings) -> anyhow::Result<GridNode<Unit>> {
    let started = GridNode::start(NodeOptions {
        grid_id: args.grid_id.as_u128(),
        node_id: args.node_id,
        members: args.members.iter().cloned().collect::<BTreeMap<_, _>>(),
        listener: listen(args.raft_listen).await?,
        cluster: settings.cluster.clone(),
        settings: settings.node.clone(),
        keep_for_pump: !args.no_database,
    })
    .await;
    started.map_err(|error| {
        Failure::NodeStopped(format!("node {} did not start: {error}", args.node_id)).into()
    })
}

/// Waits for the end, carrying out orders meanwhile.
async fn serve(args: &NodeArgs, node: &GridNode<Unit>, pump: &mut Pumping) -> anyhow::Result<End> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, mut orders) = mpsc::channel(ORDERS_MAX);
    // Held here, so that without a supervisor the channel stays open.
    let idle = sender.clone();
    if args.supervised {
        drop(idle);
        tokio::spawn(read_orders(sender));
    } else {
        tokio::spawn(async move { idle.closed().await });
    }
    loop {
        tokio::select! {
            reason = node.failed() => return Ok(End::Failed(reason)),
            _ = terminate.recv() => return Ok(End::Asked("SIGTERM")),
            _ = interrupt.recv() => return Ok(End::Asked("SIGINT")),
            order = orders.recv() => match order {
                Some(Order::Database { url, single_connection }) => {
                    pump.start(url, single_connection);
                }
                None if args.supervised => return Ok(End::Asked("grid up has ended")),
                None => std::future::pending().await,
            },
        }
    }
}

/// Reads orders until standard input ends.
async fn read_orders(sender: mpsc::Sender<Order>) {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(order) => {
                if sender.send(order).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::warn!(%error, "an order cannot be read"),
        }
    }
}

/// The pump, once the database is known.
struct Pumping {
    client: GridClient<Unit>,
    grid_id: Uuid,
    settings: PumpSettings,
    running: Option<Pump>,
}

impl Pumping {
    /// The database of a node stays the same for its lifetime.
    fn start(&mut self, database_url: String, single_connection: bool) {
        if self.running.is_some() {
            tracing::warn!("a database is in use already; another one is ignored");
            return;
        }
        let started = Pump::start(PumpOptions {
            client: self.client.clone(),
            grid_id: self.grid_id,
            database_url,
            single_connection,
            settings: self.settings.clone(),
        });
        match started {
            Ok(pump) => {
                attach_pump(&self.client, true, pump.status_reader());
                self.running = Some(pump);
            }
            // The grid sells without it.
            Err(error) => tracing::error!(%error, "there is no pump"),
        }
    }
}

/// Lets the node's status say where its gateway is, and its gateway serve the metrics.
fn attach(client: &GridClient<Unit>, gateway: &Gateway, telemetry: Telemetry) {
    let url = format!("http://{}", gateway.address());
    client.attach(ATTACHED_GATEWAY, move || serde_json::json!({ "url": url }));
    let client = client.clone();
    gateway.serve_metrics(move || {
        client.publish_gauges();
        telemetry.render()
    });
}

/// Lets the node's status say how its pump stands.
fn attach_pump(
    client: &GridClient<Unit>,
    wanted: bool,
    lanes: impl Fn() -> Vec<LaneStatus> + Send + Sync + 'static,
) {
    client.attach(ATTACHED_PUMP, move || {
        let pump = AttachedPump {
            wanted,
            lanes: lanes(),
        };
        serde_json::to_value(pump).unwrap_or_default()
    });
}

/// Binds a socket, waiting for a predecessor that is still stopping.
async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let patience = Instant::now() + PREDECESSOR_WAIT;
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error)
                if error.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < patience =>
            {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot listen on {address}"));
            }
        }
    }
}

/// Makes sure that no other process runs this node.
async fn lock(directory: &Path) -> anyhow::Result<File> {
    let unusable = |error: std::io::Error| {
        Failure::DataDirectory(format!("{} cannot be used: {error}", directory.display()))
    };
    std::fs::create_dir_all(directory).map_err(unusable)?;
    let file = File::create(directory.join("node.lock")).map_err(unusable)?;
    let patience = Instant::now() + PREDECESSOR_WAIT;
    while file.try_lock().is_err() {
        if Instant::now() > patience {
            let text = format!(
                "{} is used by another node; stop that one",
                directory.display()
            );
            return Err(Failure::DataDirectory(text).into());
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read() {
        assert_eq!(
            parse_member("2=127.0.0.1:99"),
            Ok((2, "127.0.0.1:99".to_owned()))
        );
        assert!(parse_member("127.0.0.1:99").is_err());
        assert!(parse_member("one=127.0.0.1:99").is_err());
    }
}
