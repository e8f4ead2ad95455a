//! One case a state, each by changing one thing of a healthy grid of three.

use super::*;
use crate::status::{Divergence, FollowerStatus, WalStatus};

fn replica(role: ReplicaRole) -> ReplicaStatus {
    let is_leader = role == ReplicaRole::Leader;
    ReplicaStatus {
        partition: PartitionId(0),
        role,
        term: 3,
        leader: Some(1),
        last_log_index: 10_000,
        applied_index: 10_000,
        snapshot_index: 0,
        purged_index: 0,
        pumped_index: 0,
        state_hash: String::new(),
        remembered_commands: 0,
        proposal_queue: 0,
        refuses_new: false,
        fault: None,
        voters: vec![1, 2, 3],
        learners: Vec::new(),
        voters_change: false,
        quorum_silent_ms: is_leader.then_some(10),
        followers: [2, 3]
            .into_iter()
            .filter(|_| is_leader)
            .map(|node_id| FollowerStatus {
                node_id,
                matched_index: 9_990,
                silent_ms: Some(10),
            })
            .collect(),
        compared_index: None,
        divergence: None,
        snapshots: Vec::new(),
    }
}

fn grid() -> Vec<NodeReport> {
    (1..=3)
        .map(|node_id| NodeReport {
            node_id,
            status: Some(NodeStatus {
                node_id,
                grid_id: String::new(),
                version: "1".to_owned(),
                rules_known: 1,
                rules_followed: 1,
                uptime_ms: 1,
                clock_ms: 1,
                lease_ms: 1_200,
                start: None,
                draining: false,
                backlog: crate::status::BacklogStatus::default(),
                wal: WalStatus {
                    writable: true,
                    ..WalStatus::default()
                },
                replicas: vec![replica(match node_id {
                    1 => ReplicaRole::Leader,
                    _ => ReplicaRole::Follower,
                })],
                unreachable: Vec::new(),
                refusals: Vec::new(),
                encrypted: false,
                refused_connections: BTreeMap::new(),
                gateways: Vec::new(),
                attached: BTreeMap::new(),
            }),
            round_trip_ms: None,
            clock_ahead_ms: None,
        })
        .collect()
}

fn status(reports: &mut [NodeReport], node: usize) -> &mut NodeStatus {
    reports[node - 1].status.as_mut().expect("it answers")
}

fn only(health: &GridHealth) -> &PartitionHealth {
    &health.partitions[0]
}

#[test]
fn a_grid_without_a_flaw_is_healthy() {
    let health = assess(&grid(), 1);
    assert_eq!(health.state, HealthState::Healthy, "{health:?}");
    assert_eq!(only(&health).leader, Some(1));
    assert_eq!(
        only(&health).lag_entries,
        BTreeMap::from([(2, 10), (3, 10)])
    );
    assert_eq!(health.nodes[0].leads, 1);
}

#[test]
fn a_voter_that_is_away_degrades() {
    let mut reports = grid();
    reports[2].status = None;
    let health = assess(&reports, 1);
    assert_eq!(only(&health).state, HealthState::Degraded);
    assert_eq!(health.nodes[2].state, HealthState::Unavailable);
    assert_eq!(only(&health).reasons, ["node 3 does not answer"]);
}

#[test]
fn a_voter_that_lags_or_differs_degrades() {
    let mut reports = grid();
    status(&mut reports, 1).replicas[0].followers[1].matched_index = 10_000 - LAG_ENTRIES_MAX - 1;
    let health = assess(&reports, 1);
    assert_eq!(only(&health).state, HealthState::Degraded);
    assert!(only(&health).reasons[0].contains("behind"), "{health:?}");

    let mut reports = grid();
    status(&mut reports, 2).replicas[0].divergence = Some(Divergence {
        index: 77,
        own_hash: "a".to_owned(),
        other_hash: "b".to_owned(),
        noticed_at_ms: 0,
        decided: true,
    });
    let health = assess(&reports, 1);
    assert_eq!(only(&health).state, HealthState::Degraded);
    assert!(only(&health).reasons[0].contains("77"), "{health:?}");
    assert_eq!(health.nodes[1].state, HealthState::Degraded);
}

#[test]
fn a_difference_that_is_not_decided_degrades_too() {
    let mut reports = grid();
    status(&mut reports, 1).replicas[0].divergence = Some(Divergence {
        index: 77,
        own_hash: "a".to_owned(),
        other_hash: "b".to_owned(),
        noticed_at_ms: 0,
        decided: false,
    });
    let health = assess(&reports, 1);
    assert_eq!(only(&health).state, HealthState::Degraded);
    assert_eq!(only(&health).leader, Some(1), "it goes on serving");
}

#[test]
fn without_a_majority_it_is_read_only() {
    let mut reports = grid();
    reports[1].status = None;
    reports[2].status = None;
    // The old leader does not know yet that it is alone.
    status(&mut reports, 1).replicas[0].quorum_silent_ms = Some(60_000);
    let health = assess(&reports, 1);
    assert_eq!(only(&health).state, HealthState::ReadOnly);
    assert_eq!(only(&health).leader, None);
    assert!(
        only(&health)
            .reasons
            .iter()
            .any(|reason| reason.contains("majority")),
        "{health:?}"
    );
}

#[test]
fn a_full_disk_of_the_leader_makes_it_read_only_and_of_a_follower_does_not() {
    let mut reports = grid();
    status(&mut reports, 1).wal.writable = false;
    let health = assess(&reports, 1);
    assert_eq!(only(&health).state, HealthState::ReadOnly);
    assert_eq!(health.nodes[0].state, HealthState::ReadOnly);

    let mut reports = grid();
    status(&mut reports, 2).wal.writable = false;
    let health = assess(&reports, 1);
    assert_eq!(only(&health).state, HealthState::Healthy);
    assert_eq!(health.state, HealthState::Degraded, "the node is not well");
}

#[test]
fn with_nobody_to_ask_it_is_unavailable() {
    let mut reports = grid();
    for report in &mut reports {
        report.status = None;
    }
    assert_eq!(assess(&reports, 1).state, HealthState::Unavailable);

    let mut reports = grid();
    for node in 1..=3 {
        status(&mut reports, node).replicas[0].fault = Some("damaged".to_owned());
    }
    assert_eq!(only(&assess(&reports, 1)).state, HealthState::Unavailable);
}

#[test]
fn an_election_is_told_from_a_lost_majority() {
    let mut reports = grid();
    for node in 1..=3 {
        let replica = &mut status(&mut reports, node).replicas[0];
        replica.role = ReplicaRole::Follower;
        replica.leader = None;
    }
    let health = assess(&reports, 1);
    assert_eq!(only(&health).state, HealthState::ReadOnly);
    assert!(only(&health).reasons[0].contains("election"), "{health:?}");
}

#[test]
fn a_learner_is_a_move() {
    let mut reports = grid();
    status(&mut reports, 1).replicas[0].learners = vec![4];
    let health = assess(&reports, 1);
    let joining = only(&health)
        .moving
        .as_ref()
        .map(|moving| moving.joining.clone());
    assert_eq!(joining, Some(vec![4]));
    assert_eq!(only(&health).state, HealthState::Healthy);
}
