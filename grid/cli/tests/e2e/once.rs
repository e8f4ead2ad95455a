//! Exactly once: leaders are killed while their commands are between commit and reply, and a retry under
//! the same key, whoever leads then, finds out what became of each.

use std::collections::BTreeSet;
use std::time::Instant;

use grid_core::SlotLayout;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Grid, PATIENCE, kill_at_once, person, sample, text, wait_for};

/// Leaders killed, one after another.
const KILLS: u128 = 5;
/// Buyers whose holds are under way at each kill.
const BUYERS: u128 = 24;

/// The node that leads a partition.
fn leader_of(grid: &Grid, partition: u32) -> Option<u64> {
    let status = grid.run(&["status"]).done();
    let nodes = status["nodes"].as_array().expect("nodes").iter();
    let leads = |node: &&Value| {
        let replicas = node["status"]["replicas"].as_array();
        replicas.is_some_and(|all| {
            all.iter()
                .any(|replica| replica["partition"] == partition && replica["role"] == "leader")
        })
    };
    nodes
        .filter(leads)
        .find_map(|node| node["node_id"].as_u64())
}

/// One hold under a key, asked for until it is known to have been made; its id.
async fn hold(http: &reqwest::Client, url: &str, buyer: Uuid, key: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let sent = http
            .post(url)
            .header("x-user-id", buyer.to_string())
            .header("idempotency-key", key)
            .header("content-type", "application/json")
            .body(json!({"quantity": 1, "best_available": true}).to_string())
            .send()
            .await;
        let response = sent.expect("the gateway's node is not killed");
        let status = response.status();
        let body = response.text().await.expect("a body");
        let body: Value = serde_json::from_str(&body).expect("JSON");
        if status == StatusCode::CREATED {
            return text(&body["hold_id"]).to_owned();
        }
        // No leader just now, or nobody knows whether it was made; asking again finds out.
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    }
    panic!("the hold was never made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_after_a_killed_leader_has_one_effect() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let grid = Grid::up(folder.path());
    let event = grid.run(&["import", "venue", &sample("arena.json")]).done();
    let event_id = text(&event["event_id"]).to_owned();
    let id: Uuid = event_id.parse().expect("an id");
    let partition = SlotLayout::new(4).expect("in range").partition_of(id);
    let http = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client");
    let mut holds = BTreeSet::new();
    for kill in 0..KILLS {
        let victim = wait_for("the partition is led", async || {
            leader_of(&grid, partition.0)
        })
        .await;
        let process = grid.node_pid(victim);
        // The gateway of a node that lives on; nodes are numbered from 1.
        let gateway = usize::try_from(victim % 3).expect("small");
        let url = format!("{}/v1/events/{event_id}/holds", grid.gateway(gateway));
        let asking: Vec<_> = (0..BUYERS)
            .map(|buyer| {
                let (http, url) = (http.clone(), url.clone());
                let buyer = person(1_000 + kill * BUYERS + buyer);
                tokio::spawn(async move {
                    let key = format!("hold-{kill}");
                    let first = hold(&http, &url, buyer, &key).await;
                    // Once more: a lost reply is no different from one that was not read.
                    let again = hold(&http, &url, buyer, &key).await;
                    (first, again)
                })
            })
            .collect();
        // Some are done by now, some are not; with every kill it is a different moment.
        let done = usize::try_from(kill).expect("small") * 4;
        wait_for("holds are under way", async || {
            let finished = asking.iter().filter(|asking| asking.is_finished()).count();
            (finished >= done).then_some(())
        })
        .await;
        kill_at_once(process);
        for asking in asking {
            let (first, again) = asking.await.expect("it ends");
            assert_eq!(first, again, "the remembered reply");
            assert!(holds.insert(first), "every buyer has a hold of their own");
        }
        wait_for("the node is started again", async || {
            (grid.node_pid(victim) != process).then_some(())
        })
        .await;
        wait_for("every node answers", async || {
            let status = grid.run(&["status"]).json;
            let nodes = status["nodes"].as_array()?.iter();
            let answers = nodes.filter(|node| !node["status"].is_null()).count();
            (answers == 3).then_some(())
        })
        .await;
    }
    // A node answers other nodes before its gateway listens.
    wait_for("the gateway listens", async || {
        let answer = reqwest::get(format!("{}/ready", grid.gateway(0))).await;
        answer
            .is_ok_and(|answer| answer.status() == 200)
            .then_some(())
    })
    .await;
    // A command carried out twice would have taken a second seat.
    let (status, event) = grid
        .call(
            0,
            Method::GET,
            &format!("/v1/events/{event_id}/seats"),
            person(1),
            json!({}),
        )
        .await;
    assert_eq!(status, 200, "{event}");
    let sections = event["sections"].as_array().expect("sections").iter();
    let held: u64 = sections
        .filter_map(|section| section["held"].as_u64())
        .sum();
    assert_eq!(u128::from(held), KILLS * BUYERS);
    let verdict = grid.run(&["verify"]).done();
    assert_eq!(verdict["ok"], true, "{verdict}");
    grid.stop().await;
}
