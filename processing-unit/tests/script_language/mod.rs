//! The words of the rule scripts: reads a script's command into a grid command, and shortens what
//! comes back by giving ids the names that the script uses.
//!
//! Written ids are names (`alice`, `lamp`); ids that the grid mints are named by kind in the order of
//! their appearance (`bid1`, `hold1`, `ticket1`).

mod rooms;

use std::collections::BTreeMap;
use std::error::Error;

use goldenscript::ArgumentConsumer;
use grid_core::{Slot, Timestamp};
use processing_unit::auction::{
    self, Actor, IncrementStep, ItemChoice, NewItem, SoftClose, Status,
};
use processing_unit::box_office::{self, NewEvent, Row, RowSeats, Section};
use processing_unit::{Command, Currency, Query};
use uuid::Uuid;

/// What a line of a script asks for.
pub(crate) enum Request {
    /// Later entries carry this time; nothing is applied yet.
    Clock(Timestamp),
    /// Later entries follow these rules.
    Rules(u16),
    /// A tick at this time.
    Tick(Timestamp),
    Command(Box<Command>),
    Query(Query),
    Deadline,
}

/// Names of ids, both ways.
#[derive(Default)]
pub(crate) struct Names {
    by_name: BTreeMap<String, Uuid>,
    by_id: BTreeMap<Uuid, String>,
    minted: BTreeMap<String, u32>,
}

impl Names {
    fn remember(&mut self, name: &str, id: Uuid) -> Uuid {
        self.by_name.insert(name.to_owned(), id);
        self.by_id.insert(id, name.to_owned());
        id
    }

    /// The id of a name; a new name gets the next one.
    fn id<T: From<Uuid>>(&mut self, name: &str) -> T {
        let known = self.by_name.get(name).copied();
        let id = known.unwrap_or_else(|| {
            let next = Uuid::from_u128(0xa11c_e000 + self.by_name.len() as u128);
            self.remember(name, next)
        });
        id.into()
    }

    /// The id of a name that must lie in the slot of another.
    fn id_beside<T: From<Uuid>>(&mut self, name: &str, other: Uuid) -> T {
        let known = self.by_name.get(name).copied();
        let id = known.unwrap_or_else(|| {
            let next = Slot::of(other).mint(self.by_name.len() as u128);
            self.remember(name, next)
        });
        id.into()
    }

    /// Replaces `KindId(uuid)` by names and `Timestamp(n)` by `n`.
    pub(crate) fn shorten(&mut self, text: &str) -> String {
        let mut output = String::new();
        let mut rest = text;
        while let Some(open) = rest.find('(') {
            let before = &rest[..open];
            let word_at = before
                .rfind(|letter: char| !letter.is_alphanumeric())
                .map_or(0, |at| at + 1);
            let word = &before[word_at..];
            let inner = rest[open + 1..].split(')').next().unwrap_or("");
            let short = match (word, word.strip_suffix("Id")) {
                ("Timestamp", _) => Some(inner.to_owned()),
                (_, Some(kind)) => inner.parse().ok().map(|id| self.name_of(kind, id)),
                _ => None,
            };
            match short {
                Some(short) => {
                    output.push_str(&before[..word_at]);
                    output.push_str(&short);
                    rest = &rest[open + 1 + inner.len() + 1..];
                }
                None => {
                    output.push_str(&rest[..=open]);
                    rest = &rest[open + 1..];
                }
            }
        }
        output.push_str(rest);
        output
    }

    fn name_of(&mut self, kind: &str, id: Uuid) -> String {
        if let Some(name) = self.by_id.get(&id) {
            return name.clone();
        }
        let kind = kind.to_lowercase();
        let number = self.minted.entry(kind.clone()).or_default();
        *number += 1;
        let name = format!("{kind}{number}");
        self.remember(&name, id);
        name
    }
}

struct Arguments<'a>(ArgumentConsumer<'a>);

