//! The database's tables and views, and the role that reads them: made and brought up to date at every
//! start.
//!
//! Two first starts at the same time are safe: one holds an advisory lock and works, the other waits
//! and then finds nothing to do. A view that somebody reads at the moment, or that somebody else's view
//! is made of, stays as it is: reports do not keep the pump from starting.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::database::{DatabaseError, SERVER_MAJOR_MIN};
use crate::reports::{REPORTS, Report, RoleState, ensure_role, grant_views};

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// The advisory lock for the report views, any number that nobody else uses.
const VIEWS_LOCK: i64 = 0x5370_6163_6567_7269;
/// SQLSTATE of `CREATE OR REPLACE VIEW` with other columns than before.
const INVALID_TABLE_DEFINITION: &str = "42P16";
/// SQLSTATEs for which a view stays as it is: others hang on it, or it is being read for too long.
const VIEW_STAYS: [&str; 2] = ["2BP01", "55P03"];
/// How long a view waits for those who read it.
const VIEW_LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '1s'";

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

/// Brings tables, views and the role that reads the views up to date over one connection, and says how
/// it stands with the role.
///
/// # Errors
/// See [`SchemaError`]; nothing is left half done.
pub async fn migrate(connection: &mut PgConnection) -> Result<RoleState, SchemaError> {
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
    let state = create_views(connection).await?;
    match &state {
        RoleState::Ready => {}
        RoleState::Missing { statement } => tracing::warn!(
            statement,
            "there is no role to read reports with, and this database user may not make one: have an \
             administrator run the statement; the next start lets it read the reports"
        ),
        RoleState::TooMuch { statement } => tracing::warn!(
            statement,
            "everybody may make tables in this database, the role that reads reports too: the statement \
             ends that"
        ),
    }
    Ok(state)
}

async fn create_views(connection: &mut PgConnection) -> Result<RoleState, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(VIEWS_LOCK)
        .execute(&mut *transaction)
        .await?;
    sqlx::raw_sql(VIEW_LOCK_TIMEOUT)
        .execute(&mut *transaction)
        .await?;
    for report in REPORTS {
        match create_view(&mut transaction, report).await {
            Err(sqlx::Error::Database(error)) if has_code(&*error, &VIEW_STAYS) => {
                tracing::warn!(
                    view = report.view(),
                    %error,
                    "a report stays as the last build made it; the next start tries again"
                );
            }
            other => other?,
        }
    }
    let is_there = ensure_role(&mut transaction).await?;
    let state = grant_views(&mut transaction, is_there).await?;
    transaction.commit().await?;
    Ok(state)
}

/// Makes or replaces a view, with its comments; all of it or nothing.
async fn create_view(connection: &mut PgConnection, report: &Report) -> Result<(), sqlx::Error> {
    let mut attempt = connection.begin().await?;
    match sqlx::raw_sql(report.sql).execute(&mut *attempt).await {
        Err(sqlx::Error::Database(error)) if has_code(&*error, &[INVALID_TABLE_DEFINITION]) => {
            attempt.rollback().await?;
            attempt = connection.begin().await?;
            let sql = format!("DROP VIEW {};\n{}", report.view(), report.sql);
            sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(&mut *attempt)
                .await?;
        }
        other => {
            other?;
        }
    }
    attempt.commit().await
}

fn has_code(error: &dyn sqlx::error::DatabaseError, codes: &[&str]) -> bool {
    error
        .code()
        .is_some_and(|code| codes.contains(&code.as_ref()))
}

/// Tables as an older build makes them, without views.
#[cfg(test)]
pub(crate) async fn migrate_to(
    connection: &mut PgConnection,
    version: i64,
) -> Result<(), sqlx::migrate::MigrateError> {
    let older = MIGRATOR
        .iter()
        .filter(|migration| migration.version <= version);
    sqlx::migrate::Migrator::with_migrations(older.cloned().collect())
        .run_direct(None, &mut *connection, false)
        .await
}
