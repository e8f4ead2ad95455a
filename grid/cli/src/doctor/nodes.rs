//! Nodes: dead, silent, cut off, refused, of another version, with another clock.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Facts, GatewayAnswer, NodeFacts, node_list};
use super::{Finding, Severity};

/// Clocks further apart than this are worth a warning: holds and auctions end by the leader's clock.
const SKEW_WARNING_MS: i64 = 500;
/// And this far apart a change of leader visibly moves them.
const SKEW_CRITICAL_MS: i64 = 5_000;
/// An answer that took longer says too little of a clock.
const ROUND_TRIP_MAX_MS: u64 = 400;
/// A leader more than this share above its fair one, in percent, and by two at least, has too many.
const LEADERS_ABOVE_FAIR_PERCENT: usize = 100;

pub(super) fn check(facts: &Facts, findings: &mut Vec<Finding>) {
    for (&id, node) in &facts.nodes {
        findings.extend(away(facts, id, node));
    }
    findings.extend(cut_off(facts));
    findings.extend(refused(facts));
    findings.extend(clocks(facts));
    findings.extend(versions(facts));
    findings.extend(rules(facts));
    findings.extend(leaders(facts));
}

/// Whether losing the node costs some partition its majority.
fn severity_of_loss(facts: &Facts) -> Severity {
    let mut partitions = facts.health.partitions.iter();
    if partitions.any(|partition| partition.leader.is_none()) {
        Severity::Critical
    } else {
        Severity::Warning
    }
}

fn away(facts: &Facts, id: u64, node: &NodeFacts) -> Option<Finding> {
    let unreached_by = facts.cut_off_from(id);
    let mut evidence = Vec::new();
    if !unreached_by.is_empty() {
        evidence.push(format!("{} cannot reach it", node_list(&unreached_by)));
    }
    let place = match &node.gateway_url {
        Some(url) => format!(" at {url}"),
        None => String::new(),
    };
    match &node.gateway {
        GatewayAnswer::Answered => None,
        GatewayAnswer::Refused(error) => {
            evidence.insert(0, format!("its gateway{place}: {error}"));
            // Its peers reach it, so it is the gateway alone.
            if node.status.is_some() {
                return Some(Finding {
                    code: "gateway_unreachable",
                    severity: Severity::Warning,
                    subject: format!("node {id}"),
                    cause: "the node runs, but its gateway cannot be reached from here".to_owned(),
                    evidence,
                    action: "check the address and the firewall; name the gateways with --url"
                        .to_owned(),
                });
            }
            Some(dead(facts, id, "its process does not run", evidence))
        }
        GatewayAnswer::Silent(error) => {
            evidence.insert(0, format!("its gateway{place}: {error}"));
            Some(Finding {
                code: "silent_node",
                severity: severity_of_loss(facts),
                subject: format!("node {id}"),
                cause: "its process takes connections but does not answer: it is stopped \
                        (SIGSTOP, a debugger), starved, or hangs"
                    .to_owned(),
                evidence,
                action: format!(
                    "look at the process with `ps`; continue it with `kill -CONT`, or end it and \
                     let it be started again (its process number is in node-{id}/node.pid)"
                ),
            })
        }
        GatewayAnswer::Unknown if node.status.is_none() => {
            let cause = "no node can reach it, and its gateway's address is not known";
            Some(dead(facts, id, cause, evidence))
        }
        GatewayAnswer::Unknown => None,
    }
}

fn dead(facts: &Facts, id: u64, cause: &str, evidence: Vec<String>) -> Finding {
    Finding {
        code: "dead_node",
        severity: severity_of_loss(facts),
        subject: format!("node {id}"),
        cause: cause.to_owned(),
        evidence,
        action: format!(
            "start it again: `grid up` does so by itself, else run its `grid node --node-id {id} …`; \
             the end of node-{id}/node.log says why it stopped"
        ),
    }
}

