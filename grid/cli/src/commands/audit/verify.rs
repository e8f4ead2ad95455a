//! `grid audit verify`: every fact, by SQL alone.

use std::path::Path;

use clap::Args;
use data_pump::audit::{
    Finding, PartitionReport, Progress, Report, SignedRoot, VerifyOptions, from_hex, verify,
};

use super::KeyArgs;
use super::root::RootsDocument;
use crate::commands::database::DatabaseArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{grouped, table};

/// Findings that are shown of each partition.
const SHOWN_MAX: usize = 10;

/// `grid audit verify`
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// This partition only
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    /// A file of `grid audit root --out`, or a root's hash, kept where the database's owner cannot reach
    /// it: it must still be there. May be repeated
    #[arg(long, value_name = "FILE|HASH")]
    since_root: Vec<String>,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Verifies.
pub(super) async fn run(context: &Context, args: VerifyArgs) -> anyhow::Result<()> {
    let url = args.database.url(context)?;
    let mut options = VerifyOptions {
        partition: args.partition,
        keys: args.key.keys(context)?,
        ..VerifyOptions::default()
    };
    for named in &args.since_root {
        match from_hex::<32>(named) {
            Some(hash) => options.since_hashes.push(hash),
            None => options.since.extend(read_roots(Path::new(named))?),
        }
    }
    let bar = context.output.bar(0, "facts");
    let shown = bar.clone();
    let report = verify(&url, options, move |progress| match progress {
        Progress::Total(facts) => shown.set_length(facts),
        Progress::Facts(facts) => shown.inc(facts),
    })
    .await
    .map_err(Failure::from)?;
    bar.finish_and_clear();
    context.output.result(&report, || text(&report))?;
    if report.ok {
        Ok(())
    } else {
        Err(Failure::Reported.into())
    }
}

/// Roots that were kept elsewhere.
fn read_roots(path: &Path) -> anyhow::Result<Vec<SignedRoot>> {
    let unusable = |why: &dyn std::fmt::Display| {
        Failure::BadInput(format!(
            "--since-root {} is neither a hash (64 hexadecimal digits) nor a file of `grid audit root --out`: \
             {why}",
            path.display()
        ))
    };
    let text = std::fs::read_to_string(path).map_err(|error| unusable(&error))?;
    let document: RootsDocument = serde_json::from_str(&text).map_err(|error| unusable(&error))?;
    let roots = document.roots.iter().map(|root| {
        let root = root.read().map_err(|error| unusable(&error))?;
        Ok(root)
    });
    roots.collect()
}

fn text(report: &Report) -> String {
    let mut rows = table([
        "partition",
        "log indexes",
        "facts",
        "parked",
        "signed roots",
        "not signed yet",
        "verdict",
    ]);
    for partition in &report.partitions {
        rows.add_row([
            partition.partition.to_string(),
            format!("{} to {}", partition.from_index + 1, partition.to_index),
            grouped(partition.facts),
            grouped(partition.parked_facts),
            grouped(partition.roots),
            grouped(partition.unsigned_facts),
            match partition.findings_in_all {
                0 => "as written".to_owned(),
                findings => format!("{} FINDINGS", grouped(findings)),
            },
        ]);
    }
    let mut text = format!("{rows}\n\n");
    for partition in &report.partitions {
        text.push_str(&notes(partition));
        for finding in partition.findings.iter().take(SHOWN_MAX) {
            text.push_str(&line(partition, finding));
        }
        let shown = SHOWN_MAX.min(partition.findings.len()) as u64;
        if partition.findings_in_all > shown {
            let more = grouped(partition.findings_in_all - shown);
            text.push_str(&format!(
                "  and {more} more in partition {}\n",
                partition.partition
            ));
        }
    }
    for hash in &report.roots_not_found {
        text.push_str(&format!(
            "TRUNCATED the root {hash}, which was kept elsewhere, is not here\n"
        ));
    }
    if report.keys_from_database {
        text.push_str(
            "The keys are the database's own word: this shows that it goes together, not who wrote it. Give \
             the grid's public key with --key.\n",
        );
    }
    text.push_str(if report.ok {
        "all facts are as the grid wrote them"
    } else {
        "NOT as the grid wrote it"
    });
    text
}

/// What is not wrong and yet worth knowing.
fn notes(partition: &PartitionReport) -> String {
    let mut text = String::new();
    let number = partition.partition;
    if partition.earlier_facts > 0 {
        let facts = grouped(partition.earlier_facts);
        let index = partition.from_index;
        text.push_str(&format!(
            "partition {number}: {facts} rows up to index {index} are older than the audit trail\n"
        ));
    }
    if partition.expired_facts > 0 || partition.dropped_index > 0 {
        let index = partition.dropped_index;
        text.push_str(&format!(
            "partition {number}: facts up to index {index} were dropped for their age; verified from there on\n"
        ));
    }
    text
}

fn line(partition: &PartitionReport, finding: &Finding) -> String {
    let what = finding.fault.name().to_uppercase();
    match &finding.place {
        Some(place) => {
            let kind = finding.kind.as_deref().unwrap_or("fact");
            let entity = finding.entity.map(|entity| format!(" of {entity}"));
            let entity = entity.unwrap_or_default();
            format!("{what} {place}, a {kind}{entity}: {}\n", finding.detail)
        }
        None => format!(
            "{what} partition {}: {}\n",
            partition.partition, finding.detail
        ),
    }
}