impl<'a> Arguments<'a> {
    fn next(&mut self, what: &str) -> Result<&'a str, Box<dyn Error>> {
        self.0
            .next_pos()
            .ok_or_else(|| format!("{what} is missing").into())
    }

    fn key(&mut self, name: &str) -> Option<&'a str> {
        self.0.take_key(name)
    }

    fn number<T: std::str::FromStr>(&mut self, name: &str) -> Result<Option<T>, Box<dyn Error>> {
        match self.key(name) {
            Some(text) => Ok(Some(text.parse().map_err(|_| format!("{name}={text}"))?)),
            None => Ok(None),
        }
    }

    fn time(&mut self, name: &str, default: Timestamp) -> Result<Timestamp, Box<dyn Error>> {
        Ok(self.number(name)?.map_or(default, Timestamp::from_millis))
    }

    fn rest(&mut self) -> Vec<&'a str> {
        std::iter::from_fn(|| self.0.next_pos()).collect()
    }
}

/// Reads one line.
pub(crate) fn read_request(
    command: &goldenscript::Command,
    now: Timestamp,
    names: &mut Names,
) -> Result<Request, Box<dyn Error>> {
    let mut arguments = Arguments(command.consume_args());
    let args = &mut arguments;
    let time = |text: &str| text.parse().map(Timestamp::from_millis);
    let request = match command.name.as_str() {
        "at" => Request::Tick(time(args.next("time")?)?),
        "clock" => Request::Clock(time(args.next("time")?)?),
        "deadline" => Request::Deadline,
        "rules" => Request::Rules(args.next("rules")?.parse()?),
        "room" | "join" | "leave" | "open" | "pause" | "resume" | "rate" => {
            let read = rooms::read_command(&command.name, args, names)?;
            Request::Command(Box::new(Command::WaitingRoom(read)))
        }
        "place" | "marker" | "order" => {
            let query = rooms::read_query(&command.name, args, names)?;
            Request::Query(Query::WaitingRoom(query))
        }
        "item" | "auction" | "start" | "close" | "cancel" | "bid" | "withdraw" => {
            let read = read_auction_command(&command.name, args, now, names)?;
            Request::Command(Box::new(Command::Auction(read)))
        }
        "event" | "hold" | "best" | "confirm" | "release" => {
            let read = read_box_office_command(&command.name, args, names)?;
            Request::Command(Box::new(Command::BoxOffice(read)))
        }
        name => match read_auction_query(name, args, names)? {
            Some(query) => Request::Query(Query::Auction(query)),
            None => Request::Query(Query::BoxOffice(read_box_office_query(name, args, names)?)),
        },
    };
    arguments.0.reject_next()?;
    Ok(request)
}

fn read_actor(args: &mut Arguments<'_>, names: &mut Names) -> Result<Actor, Box<dyn Error>> {
    let manager = args.key("manager");
    let user = manager
        .or_else(|| args.key("by"))
        .ok_or("by= or manager= is missing")?;
    Ok(Actor {
        user: names.id(user),
        is_manager: manager.is_some(),
    })
}

fn read_auction_command(
    name: &str,
    args: &mut Arguments<'_>,
    now: Timestamp,
    names: &mut Names,
) -> Result<auction::Command, Box<dyn Error>> {
    let subject = args.next("name")?;
    Ok(match name {
        "item" => auction::Command::CreateItem {
            owner: names.id(args.key("owner").unwrap_or("host")),
            item: Box::new(read_item(subject, args, names)?),
        },
        "auction" => auction::Command::CreateAuction {
            host: names.id(args.key("host").unwrap_or("host")),
            auction: Box::new(read_auction(subject, args, now, names)?),
        },
        "start" => auction::Command::Start {
            auction_id: names.id(subject),
            by: read_actor(args, names)?,
        },
        "close" => auction::Command::Close {
            auction_id: names.id(subject),
            by: read_actor(args, names)?,
        },
        "cancel" => auction::Command::Cancel {
            auction_id: names.id(subject),
            by: read_actor(args, names)?,
        },
        "bid" => auction::Command::PlaceBid {
            auction_id: names.id(subject),
            bidder: names.id(args.next("bidder")?),
            amount: args.next("amount")?.parse()?,
        },
        _ => auction::Command::WithdrawBid {
            auction_id: names.id(subject),
            bid_id: names.id(args.next("bid")?),
            by: read_actor(args, names)?,
        },
    })
}

/// Text of a given length, to reach the bounds.
fn filler(args: &mut Arguments<'_>, field: &str, default: &str) -> Result<String, Box<dyn Error>> {
    if let Some(bytes) = args.number::<usize>(&format!("{field}_bytes"))? {
        return Ok("x".repeat(bytes));
    }
    Ok(args.key(field).unwrap_or(default).to_owned())
}