/// Pairs of running nodes of which the first cannot reach the second.
fn broken_ways(facts: &Facts) -> BTreeSet<(u64, u64)> {
    let runs: BTreeSet<u64> = facts.statuses().map(|(id, _)| id).collect();
    facts
        .statuses()
        .flat_map(|(from, status)| status.unreachable.iter().map(move |to| (from, *to)))
        .filter(|(_, to)| runs.contains(to))
        .collect()
}

/// Nodes that run while the network keeps them from others. The node that most broken ways have in
/// common is the one to look at.
fn cut_off(facts: &Facts) -> Vec<Finding> {
    let mut ways = broken_ways(facts);
    // A node whose process is silent has a finding already.
    ways.retain(|(from, to)| {
        let is_silent = |id| {
            let node = facts.nodes.get(id);
            node.is_some_and(|node| matches!(node.gateway, GatewayAnswer::Silent(_)))
        };
        !is_silent(from) && !is_silent(to)
    });
    let mut findings = Vec::new();
    while !ways.is_empty() {
        let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
        for (from, to) in &ways {
            *counts.entry(*from).or_default() += 1;
            *counts.entry(*to).or_default() += 1;
        }
        let most = counts.iter().max_by_key(|(id, count)| (**count, **id));
        let Some((&id, _)) = most else { break };
        let cannot_reach: Vec<u64> = pick(&ways, |(from, to)| (*from == id).then_some(*to));
        let unreached_by: Vec<u64> = pick(&ways, |(from, to)| (*to == id).then_some(*from));
        ways.retain(|(from, to)| *from != id && *to != id);
        findings.push(partitioned(facts, id, &cannot_reach, &unreached_by));
    }
    findings
}

fn pick(ways: &BTreeSet<(u64, u64)>, of: impl Fn(&(u64, u64)) -> Option<u64>) -> Vec<u64> {
    ways.iter().filter_map(of).collect()
}

fn partitioned(facts: &Facts, id: u64, cannot_reach: &[u64], unreached_by: &[u64]) -> Finding {
    let mut evidence = vec![format!("node {id} runs and says how it is")];
    if !cannot_reach.is_empty() {
        evidence.push(format!("it cannot reach {}", node_list(cannot_reach)));
    }
    if !unreached_by.is_empty() {
        evidence.push(format!("{} cannot reach it", node_list(unreached_by)));
    }
    let way = match (cannot_reach.is_empty(), unreached_by.is_empty()) {
        (false, false) => "in both directions",
        (false, true) => "from it to them only",
        _ => "from them to it only",
    };
    Finding {
        code: "partitioned_node",
        severity: severity_of_loss(facts),
        subject: format!("node {id}"),
        cause: format!("the network keeps it from other nodes, {way}; its process runs"),
        evidence,
        action: format!(
            "check the network and the firewall between the nodes' --raft-listen ports, and that \
             --members names node {id} by the right address on every node"
        ),
    }
}

fn refused(facts: &Facts) -> Vec<Finding> {
    facts
        .statuses()
        .filter(|(_, status)| !status.refusals.is_empty())
        .map(|(id, status)| Finding {
            code: "refused_peer",
            severity: Severity::Critical,
            subject: format!("node {id}"),
            cause: "it and another node refuse each other: they differ in grid, version, cluster \
                    settings or certificate"
                .to_owned(),
            evidence: status.refusals.clone(),
            action: "give both nodes the same [cluster] settings, grid id and version, and start \
                     the wrong one again"
                .to_owned(),
        })
        .collect()
}

