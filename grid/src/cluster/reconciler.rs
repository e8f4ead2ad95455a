//! Brings what is to what is wanted, on the meta leader: one replica of one group at a time.
//!
//! Every turn it looks at the map and at the moving group's membership and does the one next thing. It
//! remembers nothing that matters: when the meta leader changes, the next one's first turn goes on.
//!
//! A target that stops answering before it has a vote is given up after a while, and another is chosen;
//! whatever else stands still is waited for, and [`Reconciling::activity`] says what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use grid_core::{PartitionId, Space, codec};
use tokio_util::sync::CancellationToken;

use super::admin::down;
use super::map::{ClusterMap, GroupEntry, META};
use super::messages::{GroupReply, GroupRequest, SERVICE_GROUP, SERVICE_MAP, group_here};
use super::meta::execute_meta;
use super::plan::{Conditions, next_move};
use super::space::MapCommand;
use super::step::{GroupView, Step, next_step};
use crate::members::Members;
use crate::node::NodeId;
use crate::platform::{self, monotonic_now};
use crate::raft::{MembershipChange, MembershipError};
use crate::service::SERVICE_STATUS;
use crate::status::{DiskTrouble, NodeStatus};
use crate::transport::Lane;

/// The pause between two steps of a move.
const STEP_PAUSE: Duration = Duration::from_millis(50);
/// How often it looks when there is nothing to do.
const IDLE_PERIOD: Duration = Duration::from_millis(1_000);
/// How long a group's leader may take for a change.
const CHANGE_WAIT: Duration = Duration::from_millis(6_000);
/// How long the map's own commands may take.
const COMMAND_WAIT: Duration = Duration::from_millis(3_000);
/// How long a target that does not answer is waited for.
const TARGET_PATIENCE: Duration = Duration::from_secs(10);
/// How long a node may take to say how its disk is.
const DISK_WAIT: Duration = Duration::from_millis(500);
/// How long a node that is to be removed may take to let its clients go.
const LEAVING_PATIENCE: Duration = Duration::from_secs(15);
/// How long a peer may take to acknowledge a map.
const PUSH_WAIT: Duration = Duration::from_millis(1_000);

/// What it is doing, for whoever asks.
#[derive(Debug, Default)]
pub(crate) struct Reconciling {
    /// In words.
    pub(crate) activity: Option<String>,
    /// The target that does not answer, and since when.
    silent: Option<(NodeId, Instant)>,
    /// The empty node that is to be removed, and since when it is known to be empty.
    leaving: Option<(NodeId, Instant)>,
}

/// Works whenever this node leads the meta group, until stopped.
pub(crate) async fn reconcile<S: Space>(members: Arc<Members<S>>, stop: CancellationToken) {
    let mut pushed = 0;
    let mut map = members.map.subscribe();
    loop {
        let turn = async {
            push(&members, &mut pushed);
            turn(&members).await
        };
        let Some(worked) = stop.run_until_cancelled(turn).await else {
            return;
        };
        let pause = if worked { STEP_PAUSE } else { IDLE_PERIOD };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = platform::pause(pause) => {}
            changed = map.changed(), if !worked => if changed.is_err() { return },
        }
    }
}

/// Sends a new map to everybody.
fn push<S: Space>(members: &Arc<Members<S>>, pushed: &mut u64) {
    let Some(map) = members.present_map() else {
        return;
    };
    if map.epoch == *pushed || members.leader(META) != Some(members.node) {
        return;
    }
    *pushed = map.epoch;
    let Ok(payload) = codec::encode(&*map) else {
        return;
    };
    let payload = bytes::Bytes::from(payload);
    for (node, _) in map.members().filter(|(node, _)| *node != members.node) {
        let (transport, payload) = (members.transport.clone(), payload.clone());
        members.opener.tasks.spawn(async move {
            // Whoever misses it asks for it within a second.
            let _ = transport
                .request(node, Lane::Control, SERVICE_MAP, payload, PUSH_WAIT)
                .await;
        });
    }
}

