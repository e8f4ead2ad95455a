//! Moves bytes between the nodes of a grid: requests with replies, and streams.
//!
//! ```text
//!   request / open_stream ─► outbound queue ─► writer ══ TCP ══► reader ─► Handler
//!                 reply   ◄─ reader ◄══════════════════ writer ◄─ outbound queue ◄─ Replier
//! ```
//!
//! Every node dials every other node once a [`Lane`] and begins requests and streams only on the
//! connections it dialled, so there is no tie to break and no connection to share. A lost
//! connection is dialled again, at once and then with growing pauses; meanwhile requests to that
//! peer fail at once.
//!
//! Invariants:
//! * no caller waits for a slow peer unless it asks to: a full queue is an error;
//! * the frames of one stream arrive in order; requests are not ordered among each other;
//! * a request is carried out at most once by the transport: it is never sent again by itself;
//! * nodes of another grid, of other cluster settings or of another version, and nodes that are not
//!   (or no longer) members, are refused before the first frame; a node that wants to become one may
//!   *visit* (see [`Transport::visit`]);
//! * a gateway is served what the [`Handler`] lets gateways ask, and nothing else.
//!
//! With certificates all of it is under mutual TLS, see [`security`].
//!
//! What it deliberately does not do: know what the bytes mean, retry, choose a peer, or remember
//! anything across connections.

mod acceptor;
mod connection;
mod dialler;
mod error;
mod frame;
mod handshake;
mod outbound;
mod peers;
mod reader;
mod refusals;
mod security;
mod stream;
mod tls_error;
mod visit;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub(crate) use connection::Replier;
pub(crate) use error::TransportError;
pub(crate) use handshake::{FINGERPRINT_BYTES_MAX, Refusal, RefusalReason, Role, WHICHEVER_GRID};
pub(crate) use peers::{PeerSpec, PeerTable};
pub(crate) use security::{Security, SecurityError};
pub use security::{certificate_names, gateway_certificate_name};
pub(crate) use stream::{StreamReceiver, StreamSender};
pub(crate) use visit::VisitError;

use acceptor::{Acceptor, gateway_places, guest_places};
use connection::{CloseOnDrop, Connection};
use dialler::{Dialler, LaneSlot};
use handshake::{Hello, WHOEVER};
use outbound::{Patience, WriteEnd, write_frames};
use peers::Peers;
use reader::{ReadEnd, read_frames};
use refusals::RefusalLog;
use wire::Wire;

use crate::platform::net;

/// How long a handshake may take, either side.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_millis(3_000);
/// A peer that takes no byte for this long is disconnected.
const WRITE_STALL_MS: u64 = 10_000;
/// A peer that is silent for this long after something was sent to it is pinged.
const PING_AFTER_MS: u64 = 1_000;
/// A peer with which a stream is open is pinged this often, though nothing is sent to it.
const PROBE_STREAMS_MS: u64 = 5_000;
/// A peer that is silent for this long in spite of pings is disconnected.
const SILENCE_MAX_MS: u64 = 5_000;

/// Which of the two connections to a peer. What is urgent never waits behind what is large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// Consensus and forwarded requests.
    Control,
    /// Snapshots and replays.
    Bulk,
}

impl Lane {
    const ALL: [Self; 2] = [Self::Control, Self::Bulk];

    /// A short stable name, for logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Bulk => "bulk",
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Control => 0,
            Self::Bulk => 1,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.code() == code)
    }
}

/// What a node does for its peers. Both functions are called on the task that reads the
/// connection: they must return at once and leave the work to someone else.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Node `from` asks something of `service`; the answer goes to `reply`, from wherever and
    /// whenever. A small payload is a copy, a large one shares the connection's read buffer: copy
    /// what is kept for long.
    fn on_request(&self, from: u64, service: u8, payload: Bytes, reply: Replier);

    /// Node `from` opened a stream to `service`. Dropping either handle ends it.
    fn on_stream(
        &self,
        from: u64,
        service: u8,
        header: Bytes,
        sender: StreamSender,
        receiver: StreamReceiver,
    );

    /// Whether gateways may ask this of a node. Whatever is not named here they may not.
    fn may_gateway_ask(&self, _service: u8) -> bool {
        false
    }

    /// The same for streams.
    fn may_gateway_follow(&self, _service: u8) -> bool {
        false
    }

    /// As [`Self::on_request`], from someone who is no member: `from` is what it calls itself.
    fn on_visit(&self, from: u64, service: u8, payload: Bytes, reply: Replier) {
        // Whoever has nothing for guests lets them go without an answer.
        let _ = (from, service, payload, reply);
    }
}

