//! Runs one node with its gateway and its pump, for `grid up`, `grid node join`, or by itself.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use data_pump::audit::AuditKey;
use data_pump::pump::{LaneStatus, Pump, PumpOptions};
use gateway::{Gateway, GatewayOptions, Mode};
use grid::{GridClient, GridNode, NodeId, NodeOptions, StartError};
use grid_config::{IdentityMode, PARTITIONS_MAX, PumpSettings, Settings};
use processing_unit::Unit;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::gateway_tls;
use crate::admin_token;
use crate::audit_log;
use crate::certs::Certificates;
use crate::cluster::{ATTACHED_GATEWAY, ATTACHED_PUMP, AttachedGateway, AttachedPump};
use crate::context::Context;
use crate::data_dir::{TICKET_KEY_BYTES, identity_key_of, parse_ticket_key};
use crate::failure::Failure;
use crate::supervise::{DatabaseAddress, Order};
use crate::telemetry::Telemetry;

/// How long a predecessor of a killed `grid up` may take to let go of the ports and the log.
const PREDECESSOR_WAIT: Duration = Duration::from_secs(20);
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How long leaderships are handed over when the node stops; what is left then is elected anew.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(8);
/// How long the grid may take to say that an empty node is removed.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the whole of a stop may take before it is forced; below the patience of `grid up`.
const STOP_TIMEOUT: Duration = Duration::from_secs(16);
/// Orders that wait to be carried out.
pub(crate) const ORDERS_MAX: usize = 8;

/// `grid node` without an action
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// The grid's id
    #[arg(long, value_name = "UUID")]
    pub(super) grid_id: Uuid,
    /// This node's number
    #[arg(long, value_name = "N")]
    pub(super) node_id: NodeId,
    /// The nodes that the grid begins with and their addresses for other nodes, such as
    /// 1=127.0.0.1:7801,2=127.0.0.1:7802; a node that is not among them joins them
    #[arg(long, value_delimiter = ',', value_parser = parse_member, required = true)]
    pub(super) members: Vec<(NodeId, String)>,
    /// Further addresses of running nodes to ask
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub(super) seed: Vec<String>,
    /// Where other nodes reach this one, if that is not where it listens
    #[arg(long, value_name = "ADDRESS")]
    pub(super) peer_address: Option<String>,
    /// What fails together with this node, such as a rack, instead of the configured zone
    #[arg(long, value_name = "NAME")]
    pub(super) zone: Option<String>,
    /// Where to listen for other nodes
    #[arg(long, value_name = "ADDRESS")]
    pub(super) raft_listen: SocketAddr,
    /// Where to listen for clients; a loopback address, unless they show tokens
    #[arg(long, value_name = "ADDRESS")]
    pub(super) gateway_listen: SocketAddr,
    /// Where to listen for clients that speak TLS, instead of the configured address
    #[arg(long, value_name = "ADDRESS")]
    pub(super) gateway_tls_listen: Option<SocketAddr>,
    /// Where the node keeps its log and snapshots
    #[arg(long, value_name = "DIR")]
    pub(super) node_dir: PathBuf,
    /// The file with the secret key of ticket codes, in hexadecimal
    #[arg(long, value_name = "FILE")]
    pub(super) ticket_key: PathBuf,
    /// The file with the grid's secret key for the audit trail, in hexadecimal, the same on all nodes.
    /// Without one, and without pump.audit_key_file, what this node writes is chained and not signed
    #[arg(long, value_name = "FILE")]
    pub(super) audit_key: Option<PathBuf>,
    /// The file with the secret key of the grid's own tokens, in hexadecimal, the same on all nodes. Without
    /// one only a provider's tokens count in mode `token`
    #[arg(long, value_name = "FILE")]
    pub(super) identity_key: Option<PathBuf>,
    /// The directory with ca.crt, node-N.crt and node-N.key, for mutual TLS with the other nodes
    #[arg(long, value_name = "DIR")]
    pub(super) certs: Option<PathBuf>,
    /// Talk to other nodes in plain text even beyond this machine
    #[arg(long, conflicts_with = "certs")]
    pub(super) allow_plaintext: bool,
    /// Partitions of the grid, instead of the configured number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(PARTITIONS_MAX)))]
    pub(super) partitions: Option<u32>,
    /// The configuration
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The database to write to
    #[arg(long, value_name = "URL", conflicts_with = "no_database")]
    pub(super) database_url: Option<String>,
    /// Write to no database, and keep no log for one
    #[arg(long)]
    pub(super) no_database: bool,
    /// Threads for clients and replication, instead of one a core; the pump has its own
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Read orders from standard input and stop at its end, as under `grid up`
    #[arg(long)]
    pub(super) supervised: bool,
    /// Log in JSON
    #[arg(long)]
    pub(crate) log_json: bool,
}

