//! Two and three nodes in one process, and raw sockets that misbehave.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes};
use grid_config::NodeSettings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::handshake::{
    Hello, PROTOCOL_VERSION, RefusalReason, hello_message, introduce, read_hello_and_welcome,
    read_refusal,
};
use super::outbound::{Patience, WriteEnd, write_frames};
use super::*;

mod connections;
mod gateways;
mod handshakes;
mod members;
mod requests;
mod streams;
mod tls;

const GRID: u128 = 0xfeed;
const ECHO: u8 = 0;
const PARK: u8 = 1;
const DROP: u8 = 2;
const PANIC: u8 = 3;
/// For guests.
const VISITED: u8 = 4;
/// More than any test parks.
const PARKED_MAX: usize = 4096;
/// Long enough never to be the reason of a failure that is not one.
const LONG: Duration = Duration::from_secs(60);

/// Echoes, parks, drops or panics, as the service's number says.
struct TestHandler {
    requests: mpsc::Sender<(Bytes, Replier)>,
    streams: mpsc::Sender<(Bytes, StreamSender, StreamReceiver)>,
}

impl Handler for TestHandler {
    fn on_request(&self, _from: u64, service: u8, payload: Bytes, reply: Replier) {
        match service {
            ECHO => reply.send(payload),
            PARK => drop(self.requests.try_send((payload, reply))),
            PANIC => panic!("a handler with a defect"),
            _ => drop(reply),
        }
    }

    fn may_gateway_ask(&self, service: u8) -> bool {
        service == ECHO
    }

    fn may_gateway_follow(&self, service: u8) -> bool {
        service == ECHO
    }

    fn on_visit(&self, from: u64, service: u8, payload: Bytes, reply: Replier) {
        if service == VISITED {
            let mut answer = from.to_string().into_bytes();
            answer.extend_from_slice(&payload);
            reply.send(answer.into());
        }
    }

    fn on_stream(
        &self,
        _from: u64,
        service: u8,
        header: Bytes,
        sender: StreamSender,
        mut receiver: StreamReceiver,
    ) {
        match service {
            ECHO => drop(tokio::spawn(async move {
                while let Some(Ok(message)) = receiver.recv().await {
                    if sender.send(message).await.is_err() {
                        return;
                    }
                }
            })),
            PARK => drop(self.streams.try_send((header, sender, receiver))),
            _ => {}
        }
    }
}

struct Node {
    transport: Transport,
    address: String,
    handler: Weak<TestHandler>,
    requests: mpsc::Receiver<(Bytes, Replier)>,
    streams: mpsc::Receiver<(Bytes, StreamSender, StreamReceiver)>,
}

fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    (listener, address)
}

fn table(members: &BTreeMap<u64, String>) -> PeerTable {
    let spec = |address: &String| PeerSpec {
        addresses: vec![address.clone()],
        incarnation: None,
    };
    PeerTable {
        peers: members
            .iter()
            .map(|(node, address)| (*node, spec(address)))
            .collect(),
        removed: BTreeMap::new(),
    }
}

fn start(
    node_id: u64,
    grid_id: u128,
    fingerprint: &str,
    listener: TcpListener,
    members: &BTreeMap<u64, String>,
) -> Node {
    start_with(node_id, grid_id, fingerprint, listener, members, plain())
}

fn plain() -> Security {
    Security::open(&NodeSettings::default()).expect("nothing to read")
}

fn start_with(
    node_id: u64,
    grid_id: u128,
    fingerprint: &str,
    listener: TcpListener,
    members: &BTreeMap<u64, String>,
    security: Security,
) -> Node {
    let (request_sink, requests) = mpsc::channel(PARKED_MAX);
    let (stream_sink, streams) = mpsc::channel(PARKED_MAX);
    let handler = Arc::new(TestHandler {
        requests: request_sink,
        streams: stream_sink,
    });
    let weak = Arc::downgrade(&handler);
    let address = members[&node_id].clone();
    let transport = Transport::start(TransportOptions {
        node_id,
        role: Role::Member,
        incarnation: node_id,
        grid_id,
        fingerprint: fingerprint.to_owned(),
        listener: Some(listener),
        peers: table(members),
        security,
        handler,
    })
    .expect("the listener is good");
    Node {
        transport,
        address,
        handler: weak,
        requests,
        streams,
    }
}

/// A readiness wait.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(LONG, wait).await.is_ok(), "{what}");
}

impl Node {
    fn lane(&self, peer: u64, lane: Lane) -> Option<Arc<Connection>> {
        self.transport.connection(peer, lane).ok()
    }

    async fn connected(&self, peer: u64) {
        until("the peer is connected", || {
            Lane::ALL
                .iter()
                .all(|lane| self.lane(peer, *lane).is_some())
        })
        .await;
    }

    async fn ask(&self, peer: u64, service: u8, payload: &Bytes) -> Result<Bytes, TransportError> {
        self.transport
            .request(peer, Lane::Control, service, payload.clone(), LONG)
            .await
    }
}

async fn pair() -> (Node, Node) {
    let (one, one_address) = listen();
    let (two, two_address) = listen();
    let members = BTreeMap::from([(1, one_address), (2, two_address)]);
    let one = start(1, GRID, "f", one, &members);
    let two = start(2, GRID, "f", two, &members);
    one.connected(2).await;
    two.connected(1).await;
    (one, two)
}

/// Node 1 with a peer 2 that the test plays itself.
fn alone() -> (Node, String, TcpListener) {
    let (one, one_address) = listen();
    let (two, two_address) = listen();
    let members = BTreeMap::from([(1, one_address.clone()), (2, two_address)]);
    (start(1, GRID, "f", one, &members), one_address, two)
}

fn hello() -> Hello {
    Hello {
        grid_id: GRID,
        from: 2,
        to: 1,
        incarnation: 2,
        role: Role::Member,
        lane: Lane::Control,
        fingerprint: "f".to_owned(),
    }
}

async fn dial(address: &str) -> TcpStream {
    TcpStream::connect(address).await.expect("it listens")
}

async fn introduced(address: &str) -> TcpStream {
    let mut socket = dial(address).await;
    introduce(&mut socket, &hello())
        .await
        .expect("a good hello");
    socket
}

/// Reads until the other side closes.
async fn closed_by_peer(mut socket: TcpStream) {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(LONG, socket.read_to_end(&mut rest)).await;
    // A reset is as closed as an end.
    assert!(read.is_ok(), "the peer closes the connection");
}
