//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use uuid::Uuid;

use crate::commands::{
    auction, audit, backup, certs, doctor, event, gateway, import, leaders, load, members,
    partition, pump, replay, report, restart, restore, sample, session, snapshot, status, token,
    up, upgrade, verify, waitingroom,
};
use crate::failure::EXIT_CODES;

/// Sells concert seats and runs auctions on a replicated in-memory data grid.
#[derive(Debug, Parser)]
#[command(name = "grid", version, about, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Clone, Debug, Args)]
pub(crate) struct GlobalArgs {
    /// Print one JSON document on standard output; logs go to standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Where `grid up` keeps its data, and where other commands find the running grid
    #[arg(long, global = true, value_name = "DIR", default_value = "data")]
    pub(crate) data_dir: PathBuf,
    /// Gateways to ask, separated by commas, instead of those of the data directory
    #[arg(long, global = true, value_name = "URL", value_delimiter = ',')]
    pub(crate) url: Vec<String>,
    /// The file with the admin token, instead of SPACEGRID_ADMIN_TOKEN or the data directory's
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) admin_token_file: Option<PathBuf>,
    /// Who acts [default: the operator, a manager]
    #[arg(long, global = true, value_name = "UUID")]
    pub(crate) user: Option<Uuid>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a grid on this machine: nodes, gateways, database
    Up(up::UpArgs),
    /// Add nodes, take them away, list them; or run one (`grid up` does this for you)
    Node(Box<members::NodeCommand>),
    /// Run a gateway in a process of its own, for more clients than the nodes' gateways bear
    Gateway(Box<gateway::GatewayArgs>),
    /// Restart nodes of the grid on this machine, one after another, while it sells
    Restart(restart::RestartArgs),
    /// Show how far an upgrade to a newer build is, or end it
    #[command(subcommand)]
    Upgrade(upgrade::UpgradeCommand),
    /// Show how well the grid is: nodes, partitions, and how far the database is
    Status(status::StatusArgs),
    /// Say why the grid is not healthy, and what to do
    Doctor(doctor::DoctorArgs),
    /// Show which node leads which partition
    Leaders(leaders::LeadersArgs),
    /// Show partitions, or rebuild a replica
    #[command(subcommand)]
    Partition(partition::PartitionCommand),
    /// Show, pause and resume the writing to the database, and handle what it refused
    #[command(subcommand)]
    Pump(pump::PumpCommand),
    /// Show that nothing in the database was edited afterwards, and prove single facts to others
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Take snapshots, or list them
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    /// Keep a copy of the grid outside of it, check one, or make a new grid from one
    #[command(subcommand)]
    Backup(backup::BackupCommand),
    /// Make a new grid from the database alone, in a data directory that is empty (--data-dir)
    Restore(restore::RestoreArgs),
    /// Make and show certificates for mutual TLS between nodes
    #[command(subcommand)]
    Certs(certs::CertsCommand),
    /// Issue tokens of the grid's own key
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Take users' sessions back
    #[command(subcommand)]
    Session(session::SessionCommand),
    /// Bring a venue or an auction's lots into the grid from a file
    #[command(subcommand)]
    Import(import::ImportCommand),
    /// Print a sample file for `grid import`
    #[command(subcommand)]
    Sample(sample::SampleCommand),
    /// Sales of seats
    #[command(subcommand)]
    Event(event::EventCommand),
    /// The waiting room before a sale: people gather, a lottery orders them, passes let them in
    #[command(subcommand, name = "waitingroom")]
    WaitingRoom(waitingroom::WaitingRoomCommand),
    /// Auctions
    #[command(subcommand)]
    Auction(auction::AuctionCommand),
    /// List the SQL reports, or show one
    Report(report::ReportArgs),
    /// Tell an auction or a sale again, every step as it happened
    Replay(replay::ReplayArgs),
    /// Measure the grid under load, and check afterwards that nothing was lost or sold twice
    #[command(subcommand)]
    Load(load::LoadCommand),
    /// Compare the replicas with each other, and the database with the grid
    Verify(verify::VerifyArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
