//! `grid report`: the SQL reports, as a table, JSON, CSV or a picture.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use comfy_table::CellAlignment;
use data_pump::reports::{
    self, ColumnKind, REPORT_ROWS_MAX, REPORTS, Report, ReportError, ReportTable, Selection,
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::database;
use crate::chart::{self, ChartError};
use crate::context::Context;
use crate::failure::Failure;
use crate::moment::Moment;
use crate::output::table;

/// Rows of a table or a document, unless `--limit` says otherwise.
const ROWS_DEFAULT: u32 = 100;

/// `grid report`
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Which; without it they are listed
    name: Option<String>,
    /// Only this event's rows
    #[arg(long, value_name = "ID", requires = "name")]
    event: Option<Uuid>,
    /// Only this auction's rows
    #[arg(long, value_name = "ID", requires = "name")]
    auction: Option<Uuid>,
    /// Only rows from then on: a time (2026-03-01T09:00Z; UTC without a zone), a day, or an age (90m, 7d)
    #[arg(long, value_name = "TIME", requires = "name", value_parser = Moment::from_str)]
    since: Option<Moment>,
    /// The most rows [default: 100; all with --csv and --chart]
    #[arg(long, requires = "name", conflicts_with = "chart",
        value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Write CSV with a header line to standard output, however many rows there are
    #[arg(long, requires = "name")]
    csv: bool,
    /// Write a picture (SVG) to this file instead of showing rows
    #[arg(
        long,
        value_name = "FILE.svg",
        requires = "name",
        conflicts_with = "csv"
    )]
    chart: Option<PathBuf>,
    /// The database [default: DATABASE_URL, or that of the running grid]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

/// Shows one, or their names.
pub(crate) async fn run(context: &Context, args: ReportArgs) -> anyhow::Result<()> {
    let Some(name) = &args.name else {
        return list(context);
    };
    if context.output.json && args.csv {
        let text = "--json and --csv: choose one";
        return Err(Failure::Usage(text.to_owned()).into());
    }
    let chart = match &args.chart {
        Some(file) => Some((file.as_path(), drawable(name, file)?)),
        None => None,
    };
    let since = args
        .since
        .map(|since| since.timestamp("--since", Timestamp::now()))
        .transpose()?;
    let mut selection = Selection {
        event_id: args.event,
        auction_id: args.auction,
        since_ms: since.map(Timestamp::as_millisecond),
        limit: args.limit,
    };
    // What cannot be had is said before the database is asked.
    selection.check(name).map_err(failure)?;
    let Some(url) = context.database_url(args.database_url.as_deref())? else {
        return Err(database::unknown().into());
    };
    if args.csv {
        let mut out = std::io::stdout();
        return match reports::write_csv(&url, name, &selection, &mut out).await {
            // Whoever reads has gone, which is no failure.
            Err(ReportError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                Ok(())
            }
            other => other.map_err(failure),
        };
    }
    if let Some((file, report)) = chart {
        let rows = reports::run(&url, name, &selection)
            .await
            .map_err(failure)?;
        return draw(context, report, &rows, file);
    }
    let limit = args.limit.unwrap_or(ROWS_DEFAULT);
    if limit > REPORT_ROWS_MAX {
        let text = format!("--limit: at most {REPORT_ROWS_MAX} rows; --csv has no such bound");
        return Err(Failure::Usage(text).into());
    }
    selection.limit = Some(limit);
    let rows = reports::run(&url, name, &selection)
        .await
        .map_err(failure)?;
    show(context, name, &rows)
}

fn failure(error: ReportError) -> anyhow::Error {
    let text = error.to_string();
    match error {
        ReportError::Unknown(_) | ReportError::FilterNotTaken { .. } => Failure::Usage(text).into(),
        ReportError::NotThere(_) | ReportError::Forbidden(_) | ReportError::Database(_) => {
            Failure::Database(format!("the report cannot be read: {text}")).into()
        }
        ReportError::Output(_) => error.into(),
    }
}

