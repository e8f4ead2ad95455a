//! The report views as a contract: what they say of themselves, who may read them, how they are replaced.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::fixtures::TestDatabase;
use super::report_tests::{expected, filled};
use crate::reports::{self, Chart, REPORT_ROLE, REPORTS, ReportError, RoleState, Selection, run};
use crate::schema::migrate;

#[tokio::test]
async fn every_view_and_column_says_what_it_is() {
    let Some(database) = TestDatabase::start().await else {
        return;
    };
    let mut connection = database.migrated().await;
    let described: Vec<(String, String, Option<String>, Option<String>)> = sqlx::query_as(
        "SELECT c.relname::text, a.attname::text, obj_description(c.oid, 'pg_class'),
                col_description(c.oid, a.attnum)
         FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
         WHERE c.relkind = 'v' AND c.relnamespace = current_schema()::regnamespace
         ORDER BY c.relname, a.attnum",
    )
    .fetch_all(&mut connection)
    .await
    .expect("read");
    let mut columns: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (view, column, of_view, of_column) in described {
        assert!(of_view.is_some_and(|text| text.ends_with('.')), "{view}");
        assert!(
            of_column.is_some_and(|text| text.len() > 2),
            "{view}.{column}"
        );
        columns.entry(view).or_default().insert(column);
    }
    let views: BTreeSet<String> = REPORTS.iter().map(reports::Report::view).collect();
    assert_eq!(columns.keys().cloned().collect::<BTreeSet<_>>(), views);
    for report in REPORTS {
        let columns = &columns[&report.view()];
        let has = |column: &str| columns.contains(column);
        assert_eq!(has("event_id"), report.by_event, "{}", report.name);
        assert_eq!(has("auction_id"), report.by_auction, "{}", report.name);
        assert!(report.time_column.is_none_or(has), "{}", report.name);
        let drawn = match report.chart {
            Some(Chart::Timeline {
                at,
                value,
                series,
                id,
            }) => vec![at, value, series, id],
            Some(Chart::Bars {
                labels,
                values,
                same,
                ..
            }) => labels.iter().chain(values).copied().chain(same).collect(),
            None => Vec::new(),
        };
        assert!(drawn.into_iter().all(has), "{}", report.name);
    }
}

/// The same database, as another user.
fn as_user(database: &TestDatabase, user: &str) -> String {
    let (_, rest) = database.database.url.split_once('@').expect("a user");
    format!("postgres://{user}@{rest}")
}

/// The SQLSTATE with which a statement is refused.
async fn refusal(connection: &mut PgConnection, sql: &str) -> String {
    let outcome = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await;
    match outcome {
        Err(sqlx::Error::Database(error)) => error.code().unwrap_or_default().into_owned(),
        other => panic!("{sql}: {other:?}"),
    }
}

#[tokio::test]
async fn the_report_role_reads_every_report_and_nothing_else() {
    const FORBIDDEN: &str = "42501";
    const READ_ONLY: &str = "25006";
    let Some(database) = filled().await else {
        return;
    };
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class
         WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'S', 'm')
            OR relname = 'pg_authid' ORDER BY relname",
    )
    .fetch_all(&mut database.connect().await)
    .await
    .expect("read");
    assert!(tables.len() >= 11, "{tables:?}");

    let url = as_user(&database, REPORT_ROLE);
    for (name, expected) in expected() {
        let table = run(&url, name, &Selection::default()).await.expect("read");
        assert_eq!(table.rows.len(), expected.len(), "{name}");
    }
    let mut reader = PgConnection::connect(&url).await.expect("may log in");
    for report in REPORTS {
        let read = format!("SELECT * FROM {}", report.view());
        sqlx::raw_sql(AssertSqlSafe(read))
            .execute(&mut reader)
            .await
            .expect("may read");
    }
    for table in &tables {
        let read = format!("SELECT * FROM {table}");
        assert_eq!(refusal(&mut reader, &read).await, FORBIDDEN, "{table}");
    }
    let writes = [
        "CREATE TABLE mine (n integer)",
        "CREATE TEMPORARY TABLE mine (n integer)",
        "UPDATE pump_checkpoint SET applied_index = 0",
    ];
    for sql in writes {
        let code = refusal(&mut reader, sql).await;
        assert!(
            [READ_ONLY, FORBIDDEN].contains(&code.as_str()),
            "{sql}: {code}"
        );
    }
    // The default can be set aside; the privileges cannot.
    reader
        .execute("SET default_transaction_read_only = off")
        .await
        .expect("a default");
    for report in REPORTS {
        let delete = format!("DELETE FROM {}", report.view());
        let code = refusal(&mut reader, &delete).await;
        // Views of more than one table cannot be written by anybody.
        assert!([FORBIDDEN, "55000"].contains(&code.as_str()), "{code}");
    }
    for table in &tables {
        let delete = format!("DELETE FROM {table}");
        assert_eq!(refusal(&mut reader, &delete).await, FORBIDDEN, "{table}");
    }
    let writes = [
        "INSERT INTO dead_letter SELECT * FROM dead_letter",
        "TRUNCATE changes",
        "DROP VIEW report_pump_lag",
        "CREATE TABLE mine (n integer)",
        "CREATE ROLE other",
        "COMMENT ON VIEW report_pump_lag IS NULL",
        "COPY (SELECT 1) TO PROGRAM 'true'",
    ];
    for sql in writes {
        assert_eq!(refusal(&mut reader, sql).await, FORBIDDEN, "{sql}");
    }
}

