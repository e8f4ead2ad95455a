//! `grid load rush`: the arrivals before a waiting room.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use super::load::{latest_event, positive};
use crate::api::random_uuid;
use crate::context::Context;
use crate::failure::Failure;
use crate::load::crowd::{self, CrowdPlan};
use crate::load::fault::Fault;
use crate::load::venue::{EventView, SeatMap, create};
use crate::output::table;

/// `grid load rush`
#[derive(Debug, Args)]
pub(crate) struct RushArgs {
    /// The sale whose seats are copied [default: the one imported last]
    #[arg(long, value_name = "UUID")]
    event: Option<Uuid>,
    /// People
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..))]
    arrivals: u32,
    /// How long they take to arrive; those of the first half are drawn
    #[arg(long, default_value = "5s")]
    over: SignedDuration,
    /// HTTP connections, spread over the gateways
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// People admitted a minute
    #[arg(long, value_name = "N", default_value_t = 30_000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Passes that may be open, in percent of what the unsold seats suffice for
    #[arg(long, value_name = "PERCENT", default_value_t = 100)]
    oversubscription: u32,
    /// Kill the node that leads the busiest partition, so long after the first arrival (needs the grid's data
    /// directory); its gateway dies with it
    #[arg(long, value_name = "DURATION")]
    kill_node_after: Option<SignedDuration>,
}

/// Loads, checks, reports.
pub(crate) async fn run(context: &Context, args: &RushArgs) -> anyhow::Result<()> {
    let api = context.api()?;
    let over = positive(args.over, "--over")?;
    let event_id = match args.event {
        Some(event_id) => event_id,
        None => latest_event(context, &api).await?,
    };
    let event = EventView::read(&api, event_id).await?;
    let map = SeatMap::read(&api, event_id).await?;
    let copy = create(&api, &event.copy(&map, 1, true)).await?;
    let half = SignedDuration::try_from(over / 2)?;
    let room = json!({
        "rate_per_minute": args.rate,
        "oversubscription_percent": args.oversubscription,
        "opens_at": (Timestamp::now() + half).to_string(),
    });
    let path = format!("/v1/events/{copy}/waiting-room");
    let _: Value = api.post(&path, &room, None).await?;
    let fault = match args.kill_node_after {
        Some(after) => {
            let after = Duration::try_from(after)
                .map_err(|_| Failure::Usage("--kill-node-after must not be negative".to_owned()))?;
            let fault = Fault::new(context.api()?, context.data_dir.clone(), after);
            Some(Arc::new(fault))
        }
        None => None,
    };
    let plan = CrowdPlan {
        gateways: api.gateways().to_vec(),
        event_id: copy,
        arrivals: args.arrivals as usize,
        over,
        connections: args.connections as usize,
        seed: random_uuid()?.as_u128() as u64,
        fault,
    };
    let report = crowd::run(context.output, &plan, &api).await?;
    context.output.result(&report, || text(&report))?;
    match report["ok"].as_bool() {
        Some(true) => Ok(()),
        _ => Err(Failure::Reported.into()),
    }
}

fn text(report: &Value) -> String {
    let mut rows = table(["", ""]);
    let flat = report.as_object().into_iter().flatten();
    for (name, value) in flat.filter(|(_, value)| !value.is_object() && !value.is_null()) {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => match number.as_f64() {
                Some(real) if number.is_f64() => format!("{real:.1}"),
                _ => number.to_string(),
            },
            other => other.to_string(),
        };
        rows.add_row([name.replace('_', " "), value]);
    }
    for part in ["check", "refused"] {
        for (name, count) in report[part].as_object().into_iter().flatten() {
            rows.add_row([name.replace('_', " "), count.to_string()]);
        }
    }
    if let Some(killed) = report["killed"].as_object() {
        let (node, pid) = (&killed["node"], &killed["pid"]);
        rows.add_row(["killed".to_owned(), format!("node {node} (kill -9 {pid})")]);
    }
    let order = match report["order"]["ok"].as_bool() {
        Some(true) => "the order is the one that the revealed lottery gives",
        _ => "THE ORDER IS NOT PROVEN",
    };
    format!("{rows}\n{order}, seed {}", report["order"]["seed"])
}
