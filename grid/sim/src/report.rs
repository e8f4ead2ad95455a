//! What the command prints.
#![expect(clippy::print_stdout, reason = "a command line's output")]

use grid_sim::{Outcome, Plan, Summary};

/// The command that repeats a seed.
pub(crate) fn repeat_command(seed: u64, bug: Option<&str>) -> String {
    let bug = bug.map_or(String::new(), |bug| format!(" --bug {bug}"));
    format!("scripts/simulate run --seed {seed}{bug}")
}

fn words(summary: &Summary) -> String {
    format!(
        "{:.1} s simulated, {} log entries, {} commands, {} queries, {} given up, {} faults, trace {:016x}",
        summary.simulated_ms as f64 / 1_000.0,
        summary.entries,
        summary.commands,
        summary.queries,
        summary.unknown,
        summary.faults,
        summary.trace
    )
}

/// One seed's end.
pub(crate) fn outcome(outcome: &Outcome, plan: &Plan, bug: Option<&str>, json: bool) {
    let (summary, violation) = match outcome {
        Outcome::Passed(summary) => (summary, None),
        Outcome::Failed { violation, summary } => (summary, Some(violation)),
    };
    if json {
        let wrong = violation.map(|violation| {
            serde_json::json!({
                "invariant": violation.invariant,
                "detail": violation.detail,
                "repeat": repeat_command(plan.seed, bug),
            })
        });
        let line = serde_json::json!({
            "seed": plan.seed,
            "trace": format!("{:016x}", summary.trace),
            "simulated_ms": summary.simulated_ms,
            "entries": summary.entries,
            "commands": summary.commands,
            "queries": summary.queries,
            "unknown": summary.unknown,
            "faults": summary.faults,
            "violation": wrong,
        });
        println!("{line}");
        return;
    }
    match violation {
        None => println!("seed {} passed: {}", plan.seed, words(summary)),
        Some(violation) => {
            println!("seed {} FAILED: {violation}", plan.seed);
            println!("  {}", words(summary));
            println!("  {plan:?}");
            println!("  again: {}", repeat_command(plan.seed, bug));
        }
    }
}

/// A seed whose process ended without a word.
pub(crate) fn died(seed: u64, how: &str, bug: Option<&str>) {
    println!("seed {seed} FAILED: its process ended: {how}");
    println!("  again: {}", repeat_command(seed, bug));
}

/// The seeds that nobody chose, before they are run: whatever happens, they can be run again.
pub(crate) fn fresh(seeds: &[u64], bug: Option<&str>) {
    for seed in seeds {
        println!("fresh seed {seed}: {}", repeat_command(*seed, bug));
    }
}

/// A child's own words.
pub(crate) fn passed_on(text: &str) {
    print!("{text}");
}

/// The end of many seeds.
pub(crate) fn total(passed: usize, failed: &[u64], left_out: usize, seconds: f64) {
    let left_out = match left_out {
        0 => String::new(),
        left_out => format!(", {left_out} not begun"),
    };
    println!(
        "{passed} seeds passed, {} failed{left_out}, in {seconds:.1} s",
        failed.len()
    );
    if !failed.is_empty() {
        println!("failed: {failed:?}");
    }
}

/// Whether two runs were the same.
pub(crate) fn same(seed: u64, traces: &[u64]) {
    let words: Vec<String> = traces.iter().map(|trace| format!("{trace:016x}")).collect();
    println!("seed {seed}: traces {}", words.join(" "));
}

/// Why the command itself could not be done.
pub(crate) fn problem(error: &std::io::Error) {
    println!("grid-sim: {error}");
}
