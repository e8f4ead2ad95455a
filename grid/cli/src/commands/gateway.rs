//! `grid gateway`: a gateway in a process of its own, which serves clients and is no node.
//!
//! It has no state but its audit log, so there may be any number of them, and one that is lost costs its
//! clients a reconnect. Of the grid's secrets it has the ticket key alone: it issues the tickets' codes. It
//! checks the grid's own tokens with the public half of their key, and knows neither the admin token, nor the
//! key of the audit trail, nor a database.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use gateway::{Gateway, GatewayOptions, Mode, Place};
use grid::{ConnectError, ConnectOptions, GridConnection, RoutingClient};
use grid_config::{IdentityMode, Settings};
use processing_unit::Unit;
use serde_json::json;
use uuid::Uuid;

use super::certs::gateway_number;
use super::gateway_tls;
use super::process::{End, Requests, listen, lock};
use crate::audit_log;
use crate::certs::Certificates;
use crate::context::Context;
use crate::data_dir::{identity_public_key_of, ticket_key_of};
use crate::failure::Failure;
use crate::telemetry::Telemetry;

/// How long the nodes are waited for. `grid up` starts them at the same time.
const NODES_WAIT: Duration = Duration::from_secs(30);
/// How often it looks whether every partition can be asked.
const READY_PAUSE: Duration = Duration::from_millis(20);
/// How long the whole of a stop may take before it is forced; below the patience of `grid up`.
const STOP_TIMEOUT: Duration = Duration::from_secs(12);

/// `grid gateway`
#[derive(Debug, Args)]
pub(crate) struct GatewayArgs {
    /// Addresses of nodes for other nodes (their --raft-listen), such as 10.0.0.1:7801,10.0.0.2:7801; one that
    /// answers is enough
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', required = true)]
    nodes: Vec<String>,
    /// Where to listen for clients; a loopback address, unless they show tokens. Port 0 for any free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7760")]
    listen: SocketAddr,
    /// Where to listen for clients that speak TLS, instead of the configured address
    #[arg(long, value_name = "ADDRESS")]
    tls_listen: Option<SocketAddr>,
    /// Where clients reach it, if that is not where it listens
    #[arg(long, value_name = "URL", value_parser = url)]
    public_url: Option<String>,
    /// The grid that it must be; without it, the one that answers
    #[arg(long, value_name = "UUID")]
    grid_id: Option<Uuid>,
    /// Where its audit log is kept [default: gateway in the data directory]
    #[arg(long, value_name = "DIR")]
    gateway_dir: Option<PathBuf>,
    /// The file with the secret key of ticket codes, in hexadecimal, the same on all gateways [default: the
    /// data directory's]
    #[arg(long, value_name = "FILE")]
    ticket_key: Option<PathBuf>,
    /// The file with the public key of the grid's own tokens [default: the data directory's identity.pub, if
    /// there is one; without it only a provider's tokens count in mode `token`]
    #[arg(long, value_name = "FILE")]
    identity_public_key: Option<PathBuf>,
    /// The directory with ca.crt and this gateway's certificate and key (`grid certs create-gateway`), for
    /// mutual TLS with the nodes
    #[arg(long, value_name = "DIR")]
    certs: Option<PathBuf>,
    /// Whose certificate of that directory it uses
    #[arg(long, value_name = "NAME", default_value = "gateway-1", value_parser = gateway_number, requires = "certs")]
    name: u64,
    /// Talk to nodes in plain text even beyond this machine
    #[arg(long, conflicts_with = "certs")]
    allow_plaintext: bool,
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Threads, instead of one a core
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Stop when standard input ends, as under `grid up`
    #[arg(long)]
    supervised: bool,
    /// Log in JSON
    #[arg(long)]
    pub(crate) log_json: bool,
}

fn url(text: &str) -> Result<String, String> {
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    match rest {
        Some(rest) if !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err("a gateway's address begins with http:// or https://".to_owned()),
    }
}

