//! Months of `changes`: made ahead of time, dropped when they are old enough.
//!
//! Every node whose pump writes looks now and then; an advisory lock lets one at a time. A month is
//! dropped with its part of the audit trail in one transaction, which leaves a signed cut behind. Tables
//! that somebody reads at the moment are not waited for: the next look tries again.
//!
//! Only `changes` is divided: it grows with everything that happens. `bids` and `tickets` are as many as
//! there are bids and seats, and their keys, which make a second ticket for a seat impossible, do not hold
//! the time; they are kept.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::lane::{Shared, acquire};
use crate::audit::AuditKey;
use crate::audit::cut::{CutError, cut_before};

/// How often a node looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(3_600);
/// How soon it looks again when the schema is not there yet, or something was in the way.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// How long one look may take; finding out where a month ends reads it through.
const LOOK_WAIT: Duration = Duration::from_secs(600);
/// The advisory lock, any number that nobody else uses.
const MONTHS_LOCK: i64 = 0x5370_6163_654d_6f6e;
/// Months beyond the present one that there are tables for.
const MONTHS_AHEAD: i32 = 2;
/// How long a table is waited for, so that nobody waits behind the waiting.
const SESSION: &str = "SET LOCAL lock_timeout = '1s'; SET LOCAL statement_timeout = '600s'; \
     SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on";
const DAY_MS: i64 = 86_400_000;

/// What one look did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// Tables that were made.
    pub(super) made: u64,
    /// Tables that were dropped, by name.
    pub(super) dropped: Vec<String>,
}

/// Looks now and then, until the pump stops.
pub(super) async fn keep_months(shared: Arc<Shared>) {
    let mut stop = shared.stop.clone();
    loop {
        let pause = match look(&shared).await {
            true => LOOK_INTERVAL,
            false => RETRY_INTERVAL,
        };
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Looks once; `false` if it must be tried again soon.
async fn look(shared: &Shared) -> bool {
    if !*shared.is_schema_ready.lock().await {
        return false;
    }
    let Ok(mut lease) = acquire(shared).await else {
        return false;
    };
    let days = shared.settings.retention_changes_days;
    let look = look_once(&mut lease, days, shared.audit_key.as_ref());
    match tokio::time::timeout(LOOK_WAIT, look).await {
        Ok(Ok(kept)) => {
            lease.release().await;
            for name in &kept.dropped {
                tracing::info!(name, days, "a month of changes is dropped for its age");
            }
            true
        }
        Ok(Err(error)) => {
            lease.discard().await;
            match error {
                CutError::NoKey => tracing::warn!(%error, "old months are kept"),
                CutError::Database(_) => {
                    tracing::debug!(%error, "the months of changes are looked after later");
                }
            }
            false
        }
        Err(_) => {
            lease.discard().await;
            false
        }
    }
}

/// Makes the months that come and drops those that are over by so many days; 0 for never.
pub(super) async fn look_once(
    connection: &mut PgConnection,
    retention_days: u32,
    key: Option<&AuditKey>,
) -> Result<Kept, CutError> {
    let mut kept = Kept::default();
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql(SESSION).execute(&mut *transaction).await?;
    let is_mine: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)")
        .bind(MONTHS_LOCK)
        .fetch_one(&mut *transaction)
        .await?;
    if !is_mine {
        return Ok(kept);
    }
    let made: i64 = sqlx::query_scalar(
        "SELECT count(*) FILTER (WHERE make_changes_month(
             (date_trunc('month', now() AT TIME ZONE 'UTC') + ahead * interval '1 month')::date))
         FROM generate_series(0, $1) AS ahead",
    )
    .bind(MONTHS_AHEAD)
    .fetch_one(&mut *transaction)
    .await?;
    kept.made = u64::try_from(made).unwrap_or(0);
    transaction.commit().await?;
    if retention_days == 0 {
        return Ok(kept);
    }

    let mut transaction = connection.begin().await?;
    sqlx::raw_sql(SESSION).execute(&mut *transaction).await?;
    let old: Vec<(String, i64)> = sqlx::query_as(
        "SELECT name, (extract(epoch FROM upto) * 1000)::bigint FROM changes_months()
         WHERE pg_try_advisory_xact_lock($1) AND upto <= now() - $2 * interval '1 millisecond'
         ORDER BY upto",
    )
    .bind(MONTHS_LOCK)
    .bind(i64::from(retention_days) * DAY_MS)
    .fetch_all(&mut *transaction)
    .await?;
    let Some((_, dropped_before_ms)) = old.last() else {
        return Ok(kept);
    };
    cut_before(&mut transaction, *dropped_before_ms, key).await?;
    for (name, _) in &old {
        // The name is out of the database's own list of its tables.
        let sql = format!("DROP TABLE \"{}\"", name.replace('"', "\"\""));
        sqlx::query(AssertSqlSafe(sql))
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    kept.dropped = old.into_iter().map(|(name, _)| name).collect();
    Ok(kept)
}
