//! `grid waitingroom`: the waiting room before a sale.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::api::escape;
use crate::context::Context;
use crate::draw::{self, Room};
use crate::failure::Failure;
use crate::output::{grouped, table};

/// `grid waitingroom …`
#[derive(Debug, Subcommand)]
pub(crate) enum WaitingRoomCommand {
    /// Put a waiting room before a sale: from now on seats are held with a pass only
    Create(CreateArgs),
    /// Show how many wait, and how many are admitted
    Show {
        /// The sale
        event_id: String,
    },
    /// Admit nobody for the time being
    Pause {
        /// The sale
        event_id: String,
    },
    /// Admit people again
    Resume {
        /// The sale
        event_id: String,
    },
    /// Set how many people are admitted a minute
    Rate {
        /// The sale
        event_id: String,
        /// People a minute
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        rate_per_minute: u32,
    },
    /// Draw the order of the early ones now, or reveal the secret that was withheld
    Open {
        /// The sale
        event_id: String,
        /// The secret that --commitment was made of, in hexadecimal digits, once the list is sealed
        #[arg(long, value_name = "HEX")]
        secret: Option<String>,
    },
    /// Check the order of the early ones against the lottery's commitment and revealed secret
    Proof {
        /// The sale
        event_id: String,
    },
    /// Print what to commit to for a secret of your own
    Commitment {
        /// 32 random bytes in hexadecimal digits, such as of `openssl rand -hex 32`
        secret: String,
    },
}

/// `grid waitingroom create`
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The sale
    event_id: String,
    /// People a minute
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// When the early ones are drawn, such as 2026-01-31T20:00:00Z [default: when the sale begins]
    #[arg(long, value_name = "TIME")]
    opens_at: Option<String>,
    /// How long a pass lasts, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pass_seconds: u64,
    /// Passes that may be open, in percent of what the unsold seats suffice for
    #[arg(long, value_name = "PERCENT", default_value_t = 100)]
    oversubscription: u32,
    /// The most entries [default: 500000]
    #[arg(long, value_name = "N")]
    entries: Option<u32>,
    /// Of a secret that you keep until the list is sealed (see `grid waitingroom commitment`)
    #[arg(long, value_name = "HEX")]
    commitment: Option<String>,
}

fn path(event_id: &str, step: &str) -> String {
    format!("/v1/events/{}/waiting-room{step}", escape(event_id))
}

/// Carries it out.
pub(crate) async fn run(context: &Context, command: WaitingRoomCommand) -> anyhow::Result<()> {
    match command {
        WaitingRoomCommand::Create(args) => create(context, args).await,
        WaitingRoomCommand::Show { event_id } => {
            let value: Value = context.api()?.get(&path(&event_id, "")).await?;
            print(context, &value)
        }
        WaitingRoomCommand::Pause { event_id } => {
            step(context, &event_id, "/pause", json!({})).await
        }
        WaitingRoomCommand::Resume { event_id } => {
            step(context, &event_id, "/resume", json!({})).await
        }
        WaitingRoomCommand::Rate {
            event_id,
            rate_per_minute,
        } => {
            let body = json!({"rate_per_minute": rate_per_minute});
            step(context, &event_id, "/rate", body).await
        }
        WaitingRoomCommand::Open { event_id, secret } => {
            let body = match secret {
                Some(secret) => json!({"secret": secret}),
                None => json!({}),
            };
            step(context, &event_id, "/open", body).await
        }
        WaitingRoomCommand::Proof { event_id } => proof(context, &event_id).await,
        WaitingRoomCommand::Commitment { secret } => {
            let commitment =
                draw::commitment(&secret).map_err(|error| Failure::Usage(error.to_string()))?;
            let value = json!({"commitment": commitment});
            context.output.result(&value, || commitment.clone())
        }
    }
}

async fn create(context: &Context, args: CreateArgs) -> anyhow::Result<()> {
    let body = json!({
        "rate_per_minute": args.rate,
        "opens_at": args.opens_at,
        "pass_seconds": args.pass_seconds,
        "oversubscription_percent": args.oversubscription,
        "entries_max": args.entries,
        "commitment": args.commitment,
    });
    let created: Value = context
        .api()?
        .post(&path(&args.event_id, ""), &body, None)
        .await?;
    print(context, &created)
}

async fn step(context: &Context, event_id: &str, step: &str, body: Value) -> anyhow::Result<()> {
    let api = context.api()?;
    let _: Value = api.post(&path(event_id, step), &body, None).await?;
    let value: Value = api.get(&path(event_id, "")).await?;
    print(context, &value)
}

fn print(context: &Context, value: &Value) -> anyhow::Result<()> {
    let room: Room = serde_json::from_value(value.clone())?;
    context.output.result(value, || {
        let mut rows = table(["", "people"]);
        for (name, count) in [
            ("entries", room.entries),
            ("of them early", room.early),
            ("waiting", room.waiting),
            ("left", room.left),
            ("admitted", room.admitted),
            ("pass open", room.passes_open),
            ("bought", room.bought),
            ("too slow", room.expired),
            ("gave it back", room.given_back),
        ] {
            rows.add_row([name.to_owned(), grouped(count.into())]);
        }
        let state = match (room.phase.as_str(), room.paused) {
            (phase, false) => phase.to_owned(),
            (phase, true) => format!("{phase}, paused"),
        };
        format!(
            "the waiting room of {}: {state}, opens {}\n{} people a minute, passes of {} s, at most {} open for \
             {} unsold seats\nthe next rank is {}\ncommitment {}\n\n{rows}",
            room.event_id,
            room.opens_at,
            grouped(room.rate_per_minute.into()),
            room.pass_seconds,
            grouped(room.passes_open_max.into()),
            grouped(room.unsold.into()),
            room.next_rank,
            room.commitment,
        )
    })
}

async fn proof(context: &Context, event_id: &str) -> anyhow::Result<()> {
    let api = context.api()?;
    let room = Room::read(&api, &escape(event_id)).await?;
    let rows = draw::read_order(&api, &escape(event_id)).await?;
    let proof = draw::verify(&room, &rows)?;
    context.output.result(&proof, || {
        let verdict = match proof.ok {
            true => "the order is the one that the lottery gives".to_owned(),
            false => format!("THE ORDER IS NOT PROVEN: {}", proof.wrong.join("; ")),
        };
        format!(
            "commitment {}\nsecret     {}\nentropy    {}\nseed       {}\n{} early entries checked: {verdict}",
            proof.commitment,
            proof.secret,
            proof.entropy,
            proof.seed,
            grouped(proof.early.into()),
        )
    })?;
    match proof.ok {
        true => Ok(()),
        false => Err(Failure::Reported.into()),
    }
}
