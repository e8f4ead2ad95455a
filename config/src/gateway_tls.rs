//! Settings of a gateway's encrypted socket: the section `[gateway.tls]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A second socket for clients, which speaks TLS 1.2 and 1.3. The other one stays, for this machine and for
/// whatever ends TLS before the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayTlsSettings {
    /// Where it listens; the nodes of `grid up` take this port and those after it. Default: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// The certificate with its chain, in PEM, the gateway's own first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<PathBuf>,
    /// Its secret key, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Both files are looked at this often, and new connections get a certificate that has changed.
    /// Default 10,000 ms.
    pub reload_interval_ms: u64,
}

impl Default for GatewayTlsSettings {
    fn default() -> Self {
        Self {
            listen: None,
            certificate_file: None,
            key_file: None,
            reload_interval_ms: 10_000,
        }
    }
}

impl GatewayTlsSettings {
    /// Says which setting is wrong, and what it must be.
    pub(crate) fn mistake(&self) -> Option<(&'static str, String)> {
        if self.reload_interval_ms == 0 {
            let rule = "at least 1".to_owned();
            return Some(("gateway.tls.reload_interval_ms", rule));
        }
        let given = [
            self.listen.is_some(),
            self.certificate_file.is_some(),
            self.key_file.is_some(),
        ];
        let is_whole = given.iter().all(|given| *given) || !given.contains(&true);
        (!is_whole).then(|| {
            let rule = "all three, or none of them".to_owned();
            ("gateway.tls.listen, certificate_file and key_file", rule)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_it_is_a_mistake() {
        let mut settings = GatewayTlsSettings::default();
        assert_eq!(settings.mistake(), None);
        settings.listen = Some(SocketAddr::from(([127, 0, 0, 1], 7743)));
        assert!(settings.mistake().is_some());
        settings.certificate_file = Some("gateway.crt".into());
        assert!(settings.mistake().is_some());
        settings.key_file = Some("gateway.key".into());
        assert_eq!(settings.mistake(), None);
        settings.reload_interval_ms = 0;
        assert!(settings.mistake().is_some());
    }
}
