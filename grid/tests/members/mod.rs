//! Nodes that come, go and come back empty, over real sockets and files in one process, while commands
//! are carried out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use grid::{
    ClusterMap, GridClient, META, MemberAction, MemberChange, MembershipStatus, NodeState, Read,
    Refusal, StartError,
};
use grid_config::NodeSettings;
use grid_core::PartitionId;

use crate::support::{Cluster, Command, Sum, request, soon, until};

const PARTITIONS: u32 = 4;

/// Adds one to every partition in turn, and knows how often it was told that it was done.
struct Writer {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<Vec<u64>>,
}

impl Writer {
    /// Every command must succeed; `salt` keeps the keys of several writers apart.
    fn start(client: GridClient<Sum>, salt: u128) -> Self {
        let (stop, done) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopping, counter) = (Arc::clone(&stop), Arc::clone(&done));
        let task = tokio::spawn(async move {
            let mut sums = vec![0; PARTITIONS as usize];
            let mut key = salt << 64;
            while !stopping.load(Ordering::Relaxed) {
                for (partition, sum) in (0..).map(PartitionId).zip(&mut sums) {
                    key += 1;
                    client
                        .execute(partition, request(key, Command::Add(1)), soon())
                        .await
                        .expect("no command fails");
                    *sum += 1;
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            }
            sums
        });
        Self { stop, done, task }
    }

    /// Waits until some more commands are done.
    async fn progress(&self) {
        let target = self.done.load(Ordering::Relaxed) + 20;
        until("commands are carried out", || {
            self.done.load(Ordering::Relaxed) >= target
        })
        .await;
    }

    /// How much was added to each partition.
    async fn finish(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("no command failed")
    }
}

async fn membership(client: &GridClient<Sum>) -> MembershipStatus {
    client.membership(soon()).await.expect("a majority answers")
}

