//! The writer against a real database: the fence, replay, a killed server, refused rows.

mod catching_up;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};

use super::connections::Connections;
use super::fixtures::{
    Entry, GRID, TestDatabase, auction_created, auction_started, bid_placed, contents, entry, id,
    number, open, sale, seats_sold, write,
};
use super::writer::{Place, WriteError};
use crate::schema::migrate;
use crate::verify::Verifier;
use crate::{reports, verify};

#[tokio::test]
async fn first_starts_at_the_same_time_make_one_schema() {
    let Some(database) = TestDatabase::start_for_several().await else {
        return;
    };
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let mut connection = database.connect().await;
        starts.spawn(async move { migrate(&mut connection).await });
    }
    while let Some(outcome) = starts.join_next().await {
        outcome
            .expect("no panic")
            .expect("one works, the others wait");
    }
    let mut connection = database.migrated().await;
    let views = number(
        &mut connection,
        "SELECT count(*) FROM pg_views WHERE viewname LIKE 'report\\_%'",
    )
    .await;
    assert_eq!(views, reports::REPORTS.len() as i64);
}

#[tokio::test]
async fn a_sale_is_written_as_it_went() {
    let Some(database) = TestDatabase::start().await else {
        return;
    };
    let mut connection = database.migrated().await;
    let mut place = open(&mut connection, 1).await.expect("first");
    let written = write(&mut place, &mut connection, &sale())
        .await
        .expect("written");
    assert_eq!((written.parked, written.missing), (0, 0));
    let changes = number(&mut connection, "SELECT count(*) FROM changes").await;
    assert_eq!(changes, 15);

    connection.close().await.expect("said goodbye");
    let mut verifier = Verifier::connect(&database.database.url)
        .await
        .expect("answers");
    assert_eq!(verifier.seat_states(id(5)).await.expect("read"), b"ssaahah");
    let counts = verifier.seat_counts(id(5)).await.expect("read");
    assert_eq!((counts.available, counts.held, counts.sold), (3, 2, 2));
    let tickets = verifier.tickets(id(5)).await.expect("read");
    let seats: Vec<i32> = tickets.iter().map(|ticket| ticket.seat_index).collect();
    assert_eq!(seats, [0, 1]);
    assert_eq!((tickets[0].buyer, tickets[0].price), (id(1_021), 8_950));
    assert_eq!(verifier.seats_sold_twice(id(5)).await.expect("read"), 0);
    let auction = verifier.auction(id(3)).await.expect("read");
    assert_eq!(
        auction,
        Some(verify::WrittenAuction {
            auction_id: id(3),
            status: "ended".to_owned(),
            bids: 3,
            highest: Some(15_000),
            outcome: Some("sold".to_owned()),
            winner: Some(id(105)),
            winning_amount: Some(15_000),
        })
    );
    let checkpoints = verifier.checkpoints().await.expect("read");
    assert_eq!(checkpoints.len(), 1);
    assert_eq!(
        (checkpoints[0].applied_index, checkpoints[0].epoch),
        (12, 1)
    );
}

#[tokio::test]
async fn of_two_writers_one_wins() {
    let Some(database) = TestDatabase::start_for_several().await else {
        return;
    };
    let mut connection = database.migrated().await;
    let mut other = database.connect().await;
    let entries = sale();
    let mut first = open(&mut connection, 3).await.expect("first");
    let mut second = open(&mut other, 3).await.expect("the same term");
    write(&mut first, &mut connection, &entries[..2])
        .await
        .expect("first comes first");
    let late = write(&mut second, &mut other, &entries[..2]).await;
    assert!(matches!(late, Err(WriteError::CheckpointMoved { .. })));
    assert_eq!(second.applied_index, 0, "the place moves with the commit");
    let again = open(&mut other, 3).await.expect("opened anew");
    assert_eq!(again.applied_index, 2);

    let newer = open(&mut other, 4).await.expect("a newer leader");
    assert_eq!(newer.applied_index, 2);
    let deposed = write(&mut first, &mut connection, &entries[2..]).await;
    assert!(matches!(deposed, Err(WriteError::CheckpointMoved { .. })));
    let refused = open(&mut connection, 3).await;
    assert!(matches!(refused, Err(WriteError::Deposed { epoch: 4, .. })));
    let foreign = Place::open(&mut connection, id(78), 0, 9).await;
    assert!(matches!(foreign, Err(WriteError::ForeignGrid { .. })));
    assert_eq!(
        number(&mut connection, "SELECT count(*) FROM changes").await,
        4
    );
}

