//! `grid audit`: whether the facts in the database are those that the grid wrote, and proofs of that for
//! others.
//!
//! All of it asks the database only, or nothing at all: no node needs to run.

mod check;
mod key;
mod proof;
mod root;
mod verify;

use std::path::Path;

use clap::{Args, Subcommand};
use data_pump::audit::{AuditError, AuditKey, AuditPublicKey, ProofError};

use crate::context::Context;
use crate::failure::Failure;

/// `grid audit …`
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check every fact in the database: name what was altered, removed, added or moved
    Verify(verify::VerifyArgs),
    /// Show the newest signed root of each partition, to be kept elsewhere
    Root(root::RootArgs),
    /// Make a proof of one bid, ticket or change that its owner can check without trusting anybody
    Proof(proof::ProofArgs),
    /// Check such a proof, offline
    Check(check::CheckArgs),
    /// Show the grid's public key, with which others check roots and proofs
    Key,
}

/// Whom to trust.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// The grid's public key, or a file with it; may be repeated [default: the data directory's]
    #[arg(long, value_name = "HEX|FILE")]
    key: Vec<String>,
}

impl KeyArgs {
    /// The keys that were named, or the data directory's; none where there is neither.
    fn keys(&self, context: &Context) -> anyhow::Result<Vec<AuditPublicKey>> {
        if self.key.is_empty() {
            return Ok(context.data_dir.audit_public_key()?.into_iter().collect());
        }
        self.key.iter().map(|named| read_key(named)).collect()
    }
}

/// A key as given: digits, or a file with them. The secret's own file does too.
fn read_key(named: &str) -> anyhow::Result<AuditPublicKey> {
    if let Ok(key) = named.parse() {
        return Ok(key);
    }
    let path = Path::new(named);
    let unusable = |why: &dyn std::fmt::Display| {
        Failure::Usage(format!(
            "--key {named} is neither a key (64 hexadecimal digits) nor a file with one: {why}"
        ))
    };
    let text = std::fs::read_to_string(path).map_err(|error| unusable(&error))?;
    let is_secret = path.extension().is_some_and(|extension| extension == "key");
    let key = match is_secret {
        true => AuditKey::parse(&text).map(|key| key.public()),
        false => text.parse(),
    };
    Ok(key.map_err(|error| unusable(&error))?)
}

impl From<AuditError> for Failure {
    fn from(error: AuditError) -> Self {
        Self::Database(format!("the audit trail cannot be read: {error}"))
    }
}

impl From<ProofError> for Failure {
    fn from(error: ProofError) -> Self {
        let code = match &error {
            ProofError::Database(_) => {
                return Self::Database(format!("the audit trail cannot be read: {error}"));
            }
            ProofError::Format(_) => return Self::BadInput(error.to_string()),
            ProofError::Unknown => "unknown_fact",
            ProofError::NoBlock(_) => "no_block",
            ProofError::NotSigned(_) => "not_signed",
            ProofError::Broken(..) => "broken_trail",
            ProofError::Wrong(_) => "wrong_proof",
            ProofError::ForeignKey { .. } => "foreign_key",
        };
        Self::Refused {
            code: code.to_owned(),
            message: error.to_string(),
        }
    }
}

/// Milliseconds since the Unix epoch as a time for people.
fn time(at_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(at_ms)
        .map_or_else(|_| format!("{at_ms} ms"), |time| time.to_string())
}

/// Carries one out.
pub(crate) async fn run(context: &Context, command: AuditCommand) -> anyhow::Result<()> {
    match command {
        AuditCommand::Verify(args) => verify::run(context, args).await,
        AuditCommand::Root(args) => root::run(context, &args).await,
        AuditCommand::Proof(args) => proof::run(context, &args).await,
        AuditCommand::Check(args) => check::run(context, &args),
        AuditCommand::Key => key::run(context),
    }
}