/// What [`Transport::start`] needs.
pub(crate) struct TransportOptions {
    /// This node; a gateway's own number, which no node has.
    pub(crate) node_id: u64,
    /// As what it dials others.
    pub(crate) role: Role,
    /// Stands for its disk.
    pub(crate) incarnation: u64,
    /// Its grid.
    pub(crate) grid_id: u128,
    /// Stands for all settings that must agree; at most [`FINGERPRINT_BYTES_MAX`] bytes.
    pub(crate) fingerprint: String,
    /// The bound socket for other nodes; none for who is not dialled.
    pub(crate) listener: Option<net::Listener>,
    /// Whom to dial and let in at first; see [`Transport::set_peers`].
    pub(crate) peers: PeerTable,
    /// What secures the connections.
    pub(crate) security: Security,
    /// Serves the peers' requests and streams. Let go of when the transport has shut down.
    pub(crate) handler: Arc<dyn Handler>,
}

#[derive(Debug)]
struct Inner {
    own: Hello,
    table: Arc<Peers>,
    peers: RwLock<BTreeMap<u64, Peer>>,
    acceptor: Weak<Acceptor>,
    security: Arc<Security>,
    refusals: Arc<RefusalLog>,
    losses: Arc<watch::Sender<u64>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    // The last handle to go stops the tasks, none of which holds `Inner`.
    _stop_on_drop: DropGuard,
}

/// One peer that is dialled.
#[derive(Debug)]
struct Peer {
    spec: PeerSpec,
    slots: [Arc<LaneSlot>; 2],
    // Ends its diallers and connections.
    stop: CancellationToken,
}

/// A handle to a node's connections; clones are cheap and alike.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    inner: Arc<Inner>,
}

impl Transport {
    /// Starts to listen and to dial; returns before any peer is connected. Must be called within
    /// a tokio runtime.
    ///
    /// # Errors
    /// The listener cannot be used, or the fingerprint is too long.
    pub(crate) fn start(options: TransportOptions) -> Result<Self, io::Error> {
        let TransportOptions {
            node_id,
            role,
            incarnation,
            grid_id,
            fingerprint,
            listener,
            peers: table,
            security,
            handler,
        } = options;
        if fingerprint.len() > FINGERPRINT_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the settings' fingerprint is too long",
            ));
        }
        let listener = listener.map(net::listen).transpose()?;
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let refusals = Arc::new(RefusalLog::default());
        let security = Arc::new(security);
        let own = Hello {
            grid_id,
            from: node_id,
            to: WHOEVER,
            incarnation,
            role,
            lane: Lane::Control,
            fingerprint,
        };
        let peers = Arc::new(Peers::new(table.clone()));
        let acceptor = Arc::new(Acceptor {
            own: own.clone(),
            peers: Arc::clone(&peers),
            handler,
            security: Arc::clone(&security),
            refusals: Arc::clone(&refusals),
            tasks: tasks.clone(),
            stop: stop.clone(),
            accepted: parking_lot::Mutex::default(),
            guests: guest_places(),
            gateways: gateway_places(),
        });
        let weak = Arc::downgrade(&acceptor);
        if let Some(listener) = listener {
            tasks.spawn(acceptor.run(listener));
        }
        let stop_on_drop = stop.clone().drop_guard();
        let transport = Self {
            inner: Arc::new(Inner {
                own,
                table: peers,
                peers: RwLock::default(),
                acceptor: weak,
                security,
                refusals,
                losses: Arc::new(watch::Sender::new(0)),
                tasks,
                stop,
                _stop_on_drop: stop_on_drop,
            }),
        };
        transport.set_peers(table);
        Ok(transport)
    }

    /// Changes whom this node dials and lets in. Connections to those who are peers as before go on;
    /// all others, in both directions, are closed.
    pub(crate) fn set_peers(&self, mut table: PeerTable) {
        let inner = &self.inner;
        table.peers.remove(&inner.own.from);
        inner.table.set(table.clone());
        let mut peers = inner.peers.write();
        peers.retain(|node, peer| {
            let stays = table
                .peers
                .get(node)
                .is_some_and(|spec| spec.addresses == peer.spec.addresses);
            if !stays {
                peer.stop.cancel();
            }
            for slot in &peer.slots {
                slot.dismiss(|incarnation| {
                    let judged = inner.table.judge_member(inner.own.from, *node, incarnation);
                    stays && judged.is_ok()
                });
            }
            stays
        });
        for (node, spec) in table.peers {
            peers
                .entry(node)
                .or_insert_with(|| self.dial_for_ever(node, spec));
        }
        drop(peers);
        if let Some(acceptor) = inner.acceptor.upgrade() {
            acceptor.dismiss();
        }
    }

    fn dial_for_ever(&self, node: u64, spec: PeerSpec) -> Peer {
        let inner = &self.inner;
        let stop = inner.stop.child_token();
        let slots = Lane::ALL.map(|lane| {
            let slot = Arc::new(LaneSlot::default());
            let dialler = Dialler {
                addresses: spec.addresses.clone(),
                hello: Hello {
                    to: node,
                    lane,
                    ..inner.own.clone()
                },
                peers: Arc::clone(&inner.table),
                security: Arc::clone(&inner.security),
                slot: Arc::clone(&slot),
                losses: Arc::clone(&inner.losses),
                refusals: Arc::clone(&inner.refusals),
                tasks: inner.tasks.clone(),
                stop: stop.clone(),
            };
            inner.tasks.spawn(dialler.run());
            slot
        });
        Peer { spec, slots, stop }
    }

    /// Asks `service` of a peer and waits for the reply, at most `timeout`. Dropping the future
    /// forgets the request here; the peer may still carry it out.
    ///
    /// # Errors
    /// See [`TransportError`]; [`TransportError::may_have_been_sent`] tells what is known.
    pub(crate) async fn request(
        &self,
        peer: u64,
        lane: Lane,
        service: u8,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, TransportError> {
        self.connection(peer, lane)?
            .request(service, payload, timeout)
            .await
    }

    /// Opens a stream to `service` of a peer; `header` is its first words. Returns before the peer
    /// knows of it: should the peer refuse, the receiver says so. The sender keeps its own window,
    /// well below [`stream::STREAM_QUEUE_MAX`] messages.
    ///
    /// # Errors
    /// See [`TransportError`]; nothing was sent.
    pub(crate) fn open_stream(
        &self,
        peer: u64,
        lane: Lane,
        service: u8,
        header: Bytes,
    ) -> Result<(StreamSender, StreamReceiver), TransportError> {
        self.connection(peer, lane)?.open_stream(service, header)
    }

    /// Whether requests to the peer have a connection to go by just now.
    pub(crate) fn is_reachable(&self, peer: u64) -> bool {
        self.connection(peer, Lane::Control).is_ok()
    }

    /// Changes whenever a connection that this node dialled was lost, to whichever peer.
    pub(crate) fn losses(&self) -> watch::Receiver<u64> {
        self.inner.losses.subscribe()
    }

    /// The peers without such a connection.
    pub(crate) fn unreachable(&self) -> Vec<u64> {
        let peers: Vec<u64> = self.inner.peers.read().keys().copied().collect();
        peers
            .into_iter()
            .filter(|peer| !self.is_reachable(*peer))
            .collect()
    }

    /// Why the last attempt to connect to the peer ended in a refusal, by either side; `None` when
    /// connected, or simply not reached so far.
    pub(crate) fn refusal(&self, peer: u64) -> Option<Refusal> {
        self.inner
            .peers
            .read()
            .get(&peer)?
            .slots
            .iter()
            .find_map(|slot| slot.refusal())
    }

    /// Whether the connections are encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.inner.security.is_encrypted()
    }

    /// How many connections were refused, by either side, or dropped as no node's, by reason.
    pub(crate) fn refused_counts(&self) -> BTreeMap<String, u64> {
        self.inner.refusals.counts()
    }

    /// Closes every connection and waits until no task is left. What is queued is dropped; open
    /// requests and streams end with an error. May be called on any handle, again too.
    pub(crate) async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    fn connection(&self, peer: u64, lane: Lane) -> Result<Arc<Connection>, TransportError> {
        if self.inner.stop.is_cancelled() {
            return Err(TransportError::ShutDown);
        }
        let peers = self.inner.peers.read();
        let known = peers
            .get(&peer)
            .ok_or(TransportError::UnknownPeer { peer })?;
        known.slots[usize::from(lane.code())]
            .connection()
            .ok_or(TransportError::Unreachable { peer })
    }
}

