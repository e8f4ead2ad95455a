//! Settings of how a gateway knows who is asking: the section `[gateway.identity]`.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The longest that a revocation may have to be remembered.
const TOKEN_LIFE_S_MAX: u64 = 30 * 24 * 3_600;
/// Clocks further apart are wrong and must be set.
const LEEWAY_S_MAX: u64 = 300;

/// How a gateway knows who is asking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdentityMode {
    /// The caller says who it is. The gateway listens on loopback only.
    #[default]
    Trusted,
    /// The caller shows a signed token.
    Token,
}

/// A signature that may be accepted; no others can be named, least of all `none` and shared secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenAlgorithm {
    /// RSA with SHA-256.
    RS256,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// Who is asking, and what is believed about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdentitySettings {
    /// Default `trusted`.
    pub mode: IdentityMode,
    /// The provider's name for itself, the claim `iss`, to the letter. With it, `jwks_url` or `jwks_file`.
    /// Default none: only tokens of the grid's own key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Whom a token must be for, the claim `aud`. Default `spacegrid`.
    pub audience: String,
    /// The client whose roles count, besides those of the realm: `resource_access.<client>.roles`. Default
    /// none: that of the audience's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Where the provider publishes its keys: `https://…`, or `http://…` on this machine. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// A file with the provider's keys, read again when it changes. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_file: Option<PathBuf>,
    /// The provider's keys are fetched again this often. Default 600 s.
    pub jwks_refresh_s: u64,
    /// A token with an unknown key has them fetched at once, but not more often than this. Default
    /// 10,000 ms.
    pub jwks_refresh_min_ms: u64,
    /// Signatures that are accepted. Default all three: RS256, ES256, EdDSA.
    pub algorithms: Vec<TokenAlgorithm>,
    /// How far the clocks of provider and gateway may be apart. At most 300 s. Default 30 s.
    pub leeway_s: u64,
    /// A token that is good for longer is refused; revocations are remembered this long. 60 s to 30 days.
    /// Default 86,400 s (a day).
    pub token_life_max_s: u64,
    /// How long a WebSocket ticket is good. 1 to 300 s. Default 30 s.
    pub ticket_life_s: u64,
    /// Whether those without a token may look at auctions and events. Default true.
    pub guests_may_watch: bool,
    /// Web pages that may use the gateway in mode `token`, as the browser says it: `https://shop.example`.
    /// Default none, but pages from this machine where the gateway listens on loopback.
    pub allowed_origins: Vec<String>,
    /// Proxies whose word about the client's address counts (`X-Forwarded-For`), as addresses or networks:
    /// `10.0.0.0/8`. Default none: the address is the connection's.
    pub trusted_proxies: Vec<String>,
}

impl Default for IdentitySettings {
    fn default() -> Self {
        Self {
            mode: IdentityMode::Trusted,
            issuer: None,
            audience: "spacegrid".to_owned(),
            client: None,
            jwks_url: None,
            jwks_file: None,
            jwks_refresh_s: 600,
            jwks_refresh_min_ms: 10_000,
            algorithms: vec![
                TokenAlgorithm::RS256,
                TokenAlgorithm::ES256,
                TokenAlgorithm::EdDsa,
            ],
            leeway_s: 30,
            token_life_max_s: 86_400,
            ticket_life_s: 30,
            guests_may_watch: true,
            allowed_origins: Vec::new(),
            trusted_proxies: Vec::new(),
        }
    }
}

/// A network of addresses, such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u32,
}

impl Network {
    /// Reads an address or a network; `None` if it is neither.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits: u32 = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|prefix| *prefix <= bits)?,
            None => bits,
        };
        Some(Self {
            address,
            prefix_bits,
        })
    }

    /// Whether an address is in it. An IPv4 address written as IPv6 is the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let same = |ours: u128, theirs: u128, bits: u32| {
            let differing = bits - self.prefix_bits;
            differing >= 128 || (ours ^ theirs) >> differing == 0
        };
        match (self.address.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                same(u32::from(ours).into(), u32::from(theirs).into(), 32)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => same(ours.into(), theirs.into(), 128),
            _ => false,
        }
    }
}

