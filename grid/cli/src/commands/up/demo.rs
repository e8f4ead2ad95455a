//! The sample sale and auctions of `grid up --demo`.

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::Api;
use crate::data_dir::DataDir;
use crate::sample;

/// When the demo's auctions end, in minutes from now, and what they sell.
const AUCTIONS: &[(i64, &str, &str, &str)] = &[
    (5, "Concert grand piano, 1978", "music", "4000.00"),
    (10, "Signed tour poster", "memorabilia", "40.00"),
    (15, "Mechanical wristwatch, steel", "watches", "650.00"),
];

/// What was created.
#[derive(Debug)]
pub(crate) struct Demo {
    event_id: String,
    seats: u64,
    auctions: Vec<(String, &'static str)>,
}

#[derive(Deserialize)]
struct CreatedEvent {
    event_id: String,
    seats: u64,
}

#[derive(Deserialize)]
struct CreatedAuction {
    auction_id: String,
}

/// Creates the sale and the auctions.
pub(crate) async fn create(api: &Api, data_dir: &DataDir) -> anyhow::Result<Demo> {
    let now = jiff::Timestamp::now();
    let mut venue: Value = serde_json::from_str(&sample::venue()?)?;
    venue["on_sale_at"] = json!(now.to_string());
    venue["starts_at"] = json!((now + jiff::SignedDuration::from_hours(24 * 30)).to_string());
    let event: CreatedEvent = api
        .post("/v1/events", &venue, None)
        .await
        .context("the demo's sale")?;
    data_dir.remember_event(&event.event_id);
    let mut auctions = Vec::new();
    for (minutes, title, category, price) in AUCTIONS {
        let body = json!({
            "item": {"name": title, "category": category},
            "title": title, "category": category, "currency": "EUR", "starting_price": price,
            "start_time": now.to_string(),
            "end_time": (now + jiff::SignedDuration::from_mins(*minutes)).to_string(),
            "soft_close": {"window_s": 60, "extend_s": 60},
        });
        let created: CreatedAuction = api
            .post("/v1/auctions", &body, None)
            .await
            .context("a demo auction")?;
        auctions.push((created.auction_id, *title));
    }
    Ok(Demo {
        event_id: event.event_id,
        seats: event.seats,
        auctions,
    })
}

impl Demo {
    /// For programs.
    pub(crate) fn document(&self) -> Value {
        let auctions: Vec<&str> = self.auctions.iter().map(|(id, _)| id.as_str()).collect();
        json!({"event_id": self.event_id, "seats": self.seats, "auctions": auctions})
    }

    /// For people: what there is, and how to take part.
    pub(crate) fn text(&self, gateway: &str) -> String {
        let event = &self.event_id;
        let mut text = format!("A sale of {} seats: {event}\n", self.seats);
        for (id, title) in &self.auctions {
            text.push_str(&format!("An auction: {id}  {title}\n"));
        }
        let auction = self.auctions.first().map_or("", |(id, _)| id.as_str());
        let buyer = "-H 'X-User-Id: 11111111-1111-4111-8111-111111111111'";
        text.push_str(&format!(
            "\nHold two seats, then buy them with the hold_id of the answer:\n\
             \x20 curl {buyer} {gateway}/v1/events/{event}/holds -d '{{\"quantity\":2,\"best_available\":true}}'\n\
             \x20 curl {buyer} {gateway}/v1/events/{event}/holds/HOLD_ID/confirm -d '{{\"payment_reference\":\"demo\"}}'\n\
             Bid:\n\
             \x20 curl {buyer} {gateway}/v1/auctions/{auction}/bids -d '{{\"amount\":\"4100.00\"}}'\n\
             See what was sold:\n\
             \x20 grid report sales_by_section\n"
        ));
        text
    }
}
