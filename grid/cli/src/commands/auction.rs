//! `grid auction`

use anyhow::Context as _;
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{Money, escape};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::table;

/// `grid auction …`
#[derive(Debug, Subcommand)]
pub(crate) enum AuctionCommand {
    /// Create an auction of a new item
    Create(CreateArgs),
    /// List auctions
    List {
        /// scheduled, open, ended or cancelled
        #[arg(long)]
        status: Option<String>,
        /// Only this category
        #[arg(long)]
        category: Option<String>,
        /// Part of the title
        #[arg(long, short)]
        query: Option<String>,
    },
    /// Show an auction with its latest bids
    Show {
        /// Its id
        auction_id: String,
    },
    /// Open a scheduled auction now
    Start {
        /// Its id
        auction_id: String,
    },
    /// End an open auction now
    Close {
        /// Its id
        auction_id: String,
    },
    /// Call an auction off
    Cancel {
        /// Its id
        auction_id: String,
    },
}

/// `grid auction create`
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// What is sold
    title: String,
    /// Where bidding begins, such as 100.00
    #[arg(long, value_name = "AMOUNT")]
    starting_price: String,
    /// Below this it is not sold
    #[arg(long, value_name = "AMOUNT")]
    reserve: Option<String>,
    /// The least rise
    #[arg(long, value_name = "AMOUNT")]
    increment: Option<String>,
    /// The currency's code
    #[arg(long, default_value = "EUR")]
    currency: String,
    /// The category
    #[arg(long, default_value = "")]
    category: String,
    /// The description
    #[arg(long, default_value = "")]
    description: String,
    /// When it opens, RFC 3339 [default: now]
    #[arg(long, value_name = "TIME")]
    start: Option<Timestamp>,
    /// How long it is open, such as 10m or 2h
    #[arg(long, default_value = "10m")]
    duration: SignedDuration,
    /// A bid in the last seconds extends the auction by as many
    #[arg(long, value_name = "SECONDS")]
    soft_close: Option<u64>,
    /// The idempotency key, to repeat the command safely
    #[arg(long)]
    key: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Auction {
    auction_id: String,
    title: String,
    category: String,
    status: String,
    starting_price: Money,
    current_price: Option<Money>,
    minimum_next: Money,
    bids: u64,
    leader: Option<String>,
    end_time: String,
    outcome: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Bid {
    number: u64,
    user_id: String,
    amount: Money,
    at: String,
    withdrawn: bool,
}

/// Carries it out.
pub(crate) async fn run(context: &Context, command: AuctionCommand) -> anyhow::Result<()> {
    match command {
        AuctionCommand::Create(args) => create(context, args).await,
        AuctionCommand::List {
            status,
            category,
            query,
        } => {
            list(
                context,
                &[("status", status), ("category", category), ("q", query)],
            )
            .await
        }
        AuctionCommand::Show { auction_id } => show(context, &auction_id).await,
        AuctionCommand::Start { auction_id } => step(context, &auction_id, "start").await,
        AuctionCommand::Close { auction_id } => step(context, &auction_id, "close").await,
        AuctionCommand::Cancel { auction_id } => step(context, &auction_id, "cancel").await,
    }
}

async fn create(context: &Context, args: CreateArgs) -> anyhow::Result<()> {
    let start = args.start.unwrap_or_else(Timestamp::now);
    let end = start
        .checked_add(args.duration)
        .map_err(|error| Failure::Usage(format!("--duration: {error}")))?;
    let mut body = json!({
        "item": {"name": args.title, "description": args.description, "category": args.category},
        "title": args.title, "category": args.category, "currency": args.currency,
        "starting_price": args.starting_price,
        "start_time": start.to_string(), "end_time": end.to_string(),
    });
    if let Some(reserve) = args.reserve {
        body["reserve_price"] = json!(reserve);
    }
    if let Some(increment) = args.increment {
        body["increment"] = json!(increment);
    }
    if let Some(seconds) = args.soft_close {
        body["soft_close"] = json!({"window_s": seconds, "extend_s": seconds});
    }
    let created: Value = context
        .api()?
        .post("/v1/auctions", &body, args.key.as_deref())
        .await?;
    context.output.result(&created, || {
        format!("created auction {}", text_of(&created["auction_id"]))
    })
}

async fn list(context: &Context, filters: &[(&str, Option<String>)]) -> anyhow::Result<()> {
    let mut path = "/v1/auctions?".to_owned();
    for (name, value) in filters {
        if let Some(value) = value {
            path.push_str(&format!("{name}={}&", escape(value)));
        }
    }
    let values: Vec<Value> = context
        .api()?
        .list(path.trim_end_matches(['?', '&']))
        .await?;
    let auctions: Vec<Auction> = serde_json::from_value(Value::Array(values.clone()))?;
    context.output.result(&json!({ "auctions": values }), || {
        let mut rows = table([
            "auction", "title", "category", "status", "price", "bids", "ends",
        ]);
        for auction in &auctions {
            let price = auction
                .current_price
                .as_ref()
                .unwrap_or(&auction.starting_price);
            rows.add_row([
                auction.auction_id.clone(),
                auction.title.clone(),
                auction.category.clone(),
                auction.status.clone(),
                price.to_string(),
                auction.bids.to_string(),
                auction.end_time.clone(),
            ]);
        }
        rows.to_string()
    })
}

async fn show(context: &Context, auction_id: &str) -> anyhow::Result<()> {
    let api = context.api()?;
    let path = format!("/v1/auctions/{}", escape(auction_id));
    let mut value: Value = api.get(&path).await?;
    let auction: Auction = serde_json::from_value(value.clone())?;
    let page: Value = api.get(&format!("{path}/bids?limit=10")).await?;
    let bids: Vec<Bid> =
        serde_json::from_value(page["items"].clone()).context("the gateway sent no bids")?;
    value["latest_bids"] = page["items"].clone();
    context.output.result(&value, || {
        let mut rows = table(["bid", "bidder", "amount", "at", ""]);
        for bid in &bids {
            rows.add_row([
                bid.number.to_string(),
                bid.user_id.clone(),
                bid.amount.to_string(),
                bid.at.clone(),
                if bid.withdrawn {
                    "withdrawn".to_owned()
                } else {
                    String::new()
                },
            ]);
        }
        let mut text = format!("{}: {}", auction.title, auction.status);
        if let Some(price) = &auction.current_price {
            let leader = auction.leader.as_deref().unwrap_or("nobody");
            text.push_str(&format!(", {price} by {leader}"));
        }
        text.push_str(&format!(
            ", next at least {}, ends {}\n",
            auction.minimum_next, auction.end_time
        ));
        if let Some(outcome) = &auction.outcome {
            text.push_str(&format!("outcome: {outcome}\n"));
        }
        format!("{text}\n{rows}")
    })
}

async fn step(context: &Context, auction_id: &str, step: &str) -> anyhow::Result<()> {
    let path = format!("/v1/auctions/{}/{step}", escape(auction_id));
    let done: Value = context.api()?.post(&path, &json!({}), None).await?;
    context.output.result(&done, || {
        format!("auction {auction_id} is {}", text_of(&done["status"]))
    })
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
