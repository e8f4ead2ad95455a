//! `grid pump`: how the way to the database stands, pauses of it, and what the database refused.
//!
//! States come from the nodes; pauses and parked changes are in the database, which these commands ask
//! directly, as the reports do.

mod dead_letters;
mod pauses;
mod resync;
mod status;

use clap::Subcommand;
use data_pump::pump::{OperatorError, PumpOperator};

use super::database::DatabaseArgs;
use crate::context::Context;
use crate::failure::Failure;

/// `grid pump …`
#[derive(Debug, Subcommand)]
pub(crate) enum PumpCommand {
    /// Show each partition's pump: its state, how far behind it is, what is parked, its last error
    Status(status::StatusArgs),
    /// Stop writing to the database, in the whole grid, until `resume`; sales go on
    Pause(pauses::PauseArgs),
    /// Let paused partitions be written again
    Resume(pauses::ResumeArgs),
    /// Compare SQL with the grid, sale by sale and auction by auction, and mend SQL where asked to
    Resync(resync::ResyncArgs),
    /// Changes that the database refused: list, show, retry, drop
    #[command(subcommand)]
    Dlq(dead_letters::DlqCommand),
}

/// What pauses and parked changes are read and changed through.
async fn operator(database: &DatabaseArgs, context: &Context) -> anyhow::Result<PumpOperator> {
    let url = database.url(context)?;
    Ok(PumpOperator::connect(&url).await.map_err(Failure::from)?)
}

impl From<OperatorError> for Failure {
    fn from(error: OperatorError) -> Self {
        match error {
            OperatorError::NotParked => Self::Refused {
                code: "not_parked".to_owned(),
                message: error.to_string(),
            },
            OperatorError::Database(_)
            | OperatorError::NoSchema
            | OperatorError::Dropped
            | OperatorError::Unreadable { .. } => {
                Self::Database(format!("the database cannot be used: {error}"))
            }
        }
    }
}

/// Carries one out.
pub(crate) async fn run(context: &Context, command: PumpCommand) -> anyhow::Result<()> {
    match command {
        PumpCommand::Status(args) => status::run(context, &args).await,
        PumpCommand::Pause(args) => pauses::pause(context, &args).await,
        PumpCommand::Resume(args) => pauses::resume(context, &args).await,
        PumpCommand::Resync(args) => resync::run(context, &args).await,
        PumpCommand::Dlq(command) => dead_letters::run(context, command).await,
    }
}
