//! `grid node join`: one more node on this machine, for a grid that runs.
//!
//! What it was started with is kept in `join.json` in the node's directory, so that it starts again
//! under its number and at its addresses although no gateway answers.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use grid::{GridClient, NodeId};
use processing_unit::Unit;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::members::{self, Members};
use super::node::{self, NodeArgs, Watcher};
use super::process::ORDERS_MAX;
use crate::context::Context;
use crate::data_dir::DataDir;
use crate::failure::Failure;
use crate::output::Output;
use crate::private_file;
use crate::supervise::{DatabaseAddress, Order, reserve_ports};

/// How often it looks whether `grid up` has a database by now.
const DATABASE_LOOK_PAUSE: Duration = Duration::from_secs(1);

/// `grid node join`
#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    /// The node's number [default: the next free one]
    #[arg(long, value_name = "N")]
    node_id: Option<NodeId>,
    /// What fails together with this node, such as a rack
    #[arg(long, value_name = "NAME")]
    zone: Option<String>,
    /// Where to listen for other nodes [default: any free port of this machine's own]
    #[arg(long, value_name = "ADDRESS")]
    raft_listen: Option<SocketAddr>,
    /// Where other nodes reach it, if that is not where it listens
    #[arg(long, value_name = "ADDRESS")]
    peer_address: Option<String>,
    /// Where to listen for clients; a loopback address [default: any free port]
    #[arg(long, value_name = "ADDRESS")]
    gateway_listen: Option<SocketAddr>,
    /// Where the node keeps its log and snapshots [default: in the data directory]
    #[arg(long, value_name = "DIR")]
    node_dir: Option<PathBuf>,
    /// The file with the secret key of ticket codes [default: the data directory's]
    #[arg(long, value_name = "FILE")]
    ticket_key: Option<PathBuf>,
    /// The file with the secret key for the audit trail [default: the data directory's, if it has one]
    #[arg(long, value_name = "FILE")]
    audit_key: Option<PathBuf>,
    /// The file with the secret key of the grid's own tokens [default: the data directory's, if it has
    /// one]
    #[arg(long, value_name = "FILE")]
    identity_key: Option<PathBuf>,
    /// The directory with ca.crt, node-N.crt and node-N.key, for mutual TLS with the other nodes
    /// [default: the data directory's, if its grid has a CA; what is missing is made]
    #[arg(long, value_name = "DIR")]
    certs: Option<PathBuf>,
    /// Talk to other nodes in plain text even beyond this machine
    #[arg(long, conflicts_with = "certs")]
    allow_plaintext: bool,
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The database to write to [default: that of `grid up`]
    #[arg(long, value_name = "URL", conflicts_with = "no_database")]
    database_url: Option<String>,
    /// Write to no database, and keep no log for one
    #[arg(long)]
    no_database: bool,
    /// Log in JSON
    #[arg(long)]
    pub(super) log_json: bool,
}

/// `join.json`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct JoinFile {
    grid_id: Uuid,
    partitions: u32,
    raft_listen: SocketAddr,
    gateway_listen: SocketAddr,
    /// Running nodes, when it was written.
    members: Vec<(NodeId, String)>,
}

impl JoinFile {
    fn path(directory: &Path) -> PathBuf {
        directory.join("join.json")
    }

    fn read(directory: &Path) -> anyhow::Result<Option<Self>> {
        let path = Self::path(directory);
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| {
                Failure::DataDirectory(format!("{} is damaged: {error}", path.display())).into()
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                let text = format!("{} cannot be read: {error}", path.display());
                Err(Failure::DataDirectory(text).into())
            }
        }
    }

    fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let unusable = |error: std::io::Error| {
            Failure::DataDirectory(format!("{} cannot be used: {error}", directory.display()))
        };
        std::fs::create_dir_all(directory).map_err(unusable)?;
        let text = serde_json::to_vec_pretty(self)?;
        private_file::replace(&Self::path(directory), &text)
    }
}

/// The addresses for other nodes of those that joined the grid of a data directory.
pub(super) fn joined_addresses(data_dir: &DataDir) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(data_dir.path()) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let joined = files.iter().filter_map(|path| JoinFile::read(path).ok()?);
    joined.map(|file| file.raft_listen.to_string()).collect()
}

