//! The audit trail: that the facts in the database are those that the grid wrote, all of them and in
//! their order, can be checked by anybody who has the grid's public key, with SQL alone.
//!
//! ```text
//!   change ──► fact ──► hash ─┬─► block, one a transaction ──► chain, in the checkpoint's row
//!                             └─► Merkle tree over an interval ──► root, signed ──► proof of one fact
//! ```
//!
//! Whoever can write to the database can write other blocks too, but no other signed roots: what is
//! older than the newest root that somebody trusts cannot be changed unseen. What came after it is
//! protected by the chain only, until the next root. docs/audit.md describes every format.
//!
//! What it deliberately does not do: keep facts secret, mend anything, or prove that the grid itself
//! was honest when it wrote.

pub(crate) mod block;
mod canonical;
pub(crate) mod cut;
mod fact;
mod hash;
mod key;
mod merkle;
mod proof;
mod signing;
mod statement;
mod tables;
mod verify;

#[cfg(test)]
mod tests;

pub use canonical::canonical_json;
pub use fact::Fact;
pub use hash::{Hash, from_hex, to_hex};
pub use key::{AuditKey, AuditPublicKey, KeyFormatError, Signature};
pub use proof::{Checked, Proof, ProofError, ProofFact, ProofRoot, Subject, prove};
pub use signing::SignError;
pub(crate) use signing::Signing;
pub use statement::{SignedRoot, Statement};
pub use verify::{
    AuditError, Fault, Finding, PartitionReport, Progress, Report, RootName, VerifyOptions,
    newest_roots, verify,
};
