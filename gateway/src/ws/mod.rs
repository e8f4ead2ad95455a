//! WebSocket connections: the upgrade, one task a connection, and how each ends.
//!
//! ```text
//!   socket ──► Envelope::read ──► work (up to N at once, in the same task) ──► replies ─┐
//!   hub ──► Subscriptions (once, in order) ─┬─► Outlet's queue (bounded) ───────────────┴─► one flush
//!                                           └─► the socket itself, where nothing waits
//! ```
//!
//! Invariants: a connection answers every readable message, or says goodbye; what it holds is bounded by
//! settings; it is never waited for by anyone but itself.

mod connection;
mod farewell;
mod outlet;
mod socket;
mod subscription;
mod upgrade;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::identity::Caller;

pub(crate) use farewell::Ending;
pub(crate) use outlet::{Delivery, EndReason, Outlet};
pub(crate) use upgrade::{ConnectionPermit, upgrade};

/// The open connections of this gateway, at most `connections_max`.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, (Arc<Outlet>, Caller)>>,
    drained: AtomicU64,
}

impl Connections {
    fn open(&self, outlet: Arc<Outlet>, caller: Caller) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.lock().insert(number, (outlet, caller));
        number
    }

    fn close(&self, number: u64) {
        self.open.lock().remove(&number);
    }

    /// Asks every connection to say goodbye.
    pub(crate) fn drain(&self) {
        let open = self.open.lock();
        self.drained.store(open.len() as u64, Ordering::Relaxed);
        for (outlet, _) in open.values() {
            outlet.end(EndReason::Draining);
        }
    }

    /// Those that are open, for [`Self::send_away`].
    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.open.lock().keys().copied().collect()
    }

    /// Asks these to say goodbye.
    pub(crate) fn send_away(&self, numbers: &[u64]) {
        let open = self.open.lock();
        for (outlet, _) in numbers.iter().filter_map(|number| open.get(number)) {
            outlet.end(EndReason::Draining);
        }
    }

    /// Notes what a connection's fresh token says.
    fn renew(&self, number: u64, renewed: Caller) {
        if let Some((_, caller)) = self.open.lock().get_mut(&number) {
            *caller = renewed;
        }
    }

    /// Ends the connections of whoever's session was taken back; says how many.
    pub(crate) fn revoke(&self, is_revoked: impl Fn(&Caller) -> bool) -> usize {
        let open = self.open.lock();
        let revoked = open.values().filter(|(_, caller)| is_revoked(caller));
        revoked
            .map(|(outlet, _)| outlet.end(EndReason::Revoked))
            .count()
    }

    /// How many were asked to.
    pub(crate) fn drained(&self) -> u64 {
        self.drained.load(Ordering::Relaxed)
    }
}
