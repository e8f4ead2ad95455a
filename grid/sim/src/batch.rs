//! Many seeds: each in a process of its own, since some randomness beneath tokio is seeded once a
//! process, and a run that panics or hangs must not take others with it.

use std::io;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use grid::simulation;
use grid_sim::{Outcome, Plan, run};

use crate::arguments::{Run, Same};
use crate::report;

/// A seed takes a second or two; one that takes this long goes round in circles, and is killed.
const SEED_TIME_MAX: Duration = Duration::from_secs(120);
/// How often a seed's process is looked after.
const CHILD_PERIOD: Duration = Duration::from_millis(30);

/// Runs one seed in this process.
pub(crate) fn run_here(arguments: &Run, seed: u64) -> io::Result<bool> {
    if arguments.log {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .without_time()
            .init();
    }
    let plan = Plan::of(seed);
    if let Some(bug) = &arguments.bug {
        plant(bug)?;
    }
    if arguments.trace.is_some() {
        simulation::trace_to_memory();
    }
    let outcome = run(&plan);
    if let Some(path) = &arguments.trace {
        std::fs::write(path, simulation::trace_to_memory().join("\n"))?;
    }
    report::outcome(&outcome, &plan, arguments.bug.as_deref(), arguments.json);
    Ok(matches!(outcome, Outcome::Passed(_)))
}

#[cfg(feature = "planted-bugs")]
fn plant(bug: &str) -> io::Result<()> {
    match bug {
        "skip-fsync"
        | "ignore-sync-error"
        | "reply-before-commit"
        | "endless-lease"
        | "believe-own-clock"
        | "same-disk"
        | "same-epoch" => simulation::plant(bug),
        "drop-dedup-record" => grid_core::planted::forget_retries(),
        _ => return Err(io::Error::other(format!("no bug is called {bug}"))),
    }
    Ok(())
}

#[cfg(not(feature = "planted-bugs"))]
fn plant(_bug: &str) -> io::Result<()> {
    Err(io::Error::other(
        "bugs can be planted only with the cargo feature planted-bugs",
    ))
}

fn child(seed: u64, arguments: &[&str]) -> io::Result<Output> {
    let mut running = Command::new(std::env::current_exe()?)
        .args(["run", "--seed", &seed.to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let started = Instant::now();
    while running.try_wait()?.is_none() {
        if started.elapsed() > SEED_TIME_MAX {
            running.kill()?;
            break;
        }
        std::thread::sleep(CHILD_PERIOD);
    }
    running.wait_with_output()
}

fn seeds(arguments: &Run) -> Vec<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let base = since.unwrap_or_default().as_nanos() as u64;
    // Short enough to be typed; and first, lest time run out before them.
    let fresh = (0..arguments.fresh).map(|number| base.wrapping_add(number) % 1_000_000_000_000);
    fresh
        .chain(arguments.seeds.clone().into_iter().flatten())
        .collect()
}

/// The seeds that nobody chose; they come first.
fn fresh_of<'a>(arguments: &Run, seeds: &'a [u64]) -> &'a [u64] {
    let count = usize::try_from(arguments.fresh).unwrap_or(usize::MAX);
    &seeds[..count.min(seeds.len())]
}

#[derive(Default)]
struct Tally {
    next: usize,
    passed: usize,
    failed: Vec<u64>,
    error: Option<io::Error>,
}

/// Runs many seeds, some at a time.
pub(crate) fn run_many(arguments: &Run) -> io::Result<bool> {
    let seeds = seeds(arguments);
    if seeds.is_empty() {
        return Err(io::Error::other("say --seed N, --seeds A..B or --fresh N"));
    }
    report::fresh(fresh_of(arguments, &seeds), arguments.bug.as_deref());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let started = Instant::now();
    let limit = arguments
        .minutes
        .map(|minutes| Duration::from_secs_f64(minutes.max(0.0) * 60.0));
    let tally = Mutex::new(Tally::default());
    let worker = || {
        while let Some(seed) = {
            let mut tally = lock(&tally);
            let in_time = limit.is_none_or(|limit| started.elapsed() < limit);
            let stops = arguments.first_failure && !tally.failed.is_empty();
            let goes_on = in_time && !stops;
            let seed = seeds.get(tally.next).copied().filter(|_| goes_on);
            tally.next += usize::from(seed.is_some());
            seed
        } {
            let mut passed_on: Vec<&str> = Vec::new();
            if arguments.json {
                passed_on.push("--json");
            }
            if let Some(bug) = &arguments.bug {
                passed_on.extend(["--bug", bug]);
            }
            let ended = child(seed, &passed_on);
            let mut tally = lock(&tally);
            match ended {
                Ok(output) => match output.status.code() {
                    Some(0) => tally.passed += 1,
                    Some(1) if !output.stdout.is_empty() => {
                        report::passed_on(&String::from_utf8_lossy(&output.stdout));
                        tally.failed.push(seed);
                    }
                    _ => {
                        let how = String::from_utf8_lossy(&output.stderr);
                        let how = format!("{}, {how}", output.status);
                        report::died(seed, &how, arguments.bug.as_deref());
                        tally.failed.push(seed);
                    }
                },
                Err(error) => {
                    tally.error = Some(error);
                    return;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.unwrap_or(cores).max(1) {
            scope.spawn(worker);
        }
    });
    let tally = std::mem::take(&mut *lock(&tally));
    if let Some(error) = tally.error {
        return Err(error);
    }
    let left_out = seeds.len() - tally.next;
    report::total(
        tally.passed,
        &tally.failed,
        left_out,
        started.elapsed().as_secs_f64(),
    );
    Ok(tally.failed.is_empty())
}

fn lock(tally: &Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    tally
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Runs a seed twice.
pub(crate) fn run_twice(arguments: &Same) -> io::Result<bool> {
    let mut traces = Vec::new();
    for _ in 0..2 {
        let output = child(arguments.seed, &["--json"])?;
        let line: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let trace = line["trace"].as_str().unwrap_or_default();
        let trace = u64::from_str_radix(trace, 16);
        traces.push(trace.map_err(|error| io::Error::other(error.to_string()))?);
    }
    report::same(arguments.seed, &traces);
    Ok(traces[0] == traces[1])
}
