//! `grid audit proof`: a proof of one fact.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{ArgGroup, Args};
use data_pump::audit::{Subject, prove};
use data_pump::pump::ChangePlace;
use serde_json::json;
use uuid::Uuid;

use super::time;
use crate::commands::database::DatabaseArgs;
use crate::context::Context;
use crate::failure::Failure;

/// `grid audit proof`
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["bid", "ticket", "change"])))]
pub(crate) struct ProofArgs {
    /// This bid
    #[arg(long, value_name = "UUID")]
    bid: Option<Uuid>,
    /// The sale of this ticket
    #[arg(long, value_name = "UUID")]
    ticket: Option<Uuid>,
    /// This change: PARTITION:INDEX:SEQ
    #[arg(long, value_name = "PLACE")]
    change: Option<ChangePlace>,
    /// Where to write the proof
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Makes it.
pub(super) async fn run(context: &Context, args: &ProofArgs) -> anyhow::Result<()> {
    let subject = match (args.bid, args.ticket, args.change) {
        (Some(bid), _, _) => Subject::Bid(bid),
        (None, Some(ticket), _) => Subject::Ticket(ticket),
        (None, None, Some(change)) => Subject::Change(change),
        (None, None, None) => {
            return Err(Failure::Usage("name a bid, a ticket or a change".to_owned()).into());
        }
    };
    let url = args.database.url(context)?;
    let proof = prove(&url, subject).await.map_err(Failure::from)?;
    let mut text = serde_json::to_string_pretty(&proof)?;
    text.push('\n');
    std::fs::write(&args.out, text)
        .with_context(|| format!("cannot write {}", args.out.display()))?;
    let fact = &proof.fact;
    let place = format!("{}:{}:{}", fact.partition, fact.log_index, fact.seq);
    let document = json!({
        "out": args.out,
        "place": place,
        "kind": fact.kind,
        "entity": fact.entity,
        "root": proof.root.number,
        "signed_at_ms": proof.root.signed_at_ms,
    });
    context.output.result(&document, || {
        format!(
            "{} proves the {} of {} at {place}, under root {} of {}.\nCheck it with `grid audit check {0} --key \
             KEY`, or with docs/audit/verify_proof.py",
            args.out.display(),
            fact.kind,
            fact.entity,
            proof.root.number,
            time(proof.root.signed_at_ms)
        )
    })
}
