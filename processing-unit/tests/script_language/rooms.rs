//! The words about waiting rooms. A secret is a number, repeated.

use std::error::Error;

use processing_unit::waiting_room::lottery::{Secret, commitment};
use processing_unit::waiting_room::{Command, NewRoom, Query, SecretChoice};

use super::{Arguments, Names, read_actor};
use grid_core::Timestamp;

fn secret(args: &mut Arguments<'_>, name: &str) -> Result<Option<Secret>, Box<dyn Error>> {
    Ok(args.number::<u8>(name)?.map(|byte| [byte; 32]))
}

pub(super) fn read_command(
    name: &str,
    args: &mut Arguments<'_>,
    names: &mut Names,
) -> Result<Command, Box<dyn Error>> {
    let event_id = names.id(args.next("event")?);
    Ok(match name {
        "room" => {
            let withheld = secret(args, "withheld")?;
            Command::Create {
                by: read_actor(args, names)?,
                room: Box::new(NewRoom {
                    event_id,
                    opens_at: args.number("opens_at")?.map(Timestamp::from_millis),
                    rate_per_minute: args.number("rate")?.unwrap_or(60_000),
                    pass_ms: args.number("pass_ms")?.unwrap_or(2_000),
                    oversubscription_percent: args.number("percent")?.unwrap_or(100),
                    entries_max: args.number("most")?.unwrap_or(1_000),
                    secret: match withheld {
                        Some(secret) => SecretChoice::Withheld {
                            commitment: commitment(&secret),
                        },
                        None => SecretChoice::Kept(secret(args, "secret")?.unwrap_or([7; 32])),
                    },
                    salt: [9; 32],
                }),
            }
        }
        "join" => Command::Join {
            event_id,
            user: names.id(args.next("user")?),
        },
        "leave" => Command::Leave {
            event_id,
            user: names.id(args.next("user")?),
        },
        "open" => Command::Open {
            event_id,
            secret: secret(args, "secret")?,
            by: read_actor(args, names)?,
        },
        "pause" => Command::Pause {
            event_id,
            by: read_actor(args, names)?,
        },
        "resume" => Command::Resume {
            event_id,
            by: read_actor(args, names)?,
        },
        _ => Command::SetRate {
            event_id,
            rate_per_minute: args.next("rate")?.parse()?,
            by: read_actor(args, names)?,
        },
    })
}

pub(super) fn read_query(
    name: &str,
    args: &mut Arguments<'_>,
    names: &mut Names,
) -> Result<Query, Box<dyn Error>> {
    let event_id = names.id(args.next("event")?);
    Ok(match name {
        "place" => Query::Places {
            event_id,
            users: args.rest().into_iter().map(|user| names.id(user)).collect(),
        },
        "order" => Query::Order {
            event_id,
            after: args.number("after")?,
            limit: args.number("limit")?.unwrap_or(10),
        },
        _ => Query::Marker { event_id },
    })
}
