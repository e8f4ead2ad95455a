//! The child processes of `grid up`, and what each of them is told.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use tokio::sync::watch;

use super::UpArgs;
use crate::admin_token;
use crate::commands::join::joined_addresses;
use crate::context::Context;
use crate::data_dir::GridFile;
use crate::failure::Failure;
use crate::supervise::{NodeProcess, NodeSpec, Order};

/// What the nodes are told of the admin token: the file that was named, or the data directory's; nothing
/// where the environment, which they inherit, has the token itself.
fn admin_token_file(context: &Context) -> anyhow::Result<Option<PathBuf>> {
    if let Some(path) = context.admin_token_file() {
        return Ok(Some(std::fs::canonicalize(path)?));
    }
    Ok(match admin_token::from_environment()? {
        Some(_) => None,
        None => Some(context.data_dir.admin_token_path()),
    })
}

/// They share the machine: with a thread a core each, they mostly take the cores from each other.
fn threads(grid: &GridFile) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let processes = grid.nodes.len() + grid.gateways.len();
    (cores / processes.max(1)).max(1)
}

fn config(args: &UpArgs) -> anyhow::Result<Option<PathBuf>> {
    let config = args.config.as_ref().map(std::fs::canonicalize);
    Ok(config.transpose()?)
}

fn text(path: PathBuf) -> Result<String, Failure> {
    path.into_os_string().into_string().map_err(|path| {
        Failure::DataDirectory(format!("{} is no UTF-8; choose another", path.display()))
    })
}

/// Starts the nodes.
pub(super) fn start_nodes(
    context: &Context,
    args: &UpArgs,
    (grid, tls): (&GridFile, &[SocketAddr]),
    orders: &watch::Receiver<Option<Order>>,
) -> anyhow::Result<Vec<NodeProcess>> {
    let members: Vec<String> = grid
        .nodes
        .iter()
        .map(|node| format!("{}=127.0.0.1:{}", node.id, node.raft_port))
        .collect();
    let members = members.join(",");
    let seeds = joined_addresses(&context.data_dir).join(",");
    let certificates = context.data_dir.certificates();
    let admin_token_file = admin_token_file(context)?;
    let config = config(args)?;
    let threads = threads(grid);
    grid.nodes
        .iter()
        .enumerate()
        .map(|(place, node)| {
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
                format!("--audit-key={}", text(context.data_dir.audit_key_path())?),
                format!(
                    "--identity-key={}",
                    text(context.data_dir.identity_key_path())?
                ),
                format!("--threads={threads}"),
            ];
            if let Some(address) = tls.get(place) {
                arguments.push(format!("--gateway-tls-listen={address}"));
            }
            if !seeds.is_empty() {
                arguments.push(format!("--seed={seeds}"));
            }
            if certificates.has_ca() {
                arguments.push(format!("--certs={}", text(certificates.path().to_owned())?));
            }
            if let Some(file) = &admin_token_file {
                arguments.push(format!("--admin-token-file={}", text(file.clone())?));
            }
            if let Some(config) = &config {
                arguments.push(format!("--config={}", text(config.clone())?));
            }
            if args.no_database {
                arguments.push("--no-database".to_owned());
            }
            NodeProcess::start(
                NodeSpec {
                    kind: "node",
                    id: node.id,
                    arguments,
                    directory,
                },
                orders.clone(),
            )
        })
        .collect()
}

/// Starts the gateways that are processes of their own, with no more than such a gateway needs.
pub(super) fn start_gateways(
    context: &Context,
    args: &UpArgs,
    (grid, tls): (&GridFile, &[SocketAddr]),
    orders: &watch::Receiver<Option<Order>>,
) -> anyhow::Result<Vec<NodeProcess>> {
    let nodes = grid.nodes.iter();
    let nodes: Vec<String> = nodes
        .map(|node| format!("127.0.0.1:{}", node.raft_port))
        .collect();
    let nodes = nodes.join(",");
    let data_dir = &context.data_dir;
    let certificates = data_dir.certificates();
    let config = config(args)?;
    let threads = threads(grid);
    // After those of the nodes' gateways.
    let tls = tls.iter().skip(grid.nodes.len()).map(Some);
    let places = grid.gateways.iter();
    places
        .zip(tls.chain(std::iter::repeat(None)))
        .map(|(gateway, tls)| {
            let directory = data_dir.gateway(gateway.id);
            let mut arguments = vec![
                "gateway".to_owned(),
                "--supervised".to_owned(),
                format!("--nodes={nodes}"),
                format!("--grid-id={}", grid.grid_id),
                format!("--listen=127.0.0.1:{}", gateway.port),
                format!("--gateway-dir={}", text(directory.clone())?),
                format!("--ticket-key={}", text(data_dir.ticket_key_path())?),
                format!(
                    "--identity-public-key={}",
                    text(data_dir.identity_public_key_path())?
                ),
                format!("--threads={threads}"),
            ];
            if certificates.has_ca() {
                arguments.push(format!("--certs={}", text(certificates.path().to_owned())?));
                arguments.push(format!("--name=gateway-{}", gateway.id));
            }
            if let Some(address) = tls {
                arguments.push(format!("--tls-listen={address}"));
            }
            if let Some(config) = &config {
                arguments.push(format!("--config={}", text(config.clone())?));
            }
            NodeProcess::start(
                NodeSpec {
                    kind: "gateway",
                    id: gateway.id,
                    arguments,
                    directory,
                },
                orders.clone(),
            )
        })
        .collect()
}
