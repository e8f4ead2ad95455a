//! Processes that are killed: nothing that was acknowledged is lost, and the grid comes back.

use std::io::Read;

use serde_json::{Value, json};

use crate::support::{
    Grid, grid as grid_alone, is_running, kill_at_once, person, sample, sold, text, wait_for,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_costs_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let grid = Grid::up(folder.path());
    let event = grid.run(&["import", "venue", &sample("arena.json")]).done();
    let event_id = text(&event["event_id"]).to_owned();
    let path = format!("/v1/events/{event_id}");

    let mut load = grid.spawn(&[
        "load",
        "onsale",
        "--connections",
        "20",
        "--rate",
        "100",
        "--duration",
        "10s",
    ]);
    wait_for("the sale is under way", async || {
        (sold(&grid.get(&path, person(1)).await) > 20).then_some(())
    })
    .await;
    let victim = leader_of_most(&grid);
    let before = grid.node_pid(victim);
    kill_at_once(before);
    let mut output = String::new();
    let read = load
        .stdout
        .take()
        .expect("piped")
        .read_to_string(&mut output);
    let status = load.wait().expect("our child");
    read.expect("readable");
    let report: Value = serde_json::from_str(&output).unwrap_or_else(|_| panic!("JSON: {output}"));
    assert!(status.success(), "{report:#}");
    let check = &report["runs"][0]["check"];
    assert_eq!(
        (&check["sold_twice"], &check["acknowledged_but_missing"]),
        (&json!(0), &json!(0)),
        "{check}"
    );
    wait_for("the node is started again", async || {
        (grid.node_pid(victim) != before).then_some(())
    })
    .await;
    let verdict = grid.run(&["verify"]).done();
    assert_eq!(verdict["ok"], true, "{verdict}");
    grid.stop().await;
}

/// The node that leads most partitions.
fn leader_of_most(grid: &Grid) -> u64 {
    let status = grid.run(&["status"]).done();
    let nodes = status["nodes"].as_array().expect("nodes");
    let leads = |node: &&Value| {
        let replicas = node["status"]["replicas"].as_array();
        replicas.map_or(0, |all| {
            all.iter()
                .filter(|replica| replica["role"] == "leader")
                .count()
        })
    };
    nodes
        .iter()
        .max_by_key(leads)
        .and_then(|node| node["node_id"].as_u64())
        .expect("a node")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_killed_comes_back() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let grid = Grid::up(folder.path());
    let event = grid.run(&["import", "venue", &sample("arena.json")]).done();
    let event_id = text(&event["event_id"]).to_owned();
    let holds = format!("/v1/events/{event_id}/holds");
    let mut tickets = Vec::new();
    for buyer in 0..10 {
        let hold = json!({"quantity": 2, "best_available": true});
        let hold = grid.post(&holds, person(buyer), hold).await;
        let confirm = format!("{holds}/{}/confirm", text(&hold["hold_id"]));
        let bought = grid
            .post(&confirm, person(buyer), json!({"payment_reference": "p"}))
            .await;
        tickets.push(bought["tickets"].clone());
    }
    let held = grid
        .post(&holds, person(99), json!({"seats": ["Floor A-T-1"]}))
        .await;
    let second = grid_alone(&["--data-dir", folder.path().to_str().expect("plain"), "up"]);
    assert_eq!(second.code, 6, "a second `grid up` is refused: {second:?}");

    let gateways = grid.ready["gateways"].clone();
    let nodes: Vec<i32> = (1..=3).map(|node| grid.node_pid(node)).collect();
    kill_at_once(grid.up_pid());
    nodes.iter().copied().for_each(kill_at_once);
    drop(grid);
    let grid = Grid::up(folder.path());
    assert_eq!(
        grid.ready["gateways"], gateways,
        "clients find it where it was"
    );
    for (buyer, bought) in (0..).zip(&tickets) {
        let mine = grid.get("/v1/me/tickets", person(buyer)).await;
        let ids = |list: &Value| -> Vec<String> {
            let list = list.as_array().expect("a list");
            let mut ids: Vec<String> = list
                .iter()
                .map(|ticket| text(&ticket["ticket_id"]).to_owned())
                .collect();
            ids.sort();
            ids
        };
        assert_eq!(ids(&mine["items"]), ids(bought), "{mine}");
    }
    let open = grid.get("/v1/me/holds", person(99)).await;
    assert_eq!(open["items"][0]["hold_id"], held["hold_id"], "{open}");
    let verdict = grid.run(&["verify"]).done();
    assert_eq!(verdict["ok"], true, "{verdict}");

    // Nodes and database do not outlive a `grid up` that is killed.
    let nodes: Vec<i32> = (1..=3).map(|node| grid.node_pid(node)).collect();
    kill_at_once(grid.up_pid());
    wait_for("the nodes end", async || {
        (!nodes.iter().copied().any(is_running)).then_some(())
    })
    .await;
    drop(grid);
    Grid::up(folder.path()).stop().await;
}
