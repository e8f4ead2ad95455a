//! The pump between a real grid of one node and a real database.

#![expect(clippy::print_stdout, reason = "a test that tests nothing says so")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use data_pump::archive::{ArchiveReader, PartitionReadiness, Target, rebuild};
use data_pump::database::{Database, DatabaseChoice, DatabaseError, DatabaseOptions, provide};
use data_pump::pump::{LaneTrouble, Pump, PumpOptions};
use data_pump::verify::Verifier;
use grid::{CommandRequest, GridClient, GridNode, NodeOptions, Read};
use grid_config::{ClusterSettings, NodeSettings, PumpSettings};
use grid_core::{IdempotencyKey, Timestamp};
use processing_unit::box_office::{self, NewEvent, Row, RowSeats, Section};
use processing_unit::{Command, Currency, EventId, Query, Reply, Unit, UserId};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

const GRID_ID: u128 = 77;
const EVENTS: u128 = 6;
const SEATS: u32 = 40;
const PATIENCE: Duration = Duration::from_secs(60);

/// `None`, loudly, where there is no PostgreSQL.
async fn database(folder: &tempfile::TempDir) -> Option<Database> {
    let mut options = DatabaseOptions::new(folder.path().join("sql"));
    options.choice = DatabaseChoice::Supervised;
    match provide(options).await {
        Ok(database) => Some(database),
        Err(DatabaseError::NotInstalled) => {
            println!("NOT TESTED: no PostgreSQL is installed on this machine");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

async fn node(folder: &tempfile::TempDir, settings: NodeSettings) -> GridNode<Unit> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    GridNode::start(NodeOptions {
        grid_id: GRID_ID,
        node_id: 1,
        members: BTreeMap::from([(1, address)]),
        seeds: Vec::new(),
        peer_address: None,
        gateway_address: String::new(),
        listener,
        cluster: ClusterSettings {
            partitions: 4,
            replicas: 1,
            ..ClusterSettings::default()
        },
        settings: NodeSettings {
            data_dir: folder.path().join("grid"),
            ..settings
        },
        keep_for_pump: true,
    })
    .await
    .expect("starts")
}

fn pump(client: &GridClient<Unit>, database: &Database) -> Pump {
    Pump::start(PumpOptions {
        client: client.clone(),
        grid_id: Uuid::from_u128(GRID_ID),
        database_url: database.url.clone(),
        single_connection: database.single_connection,
        steps_back: true,
        settings: PumpSettings::default(),
        audit_key: None,
    })
    .expect("a URL")
}

async fn execute(client: &GridClient<Unit>, key: u128, command: box_office::Command) -> Reply {
    let event_id = match &command {
        box_office::Command::CreateEvent { event, .. } => event.event_id,
        box_office::Command::HoldSeats { event_id, .. }
        | box_office::Command::HoldBestAvailable { event_id, .. }
        | box_office::Command::Confirm { event_id, .. }
        | box_office::Command::Release { event_id, .. } => *event_id,
    };
    let request = CommandRequest {
        key: IdempotencyKey(key),
        fingerprint: 0,
        command: Command::BoxOffice(command),
    };
    let partition = client.layout().partition_of(event_id.0);
    client
        .execute(partition, request, Instant::now() + PATIENCE)
        .await
        .expect("carried out")
        .reply
}

/// Creates the events, and for each sells some seats, holds some, and gives some back.
async fn sell(client: &GridClient<Unit>, round: u128) {
    for number in 0..EVENTS {
        let event_id = event_id(number);
        let key = |step: u128| (round << 64) + (number << 16) + step;
        if round == 0 {
            execute(client, key(0), create(event_id)).await;
        }
        for step in 0..4 {
            let buyer = UserId(Uuid::from_u128(key(step)));
            let hold = box_office::Command::HoldBestAvailable {
                event_id,
                buyer,
                section: None,
                quantity: 2,
            };
            let Reply::BoxOffice(Ok(box_office::Reply::Held { hold_id, .. })) =
                execute(client, key(10 + step), hold).await
            else {
                panic!("there are seats");
            };
            let end = match step {
                0 | 1 => box_office::Command::Confirm {
                    event_id,
                    hold_id,
                    buyer,
                    payment_reference: format!("payment {step}"),
                },
                2 => box_office::Command::Release {
                    event_id,
                    hold_id,
                    buyer,
                },
                _ => continue,
            };
            execute(client, key(20 + step), end).await;
        }
    }
}

fn event_id(number: u128) -> EventId {
    EventId(Uuid::from_u128(0x5eed << 32 | number))
}

fn create(event_id: EventId) -> box_office::Command {
    box_office::Command::CreateEvent {
        host: UserId(Uuid::from_u128(1)),
        event: Box::new(NewEvent {
            event_id,
            name: "Concert".to_owned(),
            artist: "Quartet".to_owned(),
            venue: "Hall".to_owned(),
            starts_at: Timestamp::from_millis(4_000_000_000_000),
            on_sale_at: Timestamp::from_millis(1),
            currency: Currency::from_code("EUR").expect("known"),
            max_seats_per_buyer: 8,
            hold_ms: 86_400_000,
            sections: vec![Section {
                name: "A".to_owned(),
                price: 5_000,
                rows: vec![Row {
                    name: "1".to_owned(),
                    seats: RowSeats::Count(SEATS),
                }],
            }],
        }),
    }
}

/// Waits until the database has every entry that has changes, then compares seat by seat.
async fn compare(client: &GridClient<Unit>, database: &Database) {
    let deadline = Instant::now() + PATIENCE;
    for number in 0..EVENTS {
        let event_id = event_id(number);
        let query = Query::BoxOffice(box_office::Query::Seats {
            event_id,
            section: None,
        });
        let partition = client.layout().partition_of(event_id.0);
        let answered = client
            .query(partition, query, Read::Linearizable, deadline)
            .await
            .expect("answered");
        let processing_unit::Answer::BoxOffice(box_office::Answer::Seats(Some(in_grid))) =
            answered.answer
        else {
            panic!("the event is there");
        };
        loop {
            if let Ok(mut verifier) = Verifier::connect(&database.url).await
                && let Ok(in_database) = verifier.seat_states(event_id.0).await
                && in_database == in_grid.states
            {
                assert_eq!(
                    verifier.seats_sold_twice(event_id.0).await.expect("read"),
                    0
                );
                let tickets = verifier.tickets(event_id.0).await.expect("read");
                let sold = in_grid
                    .states
                    .iter()
                    .filter(|&&state| state == b's')
                    .count();
                assert_eq!(tickets.len(), sold);
                assert!(verifier.dead_letters(1).await.expect("read").is_empty());
                break;
            }
            assert!(
                Instant::now() < deadline,
                "event {number} is written in the end"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Telling the grid how far the database is makes log entries; that must not go on for ever.
async fn falls_silent(client: &GridClient<Unit>) {
    const QUIET: Duration = Duration::from_secs(3);
    let deadline = Instant::now() + PATIENCE;
    let applied = || -> Vec<u64> {
        let replicas = client.status().replicas;
        replicas
            .iter()
            .map(|replica| replica.applied_index)
            .collect()
    };
    let mut last = (applied(), Instant::now());
    while last.1.elapsed() < QUIET {
        assert!(
            Instant::now() < deadline,
            "nothing happens, and yet the log grows"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = applied();
        if now != last.0 {
            last = (now, Instant::now());
        }
    }
    let told = client.status().replicas;
    assert!(told.iter().any(|replica| replica.pumped_index > 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stopped_comes_back_from_the_database_to_the_last_byte() {
    let folder = tempfile::tempdir().expect("folder");
    let Some(database) = database(&folder).await else {
        return;
    };
    let node = node(&folder, NodeSettings::default()).await;
    let client = node.client();
    let running = pump(&client, &database);
    sell(&client, 0).await;
    compare(&client, &database).await;
    sell(&client, 1).await;
    // Not waited for: whoever stops writes what is left.
    let drained = running.drain().await;
    let mut digests = Vec::new();
    for partition in client.layout().iter() {
        let deadline = Instant::now() + PATIENCE;
        let found = client.digests(partition, deadline).await.expect("a digest");
        digests.push(found[0].1.clone().expect("this node's"));
    }
    node.shutdown().await;
    drained.mark().await;

    let mut reader = ArchiveReader::connect(&database.url)
        .await
        .expect("answers");
    let reach = reader.reach().await.expect("an archive");
    assert_eq!(reach.partitions, 4);
    for (found, expected) in reach.reach.iter().zip(digests) {
        assert_eq!(found.readiness(), PartitionReadiness::Complete, "{found:?}");
        assert_eq!(found.applied_index, expected.applied_index);
        let target = Target {
            upto_index: found.applied_index,
            until: None,
        };
        let rebuilt = rebuild(&mut reader, found.partition, target, |_| {}).await;
        let rebuilt = rebuilt.expect("whole");
        assert_eq!(rebuilt.proven_index, found.applied_index);
        assert_eq!(rebuilt.state.hash(), expected.running_hash);
        let digest = rebuilt.state.view().digest().expect("encodes");
        assert_eq!(digest, expected.digest);
    }
    reader.close().await;
    database.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_says_what_the_grid_says() {
    let folder = tempfile::tempdir().expect("folder");
    let Some(mut database) = database(&folder).await else {
        return;
    };
    let node = node(&folder, NodeSettings::default()).await;
    let client = node.client();
    let running = pump(&client, &database);
    sell(&client, 0).await;
    compare(&client, &database).await;
    assert_eq!(running.status().len(), 4);
    assert!(
        running
            .status()
            .iter()
            .all(|lane| lane.last_error.is_none())
    );

    falls_silent(&client).await;

    // The database goes away, the sale goes on, and the same pump catches up.
    database.stop().await.expect("stops");
    sell(&client, 1).await;
    let mut options = DatabaseOptions::new(folder.path().join("sql"));
    options.choice = DatabaseChoice::Supervised;
    database = provide(options).await.expect("starts again");
    compare(&client, &database).await;

    // A pump that starts later goes on where the last one stopped.
    running.shutdown().await;
    sell(&client, 2).await;
    let running = pump(&client, &database);
    compare(&client, &database).await;
    running.shutdown().await;
    node.shutdown().await;
    database.stop().await.expect("stops");
}

/// Takes the database back to when nothing was written.
async fn set_back(database: &Database) {
    let mut connection = PgConnection::connect(&database.url).await.expect("answers");
    sqlx::raw_sql(
        "BEGIN;
         UPDATE pump_checkpoint
         SET applied_index = 0, audit_base = 0, audit_blocks = 0, audit_leaves = 0, audit_chain = NULL;
         TRUNCATE changes, items, auctions, bids, events, seats, holds, tickets, audit_block, audit_root;
         COMMIT",
    )
    .execute(&mut connection)
    .await
    .expect("set back");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_pump_notices_that_its_database_went_back_in_time() {
    let folder = tempfile::tempdir().expect("folder");
    let Some(database) = database(&folder).await else {
        return;
    };
    let node = node(&folder, NodeSettings::default()).await;
    let client = node.client();
    let running = pump(&client, &database);
    sell(&client, 0).await;
    compare(&client, &database).await;
    falls_silent(&client).await;
    let behind = || {
        let lanes = running.status();
        lanes.iter().map(|lane| lane.fence.behind).sum::<u64>()
    };
    assert_eq!(behind(), 0);
    set_back(&database).await;
    // Nobody sells anything.
    compare(&client, &database).await;
    assert!(behind() > 0, "{:?}", running.status());
    running.shutdown().await;
    node.shutdown().await;
    database.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_from_before_the_log_is_told_and_not_written_to() {
    let folder = tempfile::tempdir().expect("folder");
    let Some(database) = database(&folder).await else {
        return;
    };
    let settings = NodeSettings {
        snapshot_every_entries: 10,
        log_keep_bytes: 0,
        // Nothing of it is in memory either.
        feed_bytes_max: 1,
        ..NodeSettings::default()
    };
    let node = node(&folder, settings).await;
    let client = node.client();
    let running = pump(&client, &database);
    let deadline = Instant::now() + PATIENCE;
    let mut round = 0;
    // What is let go of stays readable for a moment.
    let is_gone = || {
        let replicas = client.status().replicas;
        replicas.iter().any(|replica| {
            let bytes_after = |index| client.log_bytes_after(replica.partition, index);
            replica.purged_index > 0 && bytes_after(0) == bytes_after(replica.purged_index)
        })
    };
    while !is_gone() {
        assert!(Instant::now() < deadline, "the log goes");
        if round < 5 {
            sell(&client, round).await;
            round += 1;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    compare(&client, &database).await;
    set_back(&database).await;
    let is_told = || {
        let lanes = running.status();
        lanes
            .iter()
            .any(|lane| lane.stuck && lane.trouble == Some(LaneTrouble::ResyncNeeded))
    };
    while !is_told() {
        assert!(Instant::now() < deadline, "{:?}", running.status());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let stuck: Vec<i32> = {
        let lanes = running.status();
        let stuck = lanes.iter().filter(|lane| lane.stuck);
        stuck
            .map(|lane| i32::try_from(lane.partition.0).expect("few"))
            .collect()
    };
    let mut connection = PgConnection::connect(&database.url).await.expect("answers");
    let written: i64 = sqlx::query_scalar("SELECT count(*) FROM changes WHERE partition = ANY($1)")
        .bind(stuck)
        .fetch_one(&mut connection)
        .await
        .expect("read");
    assert_eq!(written, 0, "no gap is made");
    running.shutdown().await;
    node.shutdown().await;
    database.stop().await.expect("stops");
}
