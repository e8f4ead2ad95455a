//! How well a grid is, from what its nodes say: a pure function, so that every consumer says the same.
//!
//! | state | a partition | a node |
//! |---|---|---|
//! | healthy | a leader with its majority; every voter answers, serves, and is in step | answers, takes writes, reaches all others, every replica serves |
//! | degraded | a leader with its majority takes writes, but some voter is away, stopped or behind | serves, but something of that is missing |
//! | read-only | no writes: no leader has a majority, or the leader's log has no room; at least one replica still answers queries with the position it reflects | its log takes no writes |
//! | unavailable | no replica that answers serves | does not answer |
//!
//! The grid is as its worst partition is; with all partitions healthy and some node not, it is degraded.

use std::collections::BTreeMap;
use std::fmt;

use grid_core::PartitionId;
use serde::{Deserialize, Serialize};

use crate::node::NodeId;
use crate::status::{DiskTrouble, NodeReport, NodeStatus, ReplicaRole, ReplicaStatus};

/// A replica with more entries than this to catch up on is not in step.
pub const LAG_ENTRIES_MAX: u64 = 2_000;
/// A leader's majority may be silent this long where the node does not say how long its lease is.
const LEASE_MS_UNKNOWN: u64 = 1_000;

/// See the module's table. Ordered from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the module's table defines them")]
pub enum HealthState {
    Healthy,
    Degraded,
    ReadOnly,
    Unavailable,
}

impl fmt::Display for HealthState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::ReadOnly => "read-only",
            Self::Unavailable => "unavailable",
        })
    }
}

/// A change of where replicas are that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The nodes that are being added.
    pub joining: Vec<NodeId>,
    /// Whether the voters are being changed just now.
    pub voters_change: bool,
}

/// A partition's health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionHealth {
    /// The partition.
    pub partition: PartitionId,
    /// Its state.
    pub state: HealthState,
    /// Who leads it with a majority.
    pub leader: Option<NodeId>,
    /// The leader's term, or the highest that is known.
    pub term: u64,
    /// The nodes whose replicas vote.
    pub voters: Vec<NodeId>,
    /// Entries that each other voter has not got yet, by the leader's account.
    pub lag_entries: BTreeMap<NodeId, u64>,
    /// What is being moved.
    pub moving: Option<Move>,
    /// Why it is not healthy.
    pub reasons: Vec<String>,
}

/// A node's health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeHealth {
    /// The node.
    pub node_id: NodeId,
    /// Its state.
    pub state: HealthState,
    /// Partitions that it leads.
    pub leads: usize,
    /// Why it is not healthy.
    pub reasons: Vec<String>,
}

/// A grid's health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GridHealth {
    /// The whole.
    pub state: HealthState,
    /// By node.
    pub nodes: Vec<NodeHealth>,
    /// By partition.
    pub partitions: Vec<PartitionHealth>,
}

/// Whether a replica answers queries and takes part.
fn serves(replica: &ReplicaStatus) -> bool {
    let diverged = replica
        .divergence
        .as_ref()
        .is_some_and(|found| found.decided);
    replica.fault.is_none() && !diverged && replica.role != ReplicaRole::Stopped
}

fn has_quorum(status: &NodeStatus, replica: &ReplicaStatus) -> bool {
    let lease_ms = match status.lease_ms {
        0 => LEASE_MS_UNKNOWN,
        known => known,
    };
    // A group of one has nobody to hear from.
    replica.voters.len() == 1 || replica.quorum_silent_ms.is_some_and(|ms| ms <= lease_ms)
}

/// Judges a grid by what its nodes say.
#[must_use]
pub fn assess(reports: &[NodeReport], partitions: u32) -> GridHealth {
    let partitions: Vec<_> = (0..partitions)
        .map(|id| assess_partition(reports, PartitionId(id)))
        .collect();
    let nodes: Vec<_> = reports
        .iter()
        .map(|report| assess_node(report, &partitions))
        .collect();
    let worst = partitions.iter().map(|found| found.state).max();
    let mut state = worst.unwrap_or(HealthState::Healthy);
    if nodes.iter().any(|node| node.state > HealthState::Healthy) {
        state = state.max(HealthState::Degraded);
    }
    GridHealth {
        state,
        nodes,
        partitions,
    }
}

fn assess_node(report: &NodeReport, partitions: &[PartitionHealth]) -> NodeHealth {
    let node_id = report.node_id;
    let leads = partitions
        .iter()
        .filter(|partition| partition.leader == Some(node_id))
        .count();
    let Some(status) = &report.status else {
        return NodeHealth {
            node_id,
            state: HealthState::Unavailable,
            leads,
            reasons: vec!["it does not answer".to_owned()],
        };
    };
    let mut state = HealthState::Healthy;
    let mut reasons = Vec::new();
    let mut note = |worse: HealthState, reason: String| {
        state = state.max(worse);
        reasons.push(reason);
    };
    if !status.wal.writable {
        let reason = "its log takes no writes: it failed, or the disk has no room";
        note(HealthState::ReadOnly, reason.to_owned());
    }
    if status.wal.trouble == Some(DiskTrouble::Slow) {
        let ms = status.wal.usual_sync_us.unwrap_or(0) / 1_000;
        let reason = format!("its disk is slow ({ms} ms a sync); others lead in its place");
        note(HealthState::Degraded, reason);
    }
    let damaged = status.wal.scrub.damaged.iter();
    for found in damaged.filter(|found| found.repaired_at_ms.is_none()) {
        let reason = format!("a stored file is damaged: {}: {}", found.file, found.what);
        note(HealthState::Degraded, reason);
    }
    if !status.unreachable.is_empty() {
        let nodes = list(&status.unreachable);
        note(HealthState::Degraded, format!("it cannot reach {nodes}"));
    }
    for replica in status.replicas.iter().filter(|replica| !serves(replica)) {
        let partition = replica.partition;
        let why = why_not(replica);
        note(
            HealthState::Degraded,
            format!("partition {partition} {why}"),
        );
    }
    NodeHealth {
        node_id,
        state,
        leads,
        reasons,
    }
}

