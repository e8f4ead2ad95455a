//! The command line.

use std::ops::Range;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Simulates a whole cluster; the same seed gives the same run.
#[derive(Debug, Parser)]
#[command(name = "grid-sim", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Runs one seed, or many.
    ///
    /// Exit code 0: nothing was wrong; 1: something was; 2: the command itself could not be done.
    Run(Run),
    /// Runs a seed twice and compares the traces.
    Same(Same),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Run {
    /// Run this seed in this process.
    #[arg(long, conflicts_with_all = ["seeds", "fresh"])]
    pub(crate) seed: Option<u64>,
    /// Run these seeds, `A..B` without B.
    #[arg(long, value_parser = range)]
    pub(crate) seeds: Option<Range<u64>>,
    /// Run so many seeds that nobody chose, too; they are printed.
    #[arg(long, default_value_t = 0)]
    pub(crate) fresh: u64,
    /// Begin no further seed after so many minutes.
    #[arg(long)]
    pub(crate) minutes: Option<f64>,
    /// Seeds at a time [default: one a core].
    #[arg(long)]
    pub(crate) jobs: Option<usize>,
    /// Stop at the first seed that fails.
    #[arg(long)]
    pub(crate) first_failure: bool,
    /// Plant a bug that the simulation must find: skip-fsync, ignore-sync-error, reply-before-commit,
    /// drop-dedup-record, endless-lease, believe-own-clock, same-disk,
    /// same-epoch.
    #[arg(long)]
    pub(crate) bug: Option<String>,
    /// Write every step of the one seed to this file.
    #[arg(long, requires = "seed")]
    pub(crate) trace: Option<PathBuf>,
    /// Print the nodes' own log of the one seed, as `RUST_LOG` says.
    #[arg(long, requires = "seed")]
    pub(crate) log: bool,
    /// One JSON object a seed.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Same {
    /// The seed.
    #[arg(long)]
    pub(crate) seed: u64,
}

impl Run {
    /// The one seed, if only one is asked for.
    pub(crate) fn only_seed(&self) -> Option<u64> {
        self.seed
    }
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let (first, end) = text.split_once("..").ok_or("expected A..B")?;
    let number = |text: &str| text.parse().map_err(|_| format!("{text} is not a number"));
    Ok(number(first)?..number(end)?)
}
