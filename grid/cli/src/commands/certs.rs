//! `grid certs`: certificates for mutual TLS between the nodes, and of gateways towards them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::certs::{CA_DAYS, Certificate, Certificates, NODE_DAYS};
use crate::context::Context;
use crate::output::table;

/// `grid certs`
#[derive(Debug, Subcommand)]
pub(crate) enum CertsCommand {
    /// Make a private CA
    CreateCa(CreateCaArgs),
    /// Make a node's certificate and key, or make them again; running nodes take them up by themselves
    CreateNode(CreateNodeArgs),
    /// Make the certificate and key of a gateway that is a process of its own, or make them again
    CreateGateway(CreateGatewayArgs),
    /// Show the certificates and how long they are good
    Show(Place),
}

/// Where the files are.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The directory of the certificates [default: certs in the data directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// `grid certs create-ca`
#[derive(Debug, Args)]
pub(crate) struct CreateCaArgs {
    #[command(flatten)]
    place: Place,
    /// How long it is good
    #[arg(long, value_name = "DAYS", default_value_t = CA_DAYS, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
}

/// `grid certs create-node`
#[derive(Debug, Args)]
pub(crate) struct CreateNodeArgs {
    /// The node, as node-N with its number
    #[arg(long, value_name = "NAME", value_parser = node_number)]
    name: u64,
    /// An address or host name of the node; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    address: Vec<String>,
    #[command(flatten)]
    place: Place,
    /// How long it is good
    #[arg(long, value_name = "DAYS", default_value_t = NODE_DAYS, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
}

/// `grid certs create-gateway`
#[derive(Debug, Args)]
pub(crate) struct CreateGatewayArgs {
    /// The gateway, as gateway-N with a number of its own
    #[arg(long, value_name = "NAME", value_parser = gateway_number)]
    name: u64,
    #[command(flatten)]
    place: Place,
    /// How long it is good
    #[arg(long, value_name = "DAYS", default_value_t = NODE_DAYS, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
}

/// The number in a gateway's name.
pub(super) fn gateway_number(name: &str) -> Result<u64, String> {
    name.strip_prefix("gateway-")
        .and_then(|number| number.parse().ok())
        .filter(|number| *number > 0)
        .ok_or_else(|| "a gateway's name is gateway-N, with a number from 1".to_owned())
}

fn node_number(name: &str) -> Result<u64, String> {
    name.strip_prefix("node-")
        .and_then(|number| number.parse().ok())
        .filter(|number| *number > 0)
        .ok_or_else(|| "a node's name is node-N, with its number from 1".to_owned())
}

/// Makes or shows certificates.
pub(crate) fn run(context: &Context, command: CertsCommand) -> anyhow::Result<()> {
    let open = |place: Place| match place.dir {
        Some(directory) => Certificates::new(directory),
        None => context.data_dir.certificates(),
    };
    let made = match command {
        CertsCommand::CreateCa(args) => vec![open(args.place).create_ca(args.days)?],
        CertsCommand::CreateNode(args) => {
            vec![open(args.place).create_node(args.name, &args.address, args.days)?]
        }
        CertsCommand::CreateGateway(args) => {
            vec![open(args.place).create_gateway(args.name, args.days)?]
        }
        CertsCommand::Show(place) => open(place).list()?,
    };
    let document = serde_json::json!({ "certificates": made });
    context.output.result(&document, || text(&made))
}

fn text(certificates: &[Certificate]) -> String {
    let mut rows = table(["file", "subject", "for", "good until", "days left"]);
    for found in certificates {
        let names = match found.is_ca {
            true => "signing nodes".to_owned(),
            false => found.names.join(", "),
        };
        let left = match found.days_left {
            days if days < 0 => "expired".to_owned(),
            days => days.to_string(),
        };
        rows.add_row([
            found.file.display().to_string(),
            found.subject.clone(),
            names,
            found.not_after.clone(),
            left,
        ]);
    }
    rows.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_the_nodes_number() {
        assert_eq!(node_number("node-12"), Ok(12));
        assert_eq!(gateway_number("gateway-3"), Ok(3));
        assert!(gateway_number("node-3").is_err());
        for wrong in ["node-0", "node-", "12", "node-1.example"] {
            assert!(node_number(wrong).is_err(), "{wrong}");
        }
    }
}
