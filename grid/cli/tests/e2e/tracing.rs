//! A request is found in the logs by its id, from the gateway to every replica that applied it.

use serde_json::json;

use crate::nodes::Nodes;
use crate::support::{person, wait_for};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_followed_to_where_it_was_applied() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let nodes = Nodes::start(folder.path(), "--no-database").await;
    let response = reqwest::Client::new()
        .post(format!("{}/v1/items", nodes.url(2)))
        .header("x-user-id", person(1).to_string())
        .header("x-request-id", "order-4711")
        .header("content-type", "application/json")
        .body(json!({"name": "Vase"}).to_string())
        .send()
        .await
        .expect("a response");
    assert_eq!(response.headers()["x-request-id"], "order-4711");
    assert!(response.status().is_success());

    let log = nodes.log(2);
    let line = log.lines().find(|line| line.contains("order-4711"));
    let line = line.expect("the gateway names the request");
    let command = line
        .split_whitespace()
        .find(|word| word.starts_with("command="))
        .expect("and the command");
    let proposed = |node| {
        let log = nodes.log(node);
        log.lines()
            .any(|line| line.contains(command) && line.contains("proposed"))
    };
    assert!(
        (1..=3).any(proposed),
        "{command} was proposed by its leader"
    );
    for node in 1..=3 {
        wait_for("every replica has applied it", async || {
            let log = nodes.log(node);
            let applied = log
                .lines()
                .find(|line| line.contains(command) && line.contains("applied"))?;
            applied.contains("index=").then_some(())
        })
        .await;
    }
}
