//! Takes the connections that other nodes dial.
//!
//! Bounded by construction: at most [`HANDSHAKES_MAX`] strangers at a time, and of each member one
//! connection a lane, a newer one replacing the older, whose other end is then gone for sure. Guests,
//! at most [`GUESTS_MAX`], get one conversation of at most [`GUEST_TIME`]; gateways have at most
//! [`GATEWAY_CONNECTIONS_MAX`] in all, which are pinged, and ask only what the handler lets gateways ask.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{Connection, Replier};
use super::handshake::{HandshakeError, Hello, Role, receive};
use super::peers::Peers;
use super::refusals::RefusalLog;
use super::security::Security;
use super::stream::{StreamReceiver, StreamSender};
use super::{HANDSHAKE_TIMEOUT, Handler, Lane, spawn_tasks, wire};
use crate::platform::net::{TcpListener, TcpStream};

/// Most connections whose handshake is under way. When full, a new one is dropped at once.
const HANDSHAKES_MAX: usize = 64;
/// Most guests at a time. When full, a new one is dropped at once.
const GUESTS_MAX: usize = 16;
/// Most connections of gateways, of which each has one a lane. When full, a new one is dropped at once.
const GATEWAY_CONNECTIONS_MAX: usize = 256;
/// How long a guest may stay.
const GUEST_TIME: Duration = Duration::from_secs(30);
/// The pause after the system could not accept, for want of descriptors, say.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What an acceptor needs.
pub(super) struct Acceptor {
    /// What this node says of itself.
    pub(super) own: Hello,
    pub(super) peers: Arc<Peers>,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) security: Arc<Security>,
    pub(super) refusals: Arc<RefusalLog>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    pub(super) accepted: Mutex<BTreeMap<(u64, Lane), Accepted>>,
    pub(super) guests: Arc<Semaphore>,
    pub(super) gateways: Arc<Semaphore>,
}

/// A member's connection, with the disk it came with.
pub(super) struct Accepted {
    incarnation: u64,
    connection: Arc<Connection>,
}

/// The places for guests.
pub(super) fn guest_places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(GUESTS_MAX))
}

/// The places for gateways' connections.
pub(super) fn gateway_places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(GATEWAY_CONNECTIONS_MAX))
}

