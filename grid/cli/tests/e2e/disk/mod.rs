//! Disks that are full, slow, failing or forgetful: the grid goes on, says which one it is, and nothing is
//! lost in silence. What they have in common: somebody who buys, and what nodes say of themselves.

mod damage;
mod full;
mod syncs;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use grid_core::SlotLayout;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::nodes::Nodes;
use crate::support::{person, sample, text, wait_for};

const ALL: [u64; 3] = [1, 2, 3];
/// Between two holds: often enough for a disk to be judged by its syncs, and the seats last.
const BUYER_PAUSE: Duration = Duration::from_millis(30);
fn import(nodes: &Nodes) -> String {
    let event = nodes.run(&ALL, &["import", "venue", &sample("arena.json")]);
    text(&event.done()["event_id"]).to_owned()
}

fn partition_of(event_id: &str) -> u64 {
    let id: Uuid = event_id.parse().expect("an id");
    let layout = SlotLayout::new(4).expect("in range");
    u64::from(layout.partition_of(id).0)
}

/// What a node says of itself.
fn status(nodes: &Nodes, node: u64) -> Option<Value> {
    let answer = nodes.run(&[node], &["status"]).json;
    let all = answer["nodes"].as_array()?;
    let found = all.iter().find(|found| found["node_id"] == node)?;
    (!found["status"].is_null()).then(|| found["status"].clone())
}

fn replicas(status: &Value) -> impl Iterator<Item = &Value> {
    status["replicas"].as_array().into_iter().flatten()
}

fn led_by(nodes: &Nodes, node: u64) -> Option<Vec<u64>> {
    let status = status(nodes, node)?;
    let led = replicas(&status).filter(|replica| replica["role"] == "leader");
    Some(
        led.filter_map(|replica| replica["partition"].as_u64())
            .collect(),
    )
}

async fn leader_of(nodes: &Nodes, partition: u64) -> u64 {
    wait_for("the partition is led", async || {
        ALL.into_iter()
            .find(|node| led_by(nodes, *node).is_some_and(|led| led.contains(&partition)))
    })
    .await
}

/// The terms of all partitions, as a node knows them.
fn terms(nodes: &Nodes, node: u64) -> Option<BTreeMap<u64, u64>> {
    let status = status(nodes, node)?;
    let term = |replica: &Value| Some((replica["partition"].as_u64()?, replica["term"].as_u64()?));
    Some(replicas(&status).filter_map(term).collect())
}

/// Somebody who holds seats, one after another; ends when it is dropped.
struct Buyer {
    held: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Buyer {
    /// Begins at the gateway of a node. Refusals are asked again under the same key.
    fn start(nodes: &Nodes, node: u64, event_id: &str, first_person: u128) -> Self {
        let url = format!("{}/v1/events/{event_id}/holds", nodes.url(node));
        let held = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&held);
        let task = tokio::spawn(async move {
            for number in first_person.. {
                while hold(&url, number).await != 201 {
                    tokio::time::sleep(BUYER_PAUSE).await;
                }
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(BUYER_PAUSE).await;
            }
        });
        Self { held, task }
    }

    /// Waits for so many more holds.
    async fn holds(&self, more: u64) {
        let before = self.held.load(Ordering::Relaxed);
        wait_for("seats are held", async || {
            (self.held.load(Ordering::Relaxed) >= before + more).then_some(())
        })
        .await;
    }
}

impl Drop for Buyer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn ask_hold(url: &str, number: u128) -> Option<(u16, Value)> {
    let sent = reqwest::Client::new()
        .post(url)
        .header("x-user-id", person(number).to_string())
        .header("idempotency-key", format!("hold-{number}"))
        .header("content-type", "application/json")
        .body(json!({"quantity": 1, "best_available": true}).to_string())
        .send()
        .await;
    let response = sent.ok()?;
    let status = response.status().as_u16();
    let body = response.text().await.ok()?;
    Some((status, serde_json::from_str(&body).ok()?))
}

async fn hold(url: &str, number: u128) -> u16 {
    ask_hold(url, number).await.map_or(0, |(status, _)| status)
}

async fn leads_nothing(nodes: &Nodes, node: u64) {
    wait_for("its leaderships are elsewhere", async || {
        led_by(nodes, node).filter(Vec::is_empty).map(drop)
    })
    .await;
}

async fn is_whole(nodes: &Nodes) {
    nodes.is("healthy").await;
    let verdict = nodes.run(&ALL, &["verify", "--no-database"]).done();
    assert_eq!(verdict["ok"], true, "{verdict}");
}
