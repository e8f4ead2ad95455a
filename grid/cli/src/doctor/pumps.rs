//! The way to the database: stopped, refusing, paused, behind, stuck; changes that were parked.

use data_pump::pump::{LaneStatus, LaneTrouble};
use grid::{BacklogState, BacklogStatus};

use super::facts::{DatabaseFacts, Facts, node_list};
use super::{Finding, Severity};

/// A change that waits longer than this to be written makes the pump late.
const BEHIND_MS_MAX: u64 = 10_000;
/// As do this many entries.
const BEHIND_ENTRIES_MAX: u64 = 50_000;
/// How long a node may wait to be told of its database.
const DATABASE_AWAITED_MS_MAX: u64 = 60_000;
/// Lanes that a finding quotes.
const EXAMPLES_MAX: usize = 4;

/// A lane that writes, with its node.
type Active = (u64, LaneStatus);

pub(super) fn check(facts: &Facts, findings: &mut Vec<Finding>) {
    let active: Vec<Active> = facts
        .pumps()
        .flat_map(|(node, pump)| pump.lanes.into_iter().map(move |lane| (node, lane)))
        .filter(|(_, lane)| lane.active)
        .collect();
    findings.extend(parked(facts, &active));
    findings.extend(backlog(facts));
    if let Some(stopped) = stopped(facts, &active) {
        // Everything else about the pump follows from it.
        findings.push(stopped);
        return;
    }
    findings.extend(not_given(facts));
    findings.extend(stuck(&active));
    findings.extend(paused(&active));
    findings.extend(behind(&active));
}

fn examples(lanes: &[&Active]) -> Vec<String> {
    lanes
        .iter()
        .take(EXAMPLES_MAX)
        .map(|(node, lane)| {
            let error = lane.last_error.as_deref().unwrap_or("no error");
            let behind = lane.behind_entries.unwrap_or(0);
            let partition = lane.partition;
            format!("partition {partition} on node {node}, {behind} entries behind: {error}")
        })
        .collect()
}

fn stopped(facts: &Facts, active: &[Active]) -> Option<Finding> {
    let failing: Vec<&Active> = active
        .iter()
        .filter(|(_, lane)| lane.trouble == Some(LaneTrouble::DatabaseUnreachable))
        .collect();
    let own = match &facts.database {
        DatabaseFacts::Unreachable(error) => Some(format!("asked from here: {error}")),
        _ => None,
    };
    let is_wanted = facts.pumps().any(|(_, pump)| pump.wanted);
    if failing.is_empty() && !(own.is_some() && is_wanted) {
        return None;
    }
    let mut evidence: Vec<String> = own.into_iter().collect();
    evidence.extend(examples(&failing));
    Some(Finding {
        code: "database_stopped",
        severity: Severity::Warning,
        subject: "the database".to_owned(),
        cause:
            "PostgreSQL does not answer. Sales go on; what they change waits in the nodes' logs, \
                which grow meanwhile, and reports stand still"
                .to_owned(),
        evidence,
        action: "start PostgreSQL, or make its address reachable; the pump goes on by itself from \
                 where it stopped. A private database is started by `grid up`; its log is in \
                 postgres/"
            .to_owned(),
    })
}

fn not_given(facts: &Facts) -> Option<Finding> {
    let waiting: Vec<String> = facts
        .pumps()
        .filter(|(_, pump)| pump.wanted && pump.lanes.is_empty())
        .filter_map(|(id, _)| {
            let status = facts.nodes.get(&id)?.status.as_ref()?;
            (status.uptime_ms > DATABASE_AWAITED_MS_MAX).then(|| format!("node {id}"))
        })
        .collect();
    (!waiting.is_empty()).then(|| Finding {
        code: "database_not_given",
        severity: Severity::Warning,
        subject: waiting.join(", "),
        cause: "it keeps its log for a database and was never told of one".to_owned(),
        evidence: Vec::new(),
        action: "give the node --database-url, or start it with --no-database".to_owned(),
    })
}

