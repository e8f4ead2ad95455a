//! Planned stops: the grid goes on while its nodes are restarted one after another.

use std::io::Read;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::{Client, Grid, is_running, person, sample, sold, text, wait_for};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_load_fails_no_request() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let grid = Grid::up(folder.path());
    let event = grid.run(&["import", "venue", &sample("arena.json")]).done();
    let path = format!("/v1/events/{}", text(&event["event_id"]));
    let before: Vec<i32> = (1..=3).map(|node| grid.node_pid(node)).collect();
    let mut load = grid.spawn(&[
        "load",
        "onsale",
        "--connections",
        "40",
        "--rate",
        "150",
        "--duration",
        "20s",
    ]);
    wait_for("the sale is under way", async || {
        (sold(&grid.get(&path, person(1)).await) > 20).then_some(())
    })
    .await;
    let restarted = grid.run(&["restart", "--rolling"]).done();
    let nodes = restarted["restarted"].as_array().expect("a list");
    assert_eq!(nodes.len(), 3, "{restarted}");
    for (node, before) in (1..).zip(before) {
        assert_ne!(grid.node_pid(node), before, "{restarted}");
        assert!(!is_running(before));
    }
    let mut output = String::new();
    let pipe = load.stdout.as_mut().expect("piped");
    pipe.read_to_string(&mut output).expect("readable");
    let status = load.wait().expect("our child");
    let report: Value = serde_json::from_str(&output).unwrap_or_else(|_| panic!("JSON: {output}"));
    assert!(status.success(), "{report:#}");
    let figures = &report["runs"][0]["figures"];
    assert_eq!(figures["failed"], 0, "{figures:#}");
    assert!(
        figures["goodbyes"].as_u64() > Some(0),
        "clients were told: {figures:#}"
    );
    let verdict = grid.run(&["verify"]).done();
    assert_eq!(verdict["ok"], true, "{verdict}");
    grid.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_node_gives_its_leaders_away_and_says_goodbye() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let grid = Grid::up(folder.path());
    let event = grid.run(&["import", "venue", &sample("arena.json")]).done();
    let event_id = text(&event["event_id"]).to_owned();
    let mut client: Client = grid.connect(0, person(1)).await;
    wait_for("the node leads something", async || {
        let status = grid.run(&["status"]).json;
        let own = &status["nodes"][0]["status"]["replicas"];
        let mut replicas = own.as_array()?.iter();
        replicas
            .any(|replica| replica["role"] == "leader")
            .then_some(())
    })
    .await;
    let first = grid.node_pid(1);
    kill(Pid::from_raw(first), Signal::SIGTERM).expect("our grandchild");
    // Whatever is asked until the goodbye is answered.
    let mut asked = 0;
    let goodbye = loop {
        asked += 1;
        let hold = json!({
            "type": "hold_seats", "id": asked, "key": format!("k{asked}"), "event_id": event_id,
            "seats": [format!("Floor A-A-{}", 1 + asked % 20)],
        });
        client.send(&hold).await;
        let answer = client.next().await;
        if answer["type"] == "goodbye" {
            break answer;
        }
        assert_eq!(answer["id"], asked, "{answer}");
    };
    assert_eq!(goodbye["data"]["reason"], "draining", "{goodbye}");
    assert!(
        goodbye["data"]["retry_after_ms"].as_u64() > Some(0),
        "{goodbye}"
    );
    wait_for("the node is started again", async || {
        (grid.node_pid(1) != first && is_running(grid.node_pid(1))).then_some(())
    })
    .await;
    let log = std::fs::read_to_string(folder.path().join("node-1/node.log")).expect("a log");
    let ended = log
        .lines()
        .find(|line| line.contains("the handover has ended"));
    let ended = ended.expect("it was handed over");
    assert!(ended.contains("left=0"), "{ended}");
    assert!(
        !ended.contains("handed_over=0"),
        "it led something: {ended}"
    );

    let refused = grid.run(&["restart", "--node", "9"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    grid.stop().await;
}
