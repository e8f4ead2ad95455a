//! How fast this machine's PostgreSQL takes rows when nothing but rows is written: what the pump's own rate
//! is to be compared with.
//!
//! A transaction is what a pump's is at its least: an event and a seat for each change, bound as arrays
//! (`UNNEST`), and a checkpoint that moves under its expected value. Tables of its own, in a schema of
//! their own, which is dropped at the end.

use std::str::FromStr;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use tokio::task::JoinSet;
use uuid::Uuid;

/// Changes in a transaction.
const BATCH: i64 = 1_000;
/// Seats that are updated, over and over.
const SEATS: i64 = 50_000;
/// Connections at a time, at most.
const CONNECTIONS_MAX: u32 = 16;
/// As long as that of an ordinary change.
const PAYLOAD: &str = r#"{"BoxOffice": {"SeatsHeld": {"buyer": "7f1c", "seats": [17], "expires_at": 1760000000000}}}"#;

/// What came of a measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BareRate {
    /// Connections that wrote at the same time.
    pub connections: u32,
    /// Changes a second, each an event's row and a seat's.
    pub changes_per_s: f64,
}

/// Writes for about `duration` over so many connections, at most 16.
///
/// # Errors
/// When the database is away or refuses. Retry, or read what it says.
pub async fn measure(
    database_url: &str,
    connections: u32,
    duration: Duration,
) -> Result<BareRate, sqlx::Error> {
    let connections = connections.clamp(1, CONNECTIONS_MAX);
    let options = PgConnectOptions::from_str(database_url)?
        .application_name("spacegrid-bare-rate")
        .disable_statement_logging();
    let schema = format!("bare_rate_{}", std::process::id());
    let mut owner = PgConnection::connect_with(&options).await?;
    execute(&mut owner, schema_sql(&schema)).await?;
    let measured = run(&options, &schema, connections, duration).await;
    let dropped = execute(&mut owner, format!("DROP SCHEMA {schema} CASCADE")).await;
    let changes_per_s = measured?;
    dropped?;
    owner.close().await?;
    Ok(BareRate {
        connections,
        changes_per_s,
    })
}

async fn execute(connection: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await
        .map(|_| ())
}

fn schema_sql(schema: &str) -> String {
    format!(
        "CREATE SCHEMA {schema};
         CREATE TABLE {schema}.checkpoint (partition integer PRIMARY KEY, applied bigint NOT NULL)
             WITH (fillfactor = 20);
         CREATE TABLE {schema}.events (
             partition integer, log_index bigint, seq integer, at timestamptz NOT NULL,
             kind text NOT NULL, entity uuid NOT NULL, payload jsonb NOT NULL,
             PRIMARY KEY (partition, log_index, seq));
         CREATE TABLE {schema}.seats (
             event_id uuid, seat_index integer, state text NOT NULL, buyer uuid,
             version bigint NOT NULL, PRIMARY KEY (event_id, seat_index)) WITH (fillfactor = 60)"
    )
}

async fn run(
    options: &PgConnectOptions,
    schema: &str,
    connections: u32,
    duration: Duration,
) -> Result<f64, sqlx::Error> {
    let mut writers = Vec::new();
    for partition in 0..connections {
        let mut connection = PgConnection::connect_with(options).await?;
        let setup = format!(
            "SET search_path = {schema}; SET jit = off;
             INSERT INTO checkpoint VALUES ({partition}, 0)"
        );
        execute(&mut connection, setup).await?;
        writers.push((connection, i32::try_from(partition).unwrap_or(0)));
    }
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for (connection, partition) in writers {
        tasks.spawn(write(connection, partition, started + duration));
    }
    let mut changes = 0;
    while let Some(written) = tasks.join_next().await {
        let written = written.map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))?;
        changes += written?;
    }
    Ok(changes as f64 / started.elapsed().as_secs_f64())
}

/// Writes batch after batch until its time is over, and returns how many changes.
async fn write(
    mut connection: PgConnection,
    partition: i32,
    until: Instant,
) -> Result<i64, sqlx::Error> {
    let event_id = Uuid::from_u128(u128::from(partition.unsigned_abs()));
    let mut applied: i64 = 0;
    while Instant::now() < until {
        let indexes: Vec<i64> = (applied + 1..=applied + BATCH).collect();
        let seats: Vec<i32> = indexes
            .iter()
            .map(|index| i32::try_from(index % SEATS).unwrap_or(0))
            .collect();
        let mut transaction = connection.begin().await?;
        let moved =
            sqlx::query("UPDATE checkpoint SET applied = $1 WHERE partition = $2 AND applied = $3")
                .bind(applied + BATCH)
                .bind(partition)
                .bind(applied)
                .execute(&mut *transaction)
                .await?;
        if moved.rows_affected() != 1 {
            return Err(sqlx::Error::RowNotFound);
        }
        sqlx::query(
            "INSERT INTO events (partition, log_index, seq, at, kind, entity, payload)
             SELECT $1, log_index, 0, now(), kind, $2, payload::jsonb
             FROM UNNEST($3::bigint[], $4::text[], $5::text[]) AS u (log_index, kind, payload)
             ON CONFLICT DO NOTHING",
        )
        .bind(partition)
        .bind(event_id)
        .bind(&indexes)
        .bind(vec!["seats_held"; indexes.len()])
        .bind(vec![PAYLOAD; indexes.len()])
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "INSERT INTO seats AS t (event_id, seat_index, state, buyer, version)
             SELECT $1, seat_index, 'held', $1, version
             FROM UNNEST($2::integer[], $3::bigint[]) AS u (seat_index, version)
             ON CONFLICT (event_id, seat_index) DO UPDATE
             SET state = EXCLUDED.state, buyer = EXCLUDED.buyer, version = EXCLUDED.version
             WHERE t.version < EXCLUDED.version",
        )
        .bind(event_id)
        .bind(&seats)
        .bind(&indexes)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        applied += BATCH;
    }
    connection.close().await?;
    Ok(applied)
}
