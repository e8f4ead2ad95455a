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
}

impl RefusalLog {
    /// This node refused `peer`.
    pub(super) fn refused_here(&self, peer: Option<u64>, refusal: &Refusal) {
        let reason = refusal.reason.name();
        metrics::counter!("grid_transport_refused_total", "reason" => reason).increment(1);
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
    pub(super) fn refused_there(&self, peer: u64, refusal: &Refusal) {
        let reason = refusal.reason.name();
        metrics::counter!("grid_transport_refused_total", "reason" => reason).increment(1);
        if !self.is_due(Some(peer), reason) {
            return;
        }
        if passes_by_itself(refusal) {
            tracing::warn!(peer, reason, detail = %refusal, "another node refuses this one");
        } else {
            tracing::error!(peer, reason, detail = %refusal, "another node refuses this one");
        }
    }

    /// Something that is no node at all was dropped.
    pub(super) fn dropped(&self, reason: &'static str) {
        metrics::counter!("grid_transport_refused_total", "reason" => reason).increment(1);
        if self.is_due(None, reason) {
            tracing::warn!(reason, "dropped a connection that is not of a node");
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
        for stranger in 0..10_000 {
            log.is_due(Some(stranger), "unknown_node");
        }
        assert!(log.logged.lock().len() <= LOG_ENTRIES_MAX);
    }
}
