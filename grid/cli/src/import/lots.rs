//! An auction's lots in CSV.
//!
//! ```text
//!   lot,title,category,description,estimate_low,estimate_high,starting_price,reserve,currency,image,…
//! ```
//!
//! The columns come in any order; `lot`, `title` and `starting_price` must be there. Every column whose
//! name begins with `image` holds a picture's address. The estimates become part of the description.

use std::collections::BTreeMap;

use jiff::Timestamp;
use processing_unit::Currency;
use serde_json::{Value, json};

use super::Mistake;

/// The columns beside those of pictures.
pub(crate) const COLUMNS: &[&str] = &[
    "lot",
    "title",
    "category",
    "description",
    "estimate_low",
    "estimate_high",
    "starting_price",
    "reserve",
    "currency",
];
const REQUIRED: &[&str] = &["lot", "title", "starting_price"];

/// A lot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lot {
    /// The line it begins on, from 1.
    pub(crate) line: u64,
    number: String,
    title: String,
    category: String,
    description: String,
    currency: Currency,
    starting_price: i64,
    reserve: Option<i64>,
    images: Vec<String>,
}

impl Lot {
    /// The body of `POST /v1/auctions`.
    pub(crate) fn body(&self, start: Timestamp, end: Timestamp) -> Value {
        let mut body = json!({
            "item": {
                "name": self.title, "description": self.description, "category": self.category,
                "images": self.images,
            },
            "title": format!("Lot {}: {}", self.number, self.title),
            "category": self.category,
            "currency": self.currency.code(),
            "starting_price": self.currency.format_amount(self.starting_price),
            "start_time": start.to_string(),
            "end_time": end.to_string(),
        });
        if let Some(reserve) = self.reserve {
            body["reserve_price"] = json!(self.currency.format_amount(reserve));
        }
        body
    }
}

/// Reads a file, or names every mistake in it.
pub(crate) fn read(text: &str, default_currency: &str) -> Result<Vec<Lot>, Vec<Mistake>> {
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(error) => return Err(vec![mistake(1, "", error.to_string())]),
    };
    let mut mistakes = check_header(&header);
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let mut lots = Vec::new();
    let mut lines_by_number: BTreeMap<String, u64> = BTreeMap::new();
    for record in reader.records() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                mistakes.push(mistake(line, "", error.to_string()));
                continue;
            }
        };
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() != header.len() {
            let (has, needs) = (record.len(), header.len());
            mistakes.push(mistake(
                line,
                "",
                format!("has {has} fields, the header has {needs}"),
            ));
            continue;
        }
        let row = Row {
            line,
            header: &header,
            record: &record,
        };
        if let Some(lot) = row.lot(default_currency, &mut mistakes) {
            if let Some(first) = lines_by_number.insert(lot.number.clone(), line) {
                let reason = format!("lot {} is on line {first} too", lot.number);
                mistakes.push(mistake(line, "lot", reason));
            }
            lots.push(lot);
        }
    }
    if lots.is_empty() && mistakes.is_empty() {
        mistakes.push(mistake(1, "", "there are no lots in it".to_owned()));
    }
    if mistakes.is_empty() {
        Ok(lots)
    } else {
        Err(mistakes)
    }
}

fn mistake(line: u64, place: &str, reason: String) -> Mistake {
    Mistake {
        line,
        column: None,
        place: place.to_owned(),
        reason,
    }
}

fn check_header(header: &csv::StringRecord) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    for name in REQUIRED {
        if !header.iter().any(|column| column == *name) {
            mistakes.push(mistake(1, name, "this column is missing".to_owned()));
        }
    }
    for (place, name) in header.iter().enumerate() {
        if !COLUMNS.contains(&name) && !name.starts_with("image") {
            let reason = format!("unknown column; known are {}, image", COLUMNS.join(", "));
            mistakes.push(mistake(1, name, reason));
        }
        if header.iter().take(place).any(|earlier| earlier == name) && !name.starts_with("image") {
            mistakes.push(mistake(1, name, "this column is there twice".to_owned()));
        }
    }
    mistakes
}

/// One line.
struct Row<'a> {
    line: u64,
    header: &'a csv::StringRecord,
    record: &'a csv::StringRecord,
}

