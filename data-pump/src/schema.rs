//! The database's tables and views: made and brought up to date at every start.
//!
//! Two first starts at the same time are safe: one holds an advisory lock and works, the other waits
//! and then finds nothing to do.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::database::{DatabaseError, SERVER_MAJOR_MIN};
use crate::reports::REPORTS;

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// The advisory lock for the report views, any number that nobody else uses.
const VIEWS_LOCK: i64 = 0x5370_6163_6567_7269;
/// SQLSTATE of `CREATE OR REPLACE VIEW` with other columns than before.
const INVALID_TABLE_DEFINITION: &str = "42P16";

/// Why the schema is not in place.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The database is away or refused. Retry; the text says whether somebody must act.
    #[error("{0}")]
    Database(#[from] sqlx::Error),
    /// The migrations and the database do not go together, such as a database written by a newer
    /// build. Use that build.
    #[error("the database's schema does not fit this build: {0}")]
    Migration(#[source] sqlx::migrate::MigrateError),
    /// The server is too old. Upgrade it.
    #[error("PostgreSQL {found} is too old; {SERVER_MAJOR_MIN} or newer is needed")]
    TooOld {
        /// Its version.
        found: String,
    },
}

impl SchemaError {
    /// Whether trying again later may succeed without anybody's help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Database(_))
    }
}

/// Brings tables and views up to date over one connection.
///
/// # Errors
/// See [`SchemaError`]; nothing is left half done.
pub async fn migrate(connection: &mut PgConnection) -> Result<(), SchemaError> {
    let version: String = sqlx::query_scalar("SHOW server_version")
        .fetch_one(&mut *connection)
        .await?;
    if let Err(DatabaseError::TooOld { found, .. }) =
        crate::database::check_server_version(&version)
    {
        return Err(SchemaError::TooOld { found });
    }
    MIGRATOR
        .run_direct(None, &mut *connection, false)
        .await
        .map_err(|error| match error {
            sqlx::migrate::MigrateError::Execute(error) => SchemaError::Database(error),
            other => SchemaError::Migration(other),
        })?;
    create_views(connection).await?;
    Ok(())
}

async fn create_views(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(VIEWS_LOCK)
        .execute(&mut *transaction)
        .await?;
    for report in REPORTS {
        let mut attempt = transaction.begin().await?;
        match sqlx::raw_sql(report.sql).execute(&mut *attempt).await {
            Ok(_) => attempt.commit().await?,
            Err(sqlx::Error::Database(error))
                if error.code().as_deref() == Some(INVALID_TABLE_DEFINITION) =>
            {
                attempt.rollback().await?;
                let drop = format!("DROP VIEW {}", report.view());
                sqlx::raw_sql(AssertSqlSafe(drop))
                    .execute(&mut *transaction)
                    .await?;
                sqlx::raw_sql(report.sql).execute(&mut *transaction).await?;
            }
            Err(error) => return Err(error),
        }
    }
    transaction.commit().await
}
