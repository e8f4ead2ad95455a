//! Log that waits for a pump that does not come: new work is slowed, then refused, and taken again.

use crate::support::{Cluster, Command, P0, Sum, request, soon, until};
use grid::{BacklogState, BacklogStatus, CommandClass, GridClient, GridError};
use grid_config::NodeSettings;

/// Far more commands than the bounds allow.
const COMMANDS_MAX: u128 = 20_000;

fn backlog(client: &GridClient<Sum>) -> BacklogStatus {
    client.status().backlog
}

async fn node(soft_bytes: u64, max_bytes: u64) -> Cluster {
    let settings = NodeSettings {
        pump_backlog_soft_bytes: soft_bytes,
        pump_backlog_max_bytes: max_bytes,
        snapshot_every_entries: u64::MAX,
        ..NodeSettings::default()
    };
    let cluster = Cluster::start_for_pump(1, 1, settings).await;
    cluster.founded().await;
    cluster
}

/// Writes what drains, which nothing slows, until the backlog is in a state. Returns the last index.
async fn write_until(client: &GridClient<Sum>, from: u128, state: BacklogState) -> u64 {
    let mut last = 0;
    for key in from..from + COMMANDS_MAX {
        if backlog(client).state == state {
            return last;
        }
        let command = request(key, Command::Add(1));
        let done = client.execute_as(CommandClass::Draining, P0, command, soon());
        last = done.await.expect("it drains").position.index;
    }
    panic!("{:?}", backlog(client));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_hard_bound_new_work_is_refused_until_the_pump_has_come_further() {
    let cluster = node(8_000, 16_000).await;
    let client = cluster.client(1);
    let first = client.execute(P0, request(1, Command::Add(1)), soon());
    first.await.expect("nothing waits yet");
    let last = write_until(&client, 1_000_000, BacklogState::Refusing).await;
    // What is left then is less than a byte a second for ten minutes.
    assert!(backlog(&client).bytes > 15_400, "{:?}", backlog(&client));
    let refused = client.execute(P0, request(2, Command::Add(1)), soon());
    let refused = refused.await.expect_err("it is new");
    assert!(
        matches!(refused, GridError::Overloaded { retry_after_ms } if retry_after_ms > 0),
        "{refused:?}"
    );
    let drains = request(3, Command::Add(1));
    let drains = client.execute_as(CommandClass::Draining, P0, drains, soon());
    drains.await.expect("it drains");

    client.record_pumped(P0, last, soon()).await.expect("noted");
    until("the backlog is gone", || {
        backlog(&client).state == BacklogState::Open
    })
    .await;
    let taken = client.execute(P0, request(4, Command::Add(1)), soon());
    taken.await.expect("there is room again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn between_the_bounds_new_work_waits_its_turn_and_is_done() {
    // What is left may be used up in ten minutes: some ten kilobytes a second.
    let cluster = node(8_000, 6_008_000).await;
    let client = cluster.client(1);
    write_until(&client, 1_000_000, BacklogState::Slowed).await;
    assert!(backlog(&client).allowed_bytes_per_s > Some(5_000));
    for key in 0..20 {
        let done = client.execute(P0, request(key, Command::Add(1)), soon());
        done.await.expect("its turn comes");
    }
    assert_eq!(backlog(&client).state, BacklogState::Slowed);
    assert_eq!(backlog(&client).delayed, 0, "none is left waiting");
}
