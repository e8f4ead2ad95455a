//! `grid doctor` names the cause: a dead node, a full disk, a stopped database, a node that is cut off, a
//! replica that differs.

use std::path::Path;

use serde_json::{Value, json};

use crate::faulty_disk::SmallDisk;
use crate::nodes::Nodes;
use crate::support::{Grid, person, sample, text, wait_for};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_off_node_a_dead_one_and_a_stopped_database_are_told_apart() {
    let folder = tempfile::tempdir().expect("temporary directory");
    // Nothing listens there.
    let database = "--database-url=postgres://nobody@127.0.0.1:1/nothing";
    let mut nodes = Nodes::start(folder.path(), database).await;
    let all = [1, 2, 3];
    let others = [
        "partitioned_node",
        "dead_node",
        "disk_full",
        "diverged_replica",
    ];
    let stopped = nodes
        .finding(&all, "database_stopped", "the database", &others)
        .await;
    assert!(!stopped["evidence"].as_array().expect("a list").is_empty());

    nodes.set_reachable(3, false);
    let cut_off = nodes
        .finding(
            &all,
            "partitioned_node",
            "node 3",
            &["dead_node", "silent_node"],
        )
        .await;
    assert!(
        text(&cut_off["cause"]).contains("its process runs"),
        "{cut_off}"
    );
    nodes.is("degraded").await;
    nodes.set_reachable(3, true);
    nodes.passes("partitioned_node").await;

    nodes.kill(3);
    let dead = nodes
        .finding(&all, "dead_node", "node 3", &["partitioned_node"])
        .await;
    assert!(text(&dead["action"]).contains("--node-id 3"), "{dead}");
    // Also when only one gateway is named, and the dead node's is not known.
    nodes.finding(&[1], "dead_node", "node 3", &[]).await;

    nodes.kill(2);
    nodes
        .finding(
            &all,
            "no_quorum",
            "4 of the partitions",
            &["partitioned_node"],
        )
        .await;
    nodes.is("read-only").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_named() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let directory = folder.path().join("node-2");
    // One segment of the log fits, the next one does not.
    let Some(_disk) = SmallDisk::mount(&directory, "90m") else {
        println!("NOT TESTED: a full disk, for nothing can be mounted here");
        return;
    };
    let nodes = Nodes::start(folder.path(), "--no-database").await;
    let full = nodes
        .finding(
            &[1, 2, 3],
            "disk_full",
            "node 2",
            &["dead_node", "log_failed"],
        )
        .await;
    assert_eq!(full["severity"], "critical", "{full}");
    drop(nodes);
}

/// Changes the running hash in a snapshot, checksum and all, as a wrong state would have it.
fn falsify(path: &Path) {
    const MAGIC_BYTES: usize = 8;
    const FRAME_PREFIX_BYTES: usize = 8;
    let mut bytes = std::fs::read(path).expect("a snapshot");
    let length = |bytes: &[u8], at: usize| {
        let length: [u8; 4] = bytes[at..at + 4].try_into().expect("four bytes");
        u32::from_le_bytes(length) as usize
    };
    // The first frame is the file's header, the second the state's head, which ends with the hash of
    // 32 bytes and a number of one to nine.
    let head = MAGIC_BYTES + FRAME_PREFIX_BYTES + length(&bytes, MAGIC_BYTES);
    let start = head + FRAME_PREFIX_BYTES;
    let end = start + length(&bytes, head);
    bytes[end - 20] ^= 1;
    let checksum = crc32c::crc32c(&bytes[start..end]).to_le_bytes();
    bytes[head + 4..start].copy_from_slice(&checksum);
    std::fs::write(path, bytes).expect("written");
}

/// The newest snapshot of a node's replica.
fn newest_snapshot(data_dir: &Path, node: u64, partition: u64) -> std::path::PathBuf {
    let directory = data_dir.join(format!("node-{node}/snapshots/p{partition}"));
    let files = std::fs::read_dir(directory).expect("a directory");
    files
        .map(|file| file.expect("an entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "snap")
        })
        .max()
        .expect("a snapshot")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_diverged_replica_is_named_and_rebuilt() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let grid = Grid::up(folder.path());
    let event = grid.run(&["import", "venue", &sample("arena.json")]).done();
    let event_id = text(&event["event_id"]).to_owned();
    let hold = json!({"quantity": 2, "best_available": true});
    let held = grid
        .post(&format!("/v1/events/{event_id}/holds"), person(1), hold)
        .await;
    let status = grid.run(&["status"]).done();
    let busiest = status["nodes"][0]["status"]["replicas"]
        .as_array()
        .expect("replicas");
    let busiest = busiest
        .iter()
        .max_by_key(|replica| replica["applied_index"].as_u64());
    let partition = busiest.expect("one")["partition"]
        .as_u64()
        .expect("a number");
    grid.run(&["snapshot", "take"]).done();
    grid.stop().await;
    falsify(&newest_snapshot(folder.path(), 3, partition));

    let grid = Grid::up(folder.path());
    let subject = format!("partition {partition} on node 3");
    let finding: Value = wait_for("the doctor finds the replica", async || {
        let outcome = grid.run(&["doctor"]);
        let findings = outcome.json["findings"].as_array()?.clone();
        findings.into_iter().find(|finding| {
            finding["code"] == "diverged_replica" && finding["subject"] == subject.as_str()
        })
    })
    .await;
    let command = format!("grid partition rebuild --partition {partition} --node 3");
    assert!(text(&finding["action"]).contains(&command), "{finding}");
    let shown = grid
        .run(&["partition", "show", &partition.to_string()])
        .done();
    assert_eq!(shown["state"], "degraded", "{shown}");
    assert_ne!(shown["leader"], 3, "{shown}");

    let number = partition.to_string();
    let rebuild = [
        "partition",
        "rebuild",
        "--partition",
        &number,
        "--node",
        "3",
    ];
    let rebuilt = grid.run(&rebuild).done();
    assert_eq!(rebuilt["node_id"], 3, "{rebuilt}");
    wait_for("the doctor is content", async || {
        let outcome = grid.run(&["doctor"]);
        (outcome.code == 0).then_some(())
    })
    .await;
    let open = grid.get("/v1/me/holds", person(1)).await;
    assert_eq!(open["items"][0]["hold_id"], held["hold_id"], "{open}");
    assert_eq!(grid.run(&["verify", "--no-database"]).done()["ok"], true);
    grid.stop().await;
}
