//! Three real nodes over real sockets and files in one process.

mod members;
mod support;
mod upgrade;

use futures_util::FutureExt;
use grid::{Feed, FeedError, GridClient, GridError, Read};
use grid_config::NodeSettings;
use grid_core::{Cursor, PartitionId};
use support::{Cluster, Command, P0, Sum, request, soon, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_through_any_node_is_carried_out_once() {
    let cluster = Cluster::start(3, 2, NodeSettings::default()).await;
    for node in 1..=3 {
        let client = cluster.client(node);
        for partition in client.layout().iter() {
            let key = u128::from(node) * 100 + u128::from(partition.0);
            let first = client
                .execute(partition, request(key, Command::Add(5)), soon())
                .await;
            let first = first.expect("carried out");
            let again = client
                .execute(partition, request(key, Command::Add(5)), soon())
                .await;
            let again = again.expect("remembered");
            assert!(!first.replayed && again.replayed);
            assert_eq!(first.reply, again.reply);
        }
    }
    for node in 1..=3 {
        let answer = cluster
            .client(node)
            .query(P0, (), Read::Linearizable, soon())
            .await;
        assert_eq!(answer.expect("answered").answer, 15);
    }
    let mut other = request(100, Command::Add(6));
    other.fingerprint = 1;
    let conflict = cluster.client(1).execute(P0, other, soon()).await;
    assert_eq!(conflict.err(), Some(GridError::IdempotencyConflict));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_agree_and_a_stopped_leader_loses_nothing() {
    let mut cluster = Cluster::start(3, 1, NodeSettings::default()).await;
    let client = cluster.client(2);
    for key in 0..200 {
        let done = client
            .execute(P0, request(key, Command::Add(1)), soon())
            .await;
        done.expect("carried out");
    }
    let leader = client
        .leadership(P0)
        .expect("a replica")
        .borrow()
        .leader
        .expect("it led");
    cluster.stop(leader).await;
    let survivor = *cluster.nodes.keys().next().expect("two are left");
    let client = cluster.client(survivor);
    let done = client
        .execute(P0, request(1_000, Command::Add(1)), soon())
        .await;
    assert_eq!(done.expect("a new leader").reply, 201);
    cluster.restart(leader).await;

    let position = client
        .query(P0, (), Read::Linearizable, soon())
        .await
        .expect("read")
        .position;
    let behind = cluster
        .client(leader)
        .query(P0, (), Read::AtLeast(position), soon())
        .await;
    assert_eq!(behind.expect("caught up").answer, 201);
    let digests = client.digests(P0, soon()).await.expect("known partition");
    let digests: Vec<_> = digests
        .into_iter()
        .filter_map(|(_, digest)| digest)
        .collect();
    assert_eq!(digests.len(), 3);
    for digest in &digests {
        if digest.applied_index == digests[0].applied_index {
            assert_eq!(digest.digest, digests[0].digest);
            assert_eq!(digest.running_hash, digests[0].running_hash);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_stopped_and_started_keep_everything() {
    let mut cluster = Cluster::start(3, 2, NodeSettings::default()).await;
    let client = cluster.client(1);
    for key in 0..100 {
        client
            .execute(P0, request(key, Command::Add(2)), soon())
            .await
            .expect("carried out");
    }
    drop(client);
    for node in 1..=3 {
        cluster.stop(node).await;
    }
    for node in 1..=3 {
        cluster.restart(node).await;
    }
    let answer = cluster
        .client(2)
        .query(P0, (), Read::Linearizable, soon())
        .await;
    assert_eq!(answer.expect("answered").answer, 200);
    let again = cluster
        .client(3)
        .execute(P0, request(5, Command::Add(2)), soon())
        .await;
    assert!(again.expect("remembered").replayed);
}

/// A node that misses one change of leadership sends its clients to the wrong place for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_every_restart_each_node_finds_each_leader() {
    let mut cluster = Cluster::start(3, 8, NodeSettings::default()).await;
    for _ in 0..4 {
        for node in 1..=3 {
            let client = cluster.client(node);
            for partition in client.layout().iter() {
                let answer = client
                    .query(partition, (), Read::Linearizable, soon())
                    .await;
                assert_eq!(answer.expect("a leader").answer, 0);
            }
        }
        for node in 1..=3 {
            cluster.stop(node).await;
        }
        for node in 1..=3 {
            cluster.restart(node).await;
        }
    }
}

/// Reads a feed up to an entry, with each wait for its next slice given up at once.
async fn impatiently(mut feed: Feed<Sum>, end: u64) -> Vec<u64> {
    let deadline = soon();
    let mut seen = Vec::new();
    while feed.cursor().index < end {
        assert!(std::time::Instant::now() < deadline, "it never gets there");
        match feed.next().now_or_never() {
            Some(slice) => {
                let batches = slice.expect("the log reaches back").batches;
                seen.extend(batches.iter().flat_map(|batch| batch.changes.clone()));
            }
            None => tokio::task::yield_now().await,
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_feed_gives_each_change_once_also_from_long_ago() {
    // No snapshot is taken, so the log reaches back to its beginning.
    let settings = NodeSettings {
        feed_bytes_max: 4_096,
        ..NodeSettings::default()
    };
    let cluster = Cluster::start(1, 1, settings).await;
    let client = cluster.client(1);
    let mut early = client.follow(P0, Some(Cursor::after_entry(P0, 0)));
    for key in 0..500_u64 {
        let done = client
            .execute(P0, request(u128::from(key), Command::Add(key)), soon())
            .await;
        done.expect("carried out");
    }
    let end = client
        .query(P0, (), Read::Stale, soon())
        .await
        .expect("read")
        .position
        .index;
    let mut seen = Vec::new();
    while early.cursor().index < end {
        let slice = early.next().await.expect("the log reaches back");
        seen.extend(slice.batches.iter().flat_map(|batch| batch.changes.clone()));
    }
    assert_eq!(seen, (0..500).collect::<Vec<_>>());

    // Who never waits long enough for a step still gets there, since no step is lost.
    for feed in [
        client.follow(P0, Some(Cursor::after_entry(P0, 0))),
        client.follow_in_background(P0, Cursor::after_entry(P0, 0)),
    ] {
        assert_eq!(impatiently(feed, end).await, seen);
    }

    let mut ahead = client.follow(P0, Some(Cursor::after_entry(P0, end + 1_000)));
    assert_eq!(ahead.next().await.err(), Some(FeedError::CursorAhead));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_lets_the_log_go_and_serves_a_restart_and_a_new_replica() {
    let settings = NodeSettings {
        snapshot_every_entries: 50,
        ..NodeSettings::default()
    };
    let mut cluster = Cluster::start(3, 1, settings).await;
    cluster.founded().await;
    cluster.stop(3).await;
    let client = cluster.client(1);
    for key in 0..300 {
        client
            .execute(P0, request(key, Command::Add(1)), soon())
            .await
            .expect("carried out");
    }
    // Retention works by itself; wait for its effect on both nodes that run.
    for node in [1, 2] {
        while cluster.client(node).status().replicas[0].purged_index < 50 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
    cluster.restart(3).await;
    let position = client
        .query(P0, (), Read::Linearizable, soon())
        .await
        .expect("read")
        .position;
    let third = cluster
        .client(3)
        .query(P0, (), Read::AtLeast(position), soon())
        .await;
    assert_eq!(third.expect("from a snapshot").answer, 300);

    drop(client);
    cluster.stop(1).await;
    cluster.restart(1).await;
    let first = cluster
        .client(1)
        .query(P0, (), Read::Linearizable, soon())
        .await;
    assert_eq!(first.expect("restarted").answer, 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_applies_no_more_of_the_log_again_than_it_may() {
    let settings = NodeSettings {
        snapshot_every_entries: u64::MAX,
        // Some sixty entries of one command.
        replay_bytes_max: 20_000,
        ..NodeSettings::default()
    };
    let mut cluster = Cluster::start(1, 2, settings).await;
    cluster.founded().await;
    let client = cluster.client(1);
    let (large, small) = (PartitionId(0), PartitionId(1));
    for key in 0..300 {
        let partition = if key < 290 { large } else { small };
        client
            .execute(partition, request(key, Command::Add(1)), soon())
            .await
            .expect("carried out");
    }
    let is_bounded = || {
        let status = client.status();
        let large = status
            .replicas
            .iter()
            .find(|found| found.partition == large);
        large.is_some_and(|found| {
            let newest = found.snapshots.last().map_or(0, |snapshot| snapshot.index);
            found.applied_index <= newest + 100
        })
    };
    until("the larger part has a snapshot", is_bounded).await;
    drop(client);
    cluster.stop(1).await;
    cluster.restart(1).await;
    let client = cluster.client(1);
    let status = client.status();
    let replayed = status.start.expect("it says").replayed_entries;
    assert!((10..=120).contains(&replayed), "{replayed} applied again");
    let small_one = status
        .replicas
        .iter()
        .find(|found| found.partition == small);
    assert!(small_one.is_some_and(|found| found.snapshots.is_empty()));
    for (partition, sum) in [(large, 290), (small, 10)] {
        let answer = client
            .query(partition, (), Read::Linearizable, soon())
            .await;
        assert_eq!(answer.expect("restarted").answer, sum);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_fires_by_itself() {
    let cluster = Cluster::start(3, 1, NodeSettings::default()).await;
    cluster.founded().await;
    let client = cluster.client(1);
    let mut feed = client.follow(P0, Some(Cursor::after_entry(P0, 0)));
    let later = Command::AddAfter {
        wait_ms: 50,
        number: 9,
    };
    client
        .execute(P0, request(1, later), soon())
        .await
        .expect("carried out");
    let fired = tokio::time::timeout_at(soon().into(), async {
        loop {
            let slice = feed.next().await.expect("feed");
            if slice.batches.iter().any(|batch| batch.changes == [9]) {
                return;
            }
        }
    });
    fired.await.expect("the leader ticked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_replica_serves_all_the_same() {
    let cluster = Cluster::start(4, 4, NodeSettings::default()).await;
    let client = cluster.client(4);
    cluster.founded().await;
    let far = client
        .layout()
        .iter()
        .find(|partition| !client.local_partitions().any(|held| held == *partition));
    let far = far.expect("three replicas on four nodes leave one out");
    for key in 0..20 {
        client
            .execute(far, request(key, Command::Add(1)), soon())
            .await
            .expect("carried out");
    }
    let answer = client
        .query(far, (), Read::Linearizable, soon())
        .await
        .expect("answered");
    assert_eq!(answer.answer, 20);
    // By now the nodes are connected; before, the feed would say that nobody can be reached.
    let mut feed = client.follow(far, Some(Cursor::after_entry(far, 0)));
    let mut seen = 0;
    while seen < 20 {
        let slice = feed.next().await.expect("a remote feed");
        seen += slice
            .batches
            .iter()
            .map(|batch| batch.changes.len())
            .sum::<usize>();
    }
    assert_eq!(seen, 20);
}

/// One command and one read of every partition, through different nodes.
async fn add_and_read(writer: &GridClient<Sum>, reader: &GridClient<Sum>, number: u64) {
    for partition in writer.layout().iter() {
        let key = u128::from(number) * 100 + u128::from(partition.0);
        let written = writer
            .execute(partition, request(key, Command::Add(1)), soon())
            .await
            .expect("carried out");
        assert_eq!(written.reply, number, "partition {partition}");
        let read = reader.query(partition, (), Read::Linearizable, soon());
        assert_eq!(read.await.expect("answered").answer, number);
    }
}

/// Nodes stopped as planned, one after another: what is asked of the others meanwhile never fails, is
/// carried out once, and is seen by every read that begins afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_fails_no_command_and_hides_none_from_reads() {
    let settings = NodeSettings {
        // Leaders move only by handovers here.
        balance_leaders: false,
        ..NodeSettings::default()
    };
    let mut cluster = Cluster::start(3, 6, settings).await;
    let mut rounds = 0;
    for node in 1..=3 {
        let writer = cluster.client(node % 3 + 1);
        let reader = cluster.client((node + 1) % 3 + 1);
        rounds += 1;
        add_and_read(&writer, &reader, rounds).await;
        let leaving = cluster.nodes.remove(&node).expect("it runs");
        let handover = tokio::spawn(async move {
            let result = leaving.hand_over(soon()).await;
            (leaving, result)
        });
        while !handover.is_finished() {
            rounds += 1;
            add_and_read(&writer, &reader, rounds).await;
        }
        let (leaving, result) = handover.await.expect("it has ended");
        assert_eq!(result.left, 0, "{result:?}");
        let status = leaving.client().status();
        assert!(status.draining);
        assert!(
            status
                .replicas
                .iter()
                .all(|replica| replica.role != grid::ReplicaRole::Leader),
            "{status:?}"
        );
        leaving.shutdown().await;
        rounds += 1;
        add_and_read(&writer, &reader, rounds).await;
        cluster.restart(node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_that_nobody_can_take_stay_where_they_are() {
    let mut cluster = Cluster::start(3, 2, NodeSettings::default()).await;
    let client = cluster.client(1);
    for partition in client.layout().iter() {
        let done = client.execute(partition, request(1, Command::Add(1)), soon());
        done.await.expect("carried out");
    }
    cluster.stop(2).await;
    cluster.stop(3).await;
    let led = |status: &grid::NodeStatus| {
        let replicas = status.replicas.iter();
        let led = replicas.filter(|replica| replica.role == grid::ReplicaRole::Leader);
        u32::try_from(led.count()).expect("few")
    };
    let before = led(&client.status());
    let result = cluster.nodes[&1].hand_over(soon()).await;
    assert_eq!(result.handed_over, 0);
    assert!(result.left <= before, "{result:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_has_just_begun_takes_a_snapshot_once_it_has_something() {
    let cluster = Cluster::start(1, 1, NodeSettings::default()).await;
    cluster.founded().await;
    let taken = cluster.client(1).take_snapshot(1, P0, soon()).await;
    assert!(taken.as_ref().is_ok_and(|index| *index > 0), "{taken:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuilt_replica_still_has_what_the_pump_needs() {
    let settings = NodeSettings {
        snapshot_every_entries: u64::MAX,
        ..NodeSettings::default()
    };
    let cluster = Cluster::start_for_pump(3, 1, settings).await;
    cluster.founded().await;
    let client = cluster.client(1);
    let mut last = 0;
    for key in 0..10 {
        let done = client.execute(P0, request(key, Command::Add(1)), soon());
        last = done.await.expect("carried out").position.index;
    }
    let mut pumped = 0;
    for node in 1..=3 {
        until("every replica has the entries", || {
            cluster.client(node).applied_index(P0) >= Some(last)
        })
        .await;
        let taken = client.take_snapshot(node, P0, soon()).await;
        pumped = pumped.max(taken.expect("taken"));
    }
    let leader = client.leadership(P0).expect("a replica").borrow().leader;
    let leader = leader.expect("it led");
    let on_leader = cluster.client(leader);
    let recorded = on_leader.record_pumped(P0, pumped, soon()).await;
    recorded.expect("noted");
    for node in 1..=3 {
        until("the log that the pump has passed is gone", || {
            cluster.client(node).status().replicas[0].purged_index > 0
        })
        .await;
    }
    for key in 10..20 {
        let done = client.execute(P0, request(key, Command::Add(1)), soon());
        done.await.expect("carried out");
    }
    let follower = (1..=3).find(|node| *node != leader).expect("two more");
    let rebuilt = client.rebuild(follower, P0, soon()).await;
    rebuilt.expect("rebuilt");
    let from = Cursor::after_entry(P0, pumped);
    let mut feed = cluster.client(follower).follow(P0, Some(from));
    let mut changes = 0;
    while changes < 10 {
        let slice = tokio::time::timeout_at(soon().into(), feed.next()).await;
        let slice = slice.expect("in time").expect("it reaches back");
        let batches = slice.batches.iter();
        changes += batches.map(|batch| batch.changes.len()).sum::<usize>();
    }
    assert_eq!(changes, 10);
}
