//! Carries out the plan of [`crate::balance`] for the leaderships of this node: one at a time, with a
//! pause, and only while the grid has been at rest for a while.
//!
//! Every node makes the same plan from the same answers, and each makes only the first move, and only
//! when it is its own; so two nodes rarely move something at once, and when they do, the next plan is
//! made from what came of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use grid_core::Space;
use tokio_util::sync::CancellationToken;

use crate::balance::{self, View};
use crate::client::GridClient;
use crate::handover;
use crate::members::Members;
use crate::node::NodeId;
use crate::platform::{self, monotonic_now};

/// How often it looks.
const PERIOD: Duration = Duration::from_millis(2_000);
/// The grid must have been at rest for this long: the same nodes answer, nothing recovers.
const REST_MIN: Duration = Duration::from_secs(8);
/// How long the nodes may take to answer.
const ASK_WAIT: Duration = Duration::from_millis(1_000);

/// Works until stopped.
pub(crate) async fn run<S: Space>(
    client: GridClient<S>,
    members: Arc<Members<S>>,
    stop: CancellationToken,
) {
    let mut rest: Option<(Vec<NodeId>, Instant)> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = platform::pause(PERIOD) => {}
        }
        if members.draining.load(Ordering::SeqCst) {
            return;
        }
        if !leads_much(&members) {
            rest = None;
            continue;
        }
        let answers = client.cluster_status(monotonic_now() + ASK_WAIT).await;
        let view = View::of(
            answers
                .iter()
                .map(|report| (report.node_id, report.status.as_ref())),
        );
        let present: Vec<NodeId> = answers
            .iter()
            .filter(|report| report.status.is_some())
            .map(|report| report.node_id)
            .collect();
        if !view.obstacles.is_empty() {
            rest = None;
            continue;
        }
        let since = match rest.take() {
            Some((known, since)) if known == present => since,
            _ => monotonic_now(),
        };
        rest = Some((present, since));
        if monotonic_now().saturating_duration_since(since) < REST_MIN {
            continue;
        }
        let Some(step) = balance::plan(&view).first().copied() else {
            continue;
        };
        if step.from != members.node {
            continue;
        }
        // While replicas move, leaders are moved by those who move them.
        let is_moving = members
            .present_map()
            .is_some_and(|map| map.moving().is_some());
        if is_moving {
            rest = None;
            continue;
        }
        if let Some(member) = members.get(step.partition)
            && member.leadership.borrow().is_local
            && handover::candidates(&members, &member).contains(&step.to)
        {
            // A failed one is followed by an election, after which everything is looked at anew.
            if !handover::hand_to(&member, members.node, step.to).await {
                rest = None;
            }
        }
    }
}

/// Whether this node leads more than an equal share, as far as it knows; else it has nothing to give
/// and need not ask the others.
fn leads_much<S: Space>(members: &Members<S>) -> bool {
    let own = handover::leads(members)
        .get(&members.node)
        .copied()
        .unwrap_or(0);
    own as usize > members.layout.partitions() as usize / members.nodes().len().max(1)
}
