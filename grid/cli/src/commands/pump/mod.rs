//! `grid pump`: how the way to the database stands, pauses of it, and what the database refused.
//!
//! States come from the nodes; pauses and parked changes are in the database, which these commands ask
//! directly, as the reports do.

mod dead_letters;
mod pauses;
mod resync;
mod status;

use clap::{Args, Subcommand};
use data_pump::pump::{OperatorError, PumpOperator};

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

/// Which database.
#[derive(Debug, Args)]
pub(crate) struct DatabaseArgs {
    /// The database [default: DATABASE_URL, or that of the running grid]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

impl DatabaseArgs {
    fn url(&self, context: &Context) -> anyhow::Result<String> {
        let url = context.database_url(self.database_url.as_deref())?;
        url.ok_or_else(|| {
            let text = "no database is known: is the grid up, and with a database? Otherwise give \
                        --database-url";
            Failure::Database(text.to_owned()).into()
        })
    }

    async fn operator(&self, context: &Context) -> anyhow::Result<PumpOperator> {
        let url = self.url(context)?;
        Ok(PumpOperator::connect(&url).await.map_err(Failure::from)?)
    }
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
