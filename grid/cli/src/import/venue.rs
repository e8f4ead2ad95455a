//! A venue in JSON: the body of `POST /v1/events`, checked before it is sent.
//!
//! What only the grid can say (limits on lengths and numbers) it says when the body arrives.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use processing_unit::Currency;
use serde_json::{Map, Value, json};

use super::Mistake;
use super::located::{Document, Fields, Located};

/// When an event starts that says nothing of it: in 30 days.
const STARTS_IN_HOURS: i64 = 30 * 24;
/// What one buyer may have where the file says nothing.
const MAX_SEATS_PER_BUYER: u32 = 8;

const EVENT_FIELDS: &[&str] = &[
    "name",
    "artist",
    "venue",
    "starts_at",
    "on_sale_at",
    "currency",
    "max_seats_per_buyer",
    "hold_seconds",
    "sections",
];

/// What the command line says instead of the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    /// The sale's name.
    pub(crate) name: Option<String>,
    /// When the event starts.
    pub(crate) starts_at: Option<Timestamp>,
    /// When the sale opens.
    pub(crate) on_sale_at: Option<Timestamp>,
    /// Seats a buyer.
    pub(crate) max_seats_per_buyer: Option<u32>,
    /// How long a hold lasts.
    pub(crate) hold_seconds: Option<u64>,
}

/// Reads a venue into a request body.
pub(crate) fn read(text: &str, with: &Overrides, now: Timestamp) -> Result<Value, Vec<Mistake>> {
    let (mut document, root) = Document::parse(text)?;
    let body = event(&mut document, &root, with, now);
    document.finish(body)
}

fn event<'a>(
    document: &mut Document<'a>,
    root: &Located<'a>,
    with: &Overrides,
    now: Timestamp,
) -> Option<Value> {
    let fields = document.object(root)?;
    unknown(document, &fields, EVENT_FIELDS);
    let mut body = Map::new();
    let name = match &with.name {
        Some(name) => Some(name.clone()),
        None => document
            .required(&fields, "name")
            .and_then(|name| document.string(&name)),
    };
    body.insert("name".to_owned(), json!(name));
    for field in ["artist", "venue"] {
        if let Some(value) = fields.get(field) {
            body.insert(field.to_owned(), json!(document.string(&value)));
        }
    }
    let later = now + SignedDuration::from_hours(STARTS_IN_HOURS);
    for (field, given, default) in [
        ("starts_at", with.starts_at, later),
        ("on_sale_at", with.on_sale_at, now),
    ] {
        let time = match (given, fields.get(field)) {
            (Some(given), _) => given,
            (None, Some(value)) => time(document, &value).unwrap_or(default),
            (None, None) => default,
        };
        body.insert(field.to_owned(), json!(time.to_string()));
    }
    let limit = match (with.max_seats_per_buyer, fields.get("max_seats_per_buyer")) {
        (Some(limit), _) => Some(u64::from(limit)),
        (None, Some(value)) => document.number(&value, 1),
        (None, None) => Some(MAX_SEATS_PER_BUYER.into()),
    };
    body.insert("max_seats_per_buyer".to_owned(), json!(limit));
    let hold = match (with.hold_seconds, fields.get("hold_seconds")) {
        (None, Some(value)) => document.number(&value, 1),
        (given, _) => given,
    };
    if let Some(hold) = hold {
        body.insert("hold_seconds".to_owned(), json!(hold));
    }
    let currency = document.required(&fields, "currency").and_then(|value| {
        let code = document.string(&value)?;
        let currency = Currency::from_code(&code);
        if currency.is_none() {
            document.wrong(&value, format!("{code} is no currency this build knows"));
        }
        currency
    });
    body.insert(
        "currency".to_owned(),
        json!(currency.map(|known| known.code().to_owned())),
    );
    let sections = document.required(&fields, "sections")?;
    body.insert(
        "sections".to_owned(),
        read_sections(document, &sections, currency)?,
    );
    Some(Value::Object(body))
}

fn read_sections<'a>(
    document: &mut Document<'a>,
    value: &Located<'a>,
    currency: Option<Currency>,
) -> Option<Value> {
    let sections = document.array(value)?;
    if sections.is_empty() {
        document.wrong(value, "must have at least one section");
    }
    let mut names = BTreeSet::new();
    let read = sections.iter().filter_map(|section| {
        let fields = document.object(section)?;
        unknown(document, &fields, &["name", "price", "rows"]);
        let name = label(document, &fields, &mut names, true);
        let price = document
            .required(&fields, "price")
            .and_then(|price| amount(document, &price, currency));
        let rows = document.required(&fields, "rows")?;
        let rows = read_rows(document, &rows)?;
        Some(json!({"name": name, "price": price, "rows": rows}))
    });
    Some(Value::Array(read.collect()))
}

fn read_rows<'a>(document: &mut Document<'a>, value: &Located<'a>) -> Option<Value> {
    let rows = document.array(value)?;
    if rows.is_empty() {
        document.wrong(value, "must have at least one row");
    }
    let mut names = BTreeSet::new();
    let read = rows.iter().filter_map(|row| {
        let fields = document.object(row)?;
        unknown(document, &fields, &["name", "seats"]);
        let name = label(document, &fields, &mut names, false);
        let seats = document.required(&fields, "seats")?;
        Some(json!({"name": name, "seats": read_seats(document, &seats)}))
    });
    Some(Value::Array(read.collect()))
}