#[tokio::test]
async fn what_is_written_twice_is_there_once() {
    let Some(database) = TestDatabase::start().await else {
        return;
    };
    let mut connection = database.migrated().await;
    let entries = sale();
    let mut place = open(&mut connection, 1).await.expect("first");
    write(&mut place, &mut connection, &entries)
        .await
        .expect("written");
    let before = contents(&mut connection).await;
    // As after a restore that brought the checkpoint back, but not the rows.
    sqlx::query("UPDATE pump_checkpoint SET applied_index = 0")
        .execute(&mut connection)
        .await
        .expect("moved");
    let mut place = open(&mut connection, 1).await.expect("opened anew");
    assert_eq!(place.applied_index, 0);
    for batch in &entries {
        write(&mut place, &mut connection, std::slice::from_ref(batch))
            .await
            .expect("written again");
    }
    assert_eq!(contents(&mut connection).await, before);
}

#[tokio::test]
async fn a_large_batch_that_is_there_already_is_neither_doubled_nor_parked() {
    let Some(database) = TestDatabase::start().await else {
        return;
    };
    let mut connection = database.migrated().await;
    let entries = catching_up::bids(256, 0);
    let mut place = open(&mut connection, 1).await.expect("first");
    write(&mut place, &mut connection, &entries)
        .await
        .expect("copied");
    let before = contents(&mut connection).await;
    sqlx::query("UPDATE pump_checkpoint SET applied_index = 1")
        .execute(&mut connection)
        .await
        .expect("moved");
    let mut place = open(&mut connection, 1).await.expect("opened anew");
    let written = write(&mut place, &mut connection, &entries[1..])
        .await
        .expect("found there");
    assert_eq!((written.parked, place.applied_index), (0, 5));
    assert_eq!(contents(&mut connection).await, before);
}

#[tokio::test]
async fn a_killed_server_loses_and_doubles_nothing() {
    const ENTRIES: u64 = 3_000;
    const KILLS: u64 = 3;
    let Some(database) = TestDatabase::start_for_several().await else {
        return;
    };
    drop(database.migrated().await);
    let mut entries = vec![entry(1, vec![auction_created(3, 2), auction_started(3)])];
    entries.extend((2..=ENTRIES).map(|index| {
        let bid = u128::from(index);
        entry(
            index,
            vec![bid_placed(3, 1_000 + bid, index as i64, index as u32)],
        )
    }));
    let record = database.folder.path().join("postgres/data/postmaster.pid");
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut kills = 0;
    let mut place = None;
    while place.is_none_or(|place: Place| place.applied_index < ENTRIES) {
        assert!(Instant::now() < deadline, "written in the end");
        let Ok(mut connection) = PgConnection::connect(&database.database.url).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let Ok(mut opened) = open(&mut connection, 1).await else {
            continue;
        };
        while opened.applied_index < ENTRIES {
            let from = opened.applied_index as usize;
            let batch = &entries[from..(from + 50).min(entries.len())];
            if kills < KILLS && opened.applied_index > (kills + 1) * ENTRIES / (KILLS + 1) {
                kills += 1;
                let text = std::fs::read_to_string(&record).expect("a running server's record");
                let pid = text
                    .lines()
                    .next()
                    .expect("a number")
                    .parse()
                    .expect("a number");
                let pid = nix::unistd::Pid::from_raw(pid);
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("running");
            }
            if write(&mut opened, &mut connection, batch).await.is_err() {
                break;
            }
        }
        place = Some(opened);
    }
    assert_eq!(kills, KILLS);
    let mut connection = database.connect().await;
    let bids = number(&mut connection, "SELECT count(*) FROM bids").await;
    assert_eq!(bids, ENTRIES as i64 - 1);
    let gaps = number(
        &mut connection,
        "SELECT count(*) FROM generate_series(1, 3000) i
         WHERE NOT EXISTS (SELECT FROM changes WHERE log_index = i)",
    )
    .await;
    assert_eq!(gaps, 0);
    let price = number(&mut connection, "SELECT current_price FROM auctions").await;
    assert_eq!(price, ENTRIES as i64);
}