/// What is told a node that was started by `grid node join`.
#[derive(Debug)]
pub(crate) struct Watcher {
    /// Gets orders as those of `grid up`; it must stay open.
    pub(crate) orders: mpsc::Receiver<Order>,
    /// Told when the node runs.
    pub(crate) started: oneshot::Sender<GridClient<Unit>>,
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
    /// By a signal: the others go on, and get what this node leads.
    Planned(&'static str),
    /// With the whole grid, or because its supervisor is gone: nobody is left to lead.
    Ordered(&'static str),
    /// The grid has emptied the node and wants it gone.
    Leaving,
    Failed(String),
}

/// Runs until it is asked to stop or fails.
pub(crate) async fn run(
    context: &Context,
    args: NodeArgs,
    watcher: Option<Watcher>,
) -> anyhow::Result<()> {
    let mut requests = Requests::listen(args.supervised)?;
    let started = watcher.map(|watcher| {
        requests.orders = Some(watcher.orders);
        watcher.started
    });
    let settings = settings(&args)?;
    grid::align_timers(Duration::from_millis(
        settings.cluster.heartbeat_interval_ms,
    ));
    let ticket_key = ticket_key(&args)?;
    let audit_key = audit_key(&args, &settings.pump)?;
    let mode = mode(&args, &settings)?;
    let _lock = lock(&args.node_dir).await?;
    audit_log::open(&args.node_dir).context("the audit log cannot be written")?;
    // Before anything that measures.
    let telemetry = Telemetry::install().context("the metrics cannot be recorded")?;
    tokio::spawn(telemetry.clone().upkeep());
    let admin_token = admin_token::of_node(
        context.admin_token_file(),
        settings.gateway.admin_token_file.as_deref(),
        &args.node_dir,
    )?;
    let starting = async {
        let node = start_node(&args, &settings).await?;
        let gateway = Gateway::start(GatewayOptions {
            listener: listen(args.gateway_listen).await?,
            tls: gateway_tls::options(&settings.gateway.tls, args.gateway_tls_listen).await?,
            client: node.client(),
            settings: settings.gateway.clone(),
            ticket_key,
            admin_token,
            mode,
        })?;
        anyhow::Ok((node, gateway))
    };
    let (node, gateway) = tokio::select! {
        ready = starting => ready?,
        // Nothing was promised yet, and the log bears being dropped at any time.
        _ = requests.next_stop() => return Ok(()),
    };
    node.serves_clients();
    tracing::info!(node = args.node_id, gateway = %gateway.address(), "the node has started");
    attach(&node.client(), &gateway, telemetry);
    let mut pump = Pumping {
        client: node.client(),
        grid_id: args.grid_id,
        settings: settings.pump.clone(),
        audit_key,
        running: None,
    };
    attach_pump(&node.client(), !args.no_database, Vec::new);
    if let Some(url) = &args.database_url {
        pump.start(DatabaseAddress {
            url: url.clone(),
            single_connection: false,
            is_private: false,
        });
    }
    if let Some(started) = started {
        // Whoever wanted to know may have gone; the node's own signals end it.
        let _ = started.send(node.client());
    }
    let end = serve(&node, &mut pump, &mut requests).await;
    let was_removed = node.was_removed();
    let stopping = stop(&end, node, gateway, pump);
    let forced_by = tokio::select! {
        () = stopping => None,
        signal = requests.next_signal() => Some(signal),
        () = tokio::time::sleep(STOP_TIMEOUT) => Some("the time limit"),
    };
    if let Some(by) = forced_by {
        let text = format!(
            "node {} was stopped by force, by {by}; nothing that was acknowledged is lost",
            args.node_id
        );
        return Err(Failure::NodeStopped(text).into());
    }
    match end {
        End::Planned(_) | End::Ordered(_) => Ok(()),
        End::Leaving => {
            let reason = format!("node {} was removed from the grid", args.node_id);
            Err(Failure::NodeRemoved(reason).into())
        }
        End::Failed(reason) if was_removed => Err(Failure::NodeRemoved(reason).into()),
        End::Failed(reason) => {
            let text = format!("node {} stopped: {reason}", args.node_id);
            Err(Failure::NodeStopped(text).into())
        }
    }
}

/// The configuration, with what the command line says instead.
fn settings(args: &NodeArgs) -> Result<Settings, Failure> {
    let mut settings = grid_config::load(args.config.as_deref())
        .map_err(|error| Failure::Usage(error.to_string()))?;
    if let Some(partitions) = args.partitions {
        settings.cluster.partitions = partitions;
    }
    settings.node.data_dir.clone_from(&args.node_dir);
    if let Some(zone) = &args.zone {
        settings.node.zone.clone_from(zone);
    }
    secure(args, &mut settings);
    Ok(settings)
}

/// How the gateway knows who is asking.
fn mode(args: &NodeArgs, settings: &Settings) -> anyhow::Result<Mode> {
    if settings.gateway.identity.mode == IdentityMode::Trusted {
        return Ok(Mode::Trusted);
    }
    let own_key = args.identity_key.as_deref().map(identity_key_of);
    Ok(Mode::Token {
        own_key: own_key.transpose()?,
    })
}

fn ticket_key(args: &NodeArgs) -> Result<[u8; TICKET_KEY_BYTES], Failure> {
    std::fs::read_to_string(&args.ticket_key)
        .ok()
        .and_then(|text| parse_ticket_key(text.trim()))
        .ok_or_else(|| {
            let path = args.ticket_key.display();
            Failure::Usage(format!(
                "{path} holds no ticket key (64 hexadecimal digits)"
            ))
        })
}

/// Hands leaderships over where somebody is left to take them, lets clients go, closes everything.
async fn stop(end: &End, node: GridNode<Unit>, gateway: Gateway, pump: Pumping) {
    gateway.announce_stop();
    match end {
        End::Planned(by) => {
            tracing::info!(by, "the node stops; its leaderships are handed over");
            let handover = node.hand_over(Instant::now() + HANDOVER_TIMEOUT).await;
            tracing::info!(
                handed_over = handover.handed_over,
                left = handover.left,
                "the handover has ended"
            );
            gateway.send_away().await;
        }
        End::Ordered(by) => tracing::info!(by, "the node stops"),
        End::Leaving => {
            tracing::info!("the node holds nothing any more and lets its clients go");
            gateway.send_away().await;
        }
        End::Failed(reason) => tracing::error!(reason, "the node stops"),
    }
    gateway.shutdown().await;
    if matches!(end, End::Leaving) {
        node.clients_are_gone();
        if tokio::time::timeout(REMOVAL_TIMEOUT, node.failed())
            .await
            .is_err()
        {
            tracing::warn!("the grid has not said in time that this node is removed");
        }
    }
    let drained = match pump.running {
        Some(pump) => Some(pump.drain().await),
        None => None,
    };
    node.shutdown().await;
    if let Some(drained) = drained {
        drained.mark().await;
    }
}

/// The key for the audit trail, from the command line or the configuration.
fn audit_key(args: &NodeArgs, settings: &PumpSettings) -> anyhow::Result<Option<AuditKey>> {
    let Some(path) = args.audit_key.as_ref().or(settings.audit_key_file.as_ref()) else {
        return Ok(None);
    };
    let unusable = |why: &dyn std::fmt::Display| {
        let path = path.display();
        Failure::Usage(format!("{path} holds no audit key: {why}"))
    };
    let text = std::fs::read_to_string(path).map_err(|error| unusable(&error))?;
    let key = AuditKey::parse(&text).map_err(|error| unusable(&error))?;
    Ok(Some(key))
}

/// Takes up what the command line says of the connections to other nodes.
fn secure(args: &NodeArgs, settings: &mut Settings) {
    if let Some(directory) = &args.certs {
        let certificates = Certificates::new(directory.clone());
        let (certificate, key) = certificates.node(args.node_id);
        settings.node.tls_ca_file = Some(certificates.ca());
        settings.node.tls_certificate_file = Some(certificate);
        settings.node.tls_key_file = Some(key);
    }
    settings.node.tls_allow_plaintext |= args.allow_plaintext;
}

async fn start_node(args: &NodeArgs, settings: &Settings) -> anyhow::Result<GridNode<Unit>> {
    let started = GridNode::start(NodeOptions {
        grid_id: args.grid_id.as_u128(),
        node_id: args.node_id,
        members: args.members.iter().cloned().collect::<BTreeMap<_, _>>(),
        seeds: args.seed.clone(),
        peer_address: args.peer_address.clone(),
        gateway_address: format!("http://{}", args.gateway_listen),
        listener: listen(args.raft_listen).await?,
        cluster: settings.cluster.clone(),
        settings: settings.node.clone(),
        keep_for_pump: !args.no_database,
    })
    .await;
    started.map_err(|error| match error {
        StartError::Removed { .. } => Failure::NodeRemoved(error.to_string()).into(),
        error => {
            let text = format!("node {} did not start: {error}", args.node_id);
            Failure::NodeStopped(text).into()
        }
    })
}

/// Waits for the end, carrying out orders meanwhile.
async fn serve(node: &GridNode<Unit>, pump: &mut Pumping, requests: &mut Requests) -> End {
    if let Some(database) = requests.database.take() {
        pump.start(database);
    }
    loop {
        tokio::select! {
            reason = node.failed() => return End::Failed(reason),
            () = node.leaving() => return End::Leaving,
            end = requests.next_stop_or_database() => match end {
                Some(end) => return end,
                None => if let Some(database) = requests.database.take() {
                    pump.start(database);
                },
            },
        }
    }
}

/// What this process is asked to do, by signals and by its supervisor.
struct Requests {
    terminate: Signal,
    interrupt: Signal,
    orders: Option<mpsc::Receiver<Order>>,
    /// The database that was named last and is not used yet.
    database: Option<DatabaseAddress>,
}

impl Requests {
    fn listen(supervised: bool) -> anyhow::Result<Self> {
        let orders = supervised.then(|| {
            let (sender, orders) = mpsc::channel(ORDERS_MAX);
            tokio::spawn(read_orders(sender));
            orders
        });
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            orders,
            database: None,
        })
    }

