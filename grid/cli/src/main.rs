//! The `grid` command: the only place that sees every part of Spacegrid.
//!
//! ```text
//!   grid up ──starts──► grid node × N (data grid + gateway + data pump), grid gateway × M
//!      └──────provides─► PostgreSQL
//!   every other command ──HTTP, WebSocket──► a gateway;  reports and checks ──SQL──► PostgreSQL
//! ```
//!
//! What it deliberately does not do: hold logic of auctions, seats or replication.

mod admin_token;
mod api;
mod audit_log;
mod backup;
mod certs;
mod chart;
mod cli;
mod cluster;
mod commands;
mod context;
mod data_dir;
mod doctor;
mod draw;
mod failure;
mod import;
mod load;
mod moment;
mod new_grid;
mod output;
mod private_file;
mod replay;
mod restore;
mod rolling;
mod sample;
mod sequence;
mod supervise;
mod telemetry;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use context::Context;
use output::Output;

/// The nodes allocate much and from many threads; the system's allocator costs a tenth of the throughput.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output {
        json: cli.global.json,
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(document) = failure::document(&error) {
                if output.json {
                    // Nothing is left to be done about an output that is gone.
                    let _ = output.result(&document, String::new);
                } else {
                    tell(&error);
                }
            }
            ExitCode::from(failure::exit_code(&error))
        }
    }
}

fn tell(error: &anyhow::Error) {
    use std::io::Write;

    // As above.
    let _ = writeln!(std::io::stderr(), "grid: {error:#}");
}

fn run(cli: Cli) -> anyhow::Result<()> {
    init_logging(&cli.command);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = cli.command.worker_threads() {
        runtime.worker_threads(threads);
    }
    let runtime = runtime.enable_all().build()?;
    let context = Context::new(cli.global);
    let outcome = runtime.block_on(commands::run(context, cli.command));
    // A blocking read of standard input, say, must not hold the process back.
    runtime.shutdown_background();
    outcome
}

/// Logs to standard error: a node's and a gateway's at level `info`, every other command's warnings only.
fn init_logging(command: &Command) {
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    use tracing_subscriber::{EnvFilter, Layer};

    let default = if command.serves() {
        "info,openraft=error,audit=off"
    } else {
        "warn"
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let logging = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let logging = if command.logs_json() {
        logging.json().boxed()
    } else {
        logging.with_ansi(false).boxed()
    };
    tracing_subscriber::registry()
        .with(logging.with_filter(filter))
        .with(audit_log::layer())
        .init();
}
