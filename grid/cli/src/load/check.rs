//! Is everything that was acknowledged there, once, in the grid and in the database?

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use data_pump::verify::Verifier;
use serde::Serialize;
use uuid::Uuid;

use super::bidding::Lot;
use super::compare::{BidView, await_written, compare_auction, compare_event, database, tickets};
use super::ledger::Account;
use super::rush::Stage;
use super::venue::SeatMap;
use crate::api::Api;
use crate::output::Output;

/// Differences that are told; the rest is counted.
const DIFFERENCES_TOLD_MAX: usize = 20;

/// How it came out.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Check {
    /// Whether nothing is wrong.
    pub(crate) ok: bool,
    /// Whether the database was asked.
    pub(crate) sql: &'static str,
    /// Holds that were acknowledged over the run.
    pub(crate) acknowledged_holds: u64,
    /// Tickets, or bids, that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Seats held in the grid.
    pub(crate) held_in_grid: u64,
    /// Seats sold, or bids, in the grid.
    pub(crate) in_grid: u64,
    /// The same in the database.
    pub(crate) in_sql: Option<u64>,
    /// Seats with more than one ticket.
    pub(crate) sold_twice: u64,
    /// Seats that were acknowledged to two buyers at one time.
    pub(crate) held_twice: u64,
    /// Acknowledged and not there.
    pub(crate) acknowledged_but_missing: u64,
    /// Requests that were never answered: there or not, both would be right.
    pub(crate) unknown: u64,
    /// What is wrong, in words.
    pub(crate) differences: Vec<String>,
}

impl Check {
    fn conclude(mut self) -> Self {
        let more = self.differences.len().saturating_sub(DIFFERENCES_TOLD_MAX);
        self.ok = self.sold_twice == 0
            && self.held_twice == 0
            && self.acknowledged_but_missing == 0
            && self.differences.is_empty();
        if more > 0 {
            self.differences.truncate(DIFFERENCES_TOLD_MAX);
            self.differences.push(format!("and {more} more"));
        }
        self
    }

    /// Several checks as one.
    pub(crate) fn all_of(checks: Vec<Self>) -> Self {
        let mut all = Self {
            sql: checks.first().map_or("not checked", |check| check.sql),
            ..Self::default()
        };
        all.ok = !checks.is_empty();
        for check in checks {
            all.ok &= check.ok;
            all.acknowledged_holds += check.acknowledged_holds;
            all.acknowledged += check.acknowledged;
            all.held_in_grid += check.held_in_grid;
            all.in_grid += check.in_grid;
            all.in_sql = match (all.in_sql, check.in_sql) {
                (None, found) | (found, None) => found,
                (Some(one), Some(other)) => Some(one + other),
            };
            all.sold_twice += check.sold_twice;
            all.held_twice += check.held_twice;
            all.acknowledged_but_missing += check.acknowledged_but_missing;
            all.unknown += check.unknown;
            all.differences.extend(check.differences);
        }
        all
    }

    /// For people.
    pub(crate) fn text(&self, what: &str) -> String {
        let sql = self
            .in_sql
            .map_or_else(|| self.sql.to_owned(), |count| count.to_string());
        let mut text = format!(
            "check: {what} acknowledged: {}, in the grid: {}, in SQL: {sql}\n",
            self.acknowledged, self.in_grid
        );
        text.push_str(&format!("sold twice: {}\n", self.sold_twice));
        text.push_str(&format!("held twice: {}\n", self.held_twice));
        text.push_str(&format!(
            "acknowledged but missing: {}\n",
            self.acknowledged_but_missing
        ));
        if self.unknown > 0 {
            text.push_str(&format!(
                "never answered, either way right: {}\n",
                self.unknown
            ));
        }
        for difference in &self.differences {
            text.push_str(&format!("DIFFERENCE {difference}\n"));
        }
        text
    }
}

/// What is asked, and for how long.
#[derive(Debug)]
pub(crate) struct Checker<'a> {
    output: Output,
    api: &'a Api,
    verifier: Option<Verifier>,
    patience: Duration,
}

