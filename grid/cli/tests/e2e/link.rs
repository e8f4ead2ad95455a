//! The ways between nodes: one proxy for each node that dials another, which can keep bytes back, delay
//! them, or end connections, in either direction.
//!
//! A way that is silent keeps what is sent on it, as TCP does with packets that are dropped and sent
//! again: nothing of a connection is ever missing in the middle. It works on every machine; where the
//! kernel allows it, [`crate::namespaces`] drops real packets instead.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// The most that is read at once.
const PIECE_BYTES: usize = 16 << 10;
/// Pieces under way in one direction of a connection; a proxy that has more stops reading.
const PIECES_MAX: usize = 256;
/// How long TCP waits before it sends a lost packet again, at least.
const SENT_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// What becomes of bytes in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Open,
    /// Nothing arrives.
    Silent,
    /// Everything takes this long, and one piece in so many is lost at first.
    Bad {
        delay: Duration,
        lost_one_in: u64,
    },
    /// Connections end, new ones as well.
    Refused,
}

/// There and back, seen from the node that dials.
type Ways = [Way; 2];

/// One node's way to dial another.
struct Link {
    address: SocketAddr,
    ways: watch::Sender<Ways>,
}

impl Link {
    async fn new(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (ways, seen) = watch::channel([Way::Open; 2]);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut ways = seen.clone();
                if is_refused(&ways.borrow()) {
                    continue;
                }
                tokio::spawn(async move {
                    tokio::select! {
                        () = pass_on(client, target, ways.clone()) => {}
                        _ = ways.wait_for(is_refused) => {}
                    }
                });
            }
        });
        Self { address, ways }
    }
}

fn is_refused(ways: &Ways) -> bool {
    ways.contains(&Way::Refused)
}

async fn pass_on(client: TcpStream, target: SocketAddr, ways: watch::Receiver<Ways>) {
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    for socket in [&client, &server] {
        // Without it there would be delays that nobody asked for.
        let _ = socket.set_nodelay(true);
    }
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    tokio::join!(
        carry(client_read, server_write, ways.clone(), 0),
        carry(server_read, client_write, ways, 1),
    );
}

/// Carries bytes until one end is gone.
async fn carry(
    mut read: OwnedReadHalf,
    mut write: OwnedWriteHalf,
    ways: watch::Receiver<Ways>,
    side: usize,
) {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES_MAX);
    let mut reading_ways = ways.clone();
    let reading = async move {
        let mut random = u64::from(read.peer_addr().map_or(1, |peer| peer.port()));
        while speaks(&mut reading_ways, side).await {
            let mut piece = vec![0; PIECE_BYTES];
            let Ok(length @ 1..) = read.read(&mut piece).await else {
                return;
            };
            piece.truncate(length);
            let way = reading_ways.borrow()[side];
            let due = Instant::now() + delay(way, &mut random);
            if sender.send((due, piece)).await.is_err() {
                return;
            }
        }
    };
    let mut writing_ways = ways;
    let writing = async move {
        while let Some((due, piece)) = pieces.recv().await {
            tokio::time::sleep_until(due).await;
            if !speaks(&mut writing_ways, side).await || write.write_all(&piece).await.is_err() {
                return;
            }
        }
        // The other end may be gone already.
        let _ = write.shutdown().await;
    };
    tokio::join!(reading, writing);
}

/// Waits while the way is silent. `false` when the test has ended.
async fn speaks(ways: &mut watch::Receiver<Ways>, side: usize) -> bool {
    ways.wait_for(|ways| ways[side] != Way::Silent)
        .await
        .is_ok()
}

fn delay(way: Way, random: &mut u64) -> Duration {
    let Way::Bad { delay, lost_one_in } = way else {
        return Duration::ZERO;
    };
    *random = random
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    let is_lost = (*random >> 33).is_multiple_of(lost_one_in);
    delay
        + if is_lost {
            SENT_AGAIN_AFTER
        } else {
            Duration::ZERO
        }
}

/// The proxies between some nodes.
pub(crate) struct Links(BTreeMap<(u64, u64), Link>);

impl Links {
    /// One for each ordered pair of nodes, all open.
    pub(crate) async fn between(peers: &BTreeMap<u64, SocketAddr>) -> Self {
        let mut links = BTreeMap::new();
        for from in peers.keys() {
            for (to, target) in peers.iter().filter(|(to, _)| *to != from) {
                links.insert((*from, *to), Link::new(*target).await);
            }
        }
        Self(links)
    }

    /// Where `from` dials `to`.
    pub(crate) fn address(&self, from: u64, to: u64) -> SocketAddr {
        self.0[&(from, to)].address
    }

    /// Changes what becomes of what `from` sends to `to`, on whichever connection.
    pub(crate) fn set(&self, from: u64, to: u64, way: Way) {
        self.0[&(from, to)].ways.send_modify(|ways| ways[0] = way);
        self.0[&(to, from)].ways.send_modify(|ways| ways[1] = way);
    }
}
