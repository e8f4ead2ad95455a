//! What one address and one user may do, however many connections they have.
//!
//! ```text
//!   accept ─► Edge::connect (places and rate of the address) ─► Peer ─┐
//!   first whole request ─► Handshake::finish                          │
//!   each HTTP request ─► Edge::request (rate of the address) ◄────────┘
//!                     └► Edge::user_request (rate of the user)
//!   upgrade ─► Edge::socket (places of address and user) ─► Quota ─► each message
//! ```
//!
//! An address is that of the connection, or behind trusted proxies what they say; in IPv6 it is a /64, which is
//! what one subscriber gets. A guest has no name, so its messages count for its address.
//!
//! Invariants: every table is bounded; a message pays without a lock and without a look-up; a refusal says
//! when to come back. Exempt addresses (this machine's, unless set otherwise) are under none of this.
//!
//! What it deliberately does not do: bound what the gateway as a whole bears (`admission`, `connections_max`)
//! or what one connection sends (`ws`).

pub(crate) mod handshakes;
mod rate;
mod table;
pub(crate) mod tls;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use grid_config::{GatewaySettings, Network};
use metrics::Counter;

use crate::failure::{Detail, Failure};
use crate::identity::Caller;
use crate::limits::PLACE_RETRY_AFTER_MS;
use crate::protocol::code::ErrorCode;
use handshakes::Handshakes;
use rate::RateLimit;
use table::{Account, Place, Table};

/// What is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Excess {
    AddressConnections,
    AddressConnects,
    AddressRequests,
    UserSockets,
    UserRequests,
}

impl Excess {
    const ALL: [Self; 5] = [
        Self::AddressConnections,
        Self::AddressConnects,
        Self::AddressRequests,
        Self::UserSockets,
        Self::UserRequests,
    ];

    /// The labels `by` and `what` of its metric.
    const fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::AddressConnections => ("address", "connections"),
            Self::AddressConnects => ("address", "connects"),
            Self::AddressRequests => ("address", "requests"),
            Self::UserSockets => ("user", "sockets"),
            Self::UserRequests => ("user", "requests"),
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::AddressConnections => "too many connections of your address",
            Self::AddressConnects => "your address connects too often",
            Self::AddressRequests => "too many requests of your address",
            Self::UserSockets => "too many WebSockets of yours",
            Self::UserRequests => "too many requests of yours",
        }
    }
}

/// Where a connection comes from, with the place it has among its address's.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    place: Option<Arc<Place>>,
}

/// What the messages of one WebSocket draw on, and the places it has.
#[derive(Debug, Default)]
pub(crate) struct Quota {
    /// Held, not read.
    _places: [Option<Place>; 2],
    draws_on: Option<(Arc<Account>, RateLimit, Excess)>,
}

/// See the module.
pub(crate) struct Edge {
    addresses: Table,
    users: Table,
    exempt: Vec<Network>,
    proxies: Vec<Network>,
    address_connections_max: usize,
    address_connects: RateLimit,
    address_requests: RateLimit,
    user_sockets_max: usize,
    user_requests: RateLimit,
    pub(crate) handshakes: Arc<Handshakes>,
    started: Instant,
    refused: [Counter; Excess::ALL.len()],
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edge").finish_non_exhaustive()
    }
}

fn networks(texts: &[String]) -> Vec<Network> {
    let networks = texts.iter().filter_map(|text| Network::parse(text));
    networks.collect()
}

/// One subscriber's address: the whole of an IPv4 one, the network part of an IPv6 one. The two never meet,
/// since an IPv4 one has nothing but zeros there.
fn key_of(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() >> 64 << 64,
    }
}

