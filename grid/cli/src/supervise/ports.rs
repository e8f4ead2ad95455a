//! Ports that nobody uses.

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::Context;

/// How long the nodes of a killed `grid up` may take to let go of their ports.
const PREDECESSOR_WAIT: Duration = Duration::from_secs(10);
const LOOK_PAUSE: Duration = Duration::from_millis(50);

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

/// Whether nobody listens there, after giving a predecessor that is still stopping its time.
pub(crate) async fn becomes_free(port: u16) -> bool {
    let deadline = Instant::now() + PREDECESSOR_WAIT;
    loop {
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
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