/// Starts the two tasks of a connection. When one ends the other does too.
fn spawn_tasks(
    connection: &Arc<Connection>,
    wire: Wire,
    handler: Option<Arc<dyn Handler>>,
    tasks: &TaskTracker,
) {
    let (read, write) = wire::split(wire);
    let reading = CloseOnDrop(Arc::clone(connection));
    tasks.spawn(async move {
        let end = read_frames(&reading.0, read, handler.as_deref()).await;
        log_end(&reading.0, &end, matches!(end, ReadEnd::Closed));
    });
    let writing = CloseOnDrop(Arc::clone(connection));
    tasks.spawn(async move {
        let patience = Patience {
            write_stall: Duration::from_millis(WRITE_STALL_MS),
            ping_after: Duration::from_millis(PING_AFTER_MS),
            silence: Duration::from_millis(SILENCE_MAX_MS),
            probe_streams: Duration::from_millis(PROBE_STREAMS_MS),
        };
        let end = write_frames(&writing.0, write, patience).await;
        log_end(&writing.0, &end, matches!(end, WriteEnd::Closed));
    });
}

fn log_end(connection: &Connection, end: &dyn std::fmt::Display, expected: bool) {
    if expected || connection.is_closed() || connection.is_of_guest() {
        return;
    }
    metrics::counter!("grid_transport_disconnects_total").increment(1);
    tracing::warn!(
        peer = connection.peer(),
        lane = connection.lane().name(),
        %end,
        "a connection to another node ended"
    );
}
