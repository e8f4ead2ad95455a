//! Nodes of two builds in one grid, over real sockets and files in one process: the second build counts
//! every number double, from the rules on that it brings.

use grid::{GridClient, GridNode, Refusal, StartError};
use grid_config::NodeSettings;

use crate::support::{Cluster, Command, P0, Sum, request, soon, until};

/// Adds a number and returns the sum.
async fn add<const BUILD: u16>(client: &GridClient<Sum<BUILD>>, key: u128, number: u64) -> u64 {
    let added = client.execute(P0, request(key, Command::Add(number)), soon());
    added.await.expect("carried out").reply
}

/// Where a replica stands, with the hash of all that it has decided.
fn standing<const BUILD: u16>(client: &GridClient<Sum<BUILD>>) -> Option<(u64, String)> {
    let status = client.status();
    let replica = status.replicas.into_iter().next()?;
    Some((replica.applied_index, replica.state_hash))
}

async fn agree<const ONE: u16, const OTHER: u16>(
    one: &GridClient<Sum<ONE>>,
    other: &GridClient<Sum<OTHER>>,
) {
    until(
        "two replicas stand at the same place with the same hash",
        || {
            let standing = standing(one);
            standing.is_some() && standing == self::standing(other)
        },
    )
    .await;
}

/// Waits until a node sees all of these know the newer rules.
async fn all_know_newer<const BUILD: u16>(client: &GridClient<Sum<BUILD>>) {
    let mut map = client.cluster_map();
    let known = map.wait_for(|map| {
        map.as_ref()
            .is_some_and(|map| map.nodes.values().all(|node| node.rules == 2))
    });
    tokio::time::timeout_at(soon().into(), known)
        .await
        .expect("they say so")
        .expect("it runs");
}

async fn newer(cluster: &Cluster, node: u64) -> GridNode<Sum<2>> {
    cluster.try_restart::<2>(node).await.expect("it starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn builds_are_mixed_until_the_upgrade_is_finished_and_each_node_can_go_back() {
    let mut cluster = Cluster::start(3, 1, NodeSettings::default()).await;
    cluster.founded().await;
    assert_eq!(add(&cluster.client(1), 1, 1).await, 1);

    // Two of three run the newer build: they lead, by the rules that all know.
    cluster.stop(1).await;
    let first = newer(&cluster, 1).await;
    assert_eq!(add(&first.client(), 2, 1).await, 2);
    cluster.stop(2).await;
    let second = newer(&cluster, 2).await;
    cluster.stop(3).await;
    assert_eq!(add(&second.client(), 3, 5).await, 7);
    cluster.restart(3).await;
    agree(&cluster.client(3), &first.client()).await;
    let early = second.client().follow_newest_rules(soon()).await;
    let refusal = early.expect("answered").expect_err("node 3 is older");
    let older = Refusal::OlderNodes {
        rules: 2,
        nodes: vec![3],
    };
    assert_eq!(refusal, older);

    // One goes back and takes part, also as the leader of what the newer build has written.
    first.shutdown().await;
    cluster.restart(1).await;
    second.shutdown().await;
    assert_eq!(add(&cluster.client(1), 4, 1).await, 8);
    let second = newer(&cluster, 2).await;
    agree(&cluster.client(1), &second.client()).await;

    // All have the newer build, and the grid goes on by the old rules until it is told otherwise.
    cluster.stop(1).await;
    let first = newer(&cluster, 1).await;
    cluster.stop(3).await;
    let third = newer(&cluster, 3).await;
    all_know_newer(&first.client()).await;
    assert_eq!(add(&third.client(), 5, 1).await, 9);
    let followed = third.client().follow_newest_rules(soon()).await;
    assert_eq!(followed.expect("answered"), Ok(2));
    for node in [&first, &second, &third] {
        let client = node.client();
        until("the node has heard of it", || {
            client.status().rules_followed == 2
        })
        .await;
    }
    assert_eq!(add(&third.client(), 6, 5).await, 19);
    agree(&first.client(), &second.client()).await;

    // From now on there is no way back.
    third.shutdown().await;
    let refused = cluster.try_restart::<1>(3).await.err();
    let is_older = |error: &StartError| {
        matches!(
            error,
            StartError::OlderBuild {
                followed: 2,
                known: 1
            }
        )
    };
    assert!(refused.as_ref().is_some_and(is_older), "{refused:?}");
    let third = newer(&cluster, 3).await;
    assert_eq!(add(&first.client(), 7, 1).await, 21);
    agree(&third.client(), &first.client()).await;
}
