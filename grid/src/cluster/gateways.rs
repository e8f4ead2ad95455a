//! Gateways that are processes of their own: what they ask of a node, and which of them there are.
//!
//! ```text
//!   gateway ─ every second, to every node: its address, what it knows ─► node
//!           ◄─ a later map, the leaders, what is revoked, the other gateways ─┘
//! ```
//!
//! The allow-list is here, in [`may_ask`] and [`may_follow`]: carry a command out, answer a query, tell
//! changes, the report above, and a user's own logout. What nodes do among themselves (consensus, membership,
//! rebuilding, the state of a node) is not in it, and a new service is not either until somebody adds it.
//!
//! Invariants: the table is bounded; a gateway that says nothing for [`PRESENCE`] is in it no more; a gateway
//! changes nothing of the grid's own but the list of what is revoked, and that only to refuse more.
//!
//! What it deliberately does not do: remember a gateway (it has no state, so nothing is lost with it), or
//! look at what the commands and queries say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use grid_core::{Space, codec};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::messages::{News, news};
use super::meta::execute_meta;
use super::revocations::{Revocation, RevocationNews, tell};
use super::space::MapCommand;
use crate::members::Members;
use crate::platform::{monotonic_now, wall_now};
use crate::service::{SERVICE_EXECUTE, SERVICE_FEED, SERVICE_QUERY, reply_with};
use crate::transport::Replier;

/// Service, for gateways: here I am; what is new?
pub(crate) const SERVICE_REPORT: u8 = 50;
/// Service, for gateways: have the grid refuse somebody's credentials.
pub(crate) const SERVICE_REVOKE: u8 = 51;

/// How long a gateway counts as present after its last report.
const PRESENCE: Duration = Duration::from_millis(5_000);
/// Most gateways in the table. When full, a new one is not noted until another has gone.
const GATEWAYS_MAX: usize = 256;
/// The longest address of a gateway, in bytes; a longer one is not noted.
const URL_BYTES_MAX: usize = 256;
/// How long a gateway's order may take, whatever it says itself.
const REVOKE_WAIT_MAX: Duration = Duration::from_millis(10_000);

/// Whether a request of this service belongs here.
pub(crate) fn is_of_gateways(service: u8) -> bool {
    matches!(service, SERVICE_REPORT | SERVICE_REVOKE)
}

/// Whether a gateway may ask this of a node.
pub(crate) fn may_ask(service: u8) -> bool {
    matches!(
        service,
        SERVICE_EXECUTE | SERVICE_QUERY | SERVICE_REPORT | SERVICE_REVOKE
    )
}

/// Whether a gateway may open a stream to this service of a node.
pub(crate) fn may_follow(service: u8) -> bool {
    service == SERVICE_FEED
}

/// A gateway that is a process of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GatewayEntry {
    /// Its number, another one each time that it starts.
    pub id: u64,
    /// Where clients reach it, as a URL.
    pub url: String,
    /// Its build.
    pub version: String,
}

/// What a gateway says of itself and knows already.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Empty of one that is not ready, or about to go.
    pub(crate) url: String,
    pub(crate) version: String,
    /// Of the map that it has.
    pub(crate) epoch: u64,
    /// Up to which it knows what is revoked.
    pub(crate) revocations: u64,
}

/// What it is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Briefing {
    pub(crate) grid_id: u128,
    pub(crate) news: News,
    pub(crate) revocations: RevocationNews,
    /// The gateways that this node knows.
    pub(crate) gateways: Vec<GatewayEntry>,
}

/// A logout on its way to the map's leader.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RevokeRequest {
    pub(crate) order: Revocation,
    pub(crate) remaining_ms: u64,
}

/// The gateways that were heard of lately.
#[derive(Debug, Default)]
pub(crate) struct Gateways {
    heard: Mutex<BTreeMap<u64, (GatewayEntry, Instant)>>,
}

impl Gateways {
    /// Takes up what a gateway, or a node, says. An empty address means that it is there no more.
    pub(crate) fn note(&self, entry: GatewayEntry, now: Instant) {
        let is_text = entry.url.bytes().all(|byte| byte.is_ascii_graphic());
        let is_fit = is_text && entry.url.len() <= URL_BYTES_MAX;
        let mut heard = self.heard.lock();
        heard.retain(|_, (_, at)| is_present(*at, now));
        if entry.url.is_empty() || !is_fit {
            heard.remove(&entry.id);
        } else if heard.len() < GATEWAYS_MAX || heard.contains_key(&entry.id) {
            heard.insert(entry.id, (entry, now));
        }
    }

