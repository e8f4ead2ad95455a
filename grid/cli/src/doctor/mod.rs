//! Why a grid is not healthy, and what to do.
//!
//! ```text
//!   gateways, nodes, database ──gather──► Facts ──checks (pure)──► Findings
//! ```
//!
//! A finding names a cause, not a symptom: a partition that is degraded because a node is dead is not
//! one of its own. When the grid is not healthy and no check says why, that is a finding too.
//!
//! Codes are stable; docs/operations.md explains each.

mod audit;
mod disks;
mod facts;
#[cfg(test)]
mod fixtures;
mod gather;
mod nodes;
mod pumps;
mod replicas;

use grid::health::HealthState;
use serde::{Deserialize, Serialize};

pub(crate) use facts::Facts;
pub(crate) use gather::gather;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Worth knowing; the command still ends well.
    Notice,
    /// Something is wrong, and clients do not feel it yet.
    Warning,
    /// Clients feel it, or the next fault will cost something.
    Critical,
}

impl Severity {
    /// Its name for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Stable, for programs.
    pub(crate) code: &'static str,
    /// How bad it is.
    pub(crate) severity: Severity,
    /// What it is about, such as `node 3`.
    pub(crate) subject: String,
    /// Why it is so, in a sentence.
    pub(crate) cause: String,
    /// What was seen.
    pub(crate) evidence: Vec<String>,
    /// What to do, with the command where there is one.
    pub(crate) action: String,
}

/// Everything that is wrong, worst first.
pub(crate) fn examine(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    nodes::check(facts, &mut findings);
    disks::check(facts, &mut findings);
    replicas::check(facts, &mut findings);
    pumps::check(facts, &mut findings);
    audit::check(facts, &mut findings);
    unexplained(facts, &mut findings);
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// A grid that is not healthy is never called so.
fn unexplained(facts: &Facts, findings: &mut Vec<Finding>) {
    let is_explained = findings
        .iter()
        .any(|finding| finding.severity > Severity::Notice);
    if facts.health.state == HealthState::Healthy || is_explained {
        return;
    }
    let nodes = facts.health.nodes.iter().flat_map(|node| &node.reasons);
    let partitions = facts.health.partitions.iter();
    let reasons = nodes.chain(partitions.flat_map(|partition| &partition.reasons));
    findings.push(Finding {
        code: "not_healthy",
        severity: Severity::Warning,
        subject: "the grid".to_owned(),
        cause: format!(
            "the grid is {}, and none of the known causes fits; it may be passing",
            facts.health.state
        ),
        evidence: reasons.take(8).cloned().collect(),
        action: "look again in some seconds with `grid doctor`; then read the nodes' logs"
            .to_owned(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixtures::healthy;

    #[test]
    fn a_healthy_grid_has_no_findings() {
        assert_eq!(examine(&healthy()), []);
    }

    #[test]
    fn an_unhealthy_grid_is_never_called_well() {
        let mut facts = healthy();
        facts.health.state = HealthState::Degraded;
        facts.health.partitions[0].reasons = vec!["something new".to_owned()];
        let findings = examine(&facts);
        assert_eq!(findings[0].code, "not_healthy");
        assert_eq!(findings[0].evidence, ["something new"]);
    }
}
