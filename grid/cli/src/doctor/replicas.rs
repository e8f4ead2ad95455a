//! Replicas: different, stopped, behind; partitions without a majority.

use grid::health::{LAG_ENTRIES_MAX, PartitionHealth};
use grid::{Divergence, ReplicaStatus};

use super::facts::{Facts, node_list};
use super::{Finding, Severity};

pub(super) fn check(facts: &Facts, findings: &mut Vec<Finding>) {
    for (id, status) in facts.statuses() {
        for replica in &status.replicas {
            findings.extend(diverged(id, replica));
            findings.extend(stopped(id, replica));
        }
    }
    without_leader(facts, findings);
    findings.extend(lagging(facts));
}

fn diverged(id: u64, replica: &ReplicaStatus) -> Option<Finding> {
    let found = replica.divergence.as_ref()?;
    let partition = replica.partition;
    Some(match found.decided {
        true => Finding {
            code: "diverged_replica",
            severity: Severity::Critical,
            subject: format!("partition {partition} on node {id}"),
            cause: format!(
                "its state differs from the other replicas' at log index {}; it has stopped serving",
                found.index
            ),
            evidence: hashes(found),
            action: format!("`grid partition rebuild --partition {partition} --node {id}`"),
        },
        false => Finding {
            code: "divergence_undecided",
            severity: Severity::Critical,
            subject: format!("partition {partition}, led by node {id}"),
            cause: format!(
                "two replicas differ at log index {}, and no third one can say which is right",
                found.index
            ),
            evidence: hashes(found),
            action: "bring the missing replicas back; they decide it by themselves".to_owned(),
        },
    })
}

fn hashes(found: &Divergence) -> Vec<String> {
    vec![
        format!("this replica's hash:  {}", found.own_hash),
        format!("the other's hash:     {}", found.other_hash),
    ]
}

fn stopped(id: u64, replica: &ReplicaStatus) -> Option<Finding> {
    let fault = replica.fault.as_ref()?;
    let partition = replica.partition;
    Some(Finding {
        code: "stopped_replica",
        severity: Severity::Critical,
        subject: format!("partition {partition} on node {id}"),
        cause: "the replica met something it could not apply or store, and stopped".to_owned(),
        evidence: vec![fault.clone()],
        action: format!(
            "start node {id} again; if it stops again with the same words, move its directory away \
             and let it rejoin"
        ),
    })
}

fn without_leader(facts: &Facts, findings: &mut Vec<Finding>) {
    let answers = |voter: &&u64| facts.statuses().any(|(id, _)| id == **voter);
    let (electing, lost): (Vec<_>, Vec<_>) = facts
        .health
        .partitions
        .iter()
        .filter(|partition| partition.leader.is_none())
        .partition(|partition| {
            let voters = &partition.voters;
            2 * voters.iter().filter(answers).count() > voters.len()
        });
    let answering: Vec<u64> = facts.statuses().map(|(id, _)| id).collect();
    let evidence = |partitions: &[&PartitionHealth]| {
        let ids: Vec<String> = partitions
            .iter()
            .map(|partition| partition.partition.to_string())
            .collect();
        let voters = partitions.first().map(|first| node_list(&first.voters));
        vec![
            format!("partitions {}", ids.join(", ")),
            format!("voters of the first: {}", voters.unwrap_or_default()),
            format!("nodes that answer: {}", node_list(&answering)),
        ]
    };
    if !lost.is_empty() {
        findings.push(Finding {
            code: "no_quorum",
            severity: Severity::Critical,
            subject: format!("{} of the partitions", lost.len()),
            cause: "most of their voters do not answer, so they take no writes".to_owned(),
            evidence: evidence(&lost),
            action: "bring nodes back until a majority of the voters runs; an election then takes \
                     about a second"
                .to_owned(),
        });
    }
    if !electing.is_empty() {
        findings.push(Finding {
            code: "no_leader",
            severity: Severity::Critical,
            subject: format!("{} of the partitions", electing.len()),
            cause: "they have no leader although most of their voters run: an election is under \
                    way, or the voters cannot reach each other"
                .to_owned(),
            evidence: evidence(&electing),
            action: "look again in some seconds; if it stays so, see to the network between the \
                     nodes and to their disks"
                .to_owned(),
        });
    }
}