    /// Those that are there, by address.
    pub(crate) fn present(&self) -> Vec<GatewayEntry> {
        let now = monotonic_now();
        let heard = self.heard.lock();
        let present = heard.values().filter(|(_, at)| is_present(*at, now));
        let mut present: Vec<GatewayEntry> = present.map(|(entry, _)| entry.clone()).collect();
        present.sort_by(|one, other| (&one.url, one.id).cmp(&(&other.url, other.id)));
        // One that was killed and started again at the same place is there once.
        present.dedup_by(|one, other| one.url == other.url);
        present
    }
}

fn is_present(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < PRESENCE
}

/// Serves what only gateways ask.
pub(crate) fn serve_gateway<S: Space>(
    members: &Arc<Members<S>>,
    from: u64,
    service: u8,
    payload: &Bytes,
    reply: Replier,
) {
    match service {
        SERVICE_REPORT => {
            let Ok(report) = codec::decode::<Report>(payload) else {
                return;
            };
            reply_with(reply, &brief(members, from, report));
        }
        SERVICE_REVOKE => {
            let Ok(request) = codec::decode::<RevokeRequest>(payload) else {
                return;
            };
            let members = Arc::clone(members);
            tokio::spawn(async move {
                let wait = Duration::from_millis(request.remaining_ms).min(REVOKE_WAIT_MAX);
                let command = MapCommand::Revoke {
                    order: request.order,
                    // By this node's clock: a wrong one would let go of what is still to be refused.
                    now_s: wall_now().as_millis() / 1_000,
                };
                let decided = execute_meta(&members, &command, monotonic_now() + wait).await;
                // Anything else gets no answer, and is asked again.
                if let Ok(Ok(_)) = decided {
                    reply_with(reply, &());
                }
            });
        }
        _ => {}
    }
}

fn brief<S: Space>(members: &Members<S>, from: u64, report: Report) -> Briefing {
    let entry = GatewayEntry {
        id: from,
        url: report.url,
        version: report.version,
    };
    members.gateways.note(entry, monotonic_now());
    Briefing {
        grid_id: members.grid_id,
        news: news(members, report.epoch),
        revocations: tell(members, report.revocations),
        gateways: members.gateways.present(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u64, url: &str) -> GatewayEntry {
        GatewayEntry {
            id,
            url: url.to_owned(),
            version: String::new(),
        }
    }

    fn urls(gateways: &Gateways) -> Vec<String> {
        let present = gateways.present().into_iter();
        present.map(|entry| entry.url).collect()
    }

    #[test]
    fn gateways_are_there_while_they_say_so() {
        let gateways = Gateways::default();
        let now = monotonic_now();
        let long_ago = now.checked_sub(2 * PRESENCE).expect("since the start");
        gateways.note(entry(1, "http://gone"), long_ago);
        assert!(urls(&gateways).is_empty(), "it has said nothing for long");
        gateways.note(entry(2, "http://b"), now);
        gateways.note(entry(3, "http://a"), now);
        gateways.note(entry(4, "http://b"), now);
        assert_eq!(urls(&gateways), ["http://a", "http://b"]);
        gateways.note(entry(3, ""), now);
        assert_eq!(urls(&gateways), ["http://b"], "it has said goodbye");
        gateways.note(entry(5, "http://a b"), now);
        gateways.note(
            entry(6, &format!("http://{}", "x".repeat(URL_BYTES_MAX))),
            now,
        );
        assert_eq!(urls(&gateways), ["http://b"], "neither is an address");
    }

    #[test]
    fn strangers_fill_the_table_to_its_bound_and_push_nobody_out() {
        let gateways = Gateways::default();
        let now = monotonic_now();
        gateways.note(entry(0, "http://first"), now);
        for id in 1..GATEWAYS_MAX as u64 + 50 {
            gateways.note(entry(id, &format!("http://{id}")), now);
        }
        let present = urls(&gateways);
        assert_eq!(present.len(), GATEWAYS_MAX);
        assert!(present.contains(&"http://first".to_owned()));
    }

    #[test]
    fn gateways_may_ask_five_things() {
        let asked: Vec<u8> = (0..=u8::MAX).filter(|service| may_ask(*service)).collect();
        assert_eq!(
            asked,
            [10, 11, 50, 51],
            "commands, queries, reports, logouts"
        );
        let followed: Vec<u8> = (0..=u8::MAX)
            .filter(|service| may_follow(*service))
            .collect();
        assert_eq!(followed, [12], "changes");
    }
}
