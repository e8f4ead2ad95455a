//! `grid pump resync`: SQL beside memory, entity by entity, while the grid sells.
//!
//! ```text
//!   memory (A) ──► wait until SQL has what the grid had ──► SQL (S) ──► memory (B)
//! ```
//!
//! Memory is always ahead of SQL, so S stands between A and B. A fact that is the same in A and B was so
//! at S's position too, unless it changed twice in between, and there SQL must say the same; one that
//! differs between A and B is being sold and is looked at again. Only what differs in the same way in
//! [`ROUNDS`] rounds is called a difference, so that a seat that was held and given back is none.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use clap::Args;
use data_pump::pump::{EntityKind, ParkedFilter, PumpOperator, Remade};
use data_pump::verify::Verifier;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::api::Api;
use crate::commands::database::DatabaseArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::load::compare::{await_written, database};
use crate::load::facts::{
    Facts, NONE, auction_in_grid, auction_in_sql, event_in_grid, event_in_sql,
};
use crate::output::table;

/// How often an entity that is not equal is looked at.
const ROUNDS: usize = 3;
/// Differences of one entity that are told one by one.
const EXAMPLES_MAX: usize = 5;

/// `grid pump resync`
#[derive(Debug, Args)]
pub(crate) struct ResyncArgs {
    /// This event or auction only
    #[arg(long, value_name = "UUID")]
    entity: Option<Uuid>,
    /// Make the rows of what differs anew from its changes
    #[arg(long)]
    repair: bool,
    /// How long to wait each time until the database has what the grid has, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    patience: u64,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// An entity that is not equal.
#[derive(Debug, Serialize)]
struct Difference {
    kind: EntityKind,
    entity: Uuid,
    /// Facts that differ.
    facts: usize,
    examples: Vec<String>,
    /// Changes of it are parked, which explains it: see `grid pump dlq`.
    parked: bool,
    /// What was done about it.
    remade: Option<Remade>,
    /// Facts that still differ after that.
    left: Option<usize>,
}

#[derive(Debug, Serialize)]
struct Document {
    ok: bool,
    events: usize,
    auctions: usize,
    /// Facts that changed whenever they were looked at, so that nothing can be said of them.
    busy: usize,
    differences: Vec<Difference>,
}

/// Facts that differ, with the grid's word and SQL's.
type Found = BTreeMap<String, (String, String)>;

/// What looking at an entity came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Look {
    found: Found,
    /// Facts that were being changed.
    busy: BTreeSet<String>,
}

impl Look {
    /// By what memory said before and after SQL was read.
    fn new(before: &Facts, sql: &Facts, after: &Facts) -> Self {
        let mut look = Self::default();
        let names: BTreeSet<&String> = before
            .keys()
            .chain(sql.keys())
            .chain(after.keys())
            .collect();
        for name in names {
            let (before, after) = (before.get(name), after.get(name));
            let sql = sql.get(name);
            if before != after {
                look.busy.insert(name.clone());
            } else if before != sql {
                let word = |side: Option<&String>| side.map_or(NONE.to_owned(), String::clone);
                look.found.insert(name.clone(), (word(before), word(sql)));
            }
        }
        look
    }

    fn is_equal(&self) -> bool {
        self.found.is_empty() && self.busy.is_empty()
    }

    /// What an earlier look and this one agree on.
    fn and(mut self, earlier: &Self) -> Self {
        self.found
            .retain(|name, words| earlier.found.get(name) == Some(words));
        self.busy.retain(|name| earlier.busy.contains(name));
        self
    }
}

struct Comparison<'a> {
    context: &'a Context,
    api: Api,
    verifier: Verifier,
    operator: Option<PumpOperator>,
    args: &'a ResyncArgs,
    url: String,
}

