//! Inwards: bodies become the domain's terms, amounts exact or refused.

use processing_unit::auction::{self, ItemChoice};
use processing_unit::box_office::{self, Row, RowSeats, Section};
use processing_unit::{AuctionId, EventId, ItemId};
use uuid::Uuid;

use super::values::{currency_from, raw_minor, seconds_to_ms, time_from};
use crate::failure::Failure;
use crate::protocol::body::{AuctionBody, EventBody, ItemBody, RowSeatsBody, WithdrawalBody};

/// How often an auction is extended at most, unless it says so.
const MAX_EXTENSIONS_DEFAULT: u32 = 100;

pub(crate) fn new_item(item_id: Uuid, body: ItemBody) -> auction::NewItem {
    auction::NewItem {
        item_id: ItemId(item_id),
        name: body.name,
        description: body.description,
        category: body.category,
        images: body.images,
    }
}

/// The terms of a new auction; `item` was chosen or minted by the caller, as was the id.
pub(crate) fn new_auction(
    auction_id: Uuid,
    item: ItemChoice,
    body: AuctionBody,
) -> Result<auction::NewAuction, Failure> {
    let currency = currency_from(&body.currency)?;
    let title = match (body.title, &item) {
        (Some(title), _) => title,
        (None, ItemChoice::New(item)) => item.name.clone(),
        (None, ItemChoice::Existing(_)) => {
            return Err(Failure::bad_request("`title` is missing"));
        }
    };
    let increments = match (body.increment, body.increments) {
        (Some(_), Some(_)) => {
            return Err(Failure::bad_request(
                "either `increment` or `increments`, not both",
            ));
        }
        (None, Some(steps)) => steps
            .iter()
            .map(|step| {
                Ok(auction::IncrementStep {
                    from_price: raw_minor(&step.from, "from", currency)?,
                    increment: raw_minor(&step.increment, "increment", currency)?,
                })
            })
            .collect::<Result<_, Failure>>()?,
        (single, None) => vec![auction::IncrementStep {
            from_price: 0,
            increment: match single {
                Some(raw) => raw_minor(&raw, "increment", currency)?,
                None => 10_i64.pow(currency.minor_digits()),
            },
        }],
    };
    let soft_close = body
        .soft_close
        .map(|rule| {
            Ok::<_, Failure>(auction::SoftClose {
                window_ms: seconds_to_ms(rule.window_s, "window_s")?,
                extend_ms: seconds_to_ms(rule.extend_s, "extend_s")?,
                max_extensions: rule.max_extensions.unwrap_or(MAX_EXTENSIONS_DEFAULT),
            })
        })
        .transpose()?;
    Ok(auction::NewAuction {
        auction_id: AuctionId(auction_id),
        item,
        title,
        category: body.category,
        currency,
        starting_price: raw_minor(&body.starting_price, "starting_price", currency)?,
        reserve_price: body
            .reserve_price
            .map(|raw| raw_minor(&raw, "reserve_price", currency))
            .transpose()?,
        increments,
        start_time: time_from(&body.start_time, "start_time")?,
        end_time: time_from(&body.end_time, "end_time")?,
        soft_close,
        withdrawal: match body.withdrawal {
            WithdrawalBody::Forbidden => auction::WithdrawalPolicy::Forbidden,
            WithdrawalBody::WhileOpen => auction::WithdrawalPolicy::WhileOpen,
        },
    })
}

pub(crate) fn new_event(event_id: Uuid, body: EventBody) -> Result<box_office::NewEvent, Failure> {
    let currency = currency_from(&body.currency)?;
    let sections = body
        .sections
        .into_iter()
        .map(|section| {
            let rows = section.rows.into_iter().map(|row| Row {
                name: row.name,
                seats: match row.seats {
                    RowSeatsBody::Count(count) => RowSeats::Count(count),
                    RowSeatsBody::Labels(labels) => RowSeats::Labels(labels),
                },
            });
            Ok(Section {
                price: raw_minor(&section.price, "price", currency)?,
                rows: rows.collect(),
                name: section.name,
            })
        })
        .collect::<Result<_, Failure>>()?;
    Ok(box_office::NewEvent {
        event_id: EventId(event_id),
        name: body.name,
        artist: body.artist,
        venue: body.venue,
        starts_at: time_from(&body.starts_at, "starts_at")?,
        on_sale_at: time_from(&body.on_sale_at, "on_sale_at")?,
        currency,
        max_seats_per_buyer: body.max_seats_per_buyer,
        hold_ms: match body.hold_seconds {
            Some(seconds) => seconds_to_ms(seconds, "hold_seconds")?,
            None => box_office::HOLD_MS_DEFAULT,
        },
        sections,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_read_with_their_defaults() {
        let body: AuctionBody = serde_json::from_str(
            r#"{"item":{"name":"Guitar"},"currency":"EUR","starting_price":100,
                "start_time":"2026-01-01T00:00:00Z","end_time":"2026-01-02T00:00:00Z"}"#,
        )
        .expect("well-formed");
        let item = ItemChoice::New(new_item(
            Uuid::nil(),
            ItemBody {
                name: "Guitar".to_owned(),
                description: String::new(),
                category: String::new(),
                images: Vec::new(),
            },
        ));
        let terms = new_auction(Uuid::nil(), item, body).expect("sensible");
        assert_eq!(terms.title, "Guitar");
        assert_eq!(terms.starting_price, 10_000);
        assert_eq!(terms.increments[0].increment, 100);
    }
}