fn show(context: &Context, name: &str, rows: &ReportTable) -> anyhow::Result<()> {
    let names: Vec<&str> = rows
        .columns
        .iter()
        .map(|column| column.name.as_str())
        .collect();
    let document = json!({
        "report": name,
        "columns": names,
        "rows": rows.rows.iter().map(|row| object(rows, row)).collect::<Vec<Value>>(),
        "more": rows.is_cut,
    });
    context.output.result(&document, || {
        let mut shown = table(&names);
        for (place, column) in rows.columns.iter().enumerate() {
            if column.kind != ColumnKind::Text
                && let Some(column) = shown.column_mut(place)
            {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for row in &rows.rows {
            shown.add_row(row.iter().map(|value| value.as_deref().unwrap_or_default()));
        }
        let more = if rows.is_cut {
            ", and there are more: --limit, or --csv for all"
        } else {
            ""
        };
        format!("{shown}\n{} rows{more}", rows.rows.len())
    })
}

/// A row by column names: whole numbers as numbers, amounts as text with all their digits.
fn object(rows: &ReportTable, row: &[Option<String>]) -> Value {
    let fields = rows.columns.iter().zip(row);
    let fields: Map<String, Value> = fields
        .map(|(column, value)| {
            let value = match (column.kind, value) {
                (ColumnKind::Integer, Some(text)) => text
                    .parse::<i64>()
                    .map_or_else(|_| json!(text), Value::from),
                _ => json!(value),
            };
            (column.name.clone(), value)
        })
        .collect();
    Value::Object(fields)
}

/// The report, if it makes a picture and the file can hold one.
fn drawable(name: &str, file: &Path) -> anyhow::Result<&'static Report> {
    let Some(report) = Report::named(name) else {
        return Err(failure(ReportError::Unknown(name.to_owned())));
    };
    if report.chart.is_none() {
        return Err(Failure::Usage(ChartError::NoPicture(report.name).to_string()).into());
    }
    if file.extension().is_none_or(|extension| extension != "svg") {
        let text = format!(
            "--chart {}: pictures are SVG, so name it ….svg",
            file.display()
        );
        return Err(Failure::Usage(text).into());
    }
    Ok(report)
}

fn draw(
    context: &Context,
    report: &'static Report,
    rows: &ReportTable,
    file: &Path,
) -> anyhow::Result<()> {
    let svg = chart::svg(report, rows).map_err(|error| match error {
        ChartError::Empty => Failure::Refused {
            code: "nothing_to_draw".to_owned(),
            message: error.to_string(),
        },
        other => Failure::Usage(other.to_string()),
    })?;
    std::fs::write(file, svg)
        .map_err(|error| Failure::Usage(format!("--chart {}: {error}", file.display())))?;
    let place = file.display().to_string();
    let document = json!({"report": report.name, "chart": place, "rows": rows.rows.len()});
    context.output.result(&document, || {
        format!("{} rows are drawn in {place}", rows.rows.len())
    })
}

fn list(context: &Context) -> anyhow::Result<()> {
    let options = |report: &Report| {
        [
            (report.by_event, "--event"),
            (report.by_auction, "--auction"),
            (report.time_column.is_some(), "--since"),
            (report.chart.is_some(), "--chart"),
        ]
        .into_iter()
        .filter_map(|(is_taken, option)| is_taken.then_some(option))
        .collect::<Vec<_>>()
    };
    let names: Vec<Value> = REPORTS
        .iter()
        .map(|report| {
            json!({
                "name": report.name, "description": report.description, "view": report.view(),
                "options": options(report)
            })
        })
        .collect();
    context.output.result(&json!({ "reports": names }), || {
        let mut rows = table(["report", "shows", "takes"]);
        for report in REPORTS {
            rows.add_row([report.name, report.description, &options(report).join(" ")]);
        }
        format!(
            "{rows}\nin SQL: SELECT * FROM report_NAME; docs/reports.md says what the columns mean"
        )
    })
}
