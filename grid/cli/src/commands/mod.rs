//! The commands, one file each. `grid load` has its own module beside this one.

pub(crate) mod auction;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod certs;
pub(crate) mod database;
pub(crate) mod doctor;
pub(crate) mod event;
pub(crate) mod gateway;
mod gateway_tls;
pub(crate) mod import;
pub(crate) mod join;
pub(crate) mod leaders;
pub(crate) mod load;
pub(crate) mod members;
pub(crate) mod node;
pub(crate) mod partition;
pub(crate) mod process;
pub(crate) mod pump;
pub(crate) mod pump_loads;
pub(crate) mod replay;
pub(crate) mod report;
pub(crate) mod restart;
pub(crate) mod restore;
pub(crate) mod rush;
pub(crate) mod sample;
pub(crate) mod scenarios;
pub(crate) mod session;
pub(crate) mod snapshot;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod up;
pub(crate) mod upgrade;
pub(crate) mod verify;
pub(crate) mod waitingroom;
pub(crate) mod watch;

use std::num::NonZeroUsize;

use crate::cli::Command;
use crate::context::Context;

/// Carries a command out.
pub(crate) async fn run(context: Context, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Up(args) => up::run(context, args).await,
        Command::Node(command) => members::run(context, *command).await,
        Command::Gateway(args) => gateway::run(&context, *args).await,
        Command::Restart(args) => restart::run(&context, args).await,
        Command::Upgrade(command) => upgrade::run(&context, command).await,
        Command::Status(args) => status::run(&context, args).await,
        Command::Doctor(args) => doctor::run(&context, args).await,
        Command::Leaders(args) => leaders::run(&context, args).await,
        Command::Partition(command) => partition::run(&context, command).await,
        Command::Pump(command) => pump::run(&context, command).await,
        Command::Audit(command) => audit::run(&context, command).await,
        Command::Snapshot(command) => snapshot::run(&context, command).await,
        Command::Backup(command) => backup::run(context, command).await,
        Command::Restore(args) => restore::run(context, args).await,
        Command::Certs(command) => certs::run(&context, command),
        Command::Token(command) => token::run(&context, command),
        Command::Session(command) => session::run(&context, command).await,
        Command::Import(command) => import::run(&context, command).await,
        Command::Sample(command) => sample::run(context.output, command),
        Command::Event(command) => event::run(&context, command).await,
        Command::WaitingRoom(command) => waitingroom::run(&context, command).await,
        Command::Auction(command) => auction::run(&context, command).await,
        Command::Report(args) => report::run(&context, args).await,
        Command::Replay(args) => replay::run(&context, args).await,
        Command::Load(command) => load::run(&context, command).await,
        Command::Verify(args) => verify::run(&context, args).await,
    }
}

impl Command {
    /// Whether it serves until it is stopped, and logs as it does.
    pub(crate) fn serves(&self) -> bool {
        match self {
            Self::Node(command) => command.runs_a_node(),
            Self::Gateway(_) => true,
            _ => false,
        }
    }

    /// How many threads the command wants; `None` for one a core.
    pub(crate) fn worker_threads(&self) -> Option<usize> {
        match self {
            Self::Load(command) => Some(command.threads()),
            Self::Node(command) if command.runs_a_node() => command.threads(),
            Self::Gateway(args) => args.threads.map(NonZeroUsize::get),
            _ => Some(2),
        }
    }

    /// Whether its log is for programs.
    pub(crate) fn logs_json(&self) -> bool {
        match self {
            Self::Node(command) => command.logs_json(),
            Self::Gateway(args) => args.log_json,
            _ => false,
        }
    }
}