#[tokio::test]
async fn a_pump_that_may_not_make_roles_starts_and_says_what_to_do() {
    let Some(database) = TestDatabase::start_for_several().await else {
        return;
    };
    let mut administrator = database.connect().await;
    administrator
        .execute("CREATE ROLE pump LOGIN NOSUPERUSER NOCREATEROLE")
        .await
        .expect("made");
    let make_room = "GRANT CREATE ON SCHEMA public TO pump";
    administrator.execute(make_room).await.expect("granted");
    let mut pump = PgConnection::connect(&as_user(&database, "pump"))
        .await
        .expect("may log in");
    let state = migrate(&mut pump).await.expect("migrated all the same");
    let RoleState::Missing { statement } = state else {
        panic!("{state:?}");
    };
    let read = run(
        &as_user(&database, "pump"),
        "pump_lag",
        &Selection::default(),
    )
    .await;
    assert_eq!(read.expect("views are there").rows.len(), 0);

    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(&mut administrator)
        .await
        .expect("the statement works as it stands");
    let reader = as_user(&database, REPORT_ROLE);
    let early = run(&reader, "pump_lag", &Selection::default()).await;
    assert!(matches!(early, Err(ReportError::Forbidden(_))), "{early:?}");
    for _ in 0..2 {
        assert_eq!(migrate(&mut pump).await.expect("again"), RoleState::Ready);
    }
    run(&reader, "pump_lag", &Selection::default())
        .await
        .expect("may read now");

    // As every database was before PostgreSQL 15.
    administrator
        .execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
        .await
        .expect("granted");
    let state = migrate(&mut pump).await.expect("again");
    let RoleState::TooMuch { statement } = state else {
        panic!("{state:?}");
    };
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(&mut administrator)
        .await
        .expect("the statement works as it stands");
    assert_eq!(migrate(&mut pump).await.expect("again"), RoleState::Ready);
}

#[tokio::test]
async fn a_view_in_use_stays_and_an_older_one_is_replaced() {
    let Some(database) = TestDatabase::start_for_several().await else {
        return;
    };
    let mut connection = database.migrated().await;
    let before = "DROP VIEW report_pump_lag;
         CREATE VIEW report_pump_lag AS SELECT 1 AS other_column;
         CREATE VIEW of_somebody AS SELECT * FROM report_pump_lag";
    connection.execute(before).await.expect("made");
    let columns = "SELECT string_agg(attname, ',') FROM pg_attribute
                   WHERE attrelid = 'report_pump_lag'::regclass";
    let columns_now = async |connection: &mut PgConnection| -> String {
        migrate(connection).await.expect("starts all the same");
        sqlx::query_scalar(columns)
            .fetch_one(connection)
            .await
            .expect("read")
    };
    assert_eq!(columns_now(&mut connection).await, "other_column");
    connection
        .execute("DROP VIEW of_somebody")
        .await
        .expect("gone");

    let mut reader = database.connect().await;
    let reading = "BEGIN; SELECT * FROM report_pump_lag";
    reader.execute(reading).await.expect("reads on and on");
    assert_eq!(columns_now(&mut connection).await, "other_column");
    reader.execute("COMMIT").await.expect("done");
    assert!(columns_now(&mut connection).await.contains("seconds_ago"));
}
