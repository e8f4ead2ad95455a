//! Disks without room.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{
    ALL, Buyer, ask_hold, import, is_whole, leader_of, leads_nothing, partition_of, status,
};
use crate::faulty_disk::SmallDisk;
use crate::nodes::Nodes;
use crate::support::wait_for;

/// Three nodes on small disks of their own.
async fn on_small_disks(folder: &Path) -> Option<(Vec<SmallDisk>, Nodes)> {
    let directory = |node: u64| folder.join(format!("node-{node}"));
    let disks: Option<Vec<SmallDisk>> = ALL
        .into_iter()
        .map(|node| SmallDisk::mount(&directory(node), "300m"))
        .collect();
    let Some(disks) = disks else {
        println!("NOT TESTED: full disks, for nothing can be mounted here");
        return None;
    };
    // Two segments of the log, and a reserve of 64 MiB, of which a half is the last resort.
    let reserve = [("SPACEGRID_NODE__DISK_RESERVE_BYTES", "67108864")];
    let nodes = Nodes::start_with(folder, "--no-database", &reserve).await;
    Some((disks, nodes))
}

/// Takes all the room there is on a node's disk.
fn fill(nodes: &Nodes, node: u64) -> PathBuf {
    let path = nodes.node_directory(node).join("something-else");
    let file = std::fs::File::create(&path).expect("made");
    let block = vec![1; 1 << 16];
    let mut offset = 0;
    while file.write_all_at(&block, offset).is_ok() {
        offset += block.len() as u64;
    }
    path
}

fn is_writable(nodes: &Nodes, node: u64) -> Option<bool> {
    status(nodes, node)?["wal"]["writable"].as_bool()
}

async fn becomes_writable(nodes: &Nodes, node: u64, writable: bool) {
    wait_for(
        &format!("node {node} is writable: {writable}"),
        async || (is_writable(nodes, node) == Some(writable)).then_some(()),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disks_refuse_lose_nothing_and_recover_by_themselves() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let Some((_disks, mut nodes)) = on_small_disks(folder.path()).await else {
        return;
    };
    let event_id = import(&nodes);
    for node in ALL {
        becomes_writable(&nodes, node, true).await;
    }
    let full = leader_of(&nodes, partition_of(&event_id)).await;
    let other = full % 3 + 1;
    let buyer = Buyer::start(&nodes, other, &event_id, 1);
    buyer.holds(3).await;

    // One of three: others lead, and the sale goes on without it.
    let eaten = fill(&nodes, full);
    let began = Instant::now();
    becomes_writable(&nodes, full, false).await;
    leads_nothing(&nodes, full).await;
    println!(
        "leaderships left a full disk in {} ms",
        began.elapsed().as_millis()
    );
    let subject = format!("node {full}");
    let finding = nodes
        .finding(&ALL, "disk_full", &subject, &["dead_node", "log_failed"])
        .await;
    assert_eq!(finding["severity"], "critical", "{finding}");
    buyer.holds(50).await;
    assert!(nodes.runs(full), "{}", nodes.log(full));

    // All of them: new work is refused, with a time to come back.
    let rest: Vec<PathBuf> = ALL
        .into_iter()
        .filter(|node| *node != full)
        .map(|node| fill(&nodes, node))
        .collect();
    for node in ALL {
        becomes_writable(&nodes, node, false).await;
    }
    let url = format!("{}/v1/events/{event_id}/holds", nodes.url(other));
    let refused = wait_for("new work is refused", async || {
        let (_, answer) = ask_hold(&url, 1_000_000).await?;
        (answer["code"] == "overloaded" || answer["error"]["code"] == "overloaded")
            .then_some(answer)
    })
    .await;
    assert!(refused.to_string().contains("retry_after_ms"), "{refused}");
    for node in ALL {
        assert!(nodes.runs(node), "{}", nodes.log(node));
    }

    for path in rest.into_iter().chain([eaten]) {
        std::fs::remove_file(path).expect("ours");
    }
    let began = Instant::now();
    for node in ALL {
        becomes_writable(&nodes, node, true).await;
    }
    println!(
        "writes were taken again {} ms after there was room",
        began.elapsed().as_millis()
    );
    buyer.holds(20).await;
    drop(buyer);
    nodes.passes("disk_full").await;
    is_whole(&nodes).await;
    for node in ALL {
        assert!(nodes.runs(node), "{}", nodes.log(node));
    }
}
