//! The SQL reports: views named `report_…`, for people and their tools.

use sqlx::{AssertSqlSafe, Column, Connection, Executor, PgConnection, Row, SqlSafeStr, ValueRef};

/// The most rows that [`run`] returns; whoever needs more reads the view itself.
pub const REPORT_ROWS_MAX: u32 = 10_000;

/// A report.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Its name, as given to [`run`].
    pub name: &'static str,
    /// What it shows, in one line.
    pub description: &'static str,
    pub(crate) sql: &'static str,
}

impl Report {
    /// The view's name in the database.
    #[must_use]
    pub fn view(&self) -> String {
        format!("report_{}", self.name)
    }
}

/// Every report.
pub const REPORTS: &[Report] = &[
    Report {
        name: "auction_results",
        description: "every auction: its outcome, highest bid and winner, latest first",
        sql: include_str!("../reports/auction_results.sql"),
    },
    Report {
        name: "bid_history",
        description: "every bid in its order, by auction",
        sql: include_str!("../reports/bid_history.sql"),
    },
    Report {
        name: "sales_by_event",
        description: "seats sold, held and free, buyers and revenue of every event",
        sql: include_str!("../reports/sales_by_event.sql"),
    },
    Report {
        name: "sales_by_section",
        description: "the same by section, with its price",
        sql: include_str!("../reports/sales_by_section.sql"),
    },
    Report {
        name: "seat_occupancy",
        description: "a map of every row: # sold, + held, . free",
        sql: include_str!("../reports/seat_occupancy.sql"),
    },
    Report {
        name: "pump_lag",
        description: "how far the database is written, by partition",
        sql: include_str!("../reports/pump_lag.sql"),
    },
];

/// A report's rows, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportTable {
    /// The columns' names.
    pub columns: Vec<String>,
    /// As many values a row as there are columns; empty for none.
    pub rows: Vec<Vec<String>>,
}

/// Why a report has no rows to show.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// No such report. The text lists those that there are.
    #[error("there is no report `{0}`; there are: {names}", names = names())]
    Unknown(String),
    /// The database is away or refused. Retry.
    #[error("{0}")]
    Database(#[from] sqlx::Error),
}

fn names() -> String {
    let names: Vec<&str> = REPORTS.iter().map(|report| report.name).collect();
    names.join(", ")
}

/// Runs a report and returns at most `limit` rows, and at most [`REPORT_ROWS_MAX`].
///
/// # Errors
/// See [`ReportError`].
pub async fn run(database_url: &str, name: &str, limit: u32) -> Result<ReportTable, ReportError> {
    let report = REPORTS
        .iter()
        .find(|report| report.name == name)
        .ok_or_else(|| ReportError::Unknown(name.to_owned()))?;
    let mut connection = PgConnection::connect(database_url).await?;
    let sql = format!(
        "SELECT * FROM {} LIMIT {}",
        report.view(),
        limit.min(REPORT_ROWS_MAX)
    );
    let described = connection
        .describe(AssertSqlSafe(format!("SELECT * FROM {}", report.view())).into_sql_str())
        .await?;
    let columns = described
        .columns()
        .iter()
        .map(|column| column.name().to_owned())
        .collect::<Vec<_>>();
    // The simple protocol answers in text, whatever the column's type.
    let found = sqlx::raw_sql(AssertSqlSafe(sql))
        .fetch_all(&mut connection)
        .await?;
    connection.close().await?;
    let mut rows = Vec::with_capacity(found.len());
    for row in &found {
        let mut values = Vec::with_capacity(columns.len());
        for place in 0..row.len() {
            let value = row.try_get_raw(place)?;
            let text = if value.is_null() {
                ""
            } else {
                value.as_str().map_err(sqlx::Error::Decode)?
            };
            values.push(text.to_owned());
        }
        rows.push(values);
    }
    Ok(ReportTable { columns, rows })
}
