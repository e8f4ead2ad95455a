//! What a real database refuses: parked by entity, in order, bounded, retried, dropped; and pauses.

use sqlx::{AssertSqlSafe, PgConnection};

use super::control::{OperatorError, PumpOperator};
use super::dead_letters::{ChangePlace, Dropped, ParkedChange, ParkedFilter};
use super::fixtures::{
    TestDatabase, auction_created, bid_placed, contents, entry, event_created, id, item_created,
    number, open, sale, seats_held, write,
};
use super::resync::EntityKind;
use super::writer::WriteError;

const ALL: ParkedFilter = ParkedFilter {
    partition: None,
    entity: None,
};

async fn execute(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .expect("done");
}

async fn operator(database: &TestDatabase) -> PumpOperator {
    PumpOperator::connect(&database.database.url)
        .await
        .expect("answers")
}

/// What is parked, as (place, reason, SQLSTATE, attempts).
fn outline(parked: &[ParkedChange]) -> Vec<(i64, i32, &str, Option<&str>, i32)> {
    let outline = parked.iter().map(|change| {
        (
            change.log_index,
            change.seq,
            change.reason.as_str(),
            change.sqlstate.as_deref(),
            change.attempts,
        )
    });
    outline.collect()
}

async fn parked_count(connection: &mut PgConnection) -> i64 {
    number(connection, "SELECT parked FROM pump_checkpoint").await
}

/// Takes away what the database holds beyond the small sale.
async fn forget_later(connection: &mut PgConnection) {
    execute(
        connection,
        "DELETE FROM changes WHERE log_index > 12; DELETE FROM bids WHERE log_index > 12;
         DELETE FROM holds WHERE version > 12;
         UPDATE auctions SET current_price = 15000, minimum_next = 15100, bids = 2, version = 12;
         UPDATE seats SET state = 'available', buyer = NULL, hold_id = NULL, version = 1
         WHERE seat_index = 5",
    )
    .await;
}

/// What the database holds after the small sale when nothing is refused.
async fn undisturbed() -> Option<Vec<String>> {
    let database = TestDatabase::start().await?;
    let mut connection = database.migrated().await;
    let mut place = open(&mut connection, 1).await.expect("first");
    write(&mut place, &mut connection, &sale())
        .await
        .expect("written");
    Some(contents(&mut connection).await)
}

