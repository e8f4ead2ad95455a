//! Settings of what a gateway bears from one address and one user: the section `[gateway.edge]`.

use serde::{Deserialize, Serialize};

use crate::identity::Network;

/// Limits by the client's address and by user, and for how long half a request is waited for. A rate may be
/// exceeded for a moment by five seconds' worth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EdgeSettings {
    /// Addresses and networks without a limit by address or user. Default this machine's own:
    /// `127.0.0.0/8` and `::1`. A proxy on this machine belongs in `identity.trusted_proxies`, or whoever
    /// comes through it has no limit.
    pub exempt: Vec<String>,
    /// Connections of one address (in IPv6, of one /64) at a time. Default 2,000.
    pub address_connections_max: usize,
    /// New connections of one address a second. Default 200.
    pub address_connects_per_s: u64,
    /// HTTP requests of one address a second, with the messages of its guests. Default 1,000.
    pub address_requests_per_s: u64,
    /// WebSockets of one user at a time. Default 32.
    pub user_sockets_max: usize,
    /// Requests and messages of one user a second, over all connections. Default 200.
    pub user_requests_per_s: u64,
    /// Connections that have not sent a whole request yet. The next takes the place of the one that has
    /// waited longest. Default 20,000.
    pub handshakes_max: usize,
    /// A request line with its headers must arrive within this time. Default 10,000 ms.
    pub header_timeout_ms: u64,
    /// And its body within this time. Default 15,000 ms.
    pub body_timeout_ms: u64,
}

impl Default for EdgeSettings {
    fn default() -> Self {
        Self {
            exempt: vec!["127.0.0.0/8".to_owned(), "::1".to_owned()],
            address_connections_max: 2_000,
            address_connects_per_s: 200,
            address_requests_per_s: 1_000,
            user_sockets_max: 32,
            user_requests_per_s: 200,
            handshakes_max: 20_000,
            header_timeout_ms: 10_000,
            body_timeout_ms: 15_000,
        }
    }
}

impl EdgeSettings {
    /// Says which setting is wrong, and what it must be.
    pub(crate) fn mistake(&self) -> Option<(&'static str, String)> {
        let is_network = |text: &String| Network::parse(text).is_some();
        if let Some(wrong) = self.exempt.iter().find(|text| !is_network(text)) {
            let rule = format!("addresses or networks such as 10.0.0.0/8, not {wrong}");
            return Some(("gateway.edge.exempt", rule));
        }
        let positive = [
            (
                "gateway.edge.address_connections_max",
                self.address_connections_max > 0,
            ),
            (
                "gateway.edge.address_connects_per_s",
                self.address_connects_per_s > 0,
            ),
            (
                "gateway.edge.address_requests_per_s",
                self.address_requests_per_s > 0,
            ),
            ("gateway.edge.user_sockets_max", self.user_sockets_max > 0),
            (
                "gateway.edge.user_requests_per_s",
                self.user_requests_per_s > 0,
            ),
            ("gateway.edge.handshakes_max", self.handshakes_max > 0),
            ("gateway.edge.header_timeout_ms", self.header_timeout_ms > 0),
            ("gateway.edge.body_timeout_ms", self.body_timeout_ms > 0),
        ];
        let wrong = positive.into_iter().find(|(_, holds)| !holds);
        wrong.map(|(setting, _)| (setting, "at least 1".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named() {
        let named = |change: fn(&mut EdgeSettings)| {
            let mut settings = EdgeSettings::default();
            change(&mut settings);
            settings.mistake().map(|(setting, _)| setting)
        };
        assert_eq!(named(|_| ()), None);
        assert_eq!(named(|s| s.exempt.clear()), None);
        assert_eq!(
            named(|s| s.exempt = vec!["here".to_owned()]),
            Some("gateway.edge.exempt")
        );
        assert_eq!(
            named(|s| s.user_sockets_max = 0),
            Some("gateway.edge.user_sockets_max")
        );
    }
}
