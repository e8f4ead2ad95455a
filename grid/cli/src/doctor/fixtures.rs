//! A healthy grid of three nodes and three partitions, to be broken by the checks' tests.

use std::collections::BTreeMap;

use data_pump::pump::LaneStatus;
use grid::{
    BacklogStatus, FollowerStatus, NodeReport, NodeStatus, ReplicaRole, ReplicaStatus, ScrubStatus,
    WalStatus, health,
};
use grid_core::PartitionId;

use super::facts::{DatabaseFacts, Facts, GatewayAnswer, NodeFacts};
use super::{Finding, examine};
use crate::cluster::{ATTACHED_PUMP, AttachedPump};

const NODES: [u64; 3] = [1, 2, 3];
const SEGMENT_BYTES: u64 = 64 << 20;

fn replica(partition: u32, node: u64) -> ReplicaStatus {
    let leader = u64::from(partition) + 1;
    let leads = node == leader;
    let followers = NODES.into_iter().filter(|id| leads && *id != node);
    ReplicaStatus {
        partition: PartitionId(partition),
        role: if leads {
            ReplicaRole::Leader
        } else {
            ReplicaRole::Follower
        },
        term: 2,
        leader: Some(leader),
        last_log_index: 100,
        applied_index: 100,
        snapshot_index: 0,
        purged_index: 0,
        pumped_index: 100,
        state_hash: "cc".to_owned(),
        remembered_commands: 0,
        proposal_queue: 0,
        refuses_new: false,
        fault: None,
        voters: NODES.to_vec(),
        learners: Vec::new(),
        voters_change: false,
        quorum_silent_ms: leads.then_some(5),
        followers: followers
            .map(|node_id| FollowerStatus {
                node_id,
                matched_index: 100,
                silent_ms: Some(5),
            })
            .collect(),
        compared_index: leads.then_some(90),
        divergence: None,
        snapshots: Vec::new(),
    }
}

fn status(node: u64) -> NodeStatus {
    NodeStatus {
        node_id: node,
        grid_id: "g".to_owned(),
        version: "0.1.0".to_owned(),
        rules_known: 1,
        rules_followed: 1,
        uptime_ms: 100_000,
        clock_ms: 1_000,
        lease_ms: 1_200,
        start: None,
        draining: false,
        backlog: BacklogStatus::default(),
        wal: WalStatus {
            segments: 2,
            bytes: 2 * SEGMENT_BYTES,
            syncs: 10,
            last_sync_us: 900,
            slowest_sync_us: 3_000,
            pinned_by: None,
            writable: true,
            spare_ready: true,
            segment_bytes: SEGMENT_BYTES,
            disk_free_bytes: Some(100 << 30),
            disk_total_bytes: Some(200 << 30),
            disk_reserve_bytes: 256 << 20,
            usual_sync_us: Some(900),
            trouble: None,
            scrub: ScrubStatus::default(),
        },
        replicas: (0..3).map(|partition| replica(partition, node)).collect(),
        unreachable: Vec::new(),
        refusals: Vec::new(),
        encrypted: false,
        refused_connections: BTreeMap::new(),
        gateways: Vec::new(),
        attached: BTreeMap::new(),
    }
}

/// A lane that writes.
pub(super) fn lanes() -> Vec<LaneStatus> {
    vec![LaneStatus {
        active: true,
        checkpoint_index: Some(100),
        behind_entries: Some(0),
        ..LaneStatus::new(PartitionId(0))
    }]
}

/// Nothing is wrong with it.
pub(super) fn healthy() -> Facts {
    let nodes = NODES
        .into_iter()
        .map(|id| {
            let facts = NodeFacts {
                gateway_url: Some(format!("http://127.0.0.1:770{id}")),
                gateway: GatewayAnswer::Answered,
                status: Some(status(id)),
                clock_ahead_ms: Some((0, 1)),
            };
            (id, facts)
        })
        .collect();
    let mut facts = Facts {
        nodes,
        health: health::assess(&[], 0),
        database: DatabaseFacts::Running {
            parked: 0,
            examples: Vec::new(),
        },
    };
    for id in NODES {
        set_lanes(&mut facts, id, lanes());
    }
    reassess(&mut facts);
    facts
}

/// A node's status, to be changed.
pub(super) fn node(facts: &mut Facts, id: u64) -> &mut NodeStatus {
    let node = facts.nodes.get_mut(&id).expect("one of three");
    node.status.as_mut().expect("it answers")
}

/// Makes a node lead a partition.
pub(super) fn lead(facts: &mut Facts, id: u64, partition: u32) {
    let mut led = replica(0, 1);
    led.partition = PartitionId(partition);
    led.term += 1;
    for follower in &mut led.followers {
        follower.matched_index = led.last_log_index;
    }
    node(facts, id).replicas[partition as usize] = led;
}

/// Gives a node's pump other lanes.
pub(super) fn set_lanes(facts: &mut Facts, id: u64, lanes: Vec<LaneStatus>) {
    let pump = AttachedPump {
        wanted: true,
        lanes,
    };
    let pump = serde_json::to_value(pump).expect("plain");
    node(facts, id)
        .attached
        .insert(ATTACHED_PUMP.to_owned(), pump);
}

/// Judges anew after a change.
pub(super) fn reassess(facts: &mut Facts) {
    let reports: Vec<NodeReport> = facts
        .nodes
        .iter()
        .map(|(&node_id, node)| NodeReport {
            node_id,
            status: node.status.clone(),
            round_trip_ms: None,
            clock_ahead_ms: None,
        })
        .collect();
    facts.health = health::assess(&reports, 3);
}

/// The only finding with a code.
pub(super) fn by_code(facts: &Facts, code: &str) -> Finding {
    let findings = examine(facts);
    let mut found = findings.iter().filter(|finding| finding.code == code);
    match (found.next(), found.next()) {
        (Some(only), None) => only.clone(),
        _ => panic!("one `{code}`, not {findings:#?}"),
    }
}
