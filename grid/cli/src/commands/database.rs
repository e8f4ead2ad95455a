//! The database that a command asks directly.

use clap::Args;

use crate::context::Context;
use crate::failure::Failure;

/// Which database.
#[derive(Debug, Args)]
pub(crate) struct DatabaseArgs {
    /// The database [default: DATABASE_URL, or that of the running grid]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

impl DatabaseArgs {
    /// Its URL.
    ///
    /// # Errors
    /// Where none is known.
    pub(super) fn url(&self, context: &Context) -> anyhow::Result<String> {
        let url = context.database_url(self.database_url.as_deref())?;
        Ok(url.ok_or_else(unknown)?)
    }
}

/// No database is known.
pub(super) fn unknown() -> Failure {
    let text = "no database is known: is the grid up, and with a database? Otherwise give \
                --database-url";
    Failure::Database(text.to_owned())
}