fn clocks(facts: &Facts) -> Option<Finding> {
    let known: Vec<(u64, i64)> = facts
        .nodes
        .iter()
        .filter_map(|(id, node)| {
            let (ahead, round_trip) = node.clock_ahead_ms?;
            (round_trip <= ROUND_TRIP_MAX_MS).then_some((*id, ahead))
        })
        .collect();
    let (slow, slowest) = *known.iter().min_by_key(|(_, ahead)| *ahead)?;
    let (fast, fastest) = *known.iter().max_by_key(|(_, ahead)| *ahead)?;
    let apart = fastest.saturating_sub(slowest);
    if apart < SKEW_WARNING_MS {
        return None;
    }
    Some(Finding {
        code: "clock_skew",
        severity: match apart >= SKEW_CRITICAL_MS {
            true => Severity::Critical,
            false => Severity::Warning,
        },
        subject: format!("node {fast} and node {slow}"),
        cause: format!(
            "their clocks are {apart} ms apart; holds and auctions end by the clock of the leader"
        ),
        evidence: known
            .iter()
            .map(|(id, ahead)| format!("node {id}: {ahead:+} ms against this machine"))
            .collect(),
        action: "run a time service (chrony, systemd-timesyncd) on every node: `timedatectl`"
            .to_owned(),
    })
}

fn versions(facts: &Facts) -> Option<Finding> {
    let mut versions: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (id, status) in facts.statuses() {
        versions.entry(&status.version).or_default().push(id);
    }
    (versions.len() > 1).then(|| Finding {
        code: "version_mix",
        severity: Severity::Notice,
        subject: "the grid".to_owned(),
        cause: "its nodes run different versions; new rules stay off until all have them"
            .to_owned(),
        evidence: versions
            .iter()
            .map(|(version, nodes)| format!("{version}: {}", node_list(nodes)))
            .collect(),
        action: "finish the upgrade, one node after the other".to_owned(),
    })
}

/// An upgrade that could be ended: every node knows newer rules than the grid follows.
fn rules(facts: &Facts) -> Option<Finding> {
    let all_answer = facts.statuses().count() == facts.nodes.len();
    let known = facts
        .statuses()
        .map(|(_, status)| status.rules_known)
        .min()?;
    let followed = facts
        .statuses()
        .map(|(_, status)| status.rules_followed)
        .max()?;
    (all_answer && known > followed).then(|| Finding {
        code: "upgrade_unfinished",
        severity: Severity::Notice,
        subject: "the grid".to_owned(),
        cause: format!("every node knows rules {known}, the grid still follows rules {followed}"),
        evidence: Vec::new(),
        action: "when nobody wants to go back to the older build any more: `grid upgrade finish`"
            .to_owned(),
    })
}

