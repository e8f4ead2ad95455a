//! Keeps one connection to one peer on one lane: dials, introduces this node, waits for the end,
//! dials again.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::Connection;
use super::handshake::{HandshakeError, Hello, Refusal, introduce};
use super::peers::Peers;
use super::refusals::RefusalLog;
use super::security::Security;
use super::tls_error::explain;
use super::{HANDSHAKE_TIMEOUT, Lane, spawn_tasks, wire};
use crate::platform::random;

/// How long a dial may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(2_000);
/// The first pause between dials; the very first dial after a loss does not pause.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
/// The longest pause between dials.
const BACKOFF_MAX: Duration = Duration::from_millis(1_000);
/// A connection that lasted this long was a good one: its loss starts the pauses anew.
const GOOD_AFTER: Duration = Duration::from_millis(1_000);

/// A connection and the disk at its other end.
#[derive(Clone, Debug)]
struct Connected {
    connection: Arc<Connection>,
    incarnation: u64,
}

/// Where the present connection of a lane is found.
#[derive(Debug, Default)]
pub(super) struct LaneSlot {
    current: RwLock<Option<Connected>>,
    refusal: RwLock<Option<Refusal>>,
}

impl LaneSlot {
    /// The connection, if there is one that works as far as this side knows.
    pub(super) fn connection(&self) -> Option<Arc<Connection>> {
        self.current
            .read()
            .as_ref()
            .map(|connected| &connected.connection)
            .filter(|connection| !connection.is_closed())
            .cloned()
    }

    /// Closes the connection if `judge` does not accept the disk at its other end.
    pub(super) fn dismiss(&self, judge: impl Fn(u64) -> bool) {
        if let Some(connected) = &*self.current.read()
            && !judge(connected.incarnation)
        {
            connected.connection.close();
        }
    }

    /// Why the last handshake was refused, if it was.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.refusal.read().clone()
    }
}

/// What a dialler needs.
#[derive(Debug)]
pub(super) struct Dialler {
    pub(super) addresses: Vec<String>,
    pub(super) hello: Hello,
    pub(super) peers: Arc<Peers>,
    pub(super) security: Arc<Security>,
    pub(super) slot: Arc<LaneSlot>,
    /// Counts the connections that were lost.
    pub(super) losses: Arc<watch::Sender<u64>>,
    pub(super) refusals: Arc<RefusalLog>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

/// Pauses between dials: none, then doubling from [`BACKOFF_MIN`] to [`BACKOFF_MAX`], each shortened
/// at random by up to a half so that nodes that lost each other at once do not dial at once.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    fn succeeded(&mut self) {
        self.failures = 0;
    }

    fn next(&mut self, random: u64) -> Duration {
        let failures = self.failures;
        self.failures = failures.saturating_add(1);
        if failures == 0 {
            return Duration::ZERO;
        }
        let longest = BACKOFF_MIN
            .saturating_mul(1 << (failures - 1).min(16))
            .min(BACKOFF_MAX);
        let longest_ns = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(longest_ns - random % (longest_ns / 2))
    }
}

impl Dialler {
    fn peer(&self) -> u64 {
        self.hello.to
    }

    fn lane(&self) -> Lane {
        self.hello.lane
    }

    /// Runs until the transport stops or the peer is no longer one.
    pub(super) async fn run(self) {
        let _ = self.stop.run_until_cancelled(self.keep_connected()).await;
        *self.slot.current.write() = None;
    }

    async fn keep_connected(&self) {
        let mut backoff = Backoff::default();
        for address in self.addresses.iter().cycle() {
            match timeout(CONNECT_TIMEOUT + HANDSHAKE_TIMEOUT, self.connect(address)).await {
                Ok(Ok(connected)) => {
                    let connection = Arc::clone(&connected.connection);
                    let since = Instant::now();
                    tracing::info!(
                        peer = self.peer(),
                        lane = self.lane().name(),
                        "connected to a node"
                    );
                    *self.slot.refusal.write() = None;
                    *self.slot.current.write() = Some(connected);
                    connection.closed().await;
                    *self.slot.current.write() = None;
                    self.losses
                        .send_modify(|losses| *losses = losses.wrapping_add(1));
                    if since.elapsed() >= GOOD_AFTER {
                        backoff.succeeded();
                    }
                }
                Ok(Err(error)) => self.failed(error),
                Err(_) => tracing::debug!(peer = self.peer(), "dialling took too long"),
            }
            // A clock's worth of spread is enough where the system has no random bytes to give.
            let random = random::u64().unwrap_or(self.hello.from);
            tokio::time::sleep(backoff.next(random)).await;
        }
    }

    async fn connect(&self, address: &str) -> Result<Connected, HandshakeError> {
        let mut wire = timeout(CONNECT_TIMEOUT, wire::dial(address, &self.security))
            .await
            .map_err(|_elapsed| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
        let peer = self.peer();
        // The acceptor judges this node's certificate after TLS is done on this side: its refusal
        // arrives in place of the answer.
        let introduced = introduce(&mut wire, &self.hello).await;
        let answer = introduced.map_err(|error| match error {
            HandshakeError::Io(error) => explain(error, &format!("node {peer}")),
            other => other,
        })?;
        wire.identity()
            .check(peer)
            .and_then(|()| {
                self.peers
                    .judge_member(self.hello.from, peer, answer.incarnation)
            })
            .map_err(|refusal| HandshakeError::RefusedHere {
                refusal,
                peer: Some(peer),
            })?;
        let connection = Connection::new(self.peer(), self.lane(), self.stop.child_token());
        spawn_tasks(&connection, wire, None, &self.tasks);
        Ok(Connected {
            connection,
            incarnation: answer.incarnation,
        })
    }

    fn failed(&self, error: HandshakeError) {
        let peer = self.peer();
        match error {
            HandshakeError::RefusedHere { refusal, .. } => {
                self.refusals.refused_here(Some(peer), &refusal);
                *self.slot.refusal.write() = Some(refusal);
            }
            HandshakeError::RefusedThere(refusal) => {
                self.refusals.refused_there(Some(peer), &refusal);
                *self.slot.refusal.write() = Some(refusal);
            }
            HandshakeError::Garbage => self.refusals.dropped("garbage"),
            HandshakeError::Io(error) => {
                tracing::debug!(peer, lane = self.lane().name(), %error, "a node cannot be reached");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_from_none_to_the_longest_and_start_anew() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(u64::MAX), Duration::ZERO);
        assert_eq!(backoff.next(0), BACKOFF_MIN);
        assert_eq!(backoff.next(0), BACKOFF_MIN * 2);
        for _ in 0..100 {
            let pause = backoff.next(u64::MAX / 3);
            assert!(pause > BACKOFF_MIN && pause <= BACKOFF_MAX);
        }
        assert_eq!(backoff.next(0), BACKOFF_MAX);
        backoff.succeeded();
        assert_eq!(backoff.next(0), Duration::ZERO);
    }
}