fn stuck(active: &[Active]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (trouble, cause, action) in [
        (
            LaneTrouble::ForeignDatabase,
            "the database holds another grid's data",
            "give the nodes another database",
        ),
        (
            LaneTrouble::ResyncNeeded,
            "the log no longer reaches back to where the database is, which was restored from an \
             older backup or is new",
            "restore a newer backup of the database; an empty one must be filled from the grid's \
             state",
        ),
        (
            LaneTrouble::DatabaseAhead,
            "the database is of a later time than the grid's own data",
            "restore a newer backup of the grid, or give it another database",
        ),
        (
            LaneTrouble::SchemaChanged,
            "the database's tables are not as the pump made them, so that every change is refused; none \
             was set aside",
            "undo what was done to the column, table or right that the error names; the pump goes on by \
             itself",
        ),
        (
            LaneTrouble::TooManyParked,
            "the database refused so many changes that no more are set aside \
             (pump.parked_changes_max); the log keeps what follows",
            "put right what they met (`grid pump dlq list`), then `grid pump dlq retry --all`; the pump \
             goes on by itself",
        ),
        (
            LaneTrouble::DatabaseRefuses,
            "the database answers and refuses what the pump asks",
            "read the error: most often rights, a full disk of the database, or another version's \
             schema",
        ),
    ] {
        let lanes: Vec<&Active> = active
            .iter()
            .filter(|(_, lane)| lane.trouble == Some(trouble))
            .collect();
        if lanes.is_empty() {
            continue;
        }
        let is_stuck = lanes.iter().any(|(_, lane)| lane.stuck);
        findings.push(Finding {
            code: "pump_stuck",
            severity: match is_stuck {
                true => Severity::Critical,
                false => Severity::Warning,
            },
            subject: format!("the pump of {} partitions", lanes.len()),
            cause: cause.to_owned(),
            evidence: examples(&lanes),
            action: action.to_owned(),
        });
    }
    findings
}

fn paused(active: &[Active]) -> Option<Finding> {
    let paused: Vec<&Active> = active.iter().filter(|(_, lane)| lane.paused).collect();
    (!paused.is_empty()).then(|| Finding {
        code: "pump_paused",
        severity: Severity::Warning,
        subject: format!("the pump of {} partitions", paused.len()),
        cause: "somebody has paused it: reports stand still, and the nodes' logs grow until it is \
                resumed"
            .to_owned(),
        evidence: paused
            .iter()
            .take(EXAMPLES_MAX)
            .map(|(node, lane)| {
                let behind = lane.behind_entries.unwrap_or(0);
                let partition = lane.partition;
                format!("partition {partition} on node {node}, {behind} entries behind")
            })
            .collect(),
        action: "`grid pump status` says who and why; `grid pump resume` ends it".to_owned(),
    })
}

fn backlog(facts: &Facts) -> Option<Finding> {
    let slowed: Vec<(u64, BacklogStatus)> = facts
        .statuses()
        .map(|(id, status)| (id, status.backlog))
        .filter(|(_, backlog)| backlog.state != BacklogState::Open)
        .collect();
    let refuses = slowed
        .iter()
        .any(|(_, backlog)| backlog.state == BacklogState::Refusing);
    let ids: Vec<u64> = slowed.iter().map(|(id, _)| *id).collect();
    let evidence = slowed.iter().take(EXAMPLES_MAX).map(|(id, backlog)| {
        format!(
            "node {id}: {} MiB wait, new work is slowed from {} and refused from {}; {} KiB/s drain",
            backlog.bytes >> 20,
            backlog.soft_bytes >> 20,
            backlog.max_bytes >> 20,
            backlog.drained_bytes_per_s >> 10
        )
    });
    (!slowed.is_empty()).then(|| Finding {
        code: "backlog",
        severity: match refuses {
            true => Severity::Critical,
            false => Severity::Warning,
        },
        subject: node_list(&ids),
        cause: match refuses {
            true => "so much log waits for the database that new work is refused; what was begun can be \
                     ended",
            false => "so much log waits for the database that new work is slowed to what it takes",
        }
        .to_owned(),
        evidence: evidence.collect(),
        action: "let the database catch up: start it, resume its pump, give it a faster disk; or, where \
                 the nodes' disks have room, raise node.pump_backlog_max_bytes and restart them"
            .to_owned(),
    })
}

fn behind(active: &[Active]) -> Option<Finding> {
    let late: Vec<&Active> = active
        .iter()
        .filter(|(_, lane)| {
            !lane.stuck
                && !lane.paused
                && (lane.behind_ms > BEHIND_MS_MAX
                    || lane.behind_entries.unwrap_or(0) > BEHIND_ENTRIES_MAX)
        })
        .collect();
    (!late.is_empty()).then(|| Finding {
        code: "pump_behind",
        severity: Severity::Warning,
        subject: format!("the pump of {} partitions", late.len()),
        cause: "the database takes changes more slowly than they are made; reports are late, and \
                the logs grow"
            .to_owned(),
        evidence: examples(&late),
        action: "see what the database is busy with (`pg_stat_activity`); give it a faster disk; \
                 watch `grid status --watch`"
            .to_owned(),
    })
}