/// Runs until a signal.
pub(crate) async fn run(mut context: Context, args: JoinArgs) -> anyhow::Result<()> {
    let grid = context.data_dir.read()?;
    if grid.is_some() {
        context.data_dir.create()?;
    }
    let directory = |node: NodeId| match &args.node_dir {
        Some(directory) => directory.clone(),
        None => context.data_dir.node(node),
    };
    let known = match args.node_id {
        Some(node) => JoinFile::read(&directory(node))?.map(|file| (node, file)),
        None => None,
    };
    let (node_id, file) = match known {
        Some(known) => known,
        None => {
            let (members, _) = members::read(&context.api()?).await?;
            let node_id = args.node_id.unwrap_or_else(|| next_number(&members));
            (node_id, plan(&args, &members)?)
        }
    };
    let node_dir = directory(node_id);
    file.write(&node_dir)?;
    let gateway = format!("http://{}", file.gateway_listen);
    let ticket_key = args
        .ticket_key
        .unwrap_or_else(|| context.data_dir.ticket_key_path());
    let audit_key = args.audit_key.or_else(|| {
        let path = context.data_dir.audit_key_path();
        path.exists().then_some(path)
    });
    let identity_key = args.identity_key.or_else(|| {
        let path = context.data_dir.identity_key_path();
        path.exists().then_some(path)
    });
    let certificates = context.data_dir.certificates();
    let certs = match args.certs {
        Some(directory) => Some(directory),
        None if certificates.has_ca() && !args.allow_plaintext => {
            let addresses = [
                Some(file.raft_listen.ip().to_string()),
                args.peer_address.as_deref().map(host_of),
            ];
            let addresses: Vec<String> = addresses.into_iter().flatten().collect();
            certificates.provide(node_id, &addresses)?;
            Some(certificates.path().to_owned())
        }
        None => None,
    };
    let node_args = NodeArgs {
        threads: None,
        grid_id: file.grid_id,
        node_id,
        members: file.members,
        seed: Vec::new(),
        peer_address: args.peer_address,
        zone: args.zone,
        raft_listen: file.raft_listen,
        gateway_listen: file.gateway_listen,
        gateway_tls_listen: None,
        node_dir,
        ticket_key,
        audit_key,
        identity_key,
        certs,
        allow_plaintext: args.allow_plaintext,
        partitions: Some(file.partitions),
        config: args.config,
        database_url: args.database_url.clone(),
        no_database: args.no_database,
        supervised: false,
        log_json: args.log_json,
    };
    let (sender, orders) = mpsc::channel(ORDERS_MAX);
    let (started, running) = oneshot::channel();
    let finds_database = grid.is_some() && args.database_url.is_none() && !args.no_database;
    let watched = context.data_dir.clone();
    let database = tokio::spawn(async move {
        if finds_database {
            find_database(&watched, &sender).await;
        }
        // Without the sender the node would take its supervisor for gone.
        sender.closed().await;
    });
    let output = context.output;
    let telling = tokio::spawn(async move {
        let Ok(client) = running.await else { return };
        if let Err(error) = tell(output, &client, node_id, &gateway).await {
            tracing::warn!(%error, "the ready line could not be written");
        }
    });
    let ended = node::run(&context, node_args, Some(Watcher { orders, started })).await;
    telling.abort();
    database.abort();
    ended
}

/// `name:port` without the port.
fn host_of(address: &str) -> String {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_matches(['[', ']']).to_owned()
}

/// One above all that were ever used.
fn next_number(members: &Members) -> NodeId {
    let highest = members.nodes.iter().map(|node| node.node_id).max();
    highest.unwrap_or(0) + 1
}

fn plan(args: &JoinArgs, members: &Members) -> anyhow::Result<JoinFile> {
    let grid_id = Uuid::try_parse(&members.grid_id)
        .map_err(|_| anyhow::anyhow!("the gateway named no grid: {}", members.grid_id))?;
    let ports = reserve_ports(2)?;
    let local = |given: Option<SocketAddr>, port: u16| {
        given.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    };
    let running = members.nodes.iter().filter(|node| node.state != "removed");
    // Under its own number it would count as one of those that the grid began with.
    let others = running.filter(|node| Some(node.node_id) != args.node_id);
    Ok(JoinFile {
        grid_id,
        partitions: members.partitions,
        raft_listen: local(args.raft_listen, ports[0]),
        gateway_listen: local(args.gateway_listen, ports[1]),
        members: others
            .map(|node| (node.node_id, node.peer_address.clone()))
            .collect(),
    })
}

/// Waits until the data directory names a database, and passes it on.
async fn find_database(data_dir: &DataDir, orders: &mpsc::Sender<Order>) {
    loop {
        let found = data_dir.read().ok().flatten();
        if let Some(url) = found.and_then(|grid| grid.database_url) {
            let order = Order::Database(DatabaseAddress {
                url,
                single_connection: false,
                is_private: false,
            });
            // A node that no longer takes orders has ended.
            let _ = orders.send(order).await;
            return;
        }
        tokio::time::sleep(DATABASE_LOOK_PAUSE).await;
    }
}

/// Says when the node is a member.
async fn tell(
    output: Output,
    client: &GridClient<Unit>,
    node_id: NodeId,
    gateway: &str,
) -> anyhow::Result<()> {
    let mut map = client.cluster_map();
    let is_in = map.wait_for(|map| {
        map.as_ref()
            .is_some_and(|map| map.nodes.contains_key(&node_id))
    });
    drop(is_in.await?);
    let document = json!({
        "ready": true,
        "node_id": node_id,
        "gateway": gateway,
        "pid": std::process::id(),
    });
    output.result(&document, || {
        format!(
            "Node {node_id} has joined; its gateway is {gateway}. Replicas are moved to it now: \
             `grid node list`.\nCtrl-C stops it; start it again with `grid node join --node-id {node_id}`."
        )
    })
}