impl Edge {
    /// `seed` is a random number.
    pub(crate) fn new(settings: &GatewaySettings, seed: u64) -> Self {
        let edge = &settings.edge;
        Self {
            addresses: Table::new(seed),
            users: Table::new(seed),
            exempt: networks(&edge.exempt),
            proxies: networks(&settings.identity.trusted_proxies),
            address_connections_max: edge.address_connections_max,
            address_connects: RateLimit::per_s(edge.address_connects_per_s),
            address_requests: RateLimit::per_s(edge.address_requests_per_s),
            user_sockets_max: edge.user_sockets_max,
            user_requests: RateLimit::per_s(edge.user_requests_per_s),
            handshakes: Handshakes::new(edge.handshakes_max),
            started: Instant::now(),
            refused: Excess::ALL.map(|excess| {
                let (by, what) = excess.labels();
                metrics::counter!("gateway_limited_total", "by" => by, "what" => what)
            }),
        }
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn is_exempt(&self, address: IpAddr) -> bool {
        self.exempt.iter().any(|network| network.contains(address))
    }

    fn refuse(&self, excess: Excess, retry_after_ms: u64) -> Failure {
        if let Some(counter) = self.refused.get(excess as usize) {
            counter.increment(1);
        }
        Failure::new(ErrorCode::RateLimited, excess.text())
            .with(Detail::RetryAfter { retry_after_ms })
    }

    /// A place for one more connection of an address.
    fn place(&self, address: IpAddr) -> Result<Place, Failure> {
        let now_ns = self.now_ns();
        let account = self.addresses.account(key_of(address), now_ns);
        account
            .connects
            .take(self.address_connects, now_ns)
            .map_err(|wait_ms| self.refuse(Excess::AddressConnects, wait_ms))?;
        let place = account.open(self.address_connections_max);
        place.ok_or_else(|| self.refuse(Excess::AddressConnections, PLACE_RETRY_AFTER_MS))
    }

    /// Lets a connection in. Whoever comes through a trusted proxy is counted when a request says who it is.
    ///
    /// # Errors
    /// `rate_limited`, with a time to wait.
    pub(crate) fn connect(&self, address: IpAddr) -> Result<Peer, Failure> {
        let address = address.to_canonical();
        let is_proxy = self.proxies.iter().any(|proxy| proxy.contains(address));
        let place = if is_proxy || self.is_exempt(address) {
            None
        } else {
            Some(Arc::new(self.place(address)?))
        };
        Ok(Peer { address, place })
    }

    /// Lets an HTTP request of a client in.
    ///
    /// # Errors
    /// `rate_limited`, with a time to wait.
    pub(crate) fn request(&self, peer: &Peer, client: IpAddr) -> Result<(), Failure> {
        let now_ns = self.now_ns();
        let taken = match &peer.place {
            Some(place) => {
                let requests = &place.account().requests;
                requests.take(self.address_requests, now_ns)
            }
            // Nobody's word was asked for: an exempt client on its own connection.
            None if self.is_exempt(client) => return Ok(()),
            None => {
                let account = self.addresses.account(key_of(client), now_ns);
                account.requests.take(self.address_requests, now_ns)
            }
        };
        taken.map_err(|wait_ms| self.refuse(Excess::AddressRequests, wait_ms))
    }

    /// Lets an HTTP request of a user in.
    ///
    /// # Errors
    /// `rate_limited`, with a time to wait.
    pub(crate) fn user_request(&self, caller: &Caller) -> Result<(), Failure> {
        if self.is_exempt(caller.address) {
            return Ok(());
        }
        let now_ns = self.now_ns();
        let account = self.users.account(caller.user.0.as_u128(), now_ns);
        let taken = account.requests.take(self.user_requests, now_ns);
        taken.map_err(|wait_ms| self.refuse(Excess::UserRequests, wait_ms))
    }

    /// Lets a WebSocket in.
    ///
    /// # Errors
    /// `rate_limited`, with a time to wait.
    pub(crate) fn socket(&self, peer: &Peer, caller: &Caller) -> Result<Quota, Failure> {
        if peer.place.is_none() && self.is_exempt(caller.address) {
            return Ok(Quota::default());
        }
        let forwarded = match &peer.place {
            Some(_) => None,
            None => Some(self.place(caller.address)?),
        };
        if caller.is_guest {
            let place = forwarded.as_ref().or(peer.place.as_deref());
            let account = place.map(|place| Arc::clone(place.account()));
            let limit = self.address_requests;
            return Ok(Quota {
                draws_on: account.map(|account| (account, limit, Excess::AddressRequests)),
                _places: [forwarded, None],
            });
        }
        let account = self.users.account(caller.user.0.as_u128(), self.now_ns());
        let place = account
            .open(self.user_sockets_max)
            .ok_or_else(|| self.refuse(Excess::UserSockets, PLACE_RETRY_AFTER_MS))?;
        Ok(Quota {
            _places: [forwarded, Some(place)],
            draws_on: Some((account, self.user_requests, Excess::UserRequests)),
        })
    }

    /// Lets a message in.
    ///
    /// # Errors
    /// `rate_limited`, with a time to wait.
    pub(crate) fn message(&self, quota: &Quota) -> Result<(), Failure> {
        let Some((account, limit, excess)) = &quota.draws_on else {
            return Ok(());
        };
        let taken = account.requests.take(*limit, self.now_ns());
        taken.map_err(|wait_ms| self.refuse(*excess, wait_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(change: impl FnOnce(&mut GatewaySettings)) -> Edge {
        let mut settings = GatewaySettings::default();
        change(&mut settings);
        Edge::new(&settings, 7)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_order_of_the_counters_is_that_of_the_enum() {
        for (place, excess) in Excess::ALL.into_iter().enumerate() {
            assert_eq!(excess as usize, place);
        }
    }

    #[test]
    fn a_subscriber_is_one_address_or_one_network() {
        let key = |text: &str| key_of(address(text));
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_ne!(key("::2"), key("0.0.0.0"));
    }

    #[test]
    fn an_address_has_so_many_connections_and_this_machine_any() {
        let edge = edge(|settings| settings.edge.address_connections_max = 2);
        let peers: Vec<_> = std::iter::from_fn(|| edge.connect(address("192.0.2.1")).ok())
            .take(9)
            .collect();
        assert_eq!(peers.len(), 2);
        assert!(edge.connect(address("192.0.2.2")).is_ok(), "another");
        drop(peers);
        assert!(edge.connect(address("192.0.2.1")).is_ok(), "again");
        let local: Vec<_> = (0..9)
            .map(|_| edge.connect(address("127.0.0.1")).expect("exempt"))
            .collect();
        assert_eq!(local.len(), 9);
    }

    #[test]
    fn behind_a_proxy_each_client_has_its_own_rate() {
        let edge = edge(|settings| {
            settings.identity.trusted_proxies = vec!["10.0.0.1".to_owned()];
            settings.edge.address_requests_per_s = 1;
            settings.edge.address_connects_per_s = 1;
        });
        for _ in 0..99 {
            edge.connect(address("10.0.0.1")).expect("a proxy");
        }
        let proxy = edge.connect(address("10.0.0.1")).expect("a proxy");
        let passed = |client: &str| {
            let client = address(client);
            let all = std::iter::from_fn(|| edge.request(&proxy, client).ok());
            all.take(99).count()
        };
        for client in ["192.0.2.1", "192.0.2.2"] {
            let passed = passed(client);
            assert!((5..99).contains(&passed), "{passed} of {client}");
        }
    }
}