#[tokio::test]
async fn a_seat_sold_twice_is_seen() {
    let Some(database) = TestDatabase::start().await else {
        return;
    };
    let mut connection = database.migrated().await;
    let mut place = open(&mut connection, 1).await.expect("first");
    let mut entries = sale();
    entries.push(entry(13, vec![seats_sold(5, 23, &[1, 4, 0], "pay-2")]));
    let written = write(&mut place, &mut connection, &entries)
        .await
        .expect("goes on");
    assert_eq!(written.parked, 1);
    connection.close().await.expect("said goodbye");
    let mut verifier = Verifier::connect(&database.database.url)
        .await
        .expect("answers");
    assert_eq!(verifier.seats_sold_twice(id(5)).await.expect("read"), 2);
    let parked = verifier.dead_letters(10).await.expect("read");
    assert_eq!(parked[0].reason, "seat_sold_twice");
    assert!(
        parked[0].error.contains("seat 0 has ticket") && parked[0].error.contains("seat 1 has"),
        "{}",
        parked[0].error
    );
    let tickets = verifier.tickets(id(5)).await.expect("read");
    assert_eq!(tickets.len(), 3, "the first two and seat 4");
}

#[tokio::test]
async fn an_only_connection_is_passed_on_and_closed_at_the_end_of_the_round() {
    let Some(database) = TestDatabase::start().await else {
        return;
    };
    let url = &database.database.url;
    drop(database.migrated().await);
    let connections = Connections::new(url, true, 1).expect("a URL");
    let mut lanes = tokio::task::JoinSet::new();
    for partition in 0..8_u32 {
        let connections = Arc::clone(&connections);
        lanes.spawn(async move {
            let mut lease = connections.acquire().await.expect("answers");
            let opened = Place::open(&mut lease, GRID, partition, 1).await;
            let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
                .fetch_one(&mut *lease)
                .await
                .expect("answers");
            lease.release().await;
            opened.expect("opened");
            backend
        });
    }
    while let Some(backend) = lanes.join_next().await {
        backend.expect("no panic");
    }
    // Nobody waits, so the last lane said goodbye: another client may have the database.
    let mut connection = database.connect().await;
    let rows = number(&mut connection, "SELECT count(*) FROM pump_checkpoint").await;
    assert_eq!(rows, 8);
    if !database.database.single_connection {
        let deadline = Instant::now() + Duration::from_secs(10);
        while number(
            &mut connection,
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'spacegrid-pump'",
        )
        .await
            > 0
        {
            assert!(Instant::now() < deadline, "the pump's connection is closed");
        }
    }
    connections.close().await;
}

#[cfg(feature = "embedded-postgres")]
#[tokio::test]
async fn the_embedded_database_serves_lanes_and_reports_in_turns() {
    use catching_up::bids;

    use crate::database::{DatabaseChoice, DatabaseOptions, DatabaseSource, provide};

    const LANES: u32 = 4;
    let database = TestDatabase::start_with(DatabaseChoice::Embedded)
        .await
        .expect("built in");
    assert_eq!(database.database.source, DatabaseSource::Embedded);
    assert!(database.database.single_connection && !database.database.durable);
    let url = database.database.url.clone();
    let migrated = database.migrated().await;
    migrated.close().await.expect("said goodbye");

    let connections = Connections::new(&url, true, 1).expect("a URL");
    let mut lanes = tokio::task::JoinSet::new();
    for partition in 0..LANES {
        let connections = Arc::clone(&connections);
        lanes.spawn(async move {
            for batch in bids(2_000, partition) {
                let mut lease = connections.acquire().await.expect("answers");
                let mut place = Place::open(&mut lease, GRID, partition, 1)
                    .await
                    .expect("opened");
                write(&mut place, &mut lease, &[batch])
                    .await
                    .expect("written");
                lease.release().await;
            }
        });
    }
    // A reader gets in between two rounds.
    let report = reports::run(&url, "pump_lag", &reports::Selection::default())
        .await
        .expect("its turn");
    assert!(report.rows.len() <= LANES as usize);
    while let Some(lane) = lanes.join_next().await {
        lane.expect("no panic");
    }
    connections.close().await;
    let TestDatabase { database, folder } = database;
    database.stop().await.expect("stops");

    let mut options = DatabaseOptions::new(folder.path());
    options.choice = DatabaseChoice::Embedded;
    let database = provide(options).await.expect("starts again");
    let mut connection = PgConnection::connect(&database.url).await.expect("answers");
    let bids = number(&mut connection, "SELECT count(*) FROM bids").await;
    assert_eq!(bids, i64::from(LANES) * 2_048);
    connection.close().await.expect("said goodbye");
    database.stop().await.expect("stops");
}
