//! The waiting room, with the built binary: a crowd before a small sale, a leader killed in the middle, and the
//! order checked by the command and by the script of the documents.

use std::process::Command;

use serde_json::Value;

use crate::support::{Grid, sample};

/// The script that checks an order without any code of this project.
const SCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../docs/waiting-room/verify_order.py"
);

/// Sells a small sale out to a crowd; returns the report.
fn rush(grid: &Grid, arguments: &[&str]) -> Value {
    grid.run(&["import", "venue", &sample("arena.json")]).done();
    let mut all = vec![
        "load",
        "rush",
        "--arrivals=400",
        "--over=4s",
        "--rate=60000",
    ];
    all.extend(arguments);
    // It waits, and the grid's supervisor needs the thread.
    let report = tokio::task::block_in_place(|| grid.run(&all)).done();
    for wrong in report["check"].as_object().expect("counts") {
        assert_eq!(wrong.1, 0, "{report:#}");
    }
    assert_eq!(report["joined"], 400, "{report:#}");
    assert_eq!(report["order"]["ok"], true, "{report:#}");
    report
}

fn proves(grid: &Grid, event: &str) {
    let proof = grid.run(&["waitingroom", "proof", event]).done();
    assert_eq!(proof["ok"], true, "{proof}");
    let commitment = proof["commitment"].as_str().expect("a commitment");
    let script = |commitment: &str| {
        Command::new("python3")
            .args([SCRIPT, grid.gateway(0), event, commitment])
            .output()
    };
    // Where there is no Python, the command alone has to do.
    let Ok(checked) = script(commitment) else {
        return;
    };
    assert!(checked.status.success(), "{checked:?}");
    let other = script(&"0".repeat(64)).expect("as before");
    assert_eq!(
        other.status.code(),
        Some(1),
        "another commitment: {other:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_takes_nobodys_place_in_the_waiting_room() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let grid = Grid::up_with(folder.path(), &["--no-database"]);
    let report = rush(&grid, &["--kill-node-after=2s"]);
    assert!(report["killed"]["pid"].is_i64(), "{report:#}");
    assert!(report["early"].as_u64() > Some(0), "{report:#}");
    let event = report["event_id"].as_str().expect("an event");
    proves(&grid, event);
    let shown = grid.run(&["waitingroom", "show", event]).done();
    assert_eq!(shown["entries"], 400, "{shown}");
    grid.stop().await;
}