impl Acceptor {
    /// Runs until the transport stops.
    pub(super) async fn run(self: Arc<Self>, listener: TcpListener) {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        let stop = self.stop.clone();
        let accept = async {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let Ok(permit) = Arc::clone(&handshakes).try_acquire_owned() else {
                            self.refusals.dropped("too_many");
                            continue;
                        };
                        let acceptor = Arc::clone(&self);
                        self.tasks.spawn(async move {
                            let stop = acceptor.stop.clone();
                            let _ = stop.run_until_cancelled(acceptor.greet(stream)).await;
                            drop(permit);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "could not accept a connection");
                        tokio::time::sleep(ACCEPT_RETRY).await;
                    }
                }
            }
        };
        let _: Option<()> = stop.run_until_cancelled(accept).await;
    }

    async fn greet(&self, stream: TcpStream) {
        let handshake = async {
            let mut wire = wire::accepted(stream, &self.security).await?;
            let identity = wire.identity();
            let judge = |hello: &Hello| {
                identity.check_dialler(hello)?;
                self.peers.judge(self.own.from, hello)
            };
            let hello = receive(&mut wire, &self.own, judge).await?;
            Ok((hello, wire))
        };
        match timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok((hello, wire))) if hello.role == Role::Guest => self.entertain(&hello, wire),
            Ok(Ok((hello, wire))) if hello.role == Role::Gateway => self.let_in(&hello, wire),
            Ok(Ok((hello, wire))) => {
                let connection = Connection::new(hello.from, hello.lane, self.stop.child_token());
                let older = self.accepted.lock().insert(
                    (hello.from, hello.lane),
                    Accepted {
                        incarnation: hello.incarnation,
                        connection: Arc::clone(&connection),
                    },
                );
                if let Some(older) = older {
                    older.connection.close();
                }
                spawn_tasks(
                    &connection,
                    wire,
                    Some(Arc::clone(&self.handler)),
                    &self.tasks,
                );
            }
            Ok(Err(HandshakeError::RefusedHere { refusal, peer })) => {
                self.refusals.refused_here(peer, &refusal);
            }
            Ok(Err(HandshakeError::Garbage)) => self.refusals.dropped("garbage"),
            Ok(Err(HandshakeError::RefusedThere(refusal))) => {
                self.refusals.refused_there(None, &refusal);
            }
            Ok(Err(HandshakeError::Io(_))) => self.refusals.dropped("incomplete"),
            Err(_) => self.refusals.dropped("timeout"),
        }
    }

    /// Lets a guest ask what guests may ask.
    fn entertain(&self, hello: &Hello, wire: wire::Wire) {
        let Ok(place) = Arc::clone(&self.guests).try_acquire_owned() else {
            self.refusals.dropped("too_many");
            return;
        };
        let connection = Connection::new(hello.from, hello.lane, self.stop.child_token());
        connection.note_guest();
        let handler = Arc::new(GuestHandler(Arc::clone(&self.handler)));
        spawn_tasks(&connection, wire, Some(handler), &self.tasks);
        self.tasks.spawn(async move {
            // Either way the visit is over.
            let _ = timeout(GUEST_TIME, connection.closed()).await;
            connection.close();
            drop(place);
        });
    }

    /// Serves a gateway for as long as it stays.
    fn let_in(&self, hello: &Hello, wire: wire::Wire) {
        let Ok(place) = Arc::clone(&self.gateways).try_acquire_owned() else {
            self.refusals.dropped("too_many");
            return;
        };
        let connection = Connection::new(hello.from, hello.lane, self.stop.child_token());
        connection.note_guest();
        connection.note_gateway();
        let handler = Arc::new(GatewayHandler {
            handler: Arc::clone(&self.handler),
            refusals: Arc::clone(&self.refusals),
        });
        spawn_tasks(&connection, wire, Some(handler), &self.tasks);
        self.tasks.spawn(async move {
            connection.closed().await;
            drop(place);
        });
    }

    /// Closes the connections of those who are members no more.
    pub(super) fn dismiss(&self) {
        self.accepted.lock().retain(|(node, _), accepted| {
            let judged = self
                .peers
                .judge_member(self.own.from, *node, accepted.incarnation);
            if judged.is_err() {
                accepted.connection.close();
            }
            judged.is_ok() && !accepted.connection.is_closed()
        });
    }
}

/// What a guest sees of the handler.
struct GuestHandler(Arc<dyn Handler>);

impl Handler for GuestHandler {
    fn on_request(&self, from: u64, service: u8, payload: Bytes, reply: Replier) {
        self.0.on_visit(from, service, payload, reply);
    }

    fn on_stream(&self, _: u64, _: u8, _: Bytes, _: StreamSender, _: StreamReceiver) {}
}

/// What a gateway sees of the handler. Whatever it may not have gets no answer, and is counted.
struct GatewayHandler {
    handler: Arc<dyn Handler>,
    refusals: Arc<RefusalLog>,
}

impl Handler for GatewayHandler {
    fn on_request(&self, from: u64, service: u8, payload: Bytes, reply: Replier) {
        if self.handler.may_gateway_ask(service) {
            self.handler.on_request(from, service, payload, reply);
        } else {
            self.refusals.forbidden(from, service);
        }
    }

    fn on_stream(
        &self,
        from: u64,
        service: u8,
        header: Bytes,
        sender: StreamSender,
        receiver: StreamReceiver,
    ) {
        if self.handler.may_gateway_follow(service) {
            self.handler
                .on_stream(from, service, header, sender, receiver);
        } else {
            self.refusals.forbidden(from, service);
        }
    }
}
