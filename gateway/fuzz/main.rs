//! Runs the fuzzer of the gateway's decoders: `cargo run --release -p gateway --features fuzzing --bin
//! gateway-fuzz -- --minutes 10`. With `--keep`, inputs with new kinds of outcomes go to the corpus.
//!
//! Ends with 1 at the first finding, which it prints, with what repeats it.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use gateway::fuzzing::Fuzzer;

/// Between two looks at the clock.
const INPUTS_PER_ROUND: u64 = 100_000;
/// The memory that a run may take on top of what it started with, in bytes.
const GROWTH_BYTES_MAX: u64 = 128 << 20;
const PAGE_BYTES: u64 = 4_096;

fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE_BYTES
}

fn option(name: &str) -> Option<u64> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)?.parse().ok()
}

fn main() -> io::Result<ExitCode> {
    let minutes = option("--minutes").unwrap_or(1);
    let seed = option("--seed").unwrap_or(1);
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut out = io::stdout();
    let mut fuzzer = Fuzzer::new(&corpus, seed).map_err(io::Error::other)?;
    let started = Instant::now();
    let end = started + Duration::from_secs(60 * minutes);
    let mut result = fuzzer.replay();
    let at_first = resident_bytes();
    while result.is_ok() && Instant::now() < end {
        result = fuzzer.run(INPUTS_PER_ROUND);
        let grown = resident_bytes().saturating_sub(at_first);
        if grown > GROWTH_BYTES_MAX {
            writeln!(out, "it has grown by {grown} bytes")?;
            return Ok(ExitCode::FAILURE);
        }
    }
    let (inputs, kinds) = fuzzer.tally();
    let seconds = started.elapsed().as_secs();
    let grown_kib = resident_bytes().saturating_sub(at_first) >> 10;
    writeln!(
        out,
        "seed {seed}: {inputs} inputs in {seconds} s, {kinds} kinds of outcomes, grown by {grown_kib} KiB"
    )?;
    if let Err(finding) = result {
        writeln!(out, "a finding: {finding}\nits bytes: {:?}", finding.input)?;
        return Ok(ExitCode::FAILURE);
    }
    if std::env::args().any(|argument| argument == "--keep") {
        fuzzer.keep(&corpus).map_err(io::Error::other)?;
    }
    Ok(ExitCode::SUCCESS)
}
