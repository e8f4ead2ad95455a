//! Watches the disk of a node: tells the log how much room there is, and gives the node's leaderships away
//! while its disk is full, or slow against another node's.
//!
//! ```text
//!   free bytes ─► level ─► log refuses, retention frees            ┐
//!   own syncs ─► suspicious? ─► ask the others ─► slow for long? ──┴► give each leadership to the caught-up
//!                                                                     follower on a fit disk that leads least
//! ```
//!
//! A node in trouble still votes and stands for election: were its peers to fail, it is better than none.
//! What it wins it gives away again. While it is called slow it measures with a small file of its own, since
//! without load its log says nothing.
//!
//! What it deliberately does not do: judge (see `fitness`), make room (see `retention`).

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use grid_core::Space;
use tokio_util::sync::CancellationToken;

use crate::client::GridClient;
use crate::disk;
use crate::fitness::{self, SlowJudge};
use crate::handover;
use crate::members::{Member, Members};
use crate::node::NodeId;
use crate::platform::{self, fs, monotonic_now};
use crate::status::{DiskTrouble, NodeStatus};
use crate::wal::RoomLevel;

/// How often it looks.
const PERIOD: Duration = Duration::from_millis(1_000);
/// How long the nodes may take to answer.
const ASK_WAIT: Duration = Duration::from_millis(1_000);
/// So many looks running the log may be without its next segment.
const SHORT_LOOKS_MAX: u32 = 3;
/// What is written to see how long a sync takes.
const PROBE_BYTES: usize = 4_096;

/// The bounds it goes by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GuardPolicy {
    /// With less free, room is low.
    pub(crate) reserve_bytes: u64,
    /// Slower syncs are suspicious; 0 for none.
    pub(crate) slow_sync_ms: u64,
}

/// Looks at the room and tells the log.
pub(crate) fn look_at_room<S: Space>(
    members: &Members<S>,
    before: RoomLevel,
    reserve: u64,
) -> RoomLevel {
    let room = disk::room(members.directory.path());
    let level = fitness::room_level(before, room, reserve);
    if level != before {
        let free_bytes = room.map_or(0, |room| room.free_bytes);
        tracing::warn!(
            ?level,
            free_bytes,
            reserve,
            "the room on the disk has changed"
        );
    }
    members.wal.set_disk_room(level);
    level
}

/// Writes and syncs a little beside the log. How long the sync took; `None` where that failed.
fn probe(directory: &Path) -> Option<u64> {
    let path = directory.join("disk.probe");
    let mut file = fs::File::create(&path).ok()?;
    file.write_all(&[1; PROBE_BYTES]).ok()?;
    let started = monotonic_now();
    file.sync_data().ok()?;
    let took = monotonic_now().saturating_duration_since(started);
    // It is made anew each time.
    let _ = fs::remove_file(&path);
    u64::try_from(took.as_micros()).ok()
}

/// Works until stopped.
pub(crate) async fn run<S: Space>(
    client: GridClient<S>,
    members: Arc<Members<S>>,
    policy: GuardPolicy,
    mut level: RoomLevel,
    stop: CancellationToken,
) {
    let mut short_looks = 0;
    let mut judge = SlowJudge::new(policy.slow_sync_ms);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = platform::pause(PERIOD) => {}
        }
        level = look_at_room(&members, level, policy.reserve_bytes);
        let (own_us, others) = look_at_syncs(&client, &members, &mut judge).await;
        // A segment that is being made is no trouble, one that cannot be made is.
        let is_short = members.wal.room() > RoomLevel::Plenty;
        short_looks = if is_short { short_looks + 1 } else { 0 };
        let trouble = if level > RoomLevel::Plenty || short_looks > SHORT_LOOKS_MAX {
            Some(DiskTrouble::Full)
        } else {
            judge.is_slow().then_some(DiskTrouble::Slow)
        };
        let before = std::mem::replace(&mut *members.disk_trouble.lock(), trouble);
        if before != trouble {
            tracing::warn!(
                ?trouble,
                sync_us = own_us,
                "the disk's fitness to lead has changed"
            );
        }
        let Some(trouble) = trouble else { continue };
        if members.draining.load(Ordering::SeqCst) || !leads_any(&members) {
            continue;
        }
        let others = match others {
            Some(others) => others,
            None => ask(&client, members.node).await,
        };
        let fit: Vec<NodeId> = others
            .iter()
            .filter(|other| fitness::is_better(other, trouble, own_us.unwrap_or(0)))
            .map(|other| other.node_id)
            .collect();
        give_away(&members, &fit).await;
    }
}

/// Judges the syncs; asks the other nodes only where that matters.
async fn look_at_syncs<S: Space>(
    client: &GridClient<S>,
    members: &Members<S>,
    judge: &mut SlowJudge,
) -> (Option<u64>, Option<Vec<NodeStatus>>) {
    let mut own_us = members.wal.stats().usual_sync_us;
    if judge.is_slow() && own_us.is_none() {
        let directory = members.directory.path().to_owned();
        own_us = platform::blocking(move || probe(&directory))
            .await
            .ok()
            .flatten();
    }
    if !judge.is_suspicious(own_us) {
        judge.look(own_us, false);
        return (own_us, None);
    }
    let others = ask(client, members.node).await;
    judge.look(
        own_us,
        fitness::any_much_faster(&others, own_us.unwrap_or(0)),
    );
    (own_us, Some(others))
}

async fn ask<S: Space>(client: &GridClient<S>, own: NodeId) -> Vec<NodeStatus> {
    let answers = client.cluster_status(monotonic_now() + ASK_WAIT).await;
    let others = answers.into_iter().filter(|report| report.node_id != own);
    others.filter_map(|report| report.status).collect()
}

fn leads_any<S: Space>(members: &Members<S>) -> bool {
    let held = members.all_held();
    held.iter().any(|(_, held)| held.leadership().is_local)
}

/// Gives every leadership that a fit node can take to the one that leads least; stops where one is not
/// taken, to look at everything anew.
async fn give_away<S: Space>(members: &Members<S>, fit: &[NodeId]) {
    let mut leads = handover::leads(members);
    for (_, member) in members.replicas() {
        let Some(to) = receiver(members, &member, fit, &leads) else {
            continue;
        };
        if !give(members, &member, to).await {
            return;
        }
        *leads.entry(to).or_insert(0) += 1;
    }
    if let Some(meta) = members.meta()
        && let Some(to) = receiver(members, &meta, fit, &leads)
    {
        give(members, &meta, to).await;
    }
}

/// Who gets a group that is led here.
fn receiver<S: Space, T: Space>(
    members: &Members<S>,
    member: &Member<T>,
    fit: &[NodeId],
    leads: &BTreeMap<NodeId, u32>,
) -> Option<NodeId> {
    if !member.leadership.borrow().is_local {
        return None;
    }
    let candidates = handover::candidates(members, member).into_iter();
    candidates
        .filter(|node| fit.contains(node))
        .min_by_key(|node| (leads.get(node).copied().unwrap_or(0), *node))
}

async fn give<S: Space, T: Space>(members: &Members<S>, member: &Member<T>, to: NodeId) -> bool {
    metrics::counter!("grid_leaderships_moved_off_disk_total").increment(1);
    handover::hand_to(member, members.node, to).await
}