fn lagging(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (id, _) in facts.statuses() {
        let behind: Vec<(u32, u64)> = facts
            .health
            .partitions
            .iter()
            .filter_map(|partition| {
                let lag = *partition.lag_entries.get(&id)?;
                (lag > LAG_ENTRIES_MAX).then_some((partition.partition.0, lag))
            })
            .collect();
        // A node that cannot be reached lags by itself.
        if behind.is_empty() || !facts.cut_off_from(id).is_empty() {
            continue;
        }
        findings.push(Finding {
            code: "lagging_replica",
            severity: Severity::Warning,
            subject: format!("node {id}"),
            cause:
                "its replicas are behind their leaders; until it has caught up another fault may \
                    cost a majority"
                    .to_owned(),
            evidence: behind
                .iter()
                .take(8)
                .map(|(partition, lag)| format!("partition {partition}: {lag} entries"))
                .collect(),
            action:
                "watch it catch up with `grid status --watch`; if it does not, look at its disk \
                     and processor"
                    .to_owned(),
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use grid::ReplicaRole;

    use super::super::examine;
    use super::super::facts::GatewayAnswer;
    use super::super::fixtures::{by_code, healthy, node, reassess};
    use super::*;

    fn divergence(decided: bool) -> Divergence {
        Divergence {
            index: 4_711,
            own_hash: "aa".to_owned(),
            other_hash: "bb".to_owned(),
            noticed_at_ms: 0,
            decided,
        }
    }

    #[test]
    fn a_diverged_replica_is_named_with_place_and_hashes_and_the_command() {
        let mut facts = healthy();
        node(&mut facts, 3).replicas[0].divergence = Some(divergence(true));
        reassess(&mut facts);
        let findings = examine(&facts);
        assert_eq!(findings.len(), 1, "{findings:#?}");
        let finding = &findings[0];
        assert_eq!(finding.code, "diverged_replica");
        assert_eq!(finding.subject, "partition 0 on node 3");
        assert!(finding.cause.contains("4711"));
        assert!(finding.evidence[0].contains("aa") && finding.evidence[1].contains("bb"));
        assert!(
            finding
                .action
                .contains("grid partition rebuild --partition 0 --node 3")
        );
    }

    #[test]
    fn two_that_differ_without_a_third_are_undecided() {
        let mut facts = healthy();
        node(&mut facts, 1).replicas[0].divergence = Some(divergence(false));
        let finding = by_code(&facts, "divergence_undecided");
        assert_eq!(finding.severity, Severity::Critical);
    }

    #[test]
    fn a_stopped_replica_says_why() {
        let mut facts = healthy();
        node(&mut facts, 2).replicas[1].fault = Some("entry 7 is unreadable".to_owned());
        reassess(&mut facts);
        let finding = by_code(&facts, "stopped_replica");
        assert_eq!(finding.subject, "partition 1 on node 2");
        assert_eq!(finding.evidence, ["entry 7 is unreadable"]);
    }

    #[test]
    fn a_lost_majority_is_named_beside_the_dead_nodes() {
        let mut facts = healthy();
        for id in [2, 3] {
            let dead = facts.nodes.get_mut(&id).expect("three");
            dead.gateway = GatewayAnswer::Refused("Connection refused".to_owned());
            dead.status = None;
        }
        for replica in &mut node(&mut facts, 1).replicas {
            replica.role = ReplicaRole::Candidate;
        }
        reassess(&mut facts);
        assert_eq!(by_code(&facts, "no_quorum").severity, Severity::Critical);
        let dead = examine(&facts)
            .into_iter()
            .filter(|finding| finding.code == "dead_node");
        assert!(
            dead.clone().count() == 2 && dead.into_iter().all(|f| f.severity == Severity::Critical)
        );
    }

    #[test]
    fn an_election_is_told_from_a_lost_majority() {
        let mut facts = healthy();
        node(&mut facts, 1).replicas[0].role = ReplicaRole::Candidate;
        reassess(&mut facts);
        assert_eq!(by_code(&facts, "no_leader").subject, "1 of the partitions");
    }

    #[test]
    fn a_replica_behind_is_told_unless_it_is_cut_off() {
        let mut facts = healthy();
        let leader = &mut node(&mut facts, 1).replicas[0];
        leader.last_log_index += LAG_ENTRIES_MAX + 100;
        leader.followers[0].matched_index = leader.last_log_index;
        reassess(&mut facts);
        assert_eq!(
            by_code(&facts, "lagging_replica").severity,
            Severity::Warning
        );
        node(&mut facts, 1).unreachable = vec![2, 3];
        assert!(lagging(&facts).is_empty());
    }
}
