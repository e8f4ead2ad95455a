//! An event's seats as the grid lists them, and copies of an event.

use std::ops::Range;

use futures_util::{StreamExt, TryStreamExt, stream};
use grid_core::FixedHashMap;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::api::{Api, Money, escape};

/// Sections that are read at a time.
const READS_IN_FLIGHT_MAX: usize = 8;
/// What one buyer may have in a copy without a limit of its own.
const UNLIMITED_SEATS: u32 = 1_000_000;
/// How long a hold lasts in a copy: long enough to be checked afterwards.
const COPY_HOLD_SECONDS: u64 = 86_400;

/// Every seat of an event, in the layout's order.
#[derive(Debug)]
pub(crate) struct SeatMap {
    /// Their labels.
    pub(crate) labels: Vec<String>,
    /// `a`, `h` or `s`.
    pub(crate) states: Vec<u8>,
    /// The places of every row.
    pub(crate) rows: Vec<Range<u32>>,
}

#[derive(Debug, Deserialize)]
struct Seats {
    states: String,
    labels: Vec<String>,
}

/// An event as it is shown.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct EventView {
    name: String,
    artist: String,
    venue: String,
    currency: String,
    /// Seats that one buyer may hold and own.
    pub(crate) max_seats_per_buyer: u32,
    sections: Vec<SectionView>,
}

#[derive(Clone, Debug, Deserialize)]
struct SectionView {
    name: String,
    price: Money,
}

#[derive(Debug, Deserialize)]
struct Created {
    event_id: Uuid,
}

impl EventView {
    /// Reads an event.
    pub(crate) async fn read(api: &Api, event_id: Uuid) -> anyhow::Result<Self> {
        api.get(&format!("/v1/events/{event_id}")).await
    }

    /// The body that creates this event again. Without a limit, one buyer may have every seat, and
    /// holds outlast the run.
    pub(crate) fn copy(&self, map: &SeatMap, number: u32, has_limit: bool) -> Value {
        let now = Timestamp::now();
        let sections: Vec<Value> = self
            .sections
            .iter()
            .map(|section| {
                let prefix = format!("{}-", section.name);
                let mut rows: Vec<(String, Vec<&str>)> = Vec::new();
                for label in &map.labels {
                    let Some((row, seat)) = label
                        .strip_prefix(&prefix)
                        .and_then(|rest| rest.split_once('-'))
                    else {
                        continue;
                    };
                    match rows.last_mut() {
                        Some((name, seats)) if name == row => seats.push(seat),
                        _ => rows.push((row.to_owned(), vec![seat])),
                    }
                }
                let rows: Vec<Value> = rows
                    .into_iter()
                    .map(|(name, seats)| json!({"name": name, "seats": seats}))
                    .collect();
                json!({"name": section.name, "price": section.price.amount, "rows": rows})
            })
            .collect();
        json!({
            "name": format!("{} (load {number})", self.name),
            "artist": self.artist,
            "venue": self.venue,
            "currency": self.currency,
            "starts_at": (now + SignedDuration::from_hours(24 * 30)).to_string(),
            "on_sale_at": now.to_string(),
            "max_seats_per_buyer": if has_limit { self.max_seats_per_buyer } else { UNLIMITED_SEATS },
            "hold_seconds": COPY_HOLD_SECONDS,
            "sections": sections,
        })
    }
}

/// Creates an event and returns its id.
pub(crate) async fn create(api: &Api, body: &Value) -> anyhow::Result<Uuid> {
    let created: Created = api.post("/v1/events", body, None).await?;
    Ok(created.event_id)
}

impl SeatMap {
    /// Reads every seat.
    pub(crate) async fn read(api: &Api, event_id: Uuid) -> anyhow::Result<Self> {
        let event = EventView::read(api, event_id).await?;
        let reads = event.sections.iter().map(|section| {
            let path = format!("/v1/events/{event_id}/seats/{}", escape(&section.name));
            async move { api.get::<Seats>(&path).await }
        });
        let sections: Vec<Seats> = stream::iter(reads)
            .buffered(READS_IN_FLIGHT_MAX)
            .try_collect()
            .await?;
        let mut map = Self {
            labels: Vec::new(),
            states: Vec::new(),
            rows: Vec::new(),
        };
        for section in sections {
            anyhow::ensure!(
                section.labels.len() == section.states.len(),
                "the gateway sent {} labels and {} states",
                section.labels.len(),
                section.states.len()
            );
            map.states.extend_from_slice(section.states.as_bytes());
            map.labels.extend(section.labels);
        }
        map.rows = rows(&map.labels);
        Ok(map)
    }

    /// How many seats there are.
    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    /// How many seats are in a state.
    pub(crate) fn count(&self, state: u8) -> u64 {
        self.states.iter().filter(|seat| **seat == state).count() as u64
    }

    /// The labels as JSON strings, ready to be sent.
    pub(crate) fn json_labels(&self) -> Vec<String> {
        self.labels
            .iter()
            .map(|label| Value::from(label.as_str()).to_string())
            .collect()
    }

    /// Where each label stands.
    pub(crate) fn places(&self) -> FixedHashMap<String, u32> {
        let labels = self.labels.iter().cloned();
        labels.zip(0..).collect()
    }
}

/// Neighbouring labels that differ in the seat only are a row.
fn rows(labels: &[String]) -> Vec<Range<u32>> {
    let row_of = |label: &str| label.rsplit_once('-').map(|(row, _)| row.to_owned());
    let mut rows: Vec<Range<u32>> = Vec::new();
    let mut last = None;
    for (place, label) in (0u32..).zip(labels) {
        let row = row_of(label);
        match rows.last_mut() {
            Some(range) if row == last => range.end = place + 1,
            _ => rows.push(place..place + 1),
        }
        last = row;
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(labels: &[&str]) -> SeatMap {
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        SeatMap {
            states: vec![b'a'; labels.len()],
            rows: rows(&labels),
            labels,
        }
    }

    #[test]
    fn rows_are_found() {
        let map = map(&["A-1-1", "A-1-2", "A-2-1", "B-x-1-1", "B-x-1-2"]);
        assert_eq!(map.rows, [0..2, 2..3, 3..5]);
        assert_eq!(map.places()["A-2-1"], 2);
    }

    #[test]
    fn a_copy_has_the_same_seats() {
        let price = Money {
            amount: "5.00".to_owned(),
            currency: "EUR".to_owned(),
        };
        let event = EventView {
            name: "Tour".to_owned(),
            artist: String::new(),
            venue: String::new(),
            currency: "EUR".to_owned(),
            max_seats_per_buyer: 4,
            sections: vec![SectionView {
                name: "B-x".to_owned(),
                price,
            }],
        };
        let copy = event.copy(&map(&["B-x-1-1", "B-x-1-2a", "B-x-2-1"]), 7, true);
        assert_eq!(
            copy["sections"][0]["rows"],
            json!([{"name": "1", "seats": ["1", "2a"]}, {"name": "2", "seats": ["1"]}])
        );
        assert_eq!(
            (&copy["max_seats_per_buyer"], &copy["name"]),
            (&json!(4), &json!("Tour (load 7)"))
        );
    }
}