/// Waits until nothing moves or is planned, and the map is as wanted.
async fn at_rest(client: &GridClient<Sum>, wanted: impl Fn(&ClusterMap) -> bool) -> ClusterMap {
    let rest = async {
        loop {
            let status = membership(client).await;
            if status.moving.is_none() && status.moves.is_empty() && wanted(&status.map) {
                return status.map;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    match tokio::time::timeout_at(soon().into(), rest).await {
        Ok(map) => map,
        Err(_) => panic!(
            "the grid does not come to rest: {:#?}",
            membership(client).await
        ),
    }
}

/// Every holder of every partition has the same state, and it is what was written.
async fn check(cluster: &Cluster, client: &GridClient<Sum>, map: &ClusterMap, sums: &[u64]) {
    for (partition, sum) in (0..).map(PartitionId).zip(sums) {
        let read = client
            .query(partition, (), Read::Linearizable, soon())
            .await
            .expect("answered");
        assert_eq!(read.answer, *sum, "partition {partition}");
        for node in &map.groups[&partition].replicas {
            let held = cluster.client(*node);
            assert!(
                held.local_partitions().any(|held| held == partition),
                "node {node} holds partition {partition}"
            );
            let behind = held.query(partition, (), Read::AtLeast(read.position), soon());
            assert_eq!(behind.await.expect("caught up").answer, *sum);
        }
        let digests = client.digests(partition, soon()).await.expect("known");
        let hashes: BTreeSet<String> = digests
            .iter()
            .filter_map(|(_, digest)| digest.as_ref())
            .map(|digest| format!("{} {}", digest.applied_index, digest.running_hash))
            .collect();
        assert_eq!(hashes.len(), 1, "partition {partition}: {digests:?}");
    }
}

fn order(action: MemberAction) -> MemberChange {
    MemberChange {
        action,
        dry_run: false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_and_another_is_drained_and_removed_under_writes() {
    let mut cluster = Cluster::start(3, PARTITIONS, NodeSettings::default()).await;
    cluster.founded().await;
    let client = cluster.client(1);
    let writer = Writer::start(client.clone(), 1);
    writer.progress().await;

    cluster.join(4).await;
    let map = at_rest(&client, |map| map.load(4) > 0).await;
    let loads: Vec<usize> = (1..=4).map(|node| map.load(node)).collect();
    assert_eq!(loads.iter().sum::<usize>(), 3 * (PARTITIONS as usize + 1));
    assert!(
        loads.iter().all(|load| (3..=4).contains(load)),
        "evenly: {loads:?}"
    );
    writer.progress().await;

    let early = MemberAction::Remove {
        node: 2,
        drain: false,
        fewer_copies: false,
    };
    let refused = client.change_members(order(early), soon()).await;
    let refused = refused.expect("answered");
    assert!(
        matches!(refused, Err(Refusal::HoldsReplicas { node: 2, .. })),
        "{refused:?}"
    );
    let drain = MemberAction::Drain {
        node: 2,
        fewer_copies: false,
    };
    let preview = MemberChange {
        action: drain.clone(),
        dry_run: true,
    };
    let preview = client.change_members(preview, soon()).await;
    let preview = preview.expect("answered").expect("possible");
    assert_eq!(preview.moves.len(), map.load(2));
    assert_eq!(membership(&client).await.map, map, "nothing has changed");
    // Asked of another node, which passes it on.
    let other = cluster.client(3);
    let planned = other.change_members(order(drain), soon()).await;
    assert_eq!(
        planned.expect("answered").expect("possible").moves,
        preview.moves
    );
    at_rest(&client, |map| !map.holds_anything(2)).await;
    until("its replicas are gone", || {
        cluster.client(2).local_partitions().count() == 0
    })
    .await;
    let snapshots = cluster.directory(2).join("snapshots");
    let is_empty = |store: std::io::Result<std::fs::DirEntry>| {
        let store = store.expect("readable").path();
        std::fs::read_dir(store).expect("readable").count() == 0
    };
    let are_empty = || {
        let mut stores = std::fs::read_dir(&snapshots).expect("readable");
        stores.all(is_empty)
    };
    until("its files are gone", are_empty).await;

    // As if it had stopped after its log let go and before its files did.
    cluster.stop(2).await;
    let mut stores = std::fs::read_dir(&snapshots).expect("readable");
    let store = stores.next().expect("one").expect("readable").path();
    std::fs::write(store.join("left"), "over").expect("written");
    assert!(!are_empty());
    cluster.restart(2).await;
    until("what was left over is gone", are_empty).await;

    let remove = MemberAction::Remove {
        node: 2,
        drain: false,
        fewer_copies: false,
    };
    let removed = client.change_members(order(remove), soon()).await;
    removed.expect("answered").expect("it holds nothing");
    let why = cluster.nodes[&2].failed().await;
    assert!(why.contains("removed"), "{why}");
    assert!(cluster.nodes[&2].was_removed());
    cluster.stop(2).await;
    let again = cluster.try_restart::<1>(2).await;
    match again {
        Err(error) => assert!(matches!(error, StartError::Removed { node: 2 }), "{error}"),
        // It had not heard of it before it was cut off; the others tell it.
        Ok(node) => {
            node.failed().await;
            assert!(node.was_removed());
            node.shutdown().await;
        }
    }

    let sums = writer.finish().await;
    let map = at_rest(&client, |map| map.nodes[&2].state == NodeState::Removed).await;
    check(&cluster, &client, &map, &sums).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_disk_comes_back_as_a_learner_and_is_rebuilt() {
    let mut cluster = Cluster::start(3, PARTITIONS, NodeSettings::default()).await;
    cluster.founded().await;
    // The lowest node is the one that founded the grid: it must not found it again.
    let client = cluster.client(2);
    let writer = Writer::start(client.clone(), 1);
    writer.progress().await;
    let before = at_rest(&client, |_| true).await;
    cluster.stop(1).await;
    std::fs::remove_dir_all(cluster.directory(1)).expect("wiped");
    cluster.restart(1).await;

    let map = at_rest(&client, |map| {
        map.nodes[&1].incarnation != before.nodes[&1].incarnation && map.load(1) > 0
    })
    .await;
    assert_eq!(map.nodes[&1].returning, None);
    for group in map.groups.values() {
        assert_eq!(group.replicas.len(), 3);
        assert!(group.epoch > 1, "each group let go of the old disk");
    }
    until("its replicas are open", || {
        cluster.client(1).local_partitions().count() == PARTITIONS as usize
    })
    .await;
    let sums = writer.finish().await;
    check(&cluster, &client, &map, &sums).await;

    // Only its log is gone this time: just as little may be counted on.
    let writer = Writer::start(client.clone(), 2);
    cluster.stop(1).await;
    std::fs::remove_dir_all(cluster.directory(1).join("wal")).expect("wiped");
    cluster.restart(1).await;
    let again = at_rest(&client, |now| {
        now.nodes[&1].incarnation != map.nodes[&1].incarnation && now.load(1) > 0
    })
    .await;
    let more = writer.finish().await;
    let sums: Vec<u64> = sums.iter().zip(&more).map(|(one, two)| one + two).collect();
    check(&cluster, &client, &again, &sums).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_and_a_target_stop_in_the_middle_of_their_moves() {
    let mut cluster = Cluster::start(4, PARTITIONS, NodeSettings::default()).await;
    cluster.founded().await;
    let client = cluster.client(1);
    let map = at_rest(&client, |_| true).await;
    let writer = Writer::start(client.clone(), 1);
    writer.progress().await;

    // The source: node 3 gives its replicas up, and stops with the first one under way.
    let drain = MemberAction::Drain {
        node: 3,
        fewer_copies: false,
    };
    let planned = client.change_members(order(drain), soon()).await;
    let planned = planned.expect("answered").expect("possible");
    assert_eq!(planned.moves.len(), map.load(3));
    let mut maps = client.cluster_map();
    let moving = maps.wait_for(|map| map.as_ref().is_some_and(|map| map.moving().is_some()));
    drop(moving.await.expect("the node runs"));
    cluster.stop(3).await;
    at_rest(&client, |map| !map.holds_anything(3)).await;
    writer.progress().await;

    // The target: node 5 comes, and stops with its first replica under way.
    cluster.join(5).await;
    let is_coming = |map: &ClusterMap| {
        map.moving()
            .is_some_and(|(_, group)| group.replicas.contains(&5))
    };
    let coming = maps.wait_for(|map| map.as_ref().is_some_and(|map| is_coming(map)));
    drop(coming.await.expect("the node runs"));
    cluster.stop(5).await;
    // Where it had no vote yet the move is taken back after a while; either way nothing hangs.
    at_rest(&client, |_| true).await;
    writer.progress().await;
    cluster.restart(5).await;
    let map = at_rest(&client, |map| map.load(5) >= 3).await;
    assert_eq!(map.load(3), 0);

    let sums = writer.finish().await;
    check(&cluster, &client, &map, &sums).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_meta_leader_stops_in_the_middle_and_another_goes_on() {
    let mut cluster = Cluster::start(4, PARTITIONS, NodeSettings::default()).await;
    cluster.founded().await;
    let client = cluster.client(1);
    let map = at_rest(&client, |_| true).await;
    // A grid of four has three copies of its map; whoever leads that group is stopped.
    let meta = map.groups[&META].replicas.clone();
    let leader = client.leader_of_map(soon()).await.expect("it leads");
    assert!(meta.contains(&leader));
    let drained = *[2, 3, 4].iter().find(|node| **node != leader).expect("two");
    let survivor = *(1..=4)
        .collect::<Vec<u64>>()
        .iter()
        .find(|node| **node != leader && **node != drained)
        .expect("two are left");
    let client = cluster.client(survivor);
    let drain = MemberAction::Drain {
        node: drained,
        fewer_copies: true,
    };
    let planned = client.change_members(order(drain), soon()).await;
    planned.expect("answered").expect("possible");
    let mut maps = client.cluster_map();
    let moving = maps.wait_for(|map| map.as_ref().is_some_and(|map| map.moving().is_some()));
    drop(moving.await.expect("the node runs"));
    cluster.stop(leader).await;
    cluster.restart(leader).await;
    let map = at_rest(&client, |map| !map.holds_anything(drained)).await;
    for group in map.groups.values() {
        assert_eq!(group.replicas.len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_in_use_is_not_given_to_another() {
    let cluster = Cluster::start(3, 1, NodeSettings::default()).await;
    cluster.founded().await;
    let client = cluster.client(1);
    at_rest(&client, |_| true).await;
    let mut second = cluster.second(2).await;
    let before = membership(&client).await.map;
    tokio::select! {
        why = second.nodes[&2].failed() => assert!(why.contains("running already"), "{why}"),
        () = tokio::time::sleep_until(soon().into()) => panic!("it is told so"),
    }
    second.stop(2).await;
    assert_eq!(membership(&client).await.map, before);
}
