//! Counts refused connections and logs each kind once in a while: a misconfigured node dials every
//! second, and its neighbours' logs should say so without drowning.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::handshake::{Refusal, RefusalReason};

/// The same refusal of the same peer is logged once in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Most different (peer, reason) pairs remembered; strangers choose their numbers freely. When
/// full, the memory starts anew.
const LOG_ENTRIES_MAX: usize = 256;

/// Requests and streams of gateways that they may not have are counted beside the refused connections.
pub(super) const FORBIDDEN: &str = "forbidden_to_gateways";

/// Whether a node that joins or comes back gets such a refusal on its ordinary way: the two sides hear
/// of it one after the other.
fn passes_by_itself(refusal: &Refusal) -> bool {
    matches!(
        refusal.reason,
        RefusalReason::UnknownNode | RefusalReason::Incarnation
    )
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct RefusalLog {
    logged: Mutex<BTreeMap<(Option<u64>, &'static str), Instant>>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl RefusalLog {
    /// How many connections were refused, by either side, or dropped, by reason, since the start.
    pub(super) fn counts(&self) -> BTreeMap<String, u64> {
        let counts = self.counts.lock();
        let named = |(reason, count): (&&str, &u64)| ((*reason).to_owned(), *count);
        counts.iter().map(named).collect()
    }

    fn count(&self, reason: &'static str) {
        metrics::counter!("grid_transport_refused_total", "reason" => reason).increment(1);
        // Reasons are few: they are names in this crate.
        *self.counts.lock().entry(reason).or_default() += 1;
    }

    /// This node refused `peer`.
    pub(super) fn refused_here(&self, peer: Option<u64>, refusal: &Refusal) {
        let reason = refusal.reason.name();
        self.count(reason);
        if !self.is_due(peer, reason) {
            return;
        }
        if passes_by_itself(refusal) {
            tracing::warn!(?peer, reason, detail = %refusal, "refused a connection of another node");
        } else {
            tracing::error!(?peer, reason, detail = %refusal, "refused a connection of another node");
        }
    }

    /// `peer` refused this node.
    pub(super) fn refused_there(&self, peer: Option<u64>, refusal: &Refusal) {
        let reason = refusal.reason.name();
        self.count(reason);
        if !self.is_due(peer, reason) {
            return;
        }
        if passes_by_itself(refusal) {
            tracing::warn!(?peer, reason, detail = %refusal, "another node refuses this one");
        } else {
            tracing::error!(?peer, reason, detail = %refusal, "another node refuses this one");
        }
    }

    /// Something that is no node at all was dropped.
    pub(super) fn dropped(&self, reason: &'static str) {
        self.count(reason);
        if self.is_due(None, reason) {
            tracing::warn!(reason, "dropped a connection that is not of a node");
        }
    }

    /// A gateway asked for what gateways do not get.
    pub(super) fn forbidden(&self, gateway: u64, service: u8) {
        self.count(FORBIDDEN);
        if self.is_due(None, FORBIDDEN) {
            tracing::error!(
                gateway,
                service,
                "refused a gateway what only nodes may ask"
            );
        }
    }

    fn is_due(&self, peer: Option<u64>, reason: &'static str) -> bool {
        let now = Instant::now();
        let mut logged = self.logged.lock();
        if let Some(last) = logged.get(&(peer, reason))
            && now.duration_since(*last) < LOG_INTERVAL
        {
            return false;
        }
        if logged.len() >= LOG_ENTRIES_MAX {
            logged.clear();
        }
        logged.insert((peer, reason), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_logged_once_and_the_memory_is_bounded() {
        let log = RefusalLog::default();
        assert!(log.is_due(Some(1), "version"));
        assert!(!log.is_due(Some(1), "version"));
        assert!(log.is_due(Some(2), "version"));
        assert!(log.is_due(Some(1), "grid_id"));
        for _ in 0..3 {
            log.dropped("garbage");
        }
        assert_eq!(log.counts(), BTreeMap::from([("garbage".to_owned(), 3)]));
        for stranger in 0..10_000 {
            log.is_due(Some(stranger), "unknown_node");
        }
        assert!(log.logged.lock().len() <= LOG_ENTRIES_MAX);
    }
}
