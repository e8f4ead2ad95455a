//! `grid audit check`: a proof, offline.

use std::path::PathBuf;

use clap::Args;
use data_pump::audit::Proof;
use serde_json::{Value, json};

use super::{KeyArgs, time};
use crate::context::Context;
use crate::failure::Failure;

/// `grid audit check`
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The proof
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    key: KeyArgs,
}

/// Checks it.
pub(super) fn run(context: &Context, args: &CheckArgs) -> anyhow::Result<()> {
    let keys = args.key.keys(context)?;
    if keys.is_empty() {
        let text = "whom to trust? Give the grid's public key with --key";
        return Err(Failure::Usage(text.to_owned()).into());
    }
    let text = std::fs::read_to_string(&args.file)
        .map_err(|error| Failure::BadInput(format!("{}: {error}", args.file.display())))?;
    let proof = Proof::parse(&text).map_err(Failure::from)?;
    let checked = proof.check(&keys).map_err(Failure::from)?;
    let payload: Value = serde_json::from_str(&checked.fact.payload).unwrap_or(Value::Null);
    let document = json!({ "ok": true, "checked": checked, "payload": payload });
    context.output.result(&document, || {
        let fact = &checked.fact;
        format!(
            "RIGHT: grid {} wrote this {} of {} at {} as {}:{}:{}, signed at {} with key {}\n{}",
            checked.grid_id,
            fact.kind,
            fact.entity,
            time(fact.at_ms),
            fact.partition,
            fact.log_index,
            fact.seq,
            time(checked.signed_at_ms),
            checked.key_id,
            serde_json::to_string_pretty(&payload).unwrap_or_default()
        )
    })
}
