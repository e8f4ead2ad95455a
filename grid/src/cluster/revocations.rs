//! What was once believed and is no more: for each subject, from when on its credentials count.
//!
//! ```text
//!   GridClient::revoke ─► meta leader ─► meta group (MapSpace) ═ replicated ═► every holder ─► its clients
//!                                                                   └── asked each second by the others
//! ```
//!
//! A subject is 128 bits that mean something to the grid's users only. Whoever checks credentials asks
//! [`Revocations::refuses`] with the time at which one was issued.
//!
//! Invariants:
//! * what is refused stays refused until the credential has run out by itself: records only get stricter;
//! * memory is bounded: with too many records the oldest give way to a floor below which everybody's
//!   credentials are refused. So a full list refuses too many, never too few;
//! * order does not matter: whoever learns the same records in another order refuses the same.
//!
//! What it deliberately does not do: know what a credential is, or look at a clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use grid_core::Space;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::gateways::{RevokeRequest, SERVICE_REVOKE};
use super::map::META;
use super::messages::SERVICE_REVOCATIONS;
use super::meta::{execute_meta, meta_leader};
use super::space::MapCommand;
use crate::client::RoutingClient;
use crate::error::GridError;
use crate::members::{Members, remaining};
use crate::outlook::Outlook;
use crate::platform::whole_ms;

/// Records kept. Beyond it the oldest become part of the floor.
pub(crate) const REVOCATIONS_MAX: usize = 16_384;
/// Records told to another node at a time.
const NEWS_RECORDS_MAX: usize = 4_096;
/// How long a node may take to tell them.
const NEWS_WAIT: Duration = Duration::from_millis(1_000);

/// How long one node may take to have an order carried out, and the pause before the next is asked.
const THROUGH_WAIT: Duration = Duration::from_millis(3_000);
const THROUGH_PAUSE: Duration = Duration::from_millis(50);

/// One order: the subject's credentials issued before `not_before_s` are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Whose.
    pub subject: u128,
    /// In seconds since the Unix epoch.
    pub not_before_s: u64,
    /// When no older credential can be good any more, so that the record may go; in the same seconds.
    pub forget_at_s: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    not_before_s: u64,
    forget_at_s: u64,
    /// Which change of the list it came with.
    serial: u64,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocations {
    /// Grows with every change.
    serial: u64,
    /// Everybody's credentials issued before are refused.
    floor_s: u64,
    records: BTreeMap<u128, Record>,
}

/// What has changed since a serial, or as much of it as one message holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RevocationNews {
    /// Up to which serial this tells.
    serial: u64,
    floor_s: u64,
    records: Vec<Revocation>,
}

impl Revocations {
    /// Whether a credential of the subject that was issued then is refused.
    #[must_use]
    pub fn refuses(&self, subject: u128, issued_at_s: u64) -> bool {
        let record = self.records.get(&subject);
        let not_before_s = record.map_or(0, |record| record.not_before_s);
        issued_at_s < self.floor_s.max(not_before_s)
    }

    /// Grows with every change.
    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }

    /// How many subjects have a record.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether nothing is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.floor_s == 0
    }

    /// Takes an order up, and lets go of what has run out by `now_s`.
    pub(super) fn note(&mut self, order: Revocation, now_s: u64) {
        self.serial += 1;
        let serial = self.serial;
        self.records.retain(|_, record| record.forget_at_s > now_s);
        self.insert(order, serial);
    }

    fn insert(&mut self, order: Revocation, serial: u64) {
        let record = self.records.entry(order.subject).or_insert(Record {
            not_before_s: 0,
            forget_at_s: 0,
            serial,
        });
        record.not_before_s = record.not_before_s.max(order.not_before_s);
        record.forget_at_s = record.forget_at_s.max(order.forget_at_s);
        record.serial = record.serial.max(serial);
        while self.records.len() > REVOCATIONS_MAX {
            let oldest = self
                .records
                .iter()
                .min_by_key(|(subject, record)| (record.not_before_s, **subject));
            let Some((&subject, &record)) = oldest else {
                return;
            };
            self.records.remove(&subject);
            self.floor_s = self.floor_s.max(record.not_before_s);
        }
    }

    /// What a node that knows the list up to `serial` does not know.
    pub(super) fn since(&self, serial: u64) -> RevocationNews {
        let mut newer: Vec<_> = self
            .records
            .iter()
            .filter(|(_, record)| record.serial > serial)
            .collect();
        newer.sort_unstable_by_key(|(_, record)| record.serial);
        let has_all = newer.len() <= NEWS_RECORDS_MAX;
        newer.truncate(NEWS_RECORDS_MAX);
        let told_to = match newer.last() {
            Some((_, record)) if !has_all => record.serial,
            _ => self.serial,
        };
        let records = newer.iter().map(|(subject, record)| Revocation {
            subject: **subject,
            not_before_s: record.not_before_s,
            forget_at_s: record.forget_at_s,
        });
        RevocationNews {
            serial: told_to,
            floor_s: self.floor_s,
            records: records.collect(),
        }
    }

    /// Takes up what another node told; whether that changed anything.
    fn learn(&mut self, news: RevocationNews) -> bool {
        let is_news = news.serial > self.serial || news.floor_s > self.floor_s;
        let serial = self.serial.max(news.serial);
        self.serial = serial;
        self.floor_s = self.floor_s.max(news.floor_s);
        for order in news.records {
            self.insert(order, serial);
        }
        is_news
    }
}

