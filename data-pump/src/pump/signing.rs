//! When a lane signs: a while after the last root, if there are facts since.
//!
//! Signing fails without consequence for the writing: facts and blocks are in the database, and the next
//! interval signs them. What would be signed and is not what was written is told in the lane's status.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::lane::{Shared, WRITE_WAIT, acquire};
use super::status::LaneStatus;
use super::writer::{Place, partition_number};
use crate::audit::{SignError, Signing};

/// What a session knows of its roots.
pub(super) struct RootSchedule {
    interval: Duration,
    next_at: Instant,
    /// Facts that are signed; unknown when a session begins.
    signed_leaves: Option<i64>,
    /// Whether the last attempt failed; the next one then waits for its time, however much is new.
    has_failed: bool,
}

impl RootSchedule {
    /// Nothing is signed at once: a leader that only just began would sign alone what little there is.
    pub(super) fn new(shared: &Shared, status: &watch::Sender<LaneStatus>) -> Self {
        status.send_modify(|status| status.roots_unsigned = shared.audit_key.is_none());
        let interval = Duration::from_secs(shared.settings.audit_root_interval_s);
        Self {
            interval,
            next_at: Instant::now() + interval,
            signed_leaves: None,
            has_failed: false,
        }
    }

    /// Waits until a root is due; for ever where nothing is to be signed.
    pub(super) async fn due(&self, shared: &Shared, place: &Place) {
        let leaves = place.trail.head.leaves;
        let has_news = leaves > 0 && self.signed_leaves != Some(leaves);
        if shared.audit_key.is_none() || !has_news {
            return std::future::pending().await;
        }
        let leaves_max = i64::try_from(shared.settings.audit_root_leaves_max).unwrap_or(i64::MAX);
        let is_full = !self.has_failed
            && self
                .signed_leaves
                .is_some_and(|signed| leaves - signed >= leaves_max);
        if !is_full {
            tokio::time::sleep_until(self.next_at.into()).await;
        }
    }

    /// Signs what is not signed.
    pub(super) async fn sign(
        &mut self,
        shared: &Shared,
        place: &Place,
        status: &watch::Sender<LaneStatus>,
    ) {
        self.next_at = Instant::now() + self.interval;
        self.has_failed = true;
        let Some(key) = &shared.audit_key else {
            return;
        };
        let Ok(mut lease) = acquire(shared).await else {
            return;
        };
        let leaves_max = i64::try_from(shared.settings.audit_root_leaves_max).unwrap_or(i64::MAX);
        let signing = Signing {
            grid_id: place.grid_id,
            partition: partition_number(place.partition),
            base_index: place.trail.base_index,
            key,
            leaves_max,
        };
        let sign = signing.sign(&mut lease, &place.trail.head);
        match tokio::time::timeout(WRITE_WAIT, sign).await {
            Ok(Ok(roots)) => {
                lease.release().await;
                self.signed_leaves = Some(place.trail.head.leaves);
                self.has_failed = false;
                let label = place.partition.to_string();
                metrics::counter!("pump_audit_roots_total", "partition" => label).increment(roots);
                status.send_modify(|status| status.audit_trouble = None);
            }
            Ok(Err(SignError::Tampered(text))) => {
                lease.release().await;
                tracing::error!(partition = place.partition, text, "facts are not signed");
                status.send_modify(|status| status.audit_trouble = Some(text));
            }
            Ok(Err(SignError::Database(error))) => {
                lease.discard().await;
                tracing::warn!(partition = place.partition, %error, "no root could be signed now");
            }
            Err(_) => {
                lease.discard().await;
                tracing::warn!(partition = place.partition, "signing a root took too long");
            }
        }
    }
}