/// Runs until it is asked to stop, or can be of no more use.
pub(crate) async fn run(context: &Context, args: GatewayArgs) -> anyhow::Result<()> {
    let mut requests = Requests::listen(args.supervised)?;
    let settings = settings(&args)?;
    let data_dir = &context.data_dir;
    let ticket_key = ticket_key_of(
        &args
            .ticket_key
            .clone()
            .unwrap_or_else(|| data_dir.ticket_key_path()),
    )?;
    let mode = mode(context, &args, &settings)?;
    let directory = args
        .gateway_dir
        .clone()
        .unwrap_or_else(|| data_dir.path().join("gateway"));
    let _lock = lock(&directory, "gateway").await?;
    audit_log::open(&directory)
        .map_err(|error| anyhow::anyhow!("the audit log cannot be written: {error}"))?;
    // Before anything that measures.
    let telemetry = Telemetry::install()?;
    tokio::spawn(telemetry.clone().upkeep());

    let starting = async {
        let connection = connect(&args, &settings).await?;
        let gateway = Gateway::start(GatewayOptions {
            listener: listen(args.listen).await?,
            tls: gateway_tls::options(&settings.gateway.tls, args.tls_listen).await?,
            place: Place::Alone {
                client: connection.client(),
            },
            settings: settings.gateway.clone(),
            ticket_key,
            mode,
        })?;
        gateway.serve_metrics(move || telemetry.render());
        while !gateway.is_ready() {
            tokio::time::sleep(READY_PAUSE).await;
        }
        anyhow::Ok((connection, gateway))
    };
    let (connection, gateway) = tokio::select! {
        started = starting => started?,
        // Nobody was served yet.
        _ = requests.next_stop() => return Ok(()),
    };
    let url = args
        .public_url
        .clone()
        .unwrap_or_else(|| format!("http://{}", gateway.address()));
    connection.announce(&url);
    say_ready(context, &connection.client(), &url)?;
    tracing::info!(url, "the gateway has started");

    let end = tokio::select! {
        end = requests.next_stop() => end,
        reason = connection.failed() => End::Failed(reason),
    };
    match &end {
        End::Planned(by) | End::Ordered(by) => tracing::info!(by, "the gateway stops"),
        End::Leaving => {}
        End::Failed(reason) => tracing::error!(reason, "the gateway stops"),
    }
    // Nobody is sent here any more, and whoever is here is told where else to go.
    connection.announce("");
    gateway.announce_stop();
    let stopping = async {
        // Others go on; where the whole grid stops, there is nobody to spare.
        if matches!(end, End::Planned(_)) {
            gateway.send_away().await;
        }
        gateway.shutdown().await;
        connection.shutdown().await;
    };
    tokio::select! {
        () = stopping => {}
        by = requests.next_signal() => tracing::warn!(by, "the gateway was stopped by force"),
        () = tokio::time::sleep(STOP_TIMEOUT) => tracing::warn!("the gateway did not stop in time"),
    }
    match end {
        End::Failed(reason) => {
            let text = format!("the gateway stopped: {reason}");
            Err(Failure::NodeStopped(text).into())
        }
        End::Planned(_) | End::Ordered(_) | End::Leaving => Ok(()),
    }
}

/// The configuration, with what the command line says instead.
fn settings(args: &GatewayArgs) -> Result<Settings, Failure> {
    let mut settings = grid_config::load(args.config.as_deref())
        .map_err(|error| Failure::Usage(error.to_string()))?;
    if let Some(directory) = &args.certs {
        let certificates = Certificates::new(directory.clone());
        let (certificate, key) = certificates.gateway(args.name);
        settings.node.tls_ca_file = Some(certificates.ca());
        settings.node.tls_certificate_file = Some(certificate);
        settings.node.tls_key_file = Some(key);
    }
    settings.node.tls_allow_plaintext |= args.allow_plaintext;
    Ok(settings)
}

/// How it knows who is asking.
fn mode(context: &Context, args: &GatewayArgs, settings: &Settings) -> anyhow::Result<Mode> {
    if settings.gateway.identity.mode == IdentityMode::Trusted {
        return Ok(Mode::Trusted);
    }
    let known = context.data_dir.identity_public_key_path();
    let path = args
        .identity_public_key
        .clone()
        .or_else(|| known.exists().then_some(known));
    let own_key = path.as_deref().map(identity_public_key_of).transpose()?;
    Ok(Mode::Token { own_key })
}

async fn connect(args: &GatewayArgs, settings: &Settings) -> anyhow::Result<GridConnection<Unit>> {
    let options = ConnectOptions {
        nodes: args.nodes.clone(),
        grid_id: args.grid_id.map(|id| id.as_u128()),
        settings: settings.node.clone(),
    };
    let connected = GridConnection::open(options, NODES_WAIT).await;
    connected.map_err(|error| match error {
        ConnectError::Options(text) => Failure::Usage(text).into(),
        ConnectError::Refused { .. } | ConnectError::Unreachable(_) => {
            Failure::Unreachable(error.to_string()).into()
        }
        ConnectError::Build(_) => Failure::NodeStopped(error.to_string()).into(),
        error @ ConnectError::Io { .. } => error.into(),
    })
}

fn say_ready(context: &Context, client: &RoutingClient<Unit>, url: &str) -> anyhow::Result<()> {
    let rest = url.strip_prefix("http").unwrap_or_default();
    let websocket = format!("ws{rest}/v1/ws");
    let grid_id = Uuid::from_u128(client.grid_id());
    let document = json!({
        "ready": true,
        "gateway": url,
        "websocket": websocket,
        "grid_id": grid_id,
        "partitions": client.layout().partitions(),
        "pid": std::process::id(),
    });
    context.output.result(&document, || {
        format!(
            "The gateway is ready, for grid {grid_id}.\n\n  {url}   {websocket}\n\n\
             Ctrl-C stops it; its clients go to other gateways."
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_address_is_a_url() {
        assert_eq!(
            url("https://a.example/"),
            Ok("https://a.example".to_owned())
        );
        for wrong in ["a.example", "http://", "ws://a", "http://a b"] {
            assert!(url(wrong).is_err(), "{wrong}");
        }
    }
}
