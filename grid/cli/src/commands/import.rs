//! `grid import`: venues and lots from files. A file is checked as a whole before anything of it is
//! applied.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::Failure;
use crate::import::{Mistake, file_id, lots, read_file, venue};
use crate::output::grouped;

/// Requests under way while lots are imported.
const REQUESTS_IN_FLIGHT_MAX: usize = 16;
/// Mistakes that are printed; the rest is counted.
const MISTAKES_SHOWN_MAX: usize = 200;

/// `grid import …`
#[derive(Debug, Subcommand)]
pub(crate) enum ImportCommand {
    /// A venue in JSON, as a new sale
    Venue(VenueArgs),
    /// Lots in CSV, as auctions
    Lots(LotsArgs),
}

/// `grid import venue`
#[derive(Debug, Args)]
pub(crate) struct VenueArgs {
    /// The body of POST /v1/events; fields that the options give may be left out
    file: PathBuf,
    /// The sale's name, instead of the file's
    #[arg(long)]
    event_name: Option<String>,
    /// When it starts, RFC 3339 [default: the file's, or in 30 days]
    #[arg(long, value_name = "TIME")]
    starts_at: Option<Timestamp>,
    /// When the sale opens, RFC 3339 [default: the file's, or now]
    #[arg(long, value_name = "TIME")]
    on_sale_at: Option<Timestamp>,
    /// Seats that one buyer may hold and own
    #[arg(long, value_name = "N")]
    max_seats_per_buyer: Option<u32>,
    /// How long a hold lasts
    #[arg(long, value_name = "SECONDS")]
    hold_seconds: Option<u64>,
    /// The idempotency key: a venue may be put on sale many times, but once a key
    #[arg(long)]
    key: Option<String>,
}

impl VenueArgs {
    /// Nothing but the file.
    pub(crate) fn plain(file: PathBuf) -> Self {
        Self {
            file,
            event_name: None,
            starts_at: None,
            on_sale_at: None,
            max_seats_per_buyer: None,
            hold_seconds: None,
            key: None,
        }
    }
}

/// `grid import lots`
#[derive(Debug, Args)]
pub(crate) struct LotsArgs {
    /// Columns: lot, title, category, description, estimate_low, estimate_high, starting_price,
    /// reserve, currency, and any number of image columns
    file: PathBuf,
    /// Where a line names no currency
    #[arg(long, default_value = "EUR")]
    currency: String,
    /// When the auctions open, RFC 3339 [default: now]
    #[arg(long, value_name = "TIME")]
    start: Option<Timestamp>,
    /// How long they are open, such as 10m or 2h
    #[arg(long, default_value = "24h")]
    duration: SignedDuration,
    /// How much later each auction ends than the one before
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    stagger: SignedDuration,
    /// Names this import: the same file may be imported again under another name
    #[arg(long, default_value = "")]
    batch: String,
}

/// Carries it out.
pub(crate) async fn run(context: &Context, command: ImportCommand) -> anyhow::Result<()> {
    match command {
        ImportCommand::Venue(args) => import_venue(context, &args).await,
        ImportCommand::Lots(args) => import_lots(context, &args).await,
    }
}

/// Every mistake of a file, in its order.
fn refuse(path: &std::path::Path, mistakes: &[Mistake]) -> Failure {
    let count = mistakes.len();
    let mut text = format!(
        "{}: {count} mistake{}; nothing was imported",
        path.display(),
        if count == 1 { "" } else { "s" }
    );
    for mistake in mistakes.iter().take(MISTAKES_SHOWN_MAX) {
        text.push_str(&format!("\n  {mistake}"));
    }
    if count > MISTAKES_SHOWN_MAX {
        text.push_str(&format!("\n  and {} more", count - MISTAKES_SHOWN_MAX));
    }
    Failure::BadInput(text)
}

#[derive(Debug, Deserialize)]
struct CreatedEvent {
    event_id: String,
    seats: u64,
}

/// Creates a sale from a file.
pub(crate) async fn import_venue(context: &Context, args: &VenueArgs) -> anyhow::Result<()> {
    let text = read_file(&args.file)?;
    let now = Timestamp::now();
    let defaults = venue::Overrides {
        name: args.event_name.clone(),
        starts_at: args.starts_at,
        on_sale_at: args.on_sale_at,
        max_seats_per_buyer: args.max_seats_per_buyer,
        hold_seconds: args.hold_seconds,
    };
    let body =
        venue::read(&text, &defaults, now).map_err(|mistakes| refuse(&args.file, &mistakes))?;
    let api = context.api()?;
    let created: Value = api.post("/v1/events", &body, args.key.as_deref()).await?;
    let event: CreatedEvent = serde_json::from_value(created.clone())?;
    context.data_dir.remember_event(&event.event_id);
    context.output.result(&created, || {
        format!(
            "created event {} with {} seats\nload it: grid load onsale --rate 1000 --duration 10s",
            event.event_id,
            grouped(event.seats)
        )
    })
}

/// What became of a line.
enum Imported {
    Created(String),
    Known,
}

async fn import_lots(context: &Context, args: &LotsArgs) -> anyhow::Result<()> {
    let text = read_file(&args.file)?;
    let lots =
        lots::read(&text, &args.currency).map_err(|mistakes| refuse(&args.file, &mistakes))?;
    let start = args.start.unwrap_or_else(Timestamp::now);
    let file = file_id(&text);
    let api = context.api()?;
    let bar = context.output.bar(lots.len() as u64, "lots");
    let requests = lots.iter().enumerate().map(|(place, lot)| {
        let (api, bar, file) = (&api, &bar, &file);
        async move {
            let place = i32::try_from(place).context("too many lots")?;
            let end = (args.stagger.checked_mul(place))
                .and_then(|later| later.checked_add(args.duration))
                .and_then(|open| start.checked_add(open).ok())
                .ok_or_else(|| Failure::Usage("--duration or --stagger is too long".to_owned()))?;
            let body = lot.body(start, end);
            let key = format!("import-{file}-{}-{}", lot.line, args.batch);
            let imported = match api.post::<Value>("/v1/auctions", &body, Some(&key)).await {
                Ok(created) => {
                    let id = created["auction_id"].as_str().unwrap_or_default();
                    Imported::Created(id.to_owned())
                }
                // The line's key is taken: it was imported before, at another time of day.
                Err(error) if is_conflict(&error) => Imported::Known,
                Err(error) => {
                    let number = lot.line;
                    return Err(error.context(format!("line {number} was not imported")));
                }
            };
            bar.inc(1);
            anyhow::Ok(imported)
        }
    });
    let outcome: Result<Vec<Imported>, _> = stream::iter(requests)
        .buffered(REQUESTS_IN_FLIGHT_MAX)
        .try_collect()
        .await;
    bar.finish_and_clear();
    let imported = outcome.context("import again: what was imported is not imported twice")?;
    let created: Vec<&str> = imported
        .iter()
        .filter_map(|imported| match imported {
            Imported::Created(id) => Some(id.as_str()),
            Imported::Known => None,
        })
        .collect();
    let known = imported.len() - created.len();
    let document =
        json!({"lots": lots.len(), "created": created.len(), "known": known, "auctions": created});
    context.output.result(&document, || {
        let created = created.len();
        format!(
            "{} lots: {created} imported, {known} known from an earlier import",
            lots.len()
        )
    })
}

fn is_conflict(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<Failure>(),
        Some(Failure::Refused { code, .. }) if code == "idempotency_conflict"
    )
}
