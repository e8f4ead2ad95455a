//! `grid report`: the SQL reports.

use clap::Args;
use data_pump::reports::{self, REPORT_ROWS_MAX, REPORTS, ReportError};
use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::failure::Failure;
use crate::output::table;

/// `grid report`
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Which; without it they are listed
    name: Option<String>,
    /// The most rows
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(REPORT_ROWS_MAX)))]
    limit: u32,
    /// The database [default: DATABASE_URL, or that of the running grid]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

/// Shows one, or their names.
pub(crate) async fn run(context: &Context, args: ReportArgs) -> anyhow::Result<()> {
    let Some(name) = args.name else {
        return list(context);
    };
    let Some(url) = context.database_url(args.database_url.as_deref())? else {
        let text = "no database is known: is the grid up, and with a database? Otherwise give \
                    --database-url";
        return Err(Failure::Database(text.to_owned()).into());
    };
    let report = reports::run(&url, &name, args.limit).await.map_err(|error| match error {
        ReportError::Unknown(_) => Failure::Usage(error.to_string()),
        ReportError::Database(_) => Failure::Database(format!(
            "the report cannot be read: {error}; a new database has none until the first node wrote to it"
        )),
    })?;
    let rows: Vec<Value> = report
        .rows
        .iter()
        .map(|row| {
            let fields = report.columns.iter().zip(row);
            let row: Map<String, Value> = fields
                .map(|(column, value)| (column.clone(), json!(value)))
                .collect();
            Value::Object(row)
        })
        .collect();
    let document = json!({"report": name, "columns": report.columns, "rows": rows});
    context.output.result(&document, || {
        let mut rows = table(&report.columns);
        for row in &report.rows {
            rows.add_row(row);
        }
        format!("{rows}\n{} rows", report.rows.len())
    })
}

fn list(context: &Context) -> anyhow::Result<()> {
    let names: Vec<Value> = REPORTS
        .iter()
        .map(|report| {
            json!({"name": report.name, "description": report.description, "view": report.view()})
        })
        .collect();
    context.output.result(&json!({ "reports": names }), || {
        let mut rows = table(["report", "shows", "view in SQL"]);
        for report in REPORTS {
            rows.add_row([report.name, report.description, &report.view()]);
        }
        rows.to_string()
    })
}