    async fn next_signal(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Waits until it is asked to stop; a database that is named meanwhile is kept for later.
    async fn next_stop(&mut self) -> End {
        loop {
            if let Some(end) = self.next_stop_or_database().await {
                return end;
            }
        }
    }

    /// Waits until it is asked to stop, or until a database is named.
    async fn next_stop_or_database(&mut self) -> Option<End> {
        let order = async {
            match &mut self.orders {
                Some(orders) => orders.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            order = order => match order {
                Some(Order::Database(database)) => {
                    self.database = Some(database);
                    None
                }
                Some(Order::Stop) => Some(End::Ordered("the whole grid stops")),
                None => Some(End::Ordered("grid up has ended")),
            },
            _ = self.terminate.recv() => Some(End::Planned("SIGTERM")),
            _ = self.interrupt.recv() => Some(End::Planned("SIGINT")),
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
    /// Taken by the pump.
    audit_key: Option<AuditKey>,
    running: Option<Pump>,
}

impl Pumping {
    /// The database of a node stays the same for its lifetime.
    fn start(&mut self, database: DatabaseAddress) {
        if self.running.is_some() {
            tracing::warn!("a database is in use already; another one is ignored");
            return;
        }
        let started = Pump::start(PumpOptions {
            client: self.client.clone(),
            grid_id: self.grid_id,
            database_url: database.url,
            single_connection: database.single_connection,
            steps_back: database.is_private,
            settings: self.settings.clone(),
            audit_key: self.audit_key.take(),
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
    let tls_url = gateway.tls_address().map(|at| format!("https://{at}"));
    let attached = AttachedGateway { url, tls_url };
    client.attach(ATTACHED_GATEWAY, move || {
        serde_json::to_value(&attached).unwrap_or_default()
    });
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
pub(super) async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
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