#[tokio::test]
async fn a_refused_change_parks_its_entity_and_the_rest_goes_on() {
    let Some(expected) = undisturbed().await else {
        return;
    };
    let Some(database) = TestDatabase::start_for_several().await else {
        return;
    };
    let mut connection = database.migrated().await;
    execute(
        &mut connection,
        "ALTER TABLE bids ADD CONSTRAINT not_15000 CHECK (amount <> 15000)",
    )
    .await;
    let mut place = open(&mut connection, 1).await.expect("first");
    let entries = sale();
    // In one batch, up to and beyond the refused bid; then batches that find the entity parked.
    let written = write(&mut place, &mut connection, &entries[..8])
        .await
        .expect("goes on");
    assert_eq!((written.parked, written.parked_in_all), (2, 2));
    let mut later = entries[8..].to_vec();
    later.push(entry(13, vec![seats_held(5, 24, &[5])]));
    let written = write(&mut place, &mut connection, &later)
        .await
        .expect("goes on");
    assert_eq!((written.parked, written.parked_in_all), (2, 4));
    assert_eq!(place.applied_index, 13);

    let mut operator = operator(&database).await;
    let parked = operator.parked(ALL, 10).await.expect("read");
    assert_eq!(
        outline(&parked),
        [
            (8, 0, "rejected", Some("23514"), 1),
            (9, 0, "behind", None, 0),
            (10, 0, "behind", None, 0),
            (12, 0, "behind", None, 0),
        ]
    );
    assert!(parked[0].error.contains("not_15000"), "{}", parked[0].error);
    assert_eq!(parked[0].entity, id(3));
    assert!(parked[0].payload.contains("15000"), "{}", parked[0].payload);
    // The event went on, also after the auction was parked.
    assert_eq!(
        number(&mut connection, "SELECT count(*) FROM holds").await,
        5
    );
    assert_eq!(
        number(&mut connection, "SELECT count(*) FROM bids").await,
        1
    );

    // A retry that meets the same writes nothing and counts.
    let entities = operator.parked_entities(ALL).await.expect("read");
    assert_eq!((entities.len(), entities[0].changes), (1, 4));
    let retried = operator.retry(&entities[0]).await.expect("tried");
    assert_eq!((retried.written, retried.left), (0, 4));
    let refused = retried.refused.expect("as before");
    assert_eq!(
        (refused.place.as_str(), refused.sqlstate.as_deref()),
        ("0:8:0", Some("23514"))
    );
    let parked = operator.parked(ALL, 1).await.expect("read");
    assert_eq!(outline(&parked), [(8, 0, "rejected", Some("23514"), 2)]);

    // Another constraint lets the first through and stops at the next.
    execute(
        &mut connection,
        "ALTER TABLE bids DROP CONSTRAINT not_15000, ADD CONSTRAINT not_16000 CHECK (amount <> 16000)",
    )
    .await;
    let retried = operator.retry(&entities[0]).await.expect("tried");
    assert_eq!((retried.written, retried.left), (1, 3));
    assert_eq!(parked_count(&mut connection).await, 3);

    execute(
        &mut connection,
        "ALTER TABLE bids DROP CONSTRAINT not_16000",
    )
    .await;
    let retried = operator.retry(&entities[0]).await.expect("tried");
    assert_eq!(
        (retried.written, retried.left, retried.refused),
        (3, 0, None)
    );
    assert_eq!(parked_count(&mut connection).await, 0);

    // The entity is an ordinary one again, and everything is as if nothing had been refused.
    let mut expected = expected;
    let written = write(
        &mut place,
        &mut connection,
        &[entry(14, vec![bid_placed(3, 14, 17_000, 3)])],
    )
    .await
    .expect("goes on");
    assert_eq!((written.parked, written.missing), (0, 0));
    forget_later(&mut connection).await;
    expected.sort();
    let mut found = contents(&mut connection).await;
    found.sort();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_number_out_of_range_parks_and_a_nul_does_not() {
    let Some(database) = TestDatabase::start().await else {
        return;
    };
    let mut connection = database.migrated().await;
    // A column that views show cannot change its type.
    execute(
        &mut connection,
        r"DO $$ DECLARE shown text; BEGIN
            FOR shown IN SELECT viewname FROM pg_views WHERE viewname LIKE 'report\_%' LOOP
                EXECUTE format('DROP VIEW IF EXISTS %I CASCADE', shown);
            END LOOP;
          END $$;
          ALTER TABLE bids ALTER COLUMN amount TYPE integer",
    )
    .await;
    let mut place = open(&mut connection, 1).await.expect("first");
    let entries = [
        entry(
            1,
            vec![
                item_created(2, "Ch\0air"),
                auction_created(3, 2),
                auction_created(4, 2),
            ],
        ),
        entry(
            2,
            vec![
                bid_placed(3, 11, 3_000_000_000, 1),
                bid_placed(4, 12, 20_000, 1),
            ],
        ),
    ];
    let written = write(&mut place, &mut connection, &entries)
        .await
        .expect("goes on");
    assert_eq!(written.parked, 1);
    let (code, text): (String, String) =
        sqlx::query_as("SELECT sqlstate, error FROM dead_letter WHERE entity = $1")
            .bind(id(3))
            .fetch_one(&mut connection)
            .await
            .expect("parked");
    assert_eq!(code, "22003", "{text}");
    let name: String = sqlx::query_scalar("SELECT name FROM items")
        .fetch_one(&mut connection)
        .await
        .expect("written");
    assert_eq!(name, "Ch\u{fffd}air");
    assert_eq!(
        number(&mut connection, "SELECT count(*) FROM bids").await,
        1
    );
}

#[tokio::test]
async fn a_renamed_column_stops_the_lane_and_parks_nothing() {
    let Some(database) = TestDatabase::start().await else {
        return;
    };
    let mut connection = database.migrated().await;
    let entries = sale();
    let mut place = open(&mut connection, 1).await.expect("first");
    write(&mut place, &mut connection, &entries[..6])
        .await
        .expect("written");
    execute(
        &mut connection,
        "ALTER TABLE bids RENAME COLUMN amount TO sum",
    )
    .await;
    let refused = write(&mut place, &mut connection, &entries[6..]).await;
    let Err(error @ WriteError::Schema { .. }) = refused else {
        panic!("not {refused:?}");
    };
    assert!(!error.is_retryable());
    let text = error.to_string();
    assert!(text.contains("42703") && text.contains("bids"), "{text}");
    assert_eq!(
        (place.applied_index, parked_count(&mut connection).await),
        (7, 0)
    );
    execute(
        &mut connection,
        "ALTER TABLE bids RENAME COLUMN sum TO amount",
    )
    .await;
    let written = write(&mut place, &mut connection, &entries[6..])
        .await
        .expect("goes on by itself");
    assert_eq!(written.parked, 0);
    assert_eq!(
        number(&mut connection, "SELECT count(*) FROM bids").await,
        3
    );
}

#[tokio::test]
async fn no_more_is_parked_than_may_be() {
    let Some(database) = TestDatabase::start().await else {
        return;
    };
    let mut connection = database.migrated().await;
    execute(
        &mut connection,
        "ALTER TABLE bids ADD CONSTRAINT none CHECK (amount < 0)",
    )
    .await;
    let mut place = open(&mut connection, 1).await.expect("first");
    place.parked_max = 2;
    let entries = sale();
    let written = write(&mut place, &mut connection, &entries[..7])
        .await
        .expect("two may be parked");
    assert_eq!(written.parked_in_all, 2);
    let refused = write(&mut place, &mut connection, &entries[7..]).await;
    assert!(
        matches!(refused, Err(WriteError::TooManyParked { max: 2, .. })),
        "{refused:?}"
    );
    assert_eq!(
        (place.applied_index, parked_count(&mut connection).await),
        (8, 2)
    );
    let letters = number(&mut connection, "SELECT count(*) FROM dead_letter").await;
    assert_eq!(letters, 2);
}

#[tokio::test]
async fn what_is_dropped_is_recorded() {
    let Some(database) = TestDatabase::start_for_several().await else {
        return;
    };
    let mut connection = database.migrated().await;
    execute(
        &mut connection,
        "ALTER TABLE bids ADD CONSTRAINT none CHECK (amount <> 15000)",
    )
    .await;
    let mut place = open(&mut connection, 1).await.expect("first");
    write(&mut place, &mut connection, &sale())
        .await
        .expect("goes on");
    let mut operator = operator(&database).await;
    let first = ChangePlace {
        partition: 0,
        log_index: 8,
        seq: 0,
    };
    let dropped = operator
        .drop_parked(Dropped::Change(first), "somebody", "a typing error")
        .await
        .expect("dropped");
    assert_eq!((dropped, parked_count(&mut connection).await), (1, 3));
    let reason: String = sqlx::query_scalar(
        "SELECT dropped_by || ': ' || drop_reason FROM dead_letter_dropped
         WHERE log_index = 8 AND payload LIKE '%15000%'",
    )
    .fetch_one(&mut connection)
    .await
    .expect("recorded");
    assert_eq!(reason, "somebody: a typing error");
    let again = operator
        .drop_parked(Dropped::Change(first), "somebody", "again")
        .await;
    assert!(matches!(again, Err(OperatorError::NotParked)));
    // What was behind it can be written now.
    let entities = operator.parked_entities(ALL).await.expect("read");
    let retried = operator.retry(&entities[0]).await.expect("tried");
    assert_eq!((retried.written, retried.left), (3, 0));
    assert_eq!(
        number(&mut connection, "SELECT count(*) FROM bids").await,
        2
    );
    let gone = operator
        .drop_parked(Dropped::Entity(id(3)), "somebody", "nothing is left")
        .await;
    assert!(matches!(gone, Err(OperatorError::NotParked)));
}

#[tokio::test]
async fn a_paused_partition_is_written_by_nobody_whoever_leads() {
    let Some(database) = TestDatabase::start_for_several().await else {
        return;
    };
    let mut connection = database.migrated().await;
    let mut place = open(&mut connection, 1).await.expect("first");
    let entries = [
        entry(1, vec![event_created(5, 2)]),
        entry(2, vec![seats_held(5, 20, &[1])]),
    ];
    write(&mut place, &mut connection, &entries[..1])
        .await
        .expect("written");
    let mut operator = operator(&database).await;
    let paused = operator
        .pause(None, "somebody", "a dump")
        .await
        .expect("done");
    assert_eq!(paused, [0]);
    let again = operator
        .pause(Some(0), "another", "twice")
        .await
        .expect("done");
    assert_eq!(again, [0; 0], "the first pause stays");
    let refused = write(&mut place, &mut connection, &entries[1..]).await;
    assert!(
        matches!(refused, Err(WriteError::Paused { .. })),
        "{refused:?}"
    );
    let mut next = open(&mut connection, 2).await.expect("the next leader");
    assert!(next.is_paused);
    let refused = write(&mut next, &mut connection, &entries[1..]).await;
    assert!(
        matches!(refused, Err(WriteError::Paused { .. })),
        "{refused:?}"
    );
    let row = operator.partitions().await.expect("read").remove(0);
    assert_eq!(row.pause_reason.as_deref(), Some("a dump"));
    assert_eq!(row.paused_by.as_deref(), Some("somebody"));

    assert_eq!(operator.resume(None).await.expect("done"), [0]);
    let mut next = open(&mut connection, 2).await.expect("opened anew");
    assert!(!next.is_paused);
    write(&mut next, &mut connection, &entries[1..])
        .await
        .expect("goes on");
    assert_eq!(
        number(&mut connection, "SELECT count(*) FROM holds").await,
        1
    );
}

#[tokio::test]
async fn rows_that_were_edited_are_made_anew_from_the_changes() {
    let Some(database) = TestDatabase::start_for_several().await else {
        return;
    };
    let mut connection = database.migrated().await;
    let mut place = open(&mut connection, 1).await.expect("first");
    for batch in &sale() {
        write(&mut place, &mut connection, std::slice::from_ref(batch))
            .await
            .expect("written");
    }
    let before = contents(&mut connection).await;
    execute(
        &mut connection,
        "UPDATE seats SET state = 'sold', version = 99; DELETE FROM tickets; DELETE FROM holds;
         UPDATE auctions SET current_price = 1; DELETE FROM bids WHERE amount = 15000",
    )
    .await;
    let mut operator = operator(&database).await;
    let event = operator
        .remake(EntityKind::Event, id(5))
        .await
        .expect("made anew");
    assert_eq!((event.changes, event.rows > 7), (7, true), "{event:?}");
    operator
        .remake(EntityKind::Auction, id(3))
        .await
        .expect("made anew");
    assert_eq!(contents(&mut connection).await, before);
    // The pump goes on from where it was.
    let next = entry(13, vec![seats_held(5, 24, &[5])]);
    let written = write(&mut place, &mut connection, &[next])
        .await
        .expect("goes on");
    assert_eq!((written.parked, written.missing), (0, 0));
}