/// Goes through every fact of a sale in the database, and returns what is wrong with them.
async fn facts(
    verifier: &mut Verifier,
    event_id: Uuid,
    account: &Account,
) -> anyhow::Result<Vec<String>> {
    let facts = verifier.sale_facts(event_id).await;
    let facts = facts.map_err(|error| database(&error))?;
    let mut found: Vec<String> = facts
        .examples
        .iter()
        .map(|example| format!("event {event_id}: the facts contradict each other at {example}"))
        .collect();
    if facts.other_rows > 0 {
        let rows = facts.other_rows;
        found.push(format!(
            "event {event_id}: {rows} seats have another state than their facts come to"
        ));
    }
    if facts.holds < account.holds {
        let (acknowledged, written) = (account.holds, facts.holds);
        found.push(format!(
            "event {event_id}: {acknowledged} holds were acknowledged, {written} are among the facts"
        ));
    }
    let torn = verifier.torn_entries().await;
    let torn = torn.map_err(|error| database(&error))?;
    if torn > 0 {
        found.push(format!("{torn} log entries are written in part"));
    }
    Ok(found)
}

impl<'a> Checker<'a> {
    /// Without an address only the grid is asked.
    pub(crate) async fn new(
        output: Output,
        api: &'a Api,
        database_url: Option<&str>,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let verifier = match database_url {
            Some(url) => Some(
                Verifier::connect_when_there(url)
                    .await
                    .map_err(|error| database(&error))?,
            ),
            None => None,
        };
        Ok(Self {
            output,
            api,
            verifier,
            patience,
        })
    }

    /// Waits until the database has everything that the grid has now.
    async fn settle(&mut self) -> anyhow::Result<Instant> {
        let deadline = Instant::now() + self.patience;
        if let Some(verifier) = &mut self.verifier {
            await_written(self.output, self.api, verifier, deadline).await?;
        }
        Ok(deadline)
    }

    fn begin(&self) -> Check {
        let sql = if self.verifier.is_some() {
            "checked"
        } else {
            "not checked: no database"
        };
        Check {
            sql,
            ..Check::default()
        }
    }

    /// Checks a sale.
    pub(crate) async fn sale(mut self, event_id: Uuid, account: &Account) -> anyhow::Result<Check> {
        let deadline = self.settle().await?;
        let mut check = self.begin();
        check.acknowledged = account.tickets.len() as u64;
        check.acknowledged_holds = account.holds;
        check.held_twice = account.held_twice;
        check.unknown = account.unknown.len() as u64;
        let map = SeatMap::read(self.api, event_id).await?;
        let tickets = tickets(self.api, event_id).await?;
        check.in_grid = tickets.len() as u64;
        check.held_in_grid = map.count(b'h');
        if map.count(b's') != check.in_grid {
            let (sold, tickets) = (map.count(b's'), check.in_grid);
            check.differences.push(format!(
                "{sold} seats are sold, but there are {tickets} tickets"
            ));
        }
        let by_seat: BTreeMap<u32, Uuid> = tickets
            .iter()
            .map(|ticket| (ticket.seat_index, ticket.ticket_id))
            .collect();
        check.sold_twice += tickets.len() as u64 - by_seat.len() as u64;
        let mut acknowledged: BTreeMap<u32, Uuid> = BTreeMap::new();
        for ticket in &account.tickets {
            if acknowledged
                .insert(ticket.seat, ticket.ticket_id)
                .is_some_and(|other| other != ticket.ticket_id)
            {
                check.sold_twice += 1;
            }
            if by_seat.get(&ticket.seat) != Some(&ticket.ticket_id) {
                check.acknowledged_but_missing += 1;
            }
        }
        let unknown: BTreeSet<u32> = account.unknown.iter().copied().collect();
        let lost = account.outstanding.iter().filter(|seat| {
            map.states.get(**seat as usize) != Some(&b'h') && !unknown.contains(seat)
        });
        check.acknowledged_but_missing += lost.count() as u64;
        if let Some(verifier) = &mut self.verifier {
            let found = compare_event(self.api, verifier, event_id, deadline).await?;
            check.differences.extend(found);
            let twice = verifier
                .seats_sold_twice(event_id)
                .await
                .map_err(|error| database(&error))?;
            check.sold_twice += u64::try_from(twice).unwrap_or_default();
            let written = verifier
                .tickets(event_id)
                .await
                .map_err(|error| database(&error))?;
            check.in_sql = Some(written.len() as u64);
            let written: BTreeSet<Uuid> = written.iter().map(|ticket| ticket.ticket_id).collect();
            check
                .differences
                .extend(facts(verifier, event_id, account).await?);
            let missing = account
                .tickets
                .iter()
                .filter(|ticket| !written.contains(&ticket.ticket_id))
                .count();
            if missing > 0 {
                check.acknowledged_but_missing += missing as u64;
                check
                    .differences
                    .push(format!("{missing} acknowledged tickets are not in SQL"));
            }
        }
        Ok(check.conclude())
    }