impl<'a> Row<'a> {
    /// A field that is there and not empty.
    fn field(&self, name: &str) -> Option<&'a str> {
        let place = self.header.iter().position(|column| column == name)?;
        self.record.get(place).filter(|value| !value.is_empty())
    }

    fn wrong(&self, mistakes: &mut Vec<Mistake>, place: &str, reason: impl Into<String>) {
        mistakes.push(mistake(self.line, place, reason.into()));
    }

    fn amount(&self, name: &str, currency: Currency, mistakes: &mut Vec<Mistake>) -> Option<i64> {
        let text = self.field(name)?;
        match currency.parse_amount(text) {
            Ok(minor) => Some(minor),
            Err(error) => {
                self.wrong(mistakes, name, format!("{text}: {error}"));
                None
            }
        }
    }

    fn lot(&self, default_currency: &str, mistakes: &mut Vec<Mistake>) -> Option<Lot> {
        let before = mistakes.len();
        for name in REQUIRED {
            if self.field(name).is_none() {
                self.wrong(mistakes, name, "must not be empty");
            }
        }
        let code = self.field("currency").unwrap_or(default_currency);
        let Some(currency) = Currency::from_code(code) else {
            self.wrong(
                mistakes,
                "currency",
                format!("{code} is no currency this build knows"),
            );
            return None;
        };
        let starting_price = self.amount("starting_price", currency, mistakes);
        let reserve = self.amount("reserve", currency, mistakes);
        let low = self.amount("estimate_low", currency, mistakes);
        let high = self.amount("estimate_high", currency, mistakes);
        if let (Some(low), Some(high)) = (low, high)
            && low > high
        {
            self.wrong(mistakes, "estimate_high", "is below estimate_low");
        }
        if let (Some(reserve), Some(start)) = (reserve, starting_price)
            && reserve < start
        {
            self.wrong(mistakes, "reserve", "is below starting_price");
        }
        let images: Vec<String> = self
            .header
            .iter()
            .zip(self.record)
            .filter(|(column, value)| column.starts_with("image") && !value.is_empty())
            .map(|(_, value)| value.to_owned())
            .collect();
        if mistakes.len() > before {
            return None;
        }
        let text = |name: &str| self.field(name).unwrap_or_default().to_owned();
        let mut description = text("description");
        let estimate = match (low, high) {
            (Some(low), Some(high)) => {
                let (low, high) = (currency.format_amount(low), currency.format_amount(high));
                Some(format!("{low} to {high}"))
            }
            (Some(one), None) | (None, Some(one)) => Some(currency.format_amount(one)),
            (None, None) => None,
        };
        if let Some(estimate) = estimate {
            if !description.is_empty() {
                description.push_str("\n\n");
            }
            description.push_str(&format!("Estimate: {} {estimate}", currency.code()));
        }
        Some(Lot {
            line: self.line,
            number: text("lot"),
            title: text("title"),
            category: text("category"),
            description,
            currency,
            starting_price: starting_price?,
            reserve,
            images,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "lot,title,category,description,estimate_low,estimate_high,starting_price,\
                          reserve,currency,image\n";

    #[test]
    fn a_lot_is_read() {
        let text =
            format!("{HEADER}7,\"Clock, brass\",clocks,Ticks,100.00,200.00,50.00,80.00,,a.jpg\n");
        let lots = read(&text, "EUR").expect("right");
        let now = Timestamp::UNIX_EPOCH;
        let body = lots[0].body(now, now);
        assert_eq!(body["title"], "Lot 7: Clock, brass");
        assert_eq!(body["reserve_price"], "80.00");
        assert_eq!(
            body["item"]["description"],
            "Ticks\n\nEstimate: EUR 100.00 to 200.00"
        );
        assert_eq!(body["item"]["images"][0], "a.jpg");
    }

    #[test]
    fn every_wrong_line_is_named() {
        let text = format!(
            "{HEADER}1,A,c,d,,,10.00,,EUR,\n\
             2,B,c,d,,,10.5,,EUR,\n\
             ,C,c,d,,,,,XXX,\n\
             1,D,c,d,,,10.00,,EUR,\n\
             5,E,c,d,9.00,8.00,10.00,9.00,EUR,\n\
             6,short\n\
             7,\"two\nlines\",c,d,,,10,,JPY,\n\
             8,F,c,d,,,-1,,EUR,\n"
        );
        let mistakes = read(&text, "EUR").expect_err("wrong");
        let lines: Vec<(u64, &str)> = mistakes
            .iter()
            .map(|mistake| (mistake.line, mistake.place.as_str()))
            .collect();
        assert_eq!(
            lines,
            [
                (3, "starting_price"),
                (4, "lot"),
                (4, "starting_price"),
                (4, "currency"),
                (5, "lot"),
                (6, "estimate_high"),
                (6, "reserve"),
                (7, ""),
                (10, "starting_price"),
            ],
            "{mistakes:#?}"
        );
    }

    #[test]
    fn a_wrong_header_is_named() {
        let mistakes = read("lot,titel,starting_price\n1,A,1.00\n", "EUR").expect_err("wrong");
        assert_eq!(mistakes.len(), 2, "{mistakes:?}");
        assert!(read("", "EUR").is_err());
        assert!(read(HEADER, "EUR").is_err());
    }

    #[test]
    fn the_sample_is_right() {
        let sample = crate::sample::lots().expect("made");
        assert_eq!(read(&sample, "USD").expect("right").len(), 500);
    }
}
