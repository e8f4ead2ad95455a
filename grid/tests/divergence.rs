//! Replicas that differ: noticed, stopped, remembered, rebuilt.
//!
//! One test, since the space's impurity is one flag of the process.

#[expect(dead_code, reason = "what it shares with the cluster's tests")]
mod support;

use std::time::Duration;

use grid::{Divergence, OperationError, Read};
use grid_config::NodeSettings;
use support::{Cluster, Command, P0, request, soon};

/// How every node's replica of the partition differs, if it does.
fn divergences(cluster: &Cluster) -> Vec<(u64, Option<Divergence>)> {
    cluster
        .nodes
        .keys()
        .map(|node| {
            let status = cluster.client(*node).status();
            (*node, status.replicas[0].divergence.clone())
        })
        .collect()
}

async fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = soon();
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_differs_stops_serving_and_is_rebuilt() {
    let mut cluster = Cluster::start(3, 1, NodeSettings::default()).await;
    cluster.founded().await;
    let writer = cluster.client(1);
    for key in 0..20 {
        let command = match key {
            10 => Command::AddImpurely(1),
            _ => Command::Add(1),
        };
        let done = writer.execute(P0, request(key, command), soon()).await;
        done.expect("carried out");
    }
    // A handle would keep the log of a stopped node open.
    drop(writer);
    let deadline = soon();
    let wrong = loop {
        assert!(std::time::Instant::now() < deadline, "nothing was noticed");
        let found = divergences(&cluster);
        let decided = |(_, divergence): &&(u64, Option<Divergence>)| {
            divergence.as_ref().is_some_and(|found| found.decided)
        };
        if let Some((node, Some(divergence))) = found.iter().find(decided) {
            assert_ne!(divergence.own_hash, divergence.other_hash);
            assert_eq!(found.iter().filter(decided).count(), 1, "only one is wrong");
            break *node;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    // The others go on, under a leader that is not the wrong one, and a client there is served.
    let survivor = (1..=3).find(|node| *node != wrong).expect("two more");
    let client = cluster.client(survivor);
    let done = client
        .execute(P0, request(100, Command::Add(1)), soon())
        .await;
    let right = done.expect("carried out").reply;
    let lead = client.leadership(P0).expect("a replica").borrow().leader;
    assert_ne!(lead, Some(wrong));
    let through = cluster.client(wrong);
    for read in [Read::Linearizable, Read::Stale] {
        let answer = through.query(P0, (), read, soon()).await;
        assert!(answer.is_ok(), "another replica answers: {answer:?}");
    }
    assert!(through.newest_snapshot(P0).is_none());
    let refused = client.take_snapshot(wrong, P0, soon()).await;
    assert_eq!(refused, Err(OperationError::Diverged));
    let refused = client.rebuild(lead.expect("known"), P0, soon()).await;
    assert_eq!(refused, Err(OperationError::Leads));

    // A restart does not forget it.
    drop(through);
    cluster.stop(wrong).await;
    cluster.restart(wrong).await;
    let remembered = cluster.client(wrong).status().replicas[0]
        .divergence
        .clone();
    assert!(remembered.is_some_and(|found| found.decided));

    let client = cluster.client(survivor);
    let rebuilt = loop {
        match client.rebuild(wrong, P0, soon()).await {
            Ok(rebuilt) => break rebuilt,
            // Until the restarted node knows its leader.
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(rebuilt.node_id, wrong);
    assert_eq!(cluster.client(wrong).status().replicas[0].divergence, None);
    let again = client
        .execute(P0, request(101, Command::Add(1)), soon())
        .await;
    let position = again.expect("carried out").position;
    let answer = cluster
        .client(wrong)
        .query(P0, (), Read::AtLeast(position), soon())
        .await;
    assert_eq!(answer.expect("it serves again").answer, right + 1);
    wait_until("the rebuilt replica is compared and equal", || {
        divergences(&cluster)
            .iter()
            .all(|(_, found)| found.is_none())
            && (1..=3).any(|node| {
                let status = cluster.client(node).status();
                let compared = status.replicas[0].compared_index;
                compared.is_some_and(|index| index >= position.index)
            })
    })
    .await;
    let digests = client.digests(P0, soon()).await.expect("known");
    let digests: Vec<_> = digests.into_iter().filter_map(|(_, found)| found).collect();
    assert_eq!(digests.len(), 3);
    assert!(
        digests
            .iter()
            .all(|found| found.digest == digests[0].digest)
    );

    // What was rebuilt is what it starts from.
    cluster.stop(wrong).await;
    cluster.restart(wrong).await;
    let answer = cluster
        .client(wrong)
        .query(P0, (), Read::AtLeast(position), soon())
        .await;
    assert_eq!(answer.expect("still serves").answer, right + 1);
}
