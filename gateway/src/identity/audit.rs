//! The audit log: logins, refusals and purchases, each with time, address, user and outcome.
//!
//! Records are `tracing` events of the target [`AUDIT_LOG`]; whoever runs the gateway decides where they
//! go (a node writes them to a file of its own). They hold no token, ticket or payment reference.
//!
//! Refusals cost an attacker nothing, so they are bounded: at most [`REFUSALS_PER_S_MAX`] a second are
//! recorded, and the next record says how many were not. Logins and purchases are all recorded.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use uuid::Uuid;

use super::caller::Caller;
use super::verifier::TokenError;
use crate::failure::Failure;

/// The target of the audit log's records.
pub const AUDIT_LOG: &str = "audit";
/// See the module.
const REFUSALS_PER_S_MAX: u32 = 200;

#[derive(Debug)]
struct Window {
    began: Instant,
    recorded: u32,
    left_out: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Audit {
    refusals: Mutex<Window>,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            refusals: Mutex::new(Window {
                began: Instant::now(),
                recorded: 0,
                left_out: 0,
            }),
        }
    }
}

impl Audit {
    /// Whether a refusal is recorded, and how many before it were not.
    fn admit_refusal(&self, now: Instant) -> Option<u64> {
        let mut window = self.refusals.lock();
        if now.saturating_duration_since(window.began) >= Duration::from_secs(1) {
            window.began = now;
            window.recorded = 0;
        }
        if window.recorded >= REFUSALS_PER_S_MAX {
            window.left_out += 1;
            return None;
        }
        window.recorded += 1;
        Some(std::mem::take(&mut window.left_out))
    }

    /// A token or ticket did not count.
    pub(super) fn refused_token(&self, address: IpAddr, error: &TokenError) {
        metrics::counter!("gateway_identity_refused_total", "reason" => error.reason())
            .increment(1);
        if let Some(left_out) = self.admit_refusal(Instant::now()) {
            let reason = error.reason();
            tracing::info!(target: AUDIT_LOG, event = "login", outcome = "refused", reason, %address, left_out);
        }
    }

    /// Somebody wanted what they may not.
    pub(super) fn refusal(
        &self,
        caller: Option<&Caller>,
        address: IpAddr,
        action: &'static str,
        failure: &Failure,
    ) {
        let Some(left_out) = self.admit_refusal(Instant::now()) else {
            return;
        };
        let user = caller.filter(|caller| !caller.is_guest);
        let user = user.map(|caller| tracing::field::display(caller.user));
        let code = failure.code.as_str();
        tracing::info!(target: AUDIT_LOG, event = "refusal", action, outcome = code, user, %address, left_out);
    }

    pub(super) fn ticket_issued(&self, caller: &Caller) {
        login("ticket_issued", caller);
    }

    pub(super) fn session_opened(&self, caller: &Caller) {
        login("session_opened", caller);
    }

    pub(super) fn session_renewed(&self, caller: &Caller) {
        login("session_renewed", caller);
    }

    /// The user's own wish.
    pub(crate) fn logged_out(&self, caller: &Caller) {
        login("logged_out", caller);
    }

    /// An operator's order.
    pub(crate) fn revoked(&self, user: Uuid, address: IpAddr) {
        tracing::info!(target: AUDIT_LOG, event = "login", outcome = "revoked_by_operator", %user, %address);
    }

    /// Seats were paid for, or could not be.
    pub(crate) fn purchase(
        &self,
        caller: &Caller,
        event_id: Uuid,
        hold_id: Uuid,
        failure: Option<&Failure>,
    ) {
        let outcome = failure.map_or("ok", |failure| failure.code.as_str());
        tracing::info!(
            target: AUDIT_LOG,
            event = "purchase",
            outcome,
            user = %caller.user,
            address = %caller.address,
            %event_id,
            %hold_id
        );
    }
}

fn login(outcome: &'static str, caller: &Caller) {
    tracing::info!(
        target: AUDIT_LOG,
        event = "login",
        outcome,
        user = %caller.user,
        address = %caller.address
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_counted_and_not_written() {
        let audit = Audit::default();
        let start = Instant::now();
        for _ in 0..REFUSALS_PER_S_MAX {
            assert_eq!(audit.admit_refusal(start), Some(0));
        }
        assert_eq!(audit.admit_refusal(start), None);
        assert_eq!(audit.admit_refusal(start), None);
        let later = start + Duration::from_secs(2);
        assert_eq!(audit.admit_refusal(later), Some(2));
        assert_eq!(audit.admit_refusal(later), Some(0));
    }
}