impl IdentitySettings {
    /// Says which setting is wrong, and what it must be.
    pub(crate) fn mistake(&self) -> Option<(&'static str, String)> {
        let says = |setting, rule: &str| Some((setting, rule.to_owned()));
        let has_keys = self.jwks_url.is_some() || self.jwks_file.is_some();
        if has_keys != self.issuer.is_some() {
            return says(
                "gateway.identity.issuer",
                "given together with jwks_url or jwks_file, or not at all",
            );
        }
        if self.jwks_url.is_some() && self.jwks_file.is_some() {
            return says("gateway.identity.jwks_file", "left out where jwks_url is");
        }
        if self.audience.is_empty() {
            return says("gateway.identity.audience", "a name");
        }
        if self.algorithms.is_empty() {
            return says("gateway.identity.algorithms", "at least one");
        }
        if self.leeway_s > LEEWAY_S_MAX {
            return says("gateway.identity.leeway_s", "at most 300");
        }
        if !(60..=TOKEN_LIFE_S_MAX).contains(&self.token_life_max_s) {
            return says("gateway.identity.token_life_max_s", "60 to 2592000");
        }
        if !(1..=300).contains(&self.ticket_life_s) {
            return says("gateway.identity.ticket_life_s", "1 to 300");
        }
        if self.jwks_refresh_s == 0 || self.jwks_refresh_min_ms == 0 {
            return says(
                "gateway.identity.jwks_refresh_s and jwks_refresh_min_ms",
                "at least 1",
            );
        }
        let is_network = |text: &String| Network::parse(text).is_some();
        if let Some(wrong) = self.trusted_proxies.iter().find(|text| !is_network(text)) {
            let rule = format!("addresses or networks such as 10.0.0.0/8, not {wrong}");
            return Some(("gateway.identity.trusted_proxies", rule));
        }
        let is_origin = |text: &String| {
            let rest = text
                .strip_prefix("https://")
                .or_else(|| text.strip_prefix("http://"));
            rest.is_some_and(|rest| !rest.is_empty() && !rest.contains('/'))
        };
        if let Some(wrong) = self.allowed_origins.iter().find(|text| !is_origin(text)) {
            let rule = format!("origins such as https://shop.example, not {wrong}");
            return Some(("gateway.identity.allowed_origins", rule));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses_and_no_others() {
        let holds = |network: &str, address: &str| {
            let address = address.parse().expect("an address");
            Network::parse(network)
                .expect("a network")
                .contains(address)
        };
        assert!(holds("10.0.0.0/8", "10.1.2.3"));
        assert!(holds("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(!holds("10.0.0.0/8", "11.1.2.3"));
        assert!(holds("10.0.0.1", "10.0.0.1"));
        assert!(!holds("10.0.0.1", "10.0.0.2"));
        assert!(holds("0.0.0.0/0", "1.2.3.4"));
        assert!(!holds("0.0.0.0/0", "2001:db8::1"));
        assert!(holds("::/0", "2001:db8::1"));
        assert!(holds("2001:db8::/32", "2001:db8:1::1"));
        assert!(!holds("2001:db8::/32", "2001:db9::1"));
        for wrong in ["", "10.0.0.0/33", "10.0.0/8", "host", "::/129", "1.2.3.4/"] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let named = |change: fn(&mut IdentitySettings)| {
            let mut settings = IdentitySettings::default();
            change(&mut settings);
            settings.mistake().map(|(setting, _)| setting)
        };
        assert_eq!(named(|_| ()), None);
        let issuer = Some("gateway.identity.issuer");
        assert_eq!(named(|s| s.issuer = Some("i".into())), issuer);
        assert_eq!(named(|s| s.jwks_url = Some("u".into())), issuer);
        assert_eq!(
            named(|s| s.algorithms.clear()),
            Some("gateway.identity.algorithms")
        );
        assert_eq!(
            named(|s| s.trusted_proxies = vec!["x".into()]),
            Some("gateway.identity.trusted_proxies")
        );
        assert_eq!(
            named(|s| s.allowed_origins = vec!["https://a/b".into()]),
            Some("gateway.identity.allowed_origins")
        );
    }
}
