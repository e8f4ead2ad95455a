//! `grid doctor`: why the grid is not healthy, and what to do.

use clap::Args;
use grid::health::HealthState;
use serde::Serialize;

use crate::context::Context;
use crate::doctor::{Finding, Severity, examine, gather};
use crate::failure::Failure;

/// `grid doctor`
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {}

#[derive(Debug, Serialize)]
struct Report {
    /// Whether nothing is wrong; notices do not count.
    ok: bool,
    state: HealthState,
    findings: Vec<Finding>,
}

/// Looks and tells. Fails when something is wrong.
pub(crate) async fn run(context: &Context, DoctorArgs {}: DoctorArgs) -> anyhow::Result<()> {
    let facts = gather(context).await?;
    let findings = examine(&facts);
    let report = Report {
        ok: findings
            .iter()
            .all(|finding| finding.severity == Severity::Notice),
        state: facts.health.state,
        findings,
    };
    context.output.result(&report, || text(&report))?;
    if report.ok {
        Ok(())
    } else {
        Err(Failure::Reported.into())
    }
}

fn text(report: &Report) -> String {
    let mut text = format!("the grid is {}\n", report.state);
    if report.findings.is_empty() {
        text.push_str("nothing is wrong\n");
    }
    for finding in &report.findings {
        text.push_str(&format!(
            "\n{} {}: {}\n  {}\n",
            finding.severity.name().to_uppercase(),
            finding.code,
            finding.subject,
            finding.cause
        ));
        for evidence in &finding.evidence {
            text.push_str(&format!("  seen: {evidence}\n"));
        }
        text.push_str(&format!("  do:   {}\n", finding.action));
    }
    text
}
