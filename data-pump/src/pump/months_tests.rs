//! Months of `changes` against a real database: converted, made, dropped, and audited all the while.

use sqlx::{AssertSqlSafe, PgConnection};

use super::fixtures::{
    Entry, START_MS, TestDatabase, bid_placed, contents, entry, id, number, open, sale, write,
};
use super::months::look_once;
use super::resync::EntityKind;
use super::{OperatorError, Place, PumpOperator};
use crate::audit::{AuditKey, Fault, PartitionReport, Signing, VerifyOptions, verify};
use crate::schema::migrate_to;

fn key() -> AuditKey {
    AuditKey::from_seed(&[7; 32]).expect("a seed")
}

async fn execute(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .expect("done");
}

async fn sign(connection: &mut PgConnection, place: &Place) {
    let signing = Signing {
        grid_id: place.grid_id,
        partition: 0,
        base_index: place.trail.base_index,
        key: &key(),
        leaves_max: 1_000,
    };
    signing
        .sign(connection, &place.trail.head)
        .await
        .expect("signed");
}

async fn report(database: &TestDatabase) -> PartitionReport {
    let options = VerifyOptions {
        keys: vec![key().public()],
        ..VerifyOptions::default()
    };
    let report = verify(&database.database.url, options, |_| {}).await;
    report.expect("can be read").partitions.remove(0)
}

/// An entry at a time of its own, in days after the small sale.
fn later(index: u64, days: u64) -> Entry {
    let mut batch = entry(index, vec![bid_placed(3, u128::from(index), 20_000, 3)]);
    let at = START_MS + days * 86_400_000;
    std::sync::Arc::get_mut(&mut batch).expect("ours").at = grid_core::Timestamp::from_millis(at);
    batch
}

/// Days from the small sale to now.
async fn age_days(connection: &mut PgConnection) -> u64 {
    let now_ms = number(
        connection,
        "SELECT (extract(epoch FROM now()) * 1000)::bigint",
    )
    .await;
    (now_ms.unsigned_abs() - START_MS) / 86_400_000
}

#[tokio::test]
async fn what_an_older_build_wrote_becomes_a_partition_and_nothing_is_lost() {
    let Some(database) = TestDatabase::start_for_several().await else {
        return;
    };
    let mut connection = database.connect().await;
    migrate_to(&mut connection, 6)
        .await
        .expect("an older build");
    let mut place = open(&mut connection, 1).await.expect("first");
    write(&mut place, &mut connection, &sale())
        .await
        .expect("written");
    sign(&mut connection, &place).await;
    let before = contents(&mut connection).await;

    let mut connection = database.migrated().await;
    assert_eq!(contents(&mut connection).await, before);
    let whole = number(&mut connection, "SELECT count(*) FROM changes_before").await;
    assert_eq!(whole, 15);
    // The pump goes on, and what is there already is still not written a second time.
    let mut place = open(&mut connection, 1).await.expect("a newer build");
    assert_eq!(place.applied_index, 12);
    write(&mut place, &mut connection, &[later(13, 0)])
        .await
        .expect("goes on");
    let twice = "INSERT INTO changes SELECT * FROM changes ON CONFLICT DO NOTHING";
    execute(&mut connection, twice).await;
    assert_eq!(
        number(&mut connection, "SELECT count(*) FROM changes").await,
        16
    );
    assert_eq!(report(&database).await.findings, []);
}

#[tokio::test]
async fn months_are_made_ahead_and_take_what_waited_for_them() {
    let Some(database) = TestDatabase::start().await else {
        return;
    };
    let mut connection = database.migrated().await;
    let mut place = open(&mut connection, 1).await.expect("first");
    let days = age_days(&mut connection).await;
    write(&mut place, &mut connection, &[later(1, days)])
        .await
        .expect("written");
    let waiting = "SELECT count(*) FROM changes_default";
    assert_eq!(number(&mut connection, waiting).await, 1);
    let kept = look_once(&mut connection, 0, None).await.expect("looked");
    assert_eq!((kept.made, kept.dropped.len()), (3, 0));
    assert_eq!(number(&mut connection, waiting).await, 0);
    assert_eq!(
        number(&mut connection, "SELECT count(*) FROM changes").await,
        1
    );
    let again = look_once(&mut connection, 0, None).await.expect("looked");
    assert_eq!(again.made, 0);
}

#[tokio::test]
async fn old_months_go_and_what_is_left_still_verifies() {
    let Some(database) = TestDatabase::start_for_several().await else {
        return;
    };
    let mut connection = database.migrated().await;
    // As on a machine that was set up back then.
    execute(
        &mut connection,
        "ALTER TABLE changes DETACH PARTITION changes_before;
         ALTER TABLE changes ATTACH PARTITION changes_before
         FOR VALUES FROM (MINVALUE) TO ('2025-11-01 00:00+00')",
    )
    .await;
    let mut place = open(&mut connection, 1).await.expect("first");
    write(&mut place, &mut connection, &sale())
        .await
        .expect("written");
    sign(&mut connection, &place).await;
    // One transaction, and so one block, with facts of the old month and of today.
    let days = age_days(&mut connection).await;
    look_once(&mut connection, 0, None).await.expect("looked");
    write(
        &mut place,
        &mut connection,
        &[later(13, 0), later(14, days)],
    )
    .await
    .expect("written");
    sign(&mut connection, &place).await;
    write(&mut place, &mut connection, &[later(15, days)])
        .await
        .expect("written");
    let before = report(&database).await;
    assert_eq!((before.facts, before.dropped_index), (18, 0), "{before:#?}");

    let unsigned = look_once(&mut connection, 1, None).await;
    assert!(unsigned.is_err(), "a node without the key: {unsigned:?}");
    assert_eq!(
        number(&mut connection, "SELECT count(*) FROM changes").await,
        18
    );
    let kept = look_once(&mut connection, 1, Some(&key()))
        .await
        .expect("looked");
    assert_eq!(kept.dropped, ["changes_before"]);
    assert_eq!(
        number(&mut connection, "SELECT count(*) FROM changes").await,
        2
    );
    let after = report(&database).await;
    assert_eq!(after.findings, []);
    assert_eq!(
        (after.from_index, after.facts, after.expired_facts),
        (13, 2, 1),
        "{after:#?}"
    );

    // What has lost its beginning is not made anew.
    let mut operator = PumpOperator::connect(&database.database.url)
        .await
        .expect("connects");
    let bids = number(&mut connection, "SELECT count(*) FROM bids").await;
    let refused = operator.remake(EntityKind::Auction, id(3)).await;
    assert!(
        matches!(refused, Err(OperatorError::Dropped)),
        "{refused:?}"
    );
    assert_eq!(
        number(&mut connection, "SELECT count(*) FROM bids").await,
        bids
    );

    // A cut is no excuse for what comes after it, and cannot be moved.
    let first = |report: PartitionReport| report.findings.first().map(|finding| finding.fault);
    execute(&mut connection, "DELETE FROM changes WHERE log_index = 14").await;
    assert_eq!(first(report(&database).await), Some(Fault::Missing));
    execute(&mut connection, "UPDATE audit_cut SET last_index = 14").await;
    assert_eq!(first(report(&database).await), Some(Fault::CutAltered));
}