fn leaders(facts: &Facts) -> Option<Finding> {
    let nodes = &facts.health.nodes;
    if facts.statuses().count() < facts.nodes.len() || nodes.is_empty() {
        // With a node away the others must lead more.
        return None;
    }
    let fair = facts.health.partitions.len().div_ceil(nodes.len());
    let most = nodes.iter().max_by_key(|node| node.leads)?;
    let limit = (fair + fair * LEADERS_ABOVE_FAIR_PERCENT / 100).max(fair + 1);
    (most.leads > limit).then(|| Finding {
        code: "leaders_piled_up",
        severity: Severity::Warning,
        subject: format!("node {}", most.node_id),
        cause: format!(
            "it leads {} partitions where {fair} would be its share, and does most of the work",
            most.leads
        ),
        evidence: nodes
            .iter()
            .map(|node| format!("node {} leads {}", node.node_id, node.leads))
            .collect(),
        action: "they spread by themselves once the grid is at rest, unless node.balance_leaders is off; \
                 `grid leaders` shows them"
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::examine;
    use super::super::fixtures::{by_code, healthy, lead, node, reassess};
    use super::*;

    #[test]
    fn a_dead_node_is_named() {
        let mut facts = healthy();
        let dead = facts.nodes.get_mut(&3).expect("three");
        dead.gateway = GatewayAnswer::Refused("Connection refused".to_owned());
        dead.status = None;
        for id in [1, 2] {
            node(&mut facts, id).unreachable = vec![3];
        }
        lead(&mut facts, 1, 2);
        reassess(&mut facts);
        let findings = examine(&facts);
        assert_eq!(findings.len(), 1, "causes, not symptoms: {findings:#?}");
        assert_eq!(
            (findings[0].code, findings[0].subject.as_str()),
            ("dead_node", "node 3")
        );
        assert_eq!(findings[0].severity, Severity::Warning);
        assert!(findings[0].evidence[1].contains("node 1, node 2"));
    }

    #[test]
    fn a_node_that_runs_and_is_cut_off_is_told_from_a_dead_one() {
        let mut facts = healthy();
        node(&mut facts, 3).unreachable = vec![1, 2];
        for id in [1, 2] {
            node(&mut facts, id).unreachable = vec![3];
        }
        let finding = by_code(&facts, "partitioned_node");
        assert_eq!(finding.subject, "node 3");
        assert!(finding.cause.contains("both"));
        assert!(
            examine(&facts)
                .iter()
                .all(|finding| finding.code != "dead_node")
        );

        let mut facts = healthy();
        node(&mut facts, 1).unreachable = vec![2];
        node(&mut facts, 3).unreachable = vec![2];
        let finding = by_code(&facts, "partitioned_node");
        assert_eq!(finding.subject, "node 2");
        assert!(finding.cause.contains("from them to it only"));
    }

    #[test]
    fn a_stopped_process_is_silent() {
        let mut facts = healthy();
        let silent = facts.nodes.get_mut(&2).expect("three");
        silent.gateway = GatewayAnswer::Silent("no answer within 4 s".to_owned());
        silent.status = None;
        reassess(&mut facts);
        assert_eq!(by_code(&facts, "silent_node").subject, "node 2");
    }

    #[test]
    fn clocks_apart_are_told_and_slow_answers_do_not_count() {
        let mut facts = healthy();
        facts.nodes.get_mut(&2).expect("three").clock_ahead_ms = Some((-800, 3));
        let finding = by_code(&facts, "clock_skew");
        assert_eq!(finding.severity, Severity::Warning);
        facts.nodes.get_mut(&2).expect("three").clock_ahead_ms = Some((-80_000, 3));
        assert_eq!(by_code(&facts, "clock_skew").severity, Severity::Critical);
        facts.nodes.get_mut(&2).expect("three").clock_ahead_ms = Some((-800, 3_000));
        assert_eq!(examine(&facts), []);
    }

    #[test]
    fn two_versions_are_a_notice() {
        let mut facts = healthy();
        node(&mut facts, 1).version = "9.9.9".to_owned();
        assert_eq!(by_code(&facts, "version_mix").severity, Severity::Notice);
    }

    #[test]
    fn an_upgrade_that_can_be_ended_is_a_notice() {
        let mut facts = healthy();
        for id in [1, 2] {
            node(&mut facts, id).rules_known = 2;
        }
        assert_eq!(examine(&facts), []);
        node(&mut facts, 3).rules_known = 2;
        let finding = by_code(&facts, "upgrade_unfinished");
        assert_eq!(finding.severity, Severity::Notice);
        for id in [1, 2, 3] {
            node(&mut facts, id).rules_followed = 2;
        }
        assert_eq!(examine(&facts), []);
    }

    #[test]
    fn peers_that_refuse_each_other_are_told_with_their_words() {
        let mut facts = healthy();
        node(&mut facts, 1).refusals = vec!["node 2: the settings differ".to_owned()];
        let finding = by_code(&facts, "refused_peer");
        assert_eq!(finding.evidence, ["node 2: the settings differ"]);
    }

    #[test]
    fn leaders_on_one_node_are_told_unless_another_is_away() {
        let mut facts = healthy();
        for health in &mut facts.health.nodes {
            health.leads = if health.node_id == 1 { 3 } else { 0 };
        }
        assert_eq!(by_code(&facts, "leaders_piled_up").subject, "node 1");
        facts.nodes.get_mut(&3).expect("three").status = None;
        assert!(leaders(&facts).is_none());
    }
}
