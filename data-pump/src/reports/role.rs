//! `grid_report`: the database role that may read the report views and nothing else.
//!
//! Roles belong to the server, not to one database, and making one is a privilege that the pump's user
//! may lack. Then nothing fails: the log says which statement an administrator has to give, and the next
//! start grants the views.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::catalogue::REPORTS;

/// The role's name.
pub const REPORT_ROLE: &str = "grid_report";

/// SQLSTATE: this user may not.
const INSUFFICIENT_PRIVILEGE: &str = "42501";
/// SQLSTATEs of a role that another database's first start has just made.
const MADE_MEANWHILE: [&str; 2] = ["42710", "23505"];

/// How it stands with the role after a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleState {
    /// It reads every report and can write nothing.
    Ready,
    /// There is none, and this user may not make one. The statement is for an administrator.
    Missing {
        /// What to run.
        statement: String,
    },
    /// It reads every report, but what this database allows everybody lets it write as well.
    TooMuch {
        /// What to run.
        statement: String,
    },
}

/// Makes the role, if it is not there and this user may. It can log in, but has no password until
/// somebody gives it one.
pub(crate) async fn ensure_role(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    if role_exists(connection).await? {
        return Ok(true);
    }
    let mut attempt = connection.begin().await?;
    let create = format!(
        "{}; ALTER ROLE {REPORT_ROLE} SET default_transaction_read_only = on;
         COMMENT ON ROLE {REPORT_ROLE} IS 'may read the views report_…, and nothing else'",
        create_statement()
    );
    let made = sqlx::raw_sql(AssertSqlSafe(create))
        .execute(&mut *attempt)
        .await;
    match made {
        Ok(_) => {
            attempt.commit().await?;
            Ok(true)
        }
        Err(sqlx::Error::Database(error)) => {
            let code = error.code().unwrap_or_default().into_owned();
            attempt.rollback().await?;
            if code == INSUFFICIENT_PRIVILEGE {
                Ok(false)
            } else if MADE_MEANWHILE.contains(&code.as_str()) {
                Ok(true)
            } else {
                Err(sqlx::Error::Database(error))
            }
        }
        Err(error) => Err(error),
    }
}

fn create_statement() -> String {
    format!("CREATE ROLE {REPORT_ROLE} LOGIN")
}

async fn role_exists(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
        .bind(REPORT_ROLE)
        .fetch_one(connection)
        .await
}

/// Lets the role read every report view that this user owns, and says whether that is all it can do.
pub(crate) async fn grant_views(
    connection: &mut PgConnection,
    is_there: bool,
) -> Result<RoleState, sqlx::Error> {
    if !is_there {
        return Ok(RoleState::Missing {
            statement: create_statement(),
        });
    }
    let views: Vec<String> = REPORTS.iter().map(super::Report::view).collect();
    // Names are looked up the same way in which the migrations made the tables: by the search path.
    let granted = format!(
        "GRANT SELECT ON {} TO {REPORT_ROLE};
         GRANT EXECUTE ON FUNCTION major_units(bigint, smallint) TO {REPORT_ROLE}",
        views.join(", ")
    );
    sqlx::raw_sql(AssertSqlSafe(granted))
        .execute(&mut *connection)
        .await?;
    // Before version 15 every user may make tables in the schema `public`.
    let (schema, can_create): (String, bool) = sqlx::query_as(
        "SELECT quote_ident(current_schema()), has_schema_privilege($1, current_schema(), 'CREATE')",
    )
    .bind(REPORT_ROLE)
    .fetch_one(connection)
    .await?;
    Ok(if can_create {
        RoleState::TooMuch {
            statement: format!("REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC"),
        }
    } else {
        RoleState::Ready
    })
}
