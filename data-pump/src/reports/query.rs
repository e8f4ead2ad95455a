//! Reads a report: as a bounded table of text, or as CSV of any length.
//!
//! Both use the simple protocol, which answers in text whatever a column's type, so that money keeps
//! its digits. What is put into the statement are ids and a number, never a person's text.

use std::fmt::Write as _;
use std::io;
use std::str::FromStr;

use futures_util::TryStreamExt;
use sqlx::postgres::PgConnectOptions;
use sqlx::{
    AssertSqlSafe, Column, ConnectOptions, Connection, Executor, PgConnection, Row, SqlSafeStr,
    TypeInfo, ValueRef,
};
use uuid::Uuid;

use super::catalogue::{REPORTS, Report};

/// The most rows of a [`ReportTable`]; whoever needs more takes CSV, or reads the view itself.
pub const REPORT_ROWS_MAX: u32 = 20_000;

/// Times in UTC, and no way to write, whoever the user is. Compiling a plan takes longer than most reports.
const SESSION: &str = "SET TIME ZONE 'UTC'; SET default_transaction_read_only = on; SET jit = off";
/// SQLSTATE for a table that is not there.
const UNDEFINED_TABLE: &str = "42P01";
/// SQLSTATE for a table that this user may not read.
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// What of a report is wanted. Empty means all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Rows of this event only.
    pub event_id: Option<Uuid>,
    /// Rows of this auction only.
    pub auction_id: Option<Uuid>,
    /// Rows from this time on, in milliseconds since the Unix epoch.
    pub since_ms: Option<i64>,
    /// At most so many rows.
    pub limit: Option<u32>,
}

impl Selection {
    /// Whether a report can be narrowed like this, without asking the database.
    ///
    /// # Errors
    /// [`ReportError::Unknown`], [`ReportError::FilterNotTaken`].
    pub fn check(&self, name: &str) -> Result<(), ReportError> {
        statement(name, self, None).map(|_| ())
    }
}

/// What a column holds, as far as its readers care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// Whole numbers.
    Integer,
    /// Numbers with digits after the point, such as money; exact.
    Decimal,
    /// Anything else.
    Text,
}

/// A column of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportColumn {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: ColumnKind,
}

/// A report's rows, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportTable {
    /// The columns.
    pub columns: Vec<ReportColumn>,
    /// As many values a row as there are columns.
    pub rows: Vec<Vec<Option<String>>>,
    /// Whether there are more rows than were asked for.
    pub is_cut: bool,
}

impl ReportTable {
    /// The place of a column.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}

/// Why a report has no rows to show.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// No such report. The text lists those that there are.
    #[error("there is no report `{0}`; there are: {names}", names = names())]
    Unknown(String),
    /// The report cannot be narrowed in this way. The text says how it can.
    #[error("the report `{}` cannot be narrowed by {filter}: {}", .report.name, takes(.report))]
    FilterNotTaken {
        /// Which.
        report: &'static Report,
        /// By what: an event, an auction, a time.
        filter: &'static str,
    },
    /// The database has no such view: no node of this build has written to it yet.
    #[error(
        "the database has no view {0} yet: the first node that writes to it makes it; is this the grid's \
         database?"
    )]
    NotThere(String),
    /// The database user may not read the view. Use another, or grant it the role.
    #[error(
        "this database user may not read {0}: use the role {role}, or GRANT {role} TO the user",
        role = super::REPORT_ROLE
    )]
    Forbidden(String),
    /// The database is away or refused. Retry.
    #[error("{0}")]
    Database(#[from] sqlx::Error),
    /// The rows could not be handed on. Look at where they go to.
    #[error("the rows cannot be written: {0}")]
    Output(#[from] io::Error),
}

impl ReportError {
    /// Whether trying again later may succeed without anybody's help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Database(_))
    }
}

fn names() -> String {
    let names: Vec<&str> = REPORTS.iter().map(|report| report.name).collect();
    names.join(", ")
}

fn takes(report: &Report) -> String {
    let filters = [
        (report.by_event, "an event"),
        (report.by_auction, "an auction"),
        (report.time_column.is_some(), "a time"),
    ];
    let taken: Vec<&str> = filters
        .iter()
        .filter_map(|(is_taken, name)| is_taken.then_some(*name))
        .collect();
    if taken.is_empty() {
        "it is one whole".to_owned()
    } else {
        format!("it takes {}", taken.join(" and "))
    }
}

/// The report and its statement.
fn statement(
    name: &str,
    selection: &Selection,
    limit: Option<u32>,
) -> Result<(&'static Report, String), ReportError> {
    let report = Report::named(name).ok_or_else(|| ReportError::Unknown(name.to_owned()))?;
    let refused = |filter| ReportError::FilterNotTaken { report, filter };
    let mut conditions = Vec::new();
    if let Some(event_id) = selection.event_id {
        if !report.by_event {
            return Err(refused("an event"));
        }
        conditions.push(format!("event_id = '{event_id}'::uuid"));
    }
    if let Some(auction_id) = selection.auction_id {
        if !report.by_auction {
            return Err(refused("an auction"));
        }
        conditions.push(format!("auction_id = '{auction_id}'::uuid"));
    }
    if let Some(since_ms) = selection.since_ms {
        let column = report.time_column.ok_or_else(|| refused("a time"))?;
        conditions.push(format!(
            "{column} >= 'epoch'::timestamptz + {since_ms}::bigint * interval '1 millisecond'"
        ));
    }
    let mut sql = format!("SELECT * FROM {}", report.view());
    for (place, condition) in conditions.iter().enumerate() {
        let word = if place == 0 { "WHERE" } else { "AND" };
        // Writing to a string cannot fail.
        let _ = write!(sql, " {word} {condition}");
    }
    if let Some(limit) = limit {
        let _ = write!(sql, " LIMIT {limit}");
    }
    Ok((report, sql))
}