/// Does the next thing. Returns whether there may be more at once.
async fn turn<S: Space>(members: &Arc<Members<S>>) -> bool {
    let Some(meta) = members.meta() else {
        return false;
    };
    if !meta.leadership.borrow().is_local || meta.group.await_linearizable().await.is_err() {
        note(members, None);
        return false;
    }
    let Some(map) = meta.replica.read(|state| state.space().map().cloned()) else {
        // The first leader of a new grid writes down what the founder has told.
        let Some(founded) = members.present_map() else {
            return false;
        };
        let command = MapCommand::Found(ClusterMap::clone(&founded));
        return command_now(members, &command).await;
    };
    if let Some((partition, group)) = map.moving() {
        let down = down(members, &map);
        return move_on(members, &map, partition, group, &down).await;
    }
    if let Some(command) = housekeeping(members, &map) {
        return command_now(members, &command).await;
    }
    let conditions = conditions(members, &map).await;
    let Some(next) = next_move(&map, &conditions) else {
        // With disks in trouble something may have to wait.
        let disks = &conditions.disks;
        let waits = (!disks.is_empty()).then(|| format!("disks are in trouble: {disks:?}"));
        note(members, waits);
        return false;
    };
    let Some(group) = map.groups.get(&next.partition) else {
        return false;
    };
    tracing::info!(
        partition = %next.partition, from = next.from, to = next.to, reason = ?next.reason,
        "a replica is to move"
    );
    let command = MapCommand::Place {
        group: next.partition,
        replicas: next.applied_to(&group.replicas),
        epoch: group.epoch,
    };
    command_now(members, &command).await
}

/// What is known of the nodes just now. The disks are asked for only where a copy is to go somewhere.
pub(super) async fn conditions<S: Space>(members: &Members<S>, map: &ClusterMap) -> Conditions {
    let mut conditions = Conditions {
        down: down(members, map),
        ..Conditions::default()
    };
    if next_move(map, &conditions).is_some_and(|next| next.to.is_some()) {
        conditions.disks = disks(members, map).await;
    }
    conditions
}

/// The disks that are in trouble, by their nodes' own account. One that does not say is taken for well:
/// whether it answers at all is another matter.
pub(super) async fn disks<S: Space>(
    members: &Members<S>,
    map: &ClusterMap,
) -> BTreeMap<NodeId, DiskTrouble> {
    let asked = map.members().map(async |(node, _)| {
        if node == members.node {
            return Some((node, trouble_of(&members.status())?));
        }
        let payload = Vec::new();
        let reply = members
            .request(node, SERVICE_STATUS, payload, DISK_WAIT)
            .await;
        let status = serde_json::from_slice(&reply.ok()?).ok()?;
        Some((node, trouble_of(&status)?))
    });
    let told = futures_util::future::join_all(asked).await;
    told.into_iter().flatten().collect()
}

fn trouble_of(status: &NodeStatus) -> Option<DiskTrouble> {
    let is_stuck = !status.wal.writable;
    status.wal.trouble.or(is_stuck.then_some(DiskTrouble::Full))
}

/// What the map is to note when nothing is being moved.
fn housekeeping<S: Space>(members: &Members<S>, map: &ClusterMap) -> Option<MapCommand> {
    let returning = map
        .members()
        .find(|(node, entry)| entry.returning.is_some() && !map.holds_anything(*node));
    if let Some((node, _)) = returning {
        return Some(MapCommand::Readmit { node });
    }
    let leaving = map.members().find(|(node, _)| map.is_leaving(*node));
    let Some((node, _)) = leaving else {
        members.reconciling.lock().leaving = None;
        return None;
    };
    let present = monotonic_now();
    let since = {
        let known = &mut members.reconciling.lock().leaving;
        let since = known.filter(|(known, _)| *known == node);
        known.insert(since.unwrap_or((node, present))).1
    };
    let is_late = present.saturating_duration_since(since) >= LEAVING_PATIENCE;
    (is_late || down(members, map).contains(&node)).then_some(MapCommand::Remove { node })
}

async fn command_now<S: Space>(members: &Arc<Members<S>>, command: &MapCommand) -> bool {
    match execute_meta(members, command, monotonic_now() + COMMAND_WAIT).await {
        Ok(Ok(_)) => true,
        Ok(Err(refusal)) => {
            tracing::debug!(%refusal, ?command, "the cluster map refuses");
            false
        }
        Err(error) => {
            tracing::debug!(%error, "the cluster map cannot be changed just now");
            false
        }
    }
}

fn note<S: Space>(members: &Members<S>, activity: Option<String>) {
    let mut reconciling = members.reconciling.lock();
    if reconciling.activity != activity {
        if let Some(activity) = &activity {
            tracing::debug!(activity, "moving replicas");
        }
        reconciling.activity = activity;
    }
}

