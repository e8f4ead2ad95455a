//! Everybody is cut off at once and comes back with a cursor.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::{Room, SETTLE, WatchPlan};
use crate::api::Api;
use crate::load::machine::Machine;
use crate::output::{Output, grouped};

/// Everybody is back within this time.
const RESUME_GOAL_MS: u64 = 10_000;
/// Updates go on for so long before and after.
const CALM: Duration = Duration::from_secs(3);
const RESUMES: &str = "gateway_resumes_total{from=\"";

/// What a storm has shown.
#[derive(Debug, Serialize)]
pub(crate) struct Stormed {
    machine: Machine,
    watchers: usize,
    connected: usize,
    resumed: usize,
    resumed_in_ms: u64,
    resumed_goal_ms: u64,
    /// Bids that were made, before, meanwhile and afterwards.
    updates: u64,
    delivered: u64,
    missed: u64,
    doubled: u64,
    snapshots: u64,
    /// What clients that came back were served from, by the gateways' own account.
    served_from: BTreeMap<String, u64>,
    resident_bytes_a_connection: f64,
    /// Everybody is back, and got every event once.
    pub(crate) ok: bool,
}

/// Measures and reports.
pub(crate) async fn run(output: Output, plan: &WatchPlan, api: &Api) -> anyhow::Result<Stormed> {
    let mut room = Room::open(output, plan, api).await?;
    let before = resumes(&plan.gateways).await?;
    let mut updates = room.publisher.publish(plan.rate, CALM).await?;
    let Room {
        crew, publisher, ..
    } = &mut room;
    // Bids go on until everybody is back.
    let (resumed, published) = {
        let mut cutting = std::pin::pin!(crew.cut());
        let mut published = 0;
        loop {
            let second = Duration::from_secs(1);
            let (bids, back) = tokio::join!(
                publisher.publish(plan.rate, second),
                tokio::time::timeout(second, &mut cutting)
            );
            published += bids?;
            if let Ok(back) = back {
                break (back?, published);
            }
        }
    };
    updates += published;
    updates += publisher.publish(plan.rate, CALM).await?;
    tokio::time::sleep(SETTLE).await;
    let seen = crew.report().await?;
    let after = resumes(&plan.gateways).await?;
    let served = after.into_iter().map(|(from, count)| {
        let earlier = before.get(&from).copied().unwrap_or(0);
        (from, count.saturating_sub(earlier))
    });
    let expected = updates * room.connected as u64;
    Ok(Stormed {
        machine: Machine::read(),
        watchers: plan.watchers,
        connected: room.connected,
        resumed: resumed.resumed,
        resumed_in_ms: resumed.took_ms,
        resumed_goal_ms: RESUME_GOAL_MS,
        updates,
        delivered: seen.delivered,
        missed: seen.missed,
        doubled: seen.doubled,
        snapshots: seen.snapshots,
        served_from: served.collect(),
        resident_bytes_a_connection: room.resident_bytes_a_connection(),
        ok: room.connected == plan.watchers
            && resumed.resumed == room.connected
            && seen.delivered == expected
            && seen.missed + seen.doubled + seen.snapshots == 0,
    })
}

/// What each way of resuming was used for, over all gateways.
async fn resumes(gateways: &[String]) -> anyhow::Result<BTreeMap<String, u64>> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    let mut all = BTreeMap::new();
    for gateway in gateways {
        let url = format!("{}/metrics", gateway.trim_end_matches('/'));
        let text = http.get(url).send().await?.text().await?;
        for line in text.lines().filter_map(|line| line.strip_prefix(RESUMES)) {
            if let Some((from, count)) = line.split_once("\"} ") {
                *all.entry(from.to_owned()).or_default() += count.trim().parse::<f64>()? as u64;
            }
        }
    }
    Ok(all)
}

impl Stormed {
    /// Prints it.
    pub(crate) fn print(&self, output: Output) -> anyhow::Result<()> {
        output.result(&json!(self), || self.text())
    }

    fn text(&self) -> String {
        let served: Vec<String> = self
            .served_from
            .iter()
            .map(|(from, count)| format!("{from} {}", grouped(*count)))
            .collect();
        format!(
            "{}\n{} watchers were cut off at once; {} are back after {:.1} s (wanted: {} s)\n\
             {} updates, {} delivered, {} missed, {} twice, {} snapshots instead\n\
             served from: {}\n{}\n",
            self.machine.text(),
            grouped(self.connected as u64),
            grouped(self.resumed as u64),
            self.resumed_in_ms as f64 / 1e3,
            self.resumed_goal_ms / 1_000,
            grouped(self.updates),
            grouped(self.delivered),
            self.missed,
            self.doubled,
            self.snapshots,
            served.join(", "),
            if self.ok {
                "everybody is back and got every update once"
            } else {
                "NOT EVERYBODY IS BACK WITH EVERY UPDATE ONCE"
            }
        )
    }
}
