//! Where a client is: the connection's address, or behind proxies that are trusted, what those say.
//!
//! Each proxy adds the address that it sees to the end of `X-Forwarded-For`. So the list is read from
//! its end, as long as the one who added an entry is trusted; the first that is not is the client. What
//! stands before it the client may have written itself.

use std::net::{IpAddr, Ipv4Addr};

use axum::http::HeaderMap;
use grid_config::Network;

const FORWARDED_FOR: &str = "x-forwarded-for";
/// Entries that are looked at; longer chains of proxies are nobody's.
const HOPS_MAX: usize = 16;

/// The other end of a connection, an extension of its requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerAddress(pub(crate) IpAddr);

/// See the module.
pub(super) fn client_address(
    peer: Option<PeerAddress>,
    headers: &HeaderMap,
    proxies: &[Network],
) -> IpAddr {
    let unknown = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let mut address = peer.map_or(unknown, |peer| peer.0.to_canonical());
    let is_trusted = |address: IpAddr| proxies.iter().any(|network| network.contains(address));
    let entries: Vec<&str> = headers
        .get_all(FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    for entry in entries.into_iter().rev().take(HOPS_MAX) {
        if !is_trusted(address) {
            break;
        }
        match entry.trim().parse::<IpAddr>() {
            Ok(before) => address = before.to_canonical(),
            // A trusted proxy does not write such a thing: what is known ends here.
            Err(_) => break,
        }
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed() {
        let proxies = [Network::parse("10.0.0.0/8").expect("a network")];
        let seen = |peer: &str, forwarded: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append(FORWARDED_FOR, value.parse().expect("a header"));
            }
            let peer = PeerAddress(peer.parse().expect("an address"));
            client_address(Some(peer), &headers, &proxies).to_string()
        };
        assert_eq!(seen("192.0.2.1", &[]), "192.0.2.1");
        // A stranger may write what it likes.
        assert_eq!(seen("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(seen("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        // What the client itself wrote before its proxy's entry does not count.
        assert_eq!(
            seen("10.0.0.1", &["127.0.0.1, 198.51.100.7"]),
            "198.51.100.7"
        );
        assert_eq!(
            seen("10.0.0.1", &["1.1.1.1", "198.51.100.7, 10.0.0.2"]),
            "198.51.100.7"
        );
        assert_eq!(seen("10.0.0.1", &["nonsense"]), "10.0.0.1");
        assert_eq!(seen("::ffff:10.0.0.1", &["2001:db8::1"]), "2001:db8::1");
    }
}