    /// Checks the copies of the closed loop.
    pub(crate) async fn rush(mut self, stages: &[std::sync::Arc<Stage>]) -> anyhow::Result<Check> {
        let deadline = self.settle().await?;
        let mut check = self.begin();
        let mut in_sql = 0;
        let bar = self.output.bar(stages.len() as u64, "events checked");
        for stage in stages {
            let map = SeatMap::read(self.api, stage.event_id).await?;
            let acknowledged: Vec<usize> = stage.acknowledged().collect();
            check.acknowledged += acknowledged.len() as u64;
            check.unknown += stage.unknown().count() as u64;
            check.in_grid += map.count(b'h');
            let missing = acknowledged
                .iter()
                .filter(|seat| map.states.get(**seat) != Some(&b'h'));
            check.acknowledged_but_missing += missing.count() as u64;
            if let Some(verifier) = &mut self.verifier {
                check
                    .differences
                    .extend(compare_event(self.api, verifier, stage.event_id, deadline).await?);
                let counts = verifier
                    .seat_counts(stage.event_id)
                    .await
                    .map_err(|error| database(&error))?;
                in_sql += u64::try_from(counts.held).unwrap_or_default();
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        check.held_in_grid = check.in_grid;
        check.acknowledged_holds = check.acknowledged;
        check.in_sql = self.verifier.is_some().then_some(in_sql);
        let surplus = check.in_grid.saturating_sub(check.acknowledged);
        if surplus > check.unknown {
            check
                .differences
                .push(format!("{surplus} seats are held that nobody was told of"));
        }
        Ok(check.conclude())
    }

    /// Checks auctions.
    pub(crate) async fn bids(mut self, lots: &[std::sync::Arc<Lot>]) -> anyhow::Result<Check> {
        let deadline = self.settle().await?;
        let mut check = self.begin();
        let mut in_sql = 0;
        let bar = self.output.bar(lots.len() as u64, "auctions checked");
        for lot in lots {
            let path = format!("/v1/auctions/{}/bids", lot.auction_id);
            let bids: Vec<BidView> = self.api.list(&path).await?;
            let mut amounts: BTreeMap<Uuid, u64> = BTreeMap::new();
            for bid in &bids {
                let amount = u64::try_from(bid.amount.minor()?)?;
                if amounts.insert(bid.bid_id, amount).is_some() {
                    check
                        .differences
                        .push(format!("bid {} is there twice", bid.bid_id));
                }
            }
            let accepted = lot.accepted();
            check.acknowledged += accepted.len() as u64;
            check.unknown += lot.unknown();
            check.in_grid += bids.len() as u64;
            let missing = accepted
                .iter()
                .filter(|bid| amounts.get(&bid.bid_id) != Some(&bid.amount));
            check.acknowledged_but_missing += missing.count() as u64;
            if let Some(verifier) = &mut self.verifier {
                let found = compare_auction(self.api, verifier, lot.auction_id, deadline).await?;
                check.differences.extend(found);
                let written = verifier
                    .auction(lot.auction_id)
                    .await
                    .map_err(|error| database(&error))?;
                in_sql +=
                    written.map_or(0, |auction| u64::try_from(auction.bids).unwrap_or_default());
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        check.in_sql = self.verifier.is_some().then_some(in_sql);
        Ok(check.conclude())
    }
}
