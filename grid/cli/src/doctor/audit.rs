//! Checks of the audit trail: whether it is signed at all, and whether somebody has edited it.

use data_pump::pump::LaneStatus;

use super::facts::{Facts, node_list};
use super::{Finding, Severity};

pub(super) fn check(facts: &Facts, findings: &mut Vec<Finding>) {
    let active: Vec<(u64, LaneStatus)> = facts
        .pumps()
        .flat_map(|(node, pump)| pump.lanes.into_iter().map(move |lane| (node, lane)))
        .filter(|(_, lane)| lane.active)
        .collect();
    findings.extend(edited(&active));
    findings.extend(unsigned(&active));
}

fn edited(active: &[(u64, LaneStatus)]) -> Option<Finding> {
    let evidence: Vec<String> = active
        .iter()
        .filter_map(|(node, lane)| {
            let trouble = lane.audit_trouble.as_ref()?;
            Some(format!("node {node}: {trouble}"))
        })
        .collect();
    (!evidence.is_empty()).then(|| Finding {
        code: "audit_trail_edited",
        severity: Severity::Critical,
        subject: format!("the audit trail of {} partitions", evidence.len()),
        cause: "what the pump has written was edited in the database before it was signed"
            .to_owned(),
        evidence,
        action: "`grid audit verify` names the first row; find out who can write to the database"
            .to_owned(),
    })
}

fn unsigned(active: &[(u64, LaneStatus)]) -> Option<Finding> {
    let mut nodes: Vec<u64> = active
        .iter()
        .filter(|(_, lane)| lane.roots_unsigned)
        .map(|(node, _)| *node)
        .collect();
    nodes.dedup();
    (!nodes.is_empty()).then(|| Finding {
        code: "audit_roots_unsigned",
        severity: Severity::Notice,
        subject: node_list(&nodes),
        cause: "it has no audit key: what it writes to the database is chained, but nothing is signed that \
                would show it to others"
            .to_owned(),
        evidence: Vec::new(),
        action: "give every node the grid's key with --audit-key or pump.audit_key_file (docs/audit.md)"
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{by_code, healthy, lanes, set_lanes};
    use super::*;

    #[test]
    fn a_node_without_a_key_and_an_edited_trail_are_told() {
        let mut facts = healthy();
        let mut lanes = lanes();
        lanes[0].roots_unsigned = true;
        lanes[0].audit_trouble = Some("the newest blocks".to_owned());
        set_lanes(&mut facts, 2, lanes);
        let unsigned = by_code(&facts, "audit_roots_unsigned");
        assert_eq!(
            (unsigned.severity, unsigned.subject.as_str()),
            (Severity::Notice, "node 2")
        );
        let edited = by_code(&facts, "audit_trail_edited");
        assert_eq!(edited.severity, Severity::Critical);
        assert!(edited.evidence[0].contains("newest blocks"));
    }
}