fn read_item(
    subject: &str,
    args: &mut Arguments<'_>,
    names: &mut Names,
) -> Result<NewItem, Box<dyn Error>> {
    Ok(NewItem {
        item_id: names.id(subject),
        name: filler(args, "name", subject)?,
        description: filler(args, "description", "")?,
        category: filler(args, "category", "")?,
        images: vec!["picture".to_owned(); args.number("images")?.unwrap_or(0)],
    })
}

fn read_auction(
    subject: &str,
    args: &mut Arguments<'_>,
    now: Timestamp,
    names: &mut Names,
) -> Result<auction::NewAuction, Box<dyn Error>> {
    let item = match (args.key("new_item"), args.key("item")) {
        (Some(item), _) => ItemChoice::New(NewItem {
            item_id: names.id(item),
            name: filler(args, "item_name", item)?,
            description: String::new(),
            category: String::new(),
            images: Vec::new(),
        }),
        (None, item) => ItemChoice::Existing(names.id(item.ok_or("item= is missing")?)),
    };
    let item_id = match &item {
        ItemChoice::New(item) => item.item_id,
        ItemChoice::Existing(item_id) => *item_id,
    };
    let auction_id = match args.key("elsewhere") {
        Some(_) => names.id(subject),
        None => names.id_beside(subject, item_id.0),
    };
    let mut increments = Vec::new();
    let table = args.key("increments").unwrap_or("0:10");
    for step in table.split(',').filter(|step| !step.is_empty()) {
        let (from_price, increment) = step.split_once(':').ok_or("from:increment")?;
        increments.push(IncrementStep {
            from_price: from_price.parse()?,
            increment: increment.parse()?,
        });
    }
    let soft_close = match args.key("soft") {
        Some(text) => {
            let parts: Vec<u64> = text.split(':').map(str::parse).collect::<Result<_, _>>()?;
            let [window_ms, extend_ms, extensions] = parts[..] else {
                return Err("soft=window:extend:extensions".into());
            };
            Some(SoftClose {
                window_ms,
                extend_ms,
                max_extensions: u32::try_from(extensions)?,
            })
        }
        None => None,
    };
    let withdrawal = match args.key("withdrawal") {
        Some("while_open") => auction::WithdrawalPolicy::WhileOpen,
        _ => auction::WithdrawalPolicy::Forbidden,
    };
    Ok(auction::NewAuction {
        auction_id,
        item,
        title: filler(args, "title", subject)?,
        category: filler(args, "category", "")?,
        currency: Currency::from_code("EUR").ok_or("EUR is known")?,
        starting_price: args.number("starting")?.unwrap_or(100),
        reserve_price: args.number("reserve")?,
        increments,
        start_time: args.time("start", now)?,
        end_time: args.time("end", now + 10_000)?,
        soft_close,
        withdrawal,
    })
}

fn read_auction_query(
    name: &str,
    args: &mut Arguments<'_>,
    names: &mut Names,
) -> Result<Option<auction::Query>, Box<dyn Error>> {
    Ok(Some(match name {
        "show_item" => auction::Query::Item {
            item_id: names.id(args.next("item")?),
        },
        "show" => auction::Query::Auction {
            auction_id: names.id(args.next("auction")?),
        },
        "auctions" => auction::Query::Auctions {
            status: match args.key("status") {
                Some("scheduled") => Some(Status::Scheduled),
                Some("open") => Some(Status::Open),
                Some("ended") => Some(Status::Ended),
                Some("cancelled") => Some(Status::Cancelled),
                _ => None,
            },
            category: args.key("category").map(str::to_owned),
            text: args.key("text").map(str::to_owned),
            after: args.key("after").map(|after| names.id(after)),
            limit: args.number("limit")?.unwrap_or(10),
        },
        "bids" => auction::Query::Bids {
            auction_id: names.id(args.next("auction")?),
            before: args.number("before")?,
            limit: args.number("limit")?.unwrap_or(10),
        },
        "bids_of" => auction::Query::BidsOf {
            bidder: names.id(args.next("bidder")?),
            limit: args.number("limit")?.unwrap_or(10),
        },
        "totals" => auction::Query::Totals,
        _ => return Ok(None),
    }))
}