fn why_not(replica: &ReplicaStatus) -> String {
    match (&replica.divergence, &replica.fault) {
        (Some(found), _) if found.decided => format!("differs from index {} on", found.index),
        (_, Some(fault)) => format!("has stopped: {fault}"),
        _ => "has stopped".to_owned(),
    }
}

fn list(nodes: &[NodeId]) -> String {
    let nodes: Vec<String> = nodes.iter().map(|node| format!("node {node}")).collect();
    nodes.join(", ")
}

fn assess_partition(reports: &[NodeReport], partition: PartitionId) -> PartitionHealth {
    let known: Vec<(&NodeStatus, &ReplicaStatus)> = reports
        .iter()
        .filter_map(|report| report.status.as_ref())
        .flat_map(|status| status.replicas.iter().map(move |replica| (status, replica)))
        .filter(|(_, replica)| replica.partition == partition)
        .collect();
    let leader = known
        .iter()
        .filter(|(status, replica)| {
            replica.role == ReplicaRole::Leader && serves(replica) && has_quorum(status, replica)
        })
        .max_by_key(|(_, replica)| replica.term)
        .copied();
    // Without a leader the replica with the newest term knows the voters best.
    let newest = known
        .iter()
        .max_by_key(|(_, replica)| replica.term)
        .copied();
    let (_, reference) = match leader.or(newest) {
        Some(found) => found,
        None => return nobody_answers(partition),
    };
    let mut found = PartitionHealth {
        partition,
        state: HealthState::Healthy,
        leader: leader.map(|(status, _)| status.node_id),
        term: reference.term,
        voters: reference.voters.clone(),
        lag_entries: BTreeMap::new(),
        moving: moving(reference),
        reasons: Vec::new(),
    };
    for &voter in &reference.voters {
        note_voter(&mut found, &known, leader, voter);
    }
    match leader {
        None => {
            let can_answer = known.iter().any(|(_, replica)| serves(replica));
            found.state = if can_answer {
                HealthState::ReadOnly
            } else {
                HealthState::Unavailable
            };
            let away = reference.voters.len() - answering(&known, &reference.voters);
            found.reasons.push(if 2 * away >= reference.voters.len() {
                "no majority of its voters answers".to_owned()
            } else {
                "it has no leader: an election is under way".to_owned()
            });
        }
        Some((status, _)) if !status.wal.writable => {
            found.state = HealthState::ReadOnly;
            let node = status.node_id;
            found.reasons.push(format!(
                "the log of its leader, node {node}, takes no writes"
            ));
        }
        Some(_) => {}
    }
    found
}

fn nobody_answers(partition: PartitionId) -> PartitionHealth {
    PartitionHealth {
        partition,
        state: HealthState::Unavailable,
        leader: None,
        term: 0,
        voters: Vec::new(),
        lag_entries: BTreeMap::new(),
        moving: None,
        reasons: vec!["no node with a replica of it answers".to_owned()],
    }
}

fn moving(reference: &ReplicaStatus) -> Option<Move> {
    let is_moving = reference.voters_change || !reference.learners.is_empty();
    is_moving.then(|| Move {
        joining: reference.learners.clone(),
        voters_change: reference.voters_change,
    })
}

fn answering(known: &[(&NodeStatus, &ReplicaStatus)], voters: &[NodeId]) -> usize {
    voters
        .iter()
        .filter(|voter| known.iter().any(|(status, _)| status.node_id == **voter))
        .count()
}

fn note_voter(
    found: &mut PartitionHealth,
    known: &[(&NodeStatus, &ReplicaStatus)],
    leader: Option<(&NodeStatus, &ReplicaStatus)>,
    voter: NodeId,
) {
    let mut degrade = |reason: String| {
        found.state = found.state.max(HealthState::Degraded);
        found.reasons.push(reason);
    };
    let replica = known.iter().find(|(status, _)| status.node_id == voter);
    match replica {
        None => degrade(format!("node {voter} does not answer")),
        Some((_, replica)) if !serves(replica) => {
            degrade(format!("its replica on node {voter} {}", why_not(replica)));
        }
        Some((_, replica)) if replica.divergence.is_some() => {
            degrade(format!(
                "its replica on node {voter} or another one differs from the rest, undecided"
            ));
        }
        Some(_) => {}
    }
    let Some((status, lead)) = leader.filter(|(status, _)| status.node_id != voter) else {
        return;
    };
    let matched = lead
        .followers
        .iter()
        .find(|follower| follower.node_id == voter)
        .map_or(0, |follower| follower.matched_index);
    let lag = lead.last_log_index.saturating_sub(matched);
    if lag > LAG_ENTRIES_MAX && replica.is_some() {
        let leader = status.node_id;
        degrade(format!(
            "node {voter} is {lag} entries behind its leader, node {leader}"
        ));
    }
    found.lag_entries.insert(voter, lag);
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
