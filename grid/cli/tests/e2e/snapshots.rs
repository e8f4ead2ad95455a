//! Snapshots taken while buyers buy.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::nodes::NODES;
use crate::partitions::Scene;

/// How often every replica takes one.
const ROUNDS: usize = 5;
/// Holds between two of them, so that each has something new.
const HOLDS_BETWEEN: usize = 50;

/// The term of each partition on each node.
async fn terms(scene: &Scene) -> BTreeMap<(u64, u64), u64> {
    let mut terms = BTreeMap::new();
    for node in NODES {
        let status = scene.nodes.status(node).await.expect("it answers");
        let own = &status["nodes"][node as usize - 1]["status"];
        for replica in own["replicas"].as_array().expect("replicas") {
            let number = |name: &str| replica[name].as_u64().expect("a number");
            terms.insert((node, number("partition")), number("term"));
        }
    }
    terms
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_under_writes_cause_no_election_and_lose_nothing() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let scene = Scene::open(folder.path()).await;
    // Whoever leads one group more than its share gives it away soon after the start, once.
    scene.nodes.is("healthy").await;
    let before = terms(&scene).await;
    assert_eq!(
        before.len(),
        12,
        "three replicas of four partitions: {before:?}"
    );
    let mut newest = BTreeMap::new();
    let mut longest = 0;
    for round in 0..ROUNDS {
        let began = Instant::now();
        let taken = tokio::task::block_in_place(|| {
            let taken = scene.nodes.run(&NODES, &["snapshot", "take"]);
            taken.done()
        });
        longest = longest.max(began.elapsed().as_millis());
        let taken = taken["snapshots"].as_array().expect("a list").clone();
        assert_eq!(taken.len(), 12, "{taken:?}");
        for snapshot in &taken {
            if snapshot["partition"] != scene.partition {
                continue;
            }
            let (node, index) = (snapshot["node_id"].as_u64(), snapshot["index"].as_u64());
            let earlier = newest.insert(node, index);
            assert!(
                earlier.is_none_or(|earlier| earlier < index),
                "round {round}: {taken:?}"
            );
        }
        scene.crowd.holds(&NODES, HOLDS_BETWEEN).await;
    }
    assert_eq!(terms(&scene).await, before, "somebody stood for election");
    let history = scene.close().await;
    println!(
        "MEASURED snapshots of twelve replicas at a time: {longest} ms at most; longest time without a hold \
         {:.2} s",
        history.longest_gap().as_secs_f64()
    );
}