/// A row's seats: how many, or their labels.
fn read_seats<'a>(document: &mut Document<'a>, value: &Located<'a>) -> Option<Value> {
    if !value.json().starts_with('[') {
        let is_number = value
            .json()
            .starts_with(|c: char| c.is_ascii_digit() || c == '-');
        if !is_number {
            document.wrong(value, "must be a number of seats or an array of labels");
            return None;
        }
        return document.number(value, 1).map(|count| json!(count));
    }
    let labels = document.array(value)?;
    if labels.is_empty() {
        document.wrong(value, "must have at least one seat");
    }
    let mut known = BTreeSet::new();
    let mut read = Vec::with_capacity(labels.len());
    for label in &labels {
        let Some(text) = document.string(label) else {
            continue;
        };
        check_label(document, label, &text, false);
        if !known.insert(text.clone()) {
            document.wrong(label, format!("seat {text} is twice in its row"));
        }
        read.push(json!(text));
    }
    Some(Value::Array(read))
}

/// The name of a section or row, which no other of them has.
fn label<'a>(
    document: &mut Document<'a>,
    fields: &Fields<'a>,
    names: &mut BTreeSet<String>,
    may_have_hyphen: bool,
) -> Option<String> {
    let value = document.required(fields, "name")?;
    let name = document.string(&value)?;
    check_label(document, &value, &name, may_have_hyphen);
    if !names.insert(name.clone()) {
        document.wrong(&value, format!("the name {name} is there twice"));
    }
    Some(name)
}

fn check_label<'a>(
    document: &mut Document<'a>,
    value: &Located<'a>,
    label: &str,
    may_have_hyphen: bool,
) {
    if label.is_empty() {
        document.wrong(value, "must not be empty");
    } else if !may_have_hyphen && label.contains('-') {
        document.wrong(
            value,
            "must not contain '-', which separates SECTION-ROW-SEAT",
        );
    }
}

fn time<'a>(document: &mut Document<'a>, value: &Located<'a>) -> Option<Timestamp> {
    let text = document.string(value)?;
    match text.parse() {
        Ok(time) => Some(time),
        Err(_) => {
            document.wrong(value, "must be a time such as 2026-06-01T19:00:00Z");
            None
        }
    }
}

fn amount<'a>(
    document: &mut Document<'a>,
    value: &Located<'a>,
    currency: Option<Currency>,
) -> Option<String> {
    let text = if value
        .json()
        .starts_with(|c: char| c.is_ascii_digit() || c == '-')
    {
        value.json().to_owned()
    } else {
        document.string(value)?
    };
    if let Some(currency) = currency
        && let Err(error) = currency.parse_amount(&text)
    {
        document.wrong(value, error.to_string());
        return None;
    }
    Some(text)
}

/// A field that is not known is a misspelt one.
fn unknown<'a>(document: &mut Document<'a>, fields: &Fields<'a>, known: &[&str]) {
    for field in fields.others(known) {
        document.wrong(
            &field,
            format!("unknown field; known are {}", known.join(", ")),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).expect("a time")
    }

    #[test]
    fn options_and_defaults_complete_a_venue() {
        let text = r#"{"name":"Arena","currency":"EUR",
            "sections":[{"name":"A-1","price":"50.00","rows":[{"name":"1","seats":2},{"name":"2","seats":["a","b"]}]}]}"#;
        let with = Overrides {
            name: Some("Tour".to_owned()),
            ..Overrides::default()
        };
        let body = read(text, &with, now()).expect("right");
        assert_eq!(body["name"], "Tour");
        assert_eq!(body["on_sale_at"], now().to_string());
        assert_eq!(body["max_seats_per_buyer"], 8);
        assert_eq!(body["sections"][0]["rows"][1]["seats"][1], "b");
    }

    #[test]
    fn every_mistake_is_named() {
        let text = r#"{"name":7,"currency":"EUR","colour":"red","starts_at":"soon",
"sections":[
 {"name":"A","price":"50.0","rows":[{"name":"1-2","seats":0},{"name":"1-2","seats":["x","x"]}]},
 {"name":"A","price":-1,"rows":[]},
 {"price":"1.00"}
]}"#;
        let mistakes = read(text, &Overrides::default(), now()).expect_err("wrong");
        let text: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        for expected in [
            "line 1, column 37, colour: unknown field",
            "line 1, column 9, name: must be a string",
            "starts_at: must be a time",
            "line 3, column 22, sections[0].price: ",
            "sections[0].rows[0].name: must not contain '-'",
            "sections[0].rows[0].seats: must be a whole number",
            "sections[0].rows[1].name: the name 1-2 is there twice",
            "sections[0].rows[1].seats[1]: seat x is twice",
            "line 4, column 10, sections[1].name: the name A is there twice",
            "sections[1].price: ",
            "sections[1].rows: must have at least one row",
            "line 5, column 2, sections[2]: `name` is missing",
            "sections[2]: `rows` is missing",
        ] {
            assert!(
                text.iter().any(|line| line.contains(expected)),
                "{expected} in {text:#?}"
            );
        }
    }

    #[test]
    fn the_sample_is_right() {
        let sample = crate::sample::venue().expect("made");
        let body = read(&sample, &Overrides::default(), now()).expect("right");
        assert!(
            body["sections"]
                .as_array()
                .is_some_and(|sections| sections.len() > 20)
        );
    }
}