/// Compares everything, or one entity.
pub(super) async fn run(context: &Context, args: &ResyncArgs) -> anyhow::Result<()> {
    let url = args.database.url(context)?;
    let mut comparison = Comparison {
        context,
        api: context.api()?,
        verifier: Verifier::connect(&url)
            .await
            .map_err(|error| database(&error))?,
        operator: None,
        args,
        url,
    };
    let document = comparison.run().await?;
    comparison.verifier.pause().await;
    comparison.release().await;
    context.output.result(&document, || text(&document))?;
    if document.ok {
        Ok(())
    } else {
        Err(Failure::Reported.into())
    }
}

impl Comparison<'_> {
    async fn run(&mut self) -> anyhow::Result<Document> {
        #[derive(Deserialize)]
        struct Event {
            event_id: Uuid,
        }
        #[derive(Deserialize)]
        struct Auction {
            auction_id: Uuid,
        }
        let events: Vec<Event> = self.api.list("/v1/events").await?;
        let auctions: Vec<Auction> = self.api.list("/v1/auctions").await?;
        let events = events
            .iter()
            .map(|event| (EntityKind::Event, event.event_id));
        let auctions = auctions
            .iter()
            .map(|auction| (EntityKind::Auction, auction.auction_id));
        let wanted: Vec<(EntityKind, Uuid)> = events
            .chain(auctions)
            .filter(|(_, id)| self.args.entity.is_none_or(|only| only == *id))
            .collect();
        if wanted.is_empty() && self.args.entity.is_some() {
            let text = "the grid has no such event or auction";
            return Err(Failure::Usage(text.to_owned()).into());
        }
        let count = |wanted_kind| {
            wanted
                .iter()
                .filter(|(kind, _)| *kind == wanted_kind)
                .count()
        };
        let mut document = Document {
            ok: true,
            events: count(EntityKind::Event),
            auctions: count(EntityKind::Auction),
            busy: 0,
            differences: Vec::new(),
        };
        let bar = self
            .context
            .output
            .bar(wanted.len() as u64, "sales and auctions");
        for (kind, entity) in wanted {
            let look = self.compare(kind, entity).await?;
            document.busy += look.busy.len();
            if !look.found.is_empty() {
                let difference = self.treat(kind, entity, &look).await?;
                document.ok &= difference.left == Some(0);
                document.differences.push(difference);
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(document)
    }

    async fn compare(&mut self, kind: EntityKind, entity: Uuid) -> anyhow::Result<Look> {
        let before = self.in_grid(kind, entity).await?;
        if before == self.in_sql(kind, entity).await? {
            return Ok(Look::default());
        }
        let mut look: Option<Look> = None;
        for _ in 0..ROUNDS {
            let before = self.in_grid(kind, entity).await?;
            let deadline = Instant::now() + Duration::from_secs(self.args.patience);
            let output = self.context.output;
            await_written(output, &self.api, &mut self.verifier, deadline).await?;
            let sql = self.in_sql(kind, entity).await?;
            let after = self.in_grid(kind, entity).await?;
            self.verifier.pause().await;
            let now = Look::new(&before, &sql, &after);
            let agreed = match &look {
                Some(earlier) => now.and(earlier),
                None => now,
            };
            if agreed.is_equal() {
                return Ok(agreed);
            }
            look = Some(agreed);
        }
        Ok(look.unwrap_or_default())
    }

    /// Says what differs, and mends it where that was asked for.
    async fn treat(
        &mut self,
        kind: EntityKind,
        entity: Uuid,
        look: &Look,
    ) -> anyhow::Result<Difference> {
        let filter = ParkedFilter {
            partition: None,
            entity: Some(entity),
        };
        let parked = self.operator().await?.parked_entities(filter).await;
        let mut difference = Difference {
            kind,
            entity,
            facts: look.found.len(),
            examples: look
                .found
                .iter()
                .take(EXAMPLES_MAX)
                .map(|(name, (grid, sql))| format!("{name}: {grid} in the grid, {sql} in SQL"))
                .collect(),
            parked: !parked.map_err(Failure::from)?.is_empty(),
            remade: None,
            left: None,
        };
        // Rows made anew would lack what is parked as much as these do.
        if self.args.repair && !difference.parked {
            let remade = self.operator().await?.remake(kind, entity).await;
            difference.remade = Some(remade.map_err(Failure::from)?);
        }
        self.release().await;
        if difference.remade.is_some() {
            let left = self.compare(kind, entity).await?;
            difference.left = Some(left.found.len());
        }
        Ok(difference)
    }

    async fn operator(&mut self) -> anyhow::Result<&mut PumpOperator> {
        let operator = match self.operator.take() {
            Some(operator) => operator,
            None => PumpOperator::connect(&self.url)
                .await
                .map_err(Failure::from)?,
        };
        Ok(self.operator.insert(operator))
    }

    /// Lets others at a database that answers one connection at a time.
    async fn release(&mut self) {
        if let Some(operator) = self.operator.take() {
            operator.close().await;
        }
    }

    async fn in_grid(&self, kind: EntityKind, entity: Uuid) -> anyhow::Result<Facts> {
        match kind {
            EntityKind::Event => event_in_grid(&self.api, entity).await,
            EntityKind::Auction => auction_in_grid(&self.api, entity).await,
        }
    }

    async fn in_sql(&mut self, kind: EntityKind, entity: Uuid) -> anyhow::Result<Facts> {
        match kind {
            EntityKind::Event => event_in_sql(&mut self.verifier, entity).await,
            EntityKind::Auction => auction_in_sql(&mut self.verifier, entity).await,
        }
    }
}

fn text(document: &Document) -> String {
    let mut text = format!(
        "compared {} sales and {} auctions\n",
        document.events, document.auctions
    );
    if document.busy > 0 {
        text.push_str(&format!(
            "{} seats or amounts changed whenever they were looked at; nothing is said of them\n",
            document.busy
        ));
    }
    if document.differences.is_empty() {
        text.push_str("SQL says what the grid says");
        return text;
    }
    let mut rows = table(["kind", "entity", "facts that differ", "for example", "done"]);
    for difference in &document.differences {
        let done = match (difference.parked, difference.remade, difference.left) {
            (true, _, _) => "changes of it are parked: see `grid pump dlq`".to_owned(),
            (_, Some(remade), Some(0)) => format!("mended from {} changes", remade.changes),
            (_, Some(remade), left) => format!(
                "made anew from {} changes, and {} facts still differ: changes are missing in SQL",
                remade.changes,
                left.unwrap_or(0)
            ),
            (_, None, _) => "nothing; --repair mends it".to_owned(),
        };
        rows.add_row([
            format!("{:?}", difference.kind).to_lowercase(),
            difference.entity.to_string(),
            difference.facts.to_string(),
            difference.examples.join("\n"),
            done,
        ]);
    }
    text.push_str(&rows.to_string());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts<const N: usize>(facts: [(&str, &str); N]) -> Facts {
        let facts = facts.into_iter();
        facts
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn what_moves_is_busy_and_what_stays_must_be_equal() {
        let before = facts([("1", "a"), ("2", "a"), ("3", "s")]);
        let sql = facts([("1", "h"), ("2", "h")]);
        let after = facts([("1", "s"), ("2", "a"), ("3", "s")]);
        let look = Look::new(&before, &sql, &after);
        assert_eq!(look.busy, BTreeSet::from(["1".to_owned()]));
        let words = |grid: &str, sql: &str| (grid.to_owned(), sql.to_owned());
        let expected = [("2", words("a", "h")), ("3", words("s", NONE))];
        let expected: Found = expected
            .map(|(name, words)| (name.to_owned(), words))
            .into();
        assert_eq!(look.found, expected);
        // A seat that was held and given back in between differs once, or each time otherwise.
        let sql = facts([("1", "s"), ("2", "a")]);
        let again = Look::new(&after, &sql, &after).and(&look);
        assert_eq!(again.busy.len(), 0);
        assert_eq!(again.found.keys().collect::<Vec<_>>(), ["3"]);
    }
}
