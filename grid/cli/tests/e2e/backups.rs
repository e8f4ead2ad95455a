//! A backup of a running grid, and another grid made from it; the metrics meanwhile.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Grid, grid as grid_alone, person, sample, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_becomes_a_grid_with_the_same_sales() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let place = |name: &str| folder.path().join(name).to_str().expect("plain").to_owned();
    let grid = Grid::up(&folder.path().join("first"));
    let event = grid.run(&["import", "venue", &sample("arena.json")]).done();
    let event_id = text(&event["event_id"]).to_owned();
    let holds = format!("/v1/events/{event_id}/holds");
    let hold = json!({"quantity": 4, "best_available": true});
    let hold = grid.post(&holds, person(1), hold).await;
    let confirm = format!("{holds}/{}/confirm", text(&hold["hold_id"]));
    let bought = grid
        .post(&confirm, person(1), json!({"payment_reference": "p"}))
        .await;
    let key = grid.get("/v1/ticket-key", person(1)).await;

    let metrics = reqwest::get(format!("{}/metrics", grid.gateway(0))).await;
    let metrics = metrics.expect("a response").text().await.expect("text");
    for name in [
        "grid_commit_seconds_bucket",
        "grid_queue_seconds_count",
        "grid_apply_seconds_sum",
        "grid_wal_fsync_seconds_bucket",
        "grid_replication_lag_entries{",
        "gateway_requests_total{",
        "grid_disk_free_bytes",
    ] {
        assert!(metrics.contains(name), "{name} is missing:\n{metrics}");
    }

    let made = grid.run(&["backup", "create", &place("backup")]).done();
    assert_eq!(made["files"].as_array().map(Vec::len), Some(4), "{made}");
    let again = grid.run(&["backup", "create", &place("backup")]);
    assert_eq!(again.code, 2, "nothing is overwritten: {again:?}");
    grid.stop().await;
    let verified = grid_alone(&["backup", "verify", &place("backup")]).done();
    assert_eq!(verified, made);

    let restore = |to: &str| {
        let (to, from) = (place(to), place("backup"));
        grid_alone(&[
            "--data-dir",
            &to,
            "backup",
            "restore",
            &from,
            "--nodes",
            "3",
        ])
    };
    let restored = restore("second").done();
    assert_ne!(restored["grid_id"], made["grid_id"], "it is another grid");
    assert_eq!(restore("second").code, 6, "a directory in use is refused");
    let grid = Grid::up(&folder.path().join("second"));
    let mine = grid.get("/v1/me/tickets", person(1)).await;
    let ids = |tickets: &Value| -> BTreeSet<String> {
        let tickets = tickets.as_array().expect("a list").iter();
        tickets
            .map(|ticket| text(&ticket["ticket_id"]).to_owned())
            .collect()
    };
    assert_eq!(ids(&mine["items"]), ids(&bought["tickets"]), "{mine}");
    // Sold tickets are still good at the doors, and the sale goes on.
    assert_eq!(grid.get("/v1/ticket-key", person(1)).await, key);
    let next = json!({"quantity": 1, "best_available": true});
    grid.post(&holds, person(2), next).await;
    grid.stop().await;

    let file = folder.path().join("backup/p1.snap");
    let mut bytes = std::fs::read(&file).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).expect("written");
    let damaged = grid_alone(&["backup", "verify", &place("backup")]);
    assert_eq!(damaged.code, 4, "{damaged:?}");
    assert_eq!(restore("third").code, 4);
}
