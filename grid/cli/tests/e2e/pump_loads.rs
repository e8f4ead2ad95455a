//! The measurements of `grid load` about the way to the database, with small numbers: that they work, and
//! that nothing fails, is lost or is repeated under them.

use serde_json::Value;

use crate::loads::measure_small;
use crate::support::Grid;

/// Runs one against a new grid of three with a database; `None`, loudly, where there is none.
async fn measure(arguments: &[&str]) -> Option<(tempfile::TempDir, Grid, Value)> {
    let folder = tempfile::tempdir().expect("temporary directory");
    let grid = Grid::up(folder.path());
    if !grid.has_database() {
        return None;
    }
    let report = measure_small(&grid, arguments);
    Some((folder, grid, report))
}

fn assert_checked(report: &Value) {
    let check = &report["check"];
    assert!(check["acknowledged"].as_u64() > Some(0), "{check}");
    assert_eq!(check["sql"], "checked", "{check}");
    assert_eq!(check["differences"], serde_json::json!([]), "{check}");
    assert_eq!(report["figures"]["failed"], 0, "{report:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pumps_and_their_database_killed_again_and_again_lose_and_repeat_no_fact() {
    let Some((_folder, grid, report)) = measure(&["pump-faults", "--kills=4", "--seed=7"]).await
    else {
        return;
    };
    assert_checked(&report);
    let story = &report["story"];
    assert_eq!(
        story["kills"].as_array().map(Vec::len),
        Some(4),
        "{story:#}"
    );
    assert!(story["database_kills"].as_u64() > Some(0), "{story:#}");
    let verdict = grid.run(&["verify"]).done();
    assert_eq!(verdict["ok"], true, "{verdict}");
    grid.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_refuses_nothing_and_is_caught_up_with() {
    let away = [
        "database-away",
        "--warm-up=1s",
        "--away=4s",
        "--rounds=1",
        "--bare=1s",
    ];
    let Some((_folder, grid, report)) = measure(&away).await else {
        return;
    };
    let round = &report["rounds"][0];
    assert_checked(round);
    let story = &round["story"];
    assert_eq!(story["refused"], 0, "{story:#}");
    assert!(story["changes"].as_u64() > Some(100), "{story:#}");
    assert_eq!(story["bare"].as_array().map(Vec::len), Some(2), "{story:#}");
    println!(
        "MEASURED caught up at {} changes/s, bare {}",
        story["changes_per_s"], story["bare"]
    );
    grid.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_far_the_database_is_behind_is_measured_with_the_pump_and_without() {
    let lag = ["pump-lag", "--duration=2s", "--rounds=2"];
    let Some((_folder, grid, report)) = measure(&lag).await else {
        return;
    };
    assert_checked(&report);
    let story = &report["story"];
    assert_eq!(story["rounds"].as_array().map(Vec::len), Some(2));
    assert!(story["lag"]["samples"].as_u64() > Some(10), "{story:#}");
    assert!(story["p99_without_ms"].as_f64() > Some(0.0), "{story:#}");
    // The pump runs again in the end.
    let status = grid.run(&["pump", "status"]).done();
    let pumps = status["partitions"].as_array().expect("a list");
    assert!(pumps.iter().all(|pump| pump["paused"] == false), "{status}");
    println!("MEASURED lag: {}", story["lag"]);
    grid.stop().await;
}
