//! Nodes that join a running grid, leave it and come back empty, as processes of their own.

use std::path::Path;
use std::process::Child;

use serde_json::{Value, json};

use crate::support::{Grid, is_running, kill_at_once, person, ready_line, sample, text, wait_for};

/// A `grid node join`. Dropping it kills it.
struct Joined {
    process: Child,
    ready: Value,
}

impl Joined {
    fn start(grid: &Grid, arguments: &[&str]) -> Self {
        let mut all = vec!["node", "join"];
        all.extend(arguments);
        let mut process = grid.spawn(&all);
        let ready = ready_line(&mut process);
        Self { process, ready }
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn node(list: &Value, id: u64) -> &Value {
    let nodes = list["nodes"].as_array().expect("nodes");
    let found = nodes.iter().find(|node| node["node_id"] == id);
    found.unwrap_or_else(|| panic!("node {id}: {list}"))
}

/// Waits until nothing moves and `wanted` holds of the members.
async fn at_rest(grid: &Grid, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    wait_for(what, async || {
        let list = grid.run(&["node", "list"]).done();
        let rests = list["moving"].is_null() && list["moves"] == json!([]);
        (rests && wanted(&list)).then_some(list)
    })
    .await
}

async fn buy(grid: &Grid, event_id: &str, buyer: u128) {
    let holds = format!("/v1/events/{event_id}/holds");
    let hold = json!({"quantity": 1, "best_available": true});
    let hold = grid.post(&holds, person(buyer), hold).await;
    let confirm = format!("{holds}/{}/confirm", text(&hold["hold_id"]));
    grid.post(&confirm, person(buyer), json!({"payment_reference": "p"}))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fourth_node_joins_and_another_is_drained_and_removed_while_selling() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let grid = Grid::up(folder.path());
    let event = grid.run(&["import", "venue", &sample("arena.json")]).done();
    let event_id = text(&event["event_id"]).to_owned();

    let joined = Joined::start(&grid, &["--zone", "b"]);
    assert_eq!(joined.ready["node_id"], 4, "{}", joined.ready);
    let mut buyers = 0_u128;
    let mut sell = async || {
        buy(&grid, &event_id, buyers).await;
        buyers += 1;
    };
    sell().await;
    let list = at_rest(&grid, "the fourth node holds its share", |list| {
        node(list, 4)["replicas"].as_u64() > Some(2)
    })
    .await;
    assert_eq!(node(&list, 4)["zone"], "b");
    sell().await;

    let early = grid.run(&["node", "remove", "2"]);
    assert_eq!(early.code, 1, "{early:?}");
    assert_eq!(early.json["error"]["code"], "membership_refused");
    let unknown = grid.run(&["node", "drain", "9"]);
    assert_eq!(unknown.code, 1, "{unknown:?}");
    let plan = grid.run(&["node", "drain", "2", "--dry-run"]).done();
    let planned = plan["moves"].as_array().expect("moves").len() as u64;
    assert_eq!(Some(planned), node(&list, 2)["replicas"].as_u64());
    let unchanged = grid.run(&["node", "list"]).done();
    assert_eq!(unchanged["epoch"], list["epoch"]);

    grid.run(&["node", "drain", "2"]).done();
    sell().await;
    let pid = grid.node_pid(2);
    grid.run(&["node", "remove", "2"]).done();
    wait_for("the removed node ends", async || {
        (!is_running(pid)).then_some(())
    })
    .await;
    // Three nodes are left: one less would be too few for three copies.
    let refused = grid.run(&["node", "drain", "3"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    let message = text(&refused.json["error"]["message"]);
    assert!(message.contains("--fewer-copies"), "{message}");
    sell().await;

    let overview = grid.get(&format!("/v1/events/{event_id}"), person(0)).await;
    let sold: u128 = overview["sections"]
        .as_array()
        .expect("sections")
        .iter()
        .filter_map(|section| section["sold"].as_u64().map(u128::from))
        .sum();
    assert_eq!(sold, buyers);
    let verdict = grid.run(&["verify"]).done();
    assert_eq!(verdict["ok"], true, "{verdict}");
    grid.stop().await;
    drop(joined);

    // The grid starts again without the removed node, and the joined one under its number.
    let grid = Grid::up(folder.path());
    let joined = Joined::start(&grid, &["--node-id", "4"]);
    assert_eq!(joined.ready["node_id"], 4);
    let list = at_rest(&grid, "all is as before", |list| {
        node(list, 4)["reachable"] == true
    })
    .await;
    assert_eq!(node(&list, 2)["state"], "removed");
    buy(&grid, &event_id, buyers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_with_an_emptied_directory_is_rebuilt() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let grid = Grid::up(folder.path());
    let event = grid.run(&["import", "venue", &sample("arena.json")]).done();
    let event_id = text(&event["event_id"]).to_owned();
    buy(&grid, &event_id, 1).await;
    let before = grid.run(&["node", "list"]).done();
    // Node 1 founded the grid, and is started again at once after it is killed.
    empty(&folder.path().join("node-1"));
    kill_at_once(grid.node_pid(1));
    let after = at_rest(&grid, "node 1 is rebuilt", |list| {
        let (now, then) = (node(list, 1), node(&before, 1));
        now["incarnation"] != then["incarnation"] && now["replicas"] == then["replicas"]
    })
    .await;
    assert_eq!(after["grid_id"], before["grid_id"]);
    buy(&grid, &event_id, 2).await;
    wait_for("the replicas agree", async || {
        (grid.run(&["verify"]).json["ok"] == true).then_some(())
    })
    .await;
}

fn empty(directory: &Path) {
    std::fs::remove_dir_all(directory.join("wal")).expect("removed");
    std::fs::remove_dir_all(directory.join("snapshots")).expect("removed");
    std::fs::remove_file(directory.join("node.json")).expect("removed");
    std::fs::remove_file(directory.join("cluster.map")).expect("removed");
}
