//! `grid event`: sales of seats.

use std::path::PathBuf;

use clap::Subcommand;
use serde::Deserialize;
use serde_json::Value;

use super::import::{VenueArgs, import_venue};
use crate::api::{Money, escape};
use crate::context::Context;
use crate::output::{grouped, table};

/// `grid event …`
#[derive(Debug, Subcommand)]
pub(crate) enum EventCommand {
    /// List the sales
    List,
    /// Show a sale and how its sections stand
    Show {
        /// Its id
        event_id: String,
    },
    /// Create a sale from a file, as `grid import venue` does
    Create {
        /// A venue in JSON
        file: PathBuf,
    },
}

#[derive(Debug, Deserialize)]
struct Event {
    event_id: String,
    name: String,
    venue: String,
    starts_at: String,
    on_sale_at: String,
    seats: u64,
    max_seats_per_buyer: u32,
    sections: Vec<Section>,
}

#[derive(Debug, Deserialize)]
struct Section {
    name: String,
    price: Money,
    total: u64,
    available: u64,
    held: u64,
    sold: u64,
}

impl Event {
    fn count(&self, of: impl Fn(&Section) -> u64) -> u64 {
        self.sections.iter().map(of).sum()
    }
}

/// Carries it out.
pub(crate) async fn run(context: &Context, command: EventCommand) -> anyhow::Result<()> {
    match command {
        EventCommand::List => list(context).await,
        EventCommand::Show { event_id } => show(context, &event_id).await,
        EventCommand::Create { file } => import_venue(context, &VenueArgs::plain(file)).await,
    }
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let values: Vec<Value> = context.api()?.list("/v1/events").await?;
    let events: Vec<Event> = serde_json::from_value(Value::Array(values.clone()))?;
    context
        .output
        .result(&serde_json::json!({ "events": values }), || {
            let mut rows = table(["event", "name", "venue", "on sale", "seats", "held", "sold"]);
            for event in &events {
                rows.add_row([
                    event.event_id.clone(),
                    event.name.clone(),
                    event.venue.clone(),
                    event.on_sale_at.clone(),
                    grouped(event.seats),
                    grouped(event.count(|section| section.held)),
                    grouped(event.count(|section| section.sold)),
                ]);
            }
            rows.to_string()
        })
}

async fn show(context: &Context, event_id: &str) -> anyhow::Result<()> {
    let value: Value = context
        .api()?
        .get(&format!("/v1/events/{}", escape(event_id)))
        .await?;
    let event: Event = serde_json::from_value(value.clone())?;
    context.output.result(&value, || {
        let mut rows = table(["section", "price", "seats", "free", "held", "sold"]);
        for section in &event.sections {
            rows.add_row([
                section.name.clone(),
                section.price.to_string(),
                grouped(section.total),
                grouped(section.available),
                grouped(section.held),
                grouped(section.sold),
            ]);
        }
        format!(
            "{} at {}\nstarts {}, on sale from {}, {} seats, at most {} a buyer\n\n{rows}",
            event.name,
            event.venue,
            event.starts_at,
            event.on_sale_at,
            grouped(event.seats),
            event.max_seats_per_buyer
        )
    })
}