impl Outlook {
    /// Takes up what this node's own replica, or another node, says.
    pub(crate) fn learn_revocations(&self, news: RevocationNews) {
        self.revocations
            .send_if_modified(|known| Arc::make_mut(known).learn(news));
    }
}

/// Publishes what this node's replica of the meta group has, where that is news here.
pub(super) fn publish<S: Space>(members: &Members<S>, present: &Revocations) {
    let known = members.revocations.borrow().serial;
    if present.serial > known {
        members.learn_revocations(present.since(known));
    }
}

/// Asks the meta leader for what is new, where this node has no replica of its own.
pub(super) async fn ask_leader<S: Space>(members: &Members<S>, turn: usize) {
    if members.is_serving(META) {
        return;
    }
    let Some(node) = meta_leader(members, turn).filter(|node| *node != members.node) else {
        return;
    };
    let known = members.revocations.borrow().serial;
    let asked = members.ask(node, SERVICE_REVOCATIONS, &known, NEWS_WAIT);
    if let Some(news) = asked.await {
        members.learn_revocations(news);
    }
}

/// What this node can tell of the list.
pub(super) fn tell<S: Space>(members: &Members<S>, serial: u64) -> RevocationNews {
    members.revocations.borrow().since(serial)
}

impl<S: Space> RoutingClient<S> {
    /// What is refused, as this node knows it and as that changes. A node with a replica of the cluster
    /// map knows a revocation when it is applied, another within about a second.
    #[must_use]
    pub fn revocations(&self) -> watch::Receiver<Arc<Revocations>> {
        self.outlook.revocations.subscribe()
    }

    /// Has the whole grid refuse what an order names; it returns when a majority of the map's holders has
    /// it on disk. This node knows it by then. `now_s` lets old records go.
    ///
    /// # Errors
    /// [`GridError::Unavailable`] and [`GridError::OutcomeUnknown`]; the order bears repeating.
    pub async fn revoke(
        &self,
        order: Revocation,
        now_s: u64,
        deadline: Instant,
    ) -> Result<(), GridError> {
        match self.node() {
            Some(members) => {
                let command = MapCommand::Revoke { order, now_s };
                let decided = execute_meta(members, &command, deadline).await?;
                // No revocation is refused.
                decided.map_err(|_| GridError::Unavailable)?;
            }
            None => revoke_through(&self.outlook, order, deadline).await?,
        }
        self.outlook.revocations.send_modify(|known| {
            let serial = known.serial;
            Arc::make_mut(known).insert(order, serial);
        });
        Ok(())
    }
}

/// Has a node do it, each in turn until one has.
async fn revoke_through(
    outlook: &Outlook,
    order: Revocation,
    deadline: Instant,
) -> Result<(), GridError> {
    let mut attempt = 0;
    loop {
        let nodes = outlook.reachable();
        if let Some(node) = nodes.get(attempt % nodes.len().max(1)) {
            let wait = remaining(deadline).min(THROUGH_WAIT);
            let request = RevokeRequest {
                order,
                remaining_ms: whole_ms(wait),
            };
            let asked = outlook.ask::<()>(*node, SERVICE_REVOKE, &request, wait);
            if asked.await.is_some() {
                return Ok(());
            }
        }
        if remaining(deadline).is_zero() {
            return Err(GridError::OutcomeUnknown);
        }
        attempt += 1;
        tokio::time::sleep(THROUGH_PAUSE.min(remaining(deadline))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(subject: u128, not_before_s: u64) -> Revocation {
        Revocation {
            subject,
            not_before_s,
            forget_at_s: not_before_s + 100,
        }
    }

    #[test]
    fn older_credentials_are_refused_until_they_have_run_out() {
        let mut list = Revocations::default();
        assert!(!list.refuses(1, 0));
        list.note(order(1, 50), 50);
        assert!(list.refuses(1, 49));
        assert!(!list.refuses(1, 50));
        assert!(!list.refuses(2, 49));
        // An earlier order does not let anybody in again.
        list.note(order(1, 40), 51);
        assert!(list.refuses(1, 49));
        list.note(order(2, 200), 200);
        assert_eq!(list.len(), 1, "the first has run out");
    }

    #[test]
    fn a_full_list_refuses_too_many_rather_than_too_few() {
        let mut list = Revocations::default();
        for subject in 0..REVOCATIONS_MAX as u128 + 10 {
            list.note(order(subject, 1_000 + subject as u64), 1_000);
        }
        assert_eq!(list.len(), REVOCATIONS_MAX);
        for subject in 0..REVOCATIONS_MAX as u128 + 10 {
            assert!(list.refuses(subject, 999 + subject as u64), "{subject}");
        }
        assert!(list.refuses(u128::MAX, 1_008), "below the floor");
        assert!(!list.refuses(u128::MAX, 1_009));
    }

    #[test]
    fn news_bring_another_node_to_the_same_list_piece_by_piece() {
        let mut list = Revocations::default();
        for subject in 0..NEWS_RECORDS_MAX as u128 + 5 {
            list.note(order(subject, 60), 60);
        }
        let mut other = Revocations::default();
        assert!(other.learn(list.since(0)));
        assert_eq!(other.len(), NEWS_RECORDS_MAX);
        assert!(other.learn(list.since(other.serial)));
        assert!(!other.learn(list.since(other.serial)), "nothing is new");
        assert_eq!(other.len(), list.len());
        list.note(order(3, 90), 61);
        other.learn(list.since(other.serial));
        assert!(other.refuses(3, 89));
        assert!(other.refuses(4, 59));
    }
}
