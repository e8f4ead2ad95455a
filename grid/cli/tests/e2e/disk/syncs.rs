//! Syncs that fail or take long.

use std::path::Path;
use std::time::Instant;

use super::{ALL, Buyer, import, is_whole, leader_of, leads_nothing, led_by, partition_of, terms};
use crate::faulty_disk::FaultySync;
use crate::nodes::Nodes;
use crate::support::{text, wait_for};

/// Input/output error.
const EIO: i32 = 5;

/// A directory whose syncs cost nothing, so that only what a test makes slow is slow.
fn quick_directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("temporary directory")
}

fn faulty_sync(folder: &Path) -> Option<FaultySync> {
    let built = FaultySync::build(folder);
    if built.is_none() {
        println!("NOT TESTED: slow and failing disks, for there is no C compiler here");
    }
    built
}

async fn start_under(folder: &Path, faulty: &FaultySync) -> Nodes {
    let environment = faulty.environment();
    let environment = environment
        .each_ref()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    Nodes::start_with(folder, "--no-database", &environment).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_stops_the_node_which_says_so_and_comes_back() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let Some(faulty) = faulty_sync(folder.path()) else {
        return;
    };
    let mut nodes = start_under(folder.path(), &faulty).await;
    let event_id = import(&nodes);
    let victim = leader_of(&nodes, partition_of(&event_id)).await;
    let other = victim % 3 + 1;
    let buyer = Buyer::start(&nodes, other, &event_id, 1);
    buyer.holds(3).await;
    faulty.set(victim, 0, EIO);
    assert_eq!(nodes.ends(victim).await, Some(7));
    let log = nodes.log(victim);
    assert!(log.contains("the log failed at"), "{log}");
    assert!(log.contains("Input/output error"), "{log}");
    buyer.holds(3).await;
    faulty.set(victim, 0, 0);
    nodes.run_node(victim);
    nodes.becomes_ready(victim).await;
    buyer.holds(3).await;
    drop(buyer);
    is_whole(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_leave_a_slow_disk_without_an_election_storm_and_may_come_back() {
    let folder = quick_directory();
    let Some(faulty) = faulty_sync(folder.path()) else {
        return;
    };
    let nodes = start_under(folder.path(), &faulty).await;
    let event_id = import(&nodes);
    let slow = leader_of(&nodes, partition_of(&event_id)).await;
    let other = slow % 3 + 1;
    let buyer = Buyer::start(&nodes, other, &event_id, 1);
    buyer.holds(3).await;
    let led = led_by(&nodes, slow).expect("it answers");
    let before = terms(&nodes, other).expect("it answers");

    faulty.set(slow, 500, 0);
    let began = Instant::now();
    leads_nothing(&nodes, slow).await;
    let took = began.elapsed().as_millis();
    println!(
        "{} leaderships left a disk with syncs of 500 ms in {took} ms",
        led.len()
    );
    let finding = nodes
        .finding(&ALL, "slow_disk", &format!("node {slow}"), &["dead_node"])
        .await;
    assert!(
        text(&finding["cause"]).contains("leads nothing"),
        "{finding}"
    );
    let after = terms(&nodes, other).expect("it answers");
    for (partition, term) in &after {
        // One handover each, and no election.
        let most = before[partition] + u64::from(led.contains(partition));
        assert!(
            *term <= most,
            "partition {partition}: {before:?}, {after:?}"
        );
    }

    // Now it is a slow follower.
    for _ in 0..5 {
        buyer.holds(20).await;
        assert_eq!(led_by(&nodes, slow), Some(Vec::new()));
    }
    assert_eq!(terms(&nodes, other), Some(after));

    faulty.set(slow, 0, 0);
    nodes.passes("slow_disk").await;
    wait_for("it leads again", async || {
        led_by(&nodes, slow).filter(|led| !led.is_empty())
    })
    .await;
    drop(buyer);
    is_whole(&nodes).await;
}