fn read_box_office_command(
    name: &str,
    args: &mut Arguments<'_>,
    names: &mut Names,
) -> Result<box_office::Command, Box<dyn Error>> {
    let subject = args.next("event")?;
    let event_id = names.id(subject);
    Ok(match name {
        "event" => box_office::Command::CreateEvent {
            host: names.id(args.key("host").unwrap_or("host")),
            event: Box::new(NewEvent {
                event_id,
                name: filler(args, "name", subject)?,
                artist: filler(args, "artist", "band")?,
                venue: filler(args, "venue", "hall")?,
                starts_at: args.time("starts_at", Timestamp::from_millis(1_000_000))?,
                on_sale_at: args.time("on_sale_at", Timestamp::ZERO)?,
                currency: Currency::from_code("EUR").ok_or("EUR is known")?,
                max_seats_per_buyer: args.number("max")?.unwrap_or(10),
                hold_ms: args.number("hold_ms")?.unwrap_or(1_000),
                sections: read_sections(&args.rest())?,
            }),
        },
        "hold" => box_office::Command::HoldSeats {
            event_id,
            buyer: names.id(args.next("buyer")?),
            seats: args.rest().into_iter().map(str::to_owned).collect(),
        },
        "best" => box_office::Command::HoldBestAvailable {
            event_id,
            buyer: names.id(args.next("buyer")?),
            quantity: args.next("quantity")?.parse()?,
            section: args.key("section").map(str::to_owned),
        },
        "confirm" => box_office::Command::Confirm {
            event_id,
            hold_id: names.id(args.next("hold")?),
            buyer: names.id(args.next("buyer")?),
            payment_reference: filler(args, "payment", "pay")?,
        },
        _ => box_office::Command::Release {
            event_id,
            hold_id: names.id(args.next("hold")?),
            buyer: names.id(args.next("buyer")?),
        },
    })
}

/// Sections as `NAME:PRICE:ROW*COUNT,ROW*LABEL|LABEL`, one an argument.
fn read_sections(texts: &[&str]) -> Result<Vec<Section>, Box<dyn Error>> {
    let mut sections = Vec::new();
    for text in texts {
        let parts: Vec<_> = text.split(':').collect();
        let [name, price, rows_text] = parts[..] else {
            return Err("a section is NAME:PRICE:ROWS".into());
        };
        let mut rows = Vec::new();
        for row in rows_text.split(',').filter(|row| !row.is_empty()) {
            let (name, seats) = row.split_once('*').ok_or("a row is NAME*SEATS")?;
            let seats = match seats.parse() {
                Ok(count) => RowSeats::Count(count),
                Err(_) => RowSeats::Labels(seats.split('|').map(str::to_owned).collect()),
            };
            rows.push(Row {
                name: name.to_owned(),
                seats,
            });
        }
        sections.push(Section {
            name: name.to_owned(),
            price: price.parse()?,
            rows,
        });
    }
    Ok(sections)
}

fn read_box_office_query(
    name: &str,
    args: &mut Arguments<'_>,
    names: &mut Names,
) -> Result<box_office::Query, Box<dyn Error>> {
    let limit = args.number("limit")?.unwrap_or(10);
    Ok(match name {
        "show_event" => box_office::Query::Event {
            event_id: names.id(args.next("event")?),
        },
        "events" => box_office::Query::Events {
            text: args.key("text").map(str::to_owned),
            after: args.key("after").map(|after| names.id(after)),
            limit,
        },
        "layout" => box_office::Query::Layout {
            event_id: names.id(args.next("event")?),
        },
        "overview" => box_office::Query::Overview {
            event_id: names.id(args.next("event")?),
        },
        "seats" => box_office::Query::Seats {
            event_id: names.id(args.next("event")?),
            section: args.key("section").map(str::to_owned),
        },
        "holds_of" => box_office::Query::HoldsOf {
            buyer: names.id(args.next("buyer")?),
            limit,
        },
        "tickets_of" => box_office::Query::TicketsOf {
            buyer: names.id(args.next("buyer")?),
            limit,
        },
        "tickets" => box_office::Query::Tickets {
            event_id: names.id(args.next("event")?),
            after: args.number("after")?,
            limit,
        },
        _ => return Err(format!("unknown command {name}").into()),
    })
}
