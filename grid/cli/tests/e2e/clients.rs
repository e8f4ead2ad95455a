//! Clients in other languages, written from the documents alone.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Grid, person, sample, sold, text};

/// The interpreter, which must have the package `websockets`.
const PYTHON_VARIABLE: &str = "TEST_PYTHON";

/// A Python that can run the client, or a loud word that it is left out.
fn python() -> Option<String> {
    let program = std::env::var(PYTHON_VARIABLE).unwrap_or("python3".to_owned());
    let output = Command::new(&program)
        .args(["-c", "import websockets.sync.client"])
        .output();
    let why = match output {
        Ok(output) if output.status.success() => return Some(program),
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    let why = why.trim().lines().last().unwrap_or_default().to_owned();
    println!(
        "NOT TESTED: the Python client, for {program} cannot run it: {why}. `pip install websockets`, or name \
         another interpreter by {PYTHON_VARIABLE}."
    );
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_buys_and_bids() {
    let Some(program) = python() else {
        return;
    };
    let folder = tempfile::tempdir().expect("temporary directory");
    let grid = Grid::up_with(&folder.path().join("data"), &["--no-database", "--demo"]);
    let event = text(&grid.ready["demo"]["event_id"]).to_owned();
    let auction = text(&grid.ready["demo"]["auctions"][0]).to_owned();
    let mut command = Command::new(program);
    command
        .arg(sample("clients/buy_and_bid.py"))
        .args([grid.gateway(0), &event, &auction])
        .env("NO_PROXY", "127.0.0.1");
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .expect("it ends")
        .expect("it starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let done: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(done["refused"], "bid_too_low", "{done}");
    assert_eq!(done["rank"], 1, "{done}");
    assert_eq!(done["told"], json!(["bid_placed"]), "{done}");
    assert_eq!(done["tickets"].as_array().map(Vec::len), Some(2), "{done}");
    let shown = grid.get(&format!("/v1/events/{event}"), person(1)).await;
    assert_eq!(sold(&shown), 2);
    let shown = grid
        .get(&format!("/v1/auctions/{auction}"), person(1))
        .await;
    assert_eq!(shown["current_price"], done["amount"]);
    grid.stop().await;
}
