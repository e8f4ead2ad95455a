//! Files that are not what was written.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{ALL, Buyer, import, is_whole, partition_of, status};
use crate::nodes::Nodes;
use crate::support::wait_for;

/// Flips a bit of a file.
fn flip(path: &Path, offset: u64) {
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("a file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("long enough");
    byte[0] ^= 1;
    file.write_all_at(&byte, offset).expect("written");
}

/// The first file with an ending in a directory.
fn oldest(directory: &Path, ending: &str) -> Option<PathBuf> {
    let files = std::fs::read_dir(directory).ok()?.flatten();
    let paths = files.map(|file| file.path());
    paths
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .min()
}

fn segment(nodes: &Nodes, node: u64) -> PathBuf {
    oldest(&nodes.node_directory(node).join("wal"), "seg").expect("a segment")
}

/// In the second record of a log's first segment: after the header of 64 bytes and an empty checkpoint.
const IN_A_RECORD: u64 = 64 + 32 + 8;

/// Waits until a node has found a file damaged, and until it needs it no more.
async fn is_found_and_repaired(nodes: &Nodes, node: u64, path: &Path) {
    let file = path.display().to_string();
    let found = async || {
        let status = status(nodes, node)?;
        let all = status["wal"]["scrub"]["damaged"].as_array()?.clone();
        all.into_iter().find(|found| found["file"] == file.as_str())
    };
    wait_for("the damage is found", found).await;
    let finding = nodes
        .finding(&ALL, "damaged_files", &format!("node {node}"), &[])
        .await;
    assert!(finding["evidence"].to_string().contains(&file), "{finding}");
    wait_for("the damage is repaired", async || {
        found()
            .await
            .filter(|found| !found["repaired_at_ms"].is_null())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_on_a_running_node_is_found_and_repaired() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let often = [
        ("SPACEGRID_NODE__SCRUB_INTERVAL_S", "1"),
        ("SPACEGRID_NODE__SCRUB_BYTES_PER_S", "1000000000"),
    ];
    let mut nodes = Nodes::start_with(folder.path(), "--no-database", &often).await;
    let event_id = import(&nodes);
    let buyer = Buyer::start(&nodes, 1, &event_id, 1);
    buyer.holds(10).await;
    nodes.run(&ALL, &["snapshot", "take"]).done();

    let partition = partition_of(&event_id);
    let store = nodes
        .node_directory(3)
        .join(format!("snapshots/p{partition}"));
    let flipped = oldest(&store, "snap").expect("a snapshot");
    let middle = std::fs::metadata(&flipped).expect("a snapshot").len() / 2;
    flip(&flipped, middle);
    is_found_and_repaired(&nodes, 3, &flipped).await;
    assert!(oldest(&store, "snap").is_some(), "another one was taken");
    assert!(oldest(&store, "damaged").is_some(), "it was set aside");

    let cut = oldest(
        &nodes
            .node_directory(2)
            .join(format!("snapshots/p{partition}")),
        "snap",
    );
    let cut = cut.expect("a snapshot");
    let file = std::fs::File::options()
        .write(true)
        .open(&cut)
        .expect("ours");
    file.set_len(middle).expect("cut");
    is_found_and_repaired(&nodes, 2, &cut).await;

    let flipped = segment(&nodes, 3);
    flip(&flipped, IN_A_RECORD);
    is_found_and_repaired(&nodes, 3, &flipped).await;
    let lost = segment(&nodes, 2);
    std::fs::remove_file(&lost).expect("ours");
    is_found_and_repaired(&nodes, 2, &lost).await;

    // What is there now is sound: they start with it.
    for node in [2, 3] {
        nodes.kill(node);
        nodes.run_node(node);
        nodes.becomes_ready(node).await;
    }
    buyer.holds(10).await;
    drop(buyer);
    is_whole(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_found_at_the_start_and_the_node_does_not_vote_with_it() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let mut nodes = Nodes::start(folder.path(), "--no-database").await;
    let event_id = import(&nodes);
    let buyer = Buyer::start(&nodes, 1, &event_id, 1);
    buyer.holds(10).await;
    nodes.kill(3);
    let path = segment(&nodes, 3);
    let sound = std::fs::read(&path).expect("a segment");

    flip(&path, IN_A_RECORD);
    nodes.run_node(3);
    assert_eq!(nodes.ends(3).await, Some(7));
    let log = nodes.log(3);
    assert!(log.contains("is damaged at offset 96"), "{log}");
    assert!(log.contains(&path.display().to_string()), "{log}");

    std::fs::write(&path, &sound[..10]).expect("written");
    nodes.run_node(3);
    assert_eq!(nodes.ends(3).await, Some(7));
    assert!(nodes.log(3).contains("the end of the file is missing"));

    // Another one in its place does not hide that it is lost.
    std::fs::rename(&path, path.with_file_name("wal-0000000000000002.seg")).expect("renamed");
    nodes.run_node(3);
    assert_eq!(nodes.ends(3).await, Some(7));
    assert!(nodes.log(3).contains("the segment is missing"));

    buyer.holds(10).await;
    std::fs::remove_file(path.with_file_name("wal-0000000000000002.seg")).expect("ours");
    std::fs::write(&path, &sound).expect("written");
    nodes.run_node(3);
    nodes.becomes_ready(3).await;
    drop(buyer);
    is_whole(&nodes).await;
}
