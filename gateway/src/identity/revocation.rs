//! Sessions that were taken back, as the grid knows them.
//!
//! A revocation names a user and a second: the user's tokens issued before count no more, on no gateway.
//! The grid replicates it and forgets it when the longest token has run out. Tokens say their time in
//! whole seconds, so one issued in the very second of the logout is refused too.

use std::sync::Arc;
use std::time::Instant;

use grid::{GridError, Revocation, Revocations, RoutingClient};
use grid_config::IdentitySettings;
use processing_unit::{Unit, UserId};
use tokio::sync::watch;

use super::caller::Caller;
use super::now_s;

/// See the module.
#[derive(Debug)]
pub(super) struct RevocationList {
    known: watch::Receiver<Arc<Revocations>>,
    /// Waited on by one task.
    news: tokio::sync::Mutex<watch::Receiver<Arc<Revocations>>>,
    /// When the longest token has run out, its leeway included.
    remembered_s: u64,
}

impl RevocationList {
    pub(super) fn new(client: &RoutingClient<Unit>, settings: &IdentitySettings) -> Self {
        let known = client.revocations();
        Self {
            news: tokio::sync::Mutex::new(known.clone()),
            known,
            remembered_s: settings.token_life_max_s + 2 * settings.leeway_s,
        }
    }

    pub(super) fn refuses(&self, caller: &Caller) -> bool {
        let subject = caller.user.0.as_u128();
        !caller.is_guest && self.known.borrow().refuses(subject, caller.issued_at_s)
    }

    /// Waits for the next.
    pub(super) async fn changed(&self) {
        if self.news.lock().await.changed().await.is_err() {
            // The grid is gone, and with it whoever could take anything back.
            std::future::pending::<()>().await;
        }
    }

    /// Takes back every token of the user up to now, and up to `newest_s` where the issuer's clock is
    /// ahead.
    pub(super) async fn revoke(
        &self,
        client: &RoutingClient<Unit>,
        user: UserId,
        newest_s: u64,
        deadline: Instant,
    ) -> Result<(), GridError> {
        let now_s = now_s();
        let not_before_s = now_s.max(newest_s) + 1;
        let order = Revocation {
            subject: user.0.as_u128(),
            not_before_s,
            forget_at_s: not_before_s + self.remembered_s,
        };
        client.revoke(order, now_s, deadline).await
    }
}