fn parked(facts: &Facts, active: &[Active]) -> Option<Finding> {
    let (count, evidence) = match &facts.database {
        DatabaseFacts::Running { parked, examples } => (*parked as u64, examples.clone()),
        DatabaseFacts::Unknown | DatabaseFacts::Unreachable(_) => {
            (active.iter().map(|(_, lane)| lane.parked).sum(), Vec::new())
        }
    };
    (count > 0).then(|| Finding {
        code: "parked_changes",
        severity: Severity::Warning,
        subject: "the database".to_owned(),
        cause: format!(
            "{count} changes were refused, or wait behind a refused one of the same auction or event, \
             and were set aside; reports lack them, the grid itself does not"
        ),
        evidence,
        action: "see them with `grid pump dlq list`, put right what they met, then `grid pump dlq retry \
                 --all`; compare with `grid verify`"
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::examine;
    use super::super::fixtures::{by_code, healthy, lanes, set_lanes};
    use super::*;

    fn troubled(trouble: LaneTrouble, stuck: bool) -> Facts {
        let mut facts = healthy();
        let mut lanes = lanes();
        lanes[0].last_error = Some("in its own words".to_owned());
        lanes[0].trouble = Some(trouble);
        lanes[0].stuck = stuck;
        set_lanes(&mut facts, 1, lanes);
        facts
    }

    #[test]
    fn a_stopped_database_is_named_once() {
        let mut facts = troubled(LaneTrouble::DatabaseUnreachable, false);
        facts.database = DatabaseFacts::Unreachable("connection refused".to_owned());
        let findings = examine(&facts);
        assert_eq!(findings.len(), 1, "{findings:#?}");
        assert_eq!(findings[0].code, "database_stopped");
        assert!(findings[0].evidence[0].contains("connection refused"));
        assert!(findings[0].evidence[1].contains("in its own words"));
    }

    #[test]
    fn a_grid_that_wants_no_database_misses_none() {
        let mut facts = healthy();
        facts.database = DatabaseFacts::Unreachable("connection refused".to_owned());
        for node in facts.nodes.values_mut() {
            node.status.as_mut().expect("it answers").attached.clear();
        }
        assert_eq!(examine(&facts), []);
    }

    #[test]
    fn each_kind_of_stuck_pump_says_what_to_do() {
        for trouble in [
            LaneTrouble::ForeignDatabase,
            LaneTrouble::ResyncNeeded,
            LaneTrouble::DatabaseAhead,
            LaneTrouble::DatabaseRefuses,
            LaneTrouble::SchemaChanged,
            LaneTrouble::TooManyParked,
        ] {
            let finding = by_code(&troubled(trouble, true), "pump_stuck");
            assert_eq!(finding.severity, Severity::Critical);
            assert!(finding.evidence[0].contains("in its own words"));
        }
        assert_eq!(examine(&troubled(LaneTrouble::Passing, false)), []);
    }

    #[test]
    fn a_late_pump_is_told() {
        let mut facts = healthy();
        let mut late = lanes();
        late[0].behind_ms = 11_000;
        set_lanes(&mut facts, 1, late);
        assert_eq!(by_code(&facts, "pump_behind").severity, Severity::Warning);
    }

    #[test]
    fn a_backlog_that_slows_or_stops_the_sale_is_told() {
        let mut facts = healthy();
        for (id, state, severity) in [
            (2, BacklogState::Slowed, Severity::Warning),
            (3, BacklogState::Refusing, Severity::Critical),
        ] {
            let node = facts.nodes.get_mut(&id).expect("three nodes");
            let status = node.status.as_mut().expect("it answers");
            status.backlog.state = state;
            let finding = by_code(&facts, "backlog");
            assert_eq!(finding.severity, severity);
        }
        assert_eq!(by_code(&facts, "backlog").subject, "node 2, node 3");
    }

    #[test]
    fn a_paused_pump_is_told_and_not_called_late() {
        let mut facts = healthy();
        let mut paused = lanes();
        paused[0].paused = true;
        paused[0].behind_entries = Some(80_000);
        set_lanes(&mut facts, 1, paused);
        let findings = examine(&facts);
        assert_eq!(findings.len(), 1, "{findings:#?}");
        assert_eq!(findings[0].code, "pump_paused");
        assert!(findings[0].evidence[0].contains("80000 entries"));
    }

    #[test]
    fn parked_changes_are_told_with_examples() {
        let mut facts = healthy();
        facts.database = DatabaseFacts::Running {
            parked: 2,
            examples: vec!["seats_sold of …".to_owned()],
        };
        assert_eq!(
            by_code(&facts, "parked_changes").evidence,
            ["seats_sold of …"]
        );
    }

    #[test]
    fn a_node_that_waits_for_a_database_says_so() {
        let mut facts = healthy();
        set_lanes(&mut facts, 2, Vec::new());
        assert_eq!(by_code(&facts, "database_not_given").subject, "node 2");
    }
}