async fn connect(database_url: &str) -> Result<PgConnection, sqlx::Error> {
    // A report may take seconds, which is nothing to warn of.
    let options = PgConnectOptions::from_str(database_url)?
        .application_name("spacegrid-report")
        .disable_statement_logging();
    let mut connection = options.connect().await?;
    connection.execute(SESSION).await?;
    Ok(connection)
}

fn explain(report: &Report, error: sqlx::Error) -> ReportError {
    let code = match &error {
        sqlx::Error::Database(error) => error.code().map(std::borrow::Cow::into_owned),
        _ => None,
    };
    match code.as_deref() {
        Some(UNDEFINED_TABLE) => ReportError::NotThere(report.view()),
        Some(INSUFFICIENT_PRIVILEGE) => ReportError::Forbidden(report.view()),
        _ => ReportError::Database(error),
    }
}

/// Runs a report and returns at most [`Selection::limit`] rows, and at most [`REPORT_ROWS_MAX`].
///
/// # Errors
/// See [`ReportError`].
pub async fn run(
    database_url: &str,
    name: &str,
    selection: &Selection,
) -> Result<ReportTable, ReportError> {
    let limit = selection
        .limit
        .unwrap_or(REPORT_ROWS_MAX)
        .min(REPORT_ROWS_MAX);
    // One more than wanted shows whether there are more.
    let (report, sql) = statement(name, selection, Some(limit + 1))?;
    let mut connection = connect(database_url).await?;
    let table = read(&mut connection, sql, limit)
        .await
        .map_err(|error| explain(report, error))?;
    connection.close().await?;
    Ok(table)
}

async fn read(
    connection: &mut PgConnection,
    sql: String,
    limit: u32,
) -> Result<ReportTable, sqlx::Error> {
    let described = connection
        .describe(AssertSqlSafe(sql.clone()).into_sql_str())
        .await?;
    let columns = described
        .columns()
        .iter()
        .map(|column| ReportColumn {
            name: column.name().to_owned(),
            kind: match column.type_info().name() {
                "INT2" | "INT4" | "INT8" => ColumnKind::Integer,
                "NUMERIC" => ColumnKind::Decimal,
                _ => ColumnKind::Text,
            },
        })
        .collect::<Vec<_>>();
    let found = sqlx::raw_sql(AssertSqlSafe(sql))
        .fetch_all(&mut *connection)
        .await?;
    let mut rows = Vec::with_capacity(found.len());
    for row in found.iter().take(limit as usize) {
        let mut values = Vec::with_capacity(columns.len());
        for place in 0..row.len() {
            let value = row.try_get_raw(place)?;
            values.push(if value.is_null() {
                None
            } else {
                Some(value.as_str().map_err(sqlx::Error::Decode)?.to_owned())
            });
        }
        rows.push(values);
    }
    Ok(ReportTable {
        columns,
        rows,
        is_cut: found.len() > limit as usize,
    })
}

/// Writes a report as CSV with a header line, as PostgreSQL's `COPY` does it: row by row, however many
/// there are (unless [`Selection::limit`] says otherwise), with an empty field for none.
///
/// # Errors
/// See [`ReportError`].
pub async fn write_csv(
    database_url: &str,
    name: &str,
    selection: &Selection,
    out: &mut (dyn io::Write + Send),
) -> Result<(), ReportError> {
    let (report, sql) = statement(name, selection, selection.limit)?;
    let mut connection = connect(database_url).await?;
    let copy = format!("COPY ({sql}) TO STDOUT (FORMAT csv, HEADER)");
    let mut chunks = connection
        .copy_out_raw(&copy)
        .await
        .map_err(|error| explain(report, error))?;
    while let Some(chunk) = chunks
        .try_next()
        .await
        .map_err(|error| explain(report, error))?
    {
        out.write_all(&chunk)?;
    }
    drop(chunks);
    out.flush()?;
    connection.close().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_becomes_conditions() {
        let selection = Selection {
            event_id: Some(Uuid::from_u128(5)),
            since_ms: Some(1_000),
            ..Selection::default()
        };
        let (_, sql) = statement("purchase_log", &selection, Some(7)).expect("taken");
        assert_eq!(
            sql,
            "SELECT * FROM report_purchase_log \
             WHERE event_id = '00000000-0000-0000-0000-000000000005'::uuid \
             AND sold_at >= 'epoch'::timestamptz + 1000::bigint * interval '1 millisecond' LIMIT 7"
        );
    }

    #[test]
    fn what_a_report_does_not_take_is_refused_with_what_it_takes() {
        let by_auction = Selection {
            auction_id: Some(Uuid::from_u128(1)),
            ..Selection::default()
        };
        let refused = |name, selection: &Selection| match statement(name, selection, None) {
            Err(error) => error.to_string(),
            Ok((_, sql)) => panic!("taken: {sql}"),
        };
        assert_eq!(
            refused("purchase_log", &by_auction),
            "the report `purchase_log` cannot be narrowed by an auction: it takes an event and a time"
        );
        assert_eq!(
            refused("pump_lag", &by_auction),
            "the report `pump_lag` cannot be narrowed by an auction: it is one whole"
        );
        let since = Selection {
            since_ms: Some(1),
            ..Selection::default()
        };
        assert!(refused("sales_by_event", &since).ends_with("it takes an event"));
        assert!(refused("nothing", &since).contains("there are: sales_by_event, "));
    }
}
