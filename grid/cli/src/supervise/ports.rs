//! Ports that nobody uses.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::Context;

/// Finds `count` different free ports. They are free only as long as nobody else takes them; once in
/// `grid.json` they are the grid's.
pub(crate) fn reserve_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let bound: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<_, _>>()
        .context("there is no free port")?;
    bound
        .iter()
        .map(|listener| Ok(listener.local_addr()?.port()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ() {
        let mut ports = reserve_ports(16).expect("free ports");
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 16);
    }
}
