//! `grid verify`: do the replicas agree, and does the database say what the grid says?

use std::time::{Duration, Instant};

use clap::Args;
use data_pump::verify::Verifier;
use serde::{Deserialize, Serialize};

use crate::api::Api;
use crate::cluster::ClusterStatus;
use crate::context::Context;
use crate::failure::Failure;
use crate::load::compare::{await_written, compare_auction, compare_event};
use crate::output::table;

const RETRY_PAUSE: Duration = Duration::from_millis(300);

/// `grid verify`
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// How long to wait until replicas and database stand where the grid stands, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    patience: u64,
    /// The database [default: DATABASE_URL, or that of the running grid]
    #[arg(long, value_name = "URL", conflicts_with = "no_database")]
    database_url: Option<String>,
    /// Compare the replicas only
    #[arg(long)]
    no_database: bool,
}

#[derive(Debug, Deserialize, Serialize)]
struct Digests {
    partition: u32,
    agree: bool,
    replicas: Vec<Digest>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Digest {
    node_id: u64,
    applied_index: Option<u64>,
    digest: Option<String>,
}

impl Digests {
    /// Whether every replica answered, and at one index.
    fn is_level(&self) -> bool {
        let first = self
            .replicas
            .first()
            .and_then(|replica| replica.applied_index);
        first.is_some()
            && self
                .replicas
                .iter()
                .all(|replica| replica.applied_index == first)
    }

    fn verdict(&self) -> &'static str {
        match (self.agree, self.is_level()) {
            (false, _) => "DIFFER",
            (true, true) => "equal",
            (true, false) => "not level",
        }
    }
}

/// What was compared, and how it came out.
#[derive(Debug, Serialize)]
struct Verdict {
    ok: bool,
    replicas: Vec<Digests>,
    database: &'static str,
    events: usize,
    auctions: usize,
    differences: Vec<String>,
}

/// Compares everything.
pub(crate) async fn run(context: &Context, args: VerifyArgs) -> anyhow::Result<()> {
    let api = context.api()?;
    let deadline = Instant::now() + Duration::from_secs(args.patience);
    let replicas = compare_replicas(context, &api, deadline).await?;
    let mut differences: Vec<String> = replicas
        .iter()
        .filter(|digests| digests.verdict() != "equal")
        .map(|digests| {
            format!(
                "partition {}: the replicas are {}",
                digests.partition,
                digests.verdict()
            )
        })
        .collect();
    let url = match args.no_database {
        true => None,
        false => context.database_url(args.database_url.as_deref())?,
    };
    let (mut events, mut auctions) = (0, 0);
    let database = match &url {
        None => "not compared",
        Some(url) => {
            let counts = compare_database(context, &api, url, deadline, &mut differences).await?;
            (events, auctions) = counts;
            "compared"
        }
    };
    let verdict = Verdict {
        ok: differences.is_empty(),
        replicas,
        database,
        events,
        auctions,
        differences,
    };
    context.output.result(&verdict, || text(&verdict))?;
    if verdict.ok {
        Ok(())
    } else {
        Err(Failure::Reported.into())
    }
}

async fn compare_replicas(
    context: &Context,
    api: &Api,
    deadline: Instant,
) -> anyhow::Result<Vec<Digests>> {
    let partitions = ClusterStatus::ask(api).await?.partitions();
    let bar = context.output.bar(partitions.len() as u64, "partitions");
    let mut all = Vec::with_capacity(partitions.len());
    for partition in partitions {
        loop {
            let digests: Digests = api.get(&format!("/admin/v1/digests/{partition}")).await?;
            if digests.is_level() || !digests.agree || Instant::now() > deadline {
                all.push(digests);
                break;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(all)
}

/// Compares every sale and auction, and returns how many of each.
async fn compare_database(
    context: &Context,
    api: &Api,
    url: &str,
    deadline: Instant,
    differences: &mut Vec<String>,
) -> anyhow::Result<(usize, usize)> {
    let database = |error: &dyn std::fmt::Display| {
        Failure::Database(format!("the database cannot be read: {error}"))
    };
    let mut verifier = Verifier::connect(url)
        .await
        .map_err(|error| database(&error))?;
    await_written(context.output, api, &mut verifier, deadline).await?;
    #[derive(Deserialize)]
    struct Event {
        event_id: uuid::Uuid,
    }
    #[derive(Deserialize)]
    struct Auction {
        auction_id: uuid::Uuid,
    }
    let events: Vec<Event> = api.list("/v1/events").await?;
    let auctions: Vec<Auction> = api.list("/v1/auctions").await?;
    let bar = context
        .output
        .bar((events.len() + auctions.len()) as u64, "sales and auctions");
    for event in &events {
        let found = compare_event(api, &mut verifier, event.event_id, deadline).await?;
        differences.extend(found);
        bar.inc(1);
    }
    for auction in &auctions {
        let found = compare_auction(api, &mut verifier, auction.auction_id, deadline).await?;
        differences.extend(found);
        bar.inc(1);
    }
    bar.finish_and_clear();
    for letter in verifier
        .dead_letters(100)
        .await
        .map_err(|error| database(&error))?
    {
        differences.push(format!(
            "a change is parked: {letter}, {} ({})",
            letter.reason, letter.error
        ));
    }
    verifier.pause().await;
    Ok((events.len(), auctions.len()))
}

fn text(verdict: &Verdict) -> String {
    let mut rows = table(["partition", "replicas", "index", "digest", "verdict"]);
    for digests in &verdict.replicas {
        let first = digests.replicas.first();
        let index = first.and_then(|replica| replica.applied_index);
        let digest = first
            .and_then(|replica| replica.digest.clone())
            .unwrap_or_default();
        rows.add_row([
            digests.partition.to_string(),
            digests
                .replicas
                .iter()
                .filter(|replica| replica.digest.is_some())
                .count()
                .to_string(),
            index.map(|index| index.to_string()).unwrap_or_default(),
            digest.chars().take(16).collect(),
            digests.verdict().to_owned(),
        ]);
    }
    let mut text = format!("{rows}\n\n");
    text.push_str(&match verdict.database {
        "compared" => format!(
            "database: compared {} sales and {} auctions\n",
            verdict.events, verdict.auctions
        ),
        other => format!("database: {other}\n"),
    });
    for difference in &verdict.differences {
        text.push_str(&format!("DIFFERENCE {difference}\n"));
    }
    text.push_str(if verdict.ok { "all equal" } else { "NOT equal" });
    text
}
