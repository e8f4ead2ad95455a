//! First starts that race each other for a database.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::fixtures::{TestDatabase, number};
use crate::schema::{SchemaError, migrate};

/// First starts at the same time.
const STARTS: usize = 4;
/// New databases that are raced for.
const RACES: usize = 3;

/// How many migrations this build has.
async fn known() -> i64 {
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations"));
    i64::try_from(files.expect("a folder").count()).expect("few")
}

async fn applied(connection: &mut PgConnection) -> i64 {
    number(
        connection,
        "SELECT count(*) FROM _sqlx_migrations WHERE success",
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_first_starts_that_race_one_migrates_and_the_others_find_it_done() {
    let Some(database) = TestDatabase::start_for_several().await else {
        return;
    };
    let known = known().await;
    for race in 0..RACES {
        let mut owner = database.connect().await;
        let sql = format!("CREATE DATABASE race_{race}");
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut owner)
            .await
            .expect("made");
        let name = format!("/race_{race}?");
        let url = database.database.url.replace("/postgres?", &name);
        let mut starts = tokio::task::JoinSet::new();
        for _ in 0..STARTS {
            let url = url.clone();
            starts.spawn(async move {
                let mut connection = PgConnection::connect(&url).await.expect("answers");
                migrate(&mut connection).await.expect("migrated");
                // Whoever waited goes by what it finds then: all of it.
                applied(&mut connection).await
            });
        }
        // One that dies in the middle of it takes nobody along.
        let cut_off = {
            let url = url.clone();
            tokio::spawn(async move {
                let mut connection = PgConnection::connect(&url).await.expect("answers");
                // It is ended before it can say how it went.
                let _ = migrate(&mut connection).await;
            })
        };
        tokio::task::yield_now().await;
        cut_off.abort();
        while let Some(found) = starts.join_next().await {
            // A migration that ran twice would have met its own tables.
            assert_eq!(found.expect("no panic"), known);
        }
        let mut connection = PgConnection::connect(&url).await.expect("answers");
        assert_eq!(applied(&mut connection).await, known);
    }
}

#[tokio::test]
async fn a_newer_builds_database_is_left_alone() {
    let Some(database) = TestDatabase::start().await else {
        return;
    };
    let mut connection = database.migrated().await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'of tomorrow', true, '\\x00', 0)",
    )
    .execute(&mut connection)
    .await
    .expect("written");
    let error = migrate(&mut connection).await.expect_err("refused");
    assert!(matches!(error, SchemaError::Migration(_)), "{error}");
    assert!(!error.is_retryable(), "{error}");
}
