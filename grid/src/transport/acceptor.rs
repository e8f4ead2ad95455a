//! Takes the connections that other nodes dial.
//!
//! Bounded by construction: at most [`HANDSHAKES_MAX`] strangers at a time, and of each member one
//! connection a lane, a newer one replacing the older, whose other end is then gone for sure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::Connection;
use super::handshake::{HandshakeError, receive};
use super::refusals::RefusalLog;
use super::{HANDSHAKE_TIMEOUT, Handler, Lane, spawn_tasks, wire};
use crate::platform::net::{TcpListener, TcpStream};

/// Most connections whose handshake is under way. When full, a new one is dropped at once.
const HANDSHAKES_MAX: usize = 64;
/// The pause after the system could not accept, for want of descriptors, say.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What an acceptor needs.
pub(super) struct Acceptor {
    pub(super) grid_id: u128,
    pub(super) node_id: u64,
    pub(super) fingerprint: String,
    pub(super) peers: BTreeSet<u64>,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) refusals: Arc<RefusalLog>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    pub(super) accepted: Mutex<BTreeMap<(u64, Lane), Arc<Connection>>>,
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
        let Ok(mut wire) = wire::accepted(stream) else {
            return;
        };
        let handshake = receive(
            &mut wire,
            self.grid_id,
            self.node_id,
            &self.fingerprint,
            |node| self.peers.contains(&node),
        );
        match timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(hello)) => {
                let connection = Connection::new(hello.from, hello.lane, self.stop.child_token());
                let older = self
                    .accepted
                    .lock()
                    .insert((hello.from, hello.lane), Arc::clone(&connection));
                if let Some(older) = older {
                    older.close();
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
            Ok(Err(HandshakeError::Io(_) | HandshakeError::RefusedThere(_))) => {
                self.refusals.dropped("incomplete");
            }
            Err(_) => self.refusals.dropped("timeout"),
        }
    }
}