/// Takes the moving group one step further.
async fn move_on<S: Space>(
    members: &Arc<Members<S>>,
    map: &ClusterMap,
    partition: PartitionId,
    group: &GroupEntry,
    down: &BTreeSet<NodeId>,
) -> bool {
    let view = match ask_leader(members, group, partition, None).await {
        Ok(Some(view)) => view,
        Ok(None) => return false,
        Err(error) => {
            note(members, Some(format!("group {partition}: {error}")));
            return true;
        }
    };
    let wanted: BTreeSet<NodeId> = group.replicas.iter().copied().collect();
    let step = next_step(&wanted, &view, down);
    note(members, Some(format!("group {partition}: {step:?}")));
    if let Some(command) = give_up(members, map, partition, group, &view, &step, down) {
        return command_now(members, &command).await;
    }
    let change = match step {
        Step::Flatten => MembershipChange::Flatten,
        Step::AddLearner(node) => MembershipChange::AddLearner(node),
        Step::Promote(node) => MembershipChange::Promote(node),
        Step::TransferLeader(node) => MembershipChange::TransferLeader(node),
        Step::SetVoters(voters) => MembershipChange::SetVoters(voters),
        Step::DropLearner(node) => MembershipChange::DropLearner(node),
        Step::CatchUp { .. } | Step::NoQuorum => return true,
        Step::Settle => {
            let command = MapCommand::Settle {
                group: partition,
                epoch: group.epoch,
            };
            return command_now(members, &command).await;
        }
    };
    tracing::info!(%partition, ?change, "a group's membership is changed");
    if let Err(error) = ask_leader(members, group, partition, Some(change)).await {
        tracing::warn!(%partition, %error, "a group's membership could not be changed");
    }
    true
}

/// The command that takes a move back, when its target has been silent for too long and has no vote.
fn give_up<S: Space>(
    members: &Members<S>,
    map: &ClusterMap,
    partition: PartitionId,
    group: &GroupEntry,
    view: &GroupView,
    step: &Step,
    down: &BTreeSet<NodeId>,
) -> Option<MapCommand> {
    let mut reconciling = members.reconciling.lock();
    let target = match step {
        Step::AddLearner(node) | Step::CatchUp { node, .. }
            if down.contains(node) && !view.voters.contains(node) =>
        {
            *node
        }
        _ => {
            reconciling.silent = None;
            return None;
        }
    };
    let since = match reconciling.silent {
        Some((node, since)) if node == target => since,
        _ => {
            let now = monotonic_now();
            reconciling.silent = Some((target, now));
            now
        }
    };
    if monotonic_now().saturating_duration_since(since) < TARGET_PATIENCE {
        return None;
    }
    reconciling.silent = None;
    // What votes now, in the order of before where that is known.
    let mut replicas: Vec<NodeId> = group
        .holders()
        .filter(|node| view.voters.contains(node))
        .collect();
    let known = |node: &&NodeId| map.nodes.contains_key(node) && !replicas.contains(node);
    let others: Vec<NodeId> = view.voters.iter().filter(known).copied().collect();
    replicas.extend(others);
    tracing::warn!(%partition, target, "a move is taken back, its target does not answer");
    Some(MapCommand::Place {
        group: partition,
        replicas,
        epoch: group.epoch,
    })
}

/// Asks a group's leader, wherever it is.
async fn ask_leader<S: Space>(
    members: &Arc<Members<S>>,
    group: &GroupEntry,
    partition: PartitionId,
    change: Option<MembershipChange>,
) -> Result<Option<GroupView>, MembershipError> {
    let mut candidates: Vec<NodeId> = members.leader(partition).into_iter().collect();
    candidates.extend(group.holders());
    let mut last = MembershipError::NotLeader(None);
    let mut asked: BTreeSet<NodeId> = BTreeSet::new();
    while let Some(node) = candidates
        .iter()
        .copied()
        .find(|node| !asked.contains(node))
    {
        asked.insert(node);
        let request = GroupRequest {
            group: partition,
            change: change.clone(),
        };
        let reply: Option<GroupReply> = if node == members.node {
            Some(group_here(members, request).await)
        } else {
            members
                .ask(node, SERVICE_GROUP, &request, CHANGE_WAIT)
                .await
        };
        match reply {
            Some(Ok(view)) => {
                members.note_leader(partition, Some(node), 0);
                return Ok(view);
            }
            Some(Err(MembershipError::NotLeader(leader))) => {
                candidates.splice(0..0, leader);
            }
            Some(Err(error)) => return Err(error),
            // It may have been carried out: the next turn looks.
            None if change.is_some() => {
                last = MembershipError::Failed(format!("node {node} does not answer"));
            }
            None => {}
        }
    }
    Err(last)
}
