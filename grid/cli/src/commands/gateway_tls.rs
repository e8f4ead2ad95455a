//! Where gateways listen for clients that speak TLS: the section `[gateway.tls]`, spread over the nodes, and
//! the gateways of their own, of one machine.

use std::net::SocketAddr;

use gateway::TlsOptions;
use grid_config::GatewayTlsSettings;

use super::process::listen;
use crate::failure::Failure;
use crate::supervise::reserve_ports;

/// One address for each gateway of `grid up`, those of the nodes first: the configured one's port and those after it; any where it is 0.
/// None where TLS is not configured.
pub(super) fn addresses(
    settings: &GatewayTlsSettings,
    nodes: usize,
) -> anyhow::Result<Vec<SocketAddr>> {
    let Some(first) = settings.listen else {
        return Ok(Vec::new());
    };
    let ports = match first.port() {
        0 => reserve_ports(nodes)?,
        port => (port..=u16::MAX).take(nodes).collect(),
    };
    if ports.len() < nodes {
        return Err(Failure::Usage("the port of gateway.tls.listen is too high".to_owned()).into());
    }
    let addresses = ports
        .into_iter()
        .map(|port| SocketAddr::new(first.ip(), port));
    Ok(addresses.collect())
}

/// What a gateway needs to listen there; `instead` comes before the configured address.
pub(super) async fn options(
    settings: &GatewayTlsSettings,
    instead: Option<SocketAddr>,
) -> anyhow::Result<Option<TlsOptions>> {
    let files = settings
        .certificate_file
        .clone()
        .zip(settings.key_file.clone());
    let (Some(address), Some((certificate_file, key_file))) = (instead.or(settings.listen), files)
    else {
        return match instead {
            None => Ok(None),
            Some(_) => {
                let text = "there is no certificate to listen with: set \
                            gateway.tls.certificate_file and key_file";
                Err(Failure::Usage(text.to_owned()).into())
            }
        };
    };
    Ok(Some(TlsOptions {
        listener: listen(address).await?,
        certificate_file,
        key_file,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_a_port_of_its_own() {
        let at = |address: &str| GatewayTlsSettings {
            listen: Some(address.parse().expect("an address")),
            ..GatewayTlsSettings::default()
        };
        assert!(
            addresses(&GatewayTlsSettings::default(), 3)
                .expect("none")
                .is_empty()
        );
        let given = addresses(&at("0.0.0.0:7743"), 2).expect("two");
        let given: Vec<String> = given.iter().map(ToString::to_string).collect();
        assert_eq!(given, ["0.0.0.0:7743", "0.0.0.0:7744"]);
        assert!(addresses(&at("0.0.0.0:65535"), 2).is_err());
        let mut any = addresses(&at("127.0.0.1:0"), 3).expect("three");
        any.dedup();
        assert_eq!(any.len(), 3);
        assert!(any.iter().all(|address| address.port() != 0));
    }
}
