//! Cuts: what was dropped for its age, said and signed, so that it is not taken for tampering and
//! tampering is not taken for it.
//!
//! A cut names a log index: facts up to it may be gone. Blocks go up to the last signed root that lies
//! wholly before it; that root stays, and with it the chain's link from which verifying goes on.

use std::time::{SystemTime, UNIX_EPOCH};

use sqlx::PgConnection;
use uuid::Uuid;

use super::key::{AuditKey, AuditPublicKey};

/// A cut of one partition.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Cut {
    pub(crate) grid_id: Uuid,
    pub(crate) partition: i32,
    /// Facts up to this index may be gone.
    pub(crate) last_index: i64,
    /// Blocks up to the end of this root are gone; 0 if none are.
    pub(crate) root_number: i64,
    /// Facts before this time were dropped, in milliseconds since the Unix epoch.
    pub(crate) dropped_before_ms: i64,
    pub(crate) signed_at_ms: i64,
    public_key: Option<Vec<u8>>,
    signature: Option<Vec<u8>>,
}

impl Cut {
    fn text(&self) -> String {
        format!(
            "spacegrid-cut-1\ngrid {}\npartition {}\nlast_index {}\nroot_number {}\ndropped_before_ms {}\n\
             signed_at_ms {}\n",
            self.grid_id,
            self.partition,
            self.last_index,
            self.root_number,
            self.dropped_before_ms,
            self.signed_at_ms
        )
    }

    /// Whether one of these keys has signed it.
    pub(crate) fn is_signed_by(&self, keys: &[AuditPublicKey]) -> bool {
        let key = self
            .public_key
            .as_deref()
            .and_then(AuditPublicKey::from_slice);
        key.zip(self.signature.as_deref())
            .is_some_and(|(key, signature)| {
                keys.contains(&key) && key.verifies(self.text().as_bytes(), signature)
            })
    }
}

/// The cut of a partition, if there is one.
pub(crate) async fn read_cut(
    connection: &mut PgConnection,
    partition: i32,
) -> Result<Option<Cut>, sqlx::Error> {
    sqlx::query_as(
        "SELECT grid_id, partition, last_index, root_number, dropped_before_ms, signed_at_ms, public_key,
                signature
         FROM audit_cut WHERE partition = $1",
    )
    .bind(partition)
    .fetch_optional(connection)
    .await
}

/// Why nothing was cut.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CutError {
    #[error("{0}")]
    Database(#[from] sqlx::Error),
    /// Old facts are under signed roots, and this node cannot sign that they went.
    #[error(
        "the audit trail is signed and this node has no audit key, so it may not drop what is signed"
    )]
    NoKey,
}

/// Writes the cuts for changes before a time, and removes what of the trail goes with them, within the
/// caller's transaction. The changes themselves are the caller's to drop.
pub(crate) async fn cut_before(
    connection: &mut PgConnection,
    dropped_before_ms: i64,
    key: Option<&AuditKey>,
) -> Result<(), CutError> {
    let partitions: Vec<(i32, Uuid, i64)> = sqlx::query_as(
        "SELECT c.partition, c.grid_id, max(f.log_index)
         FROM changes f JOIN pump_checkpoint c USING (partition)
         WHERE f.at < 'epoch'::timestamptz + $1 * interval '1 millisecond'
         GROUP BY c.partition ORDER BY c.partition",
    )
    .bind(dropped_before_ms)
    .fetch_all(&mut *connection)
    .await?;
    for (partition, grid_id, last_index) in partitions {
        let root: Option<(i64, i64)> = sqlx::query_as(
            "SELECT number, last_block FROM audit_root
             WHERE partition = $1 AND last_index <= $2 ORDER BY number DESC LIMIT 1",
        )
        .bind(partition)
        .bind(last_index)
        .fetch_optional(&mut *connection)
        .await?;
        let is_signed: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM audit_root WHERE partition = $1)")
                .bind(partition)
                .fetch_one(&mut *connection)
                .await?;
        if is_signed && key.is_none() {
            return Err(CutError::NoKey);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut cut = Cut {
            grid_id,
            partition,
            last_index,
            root_number: root.map_or(0, |(number, _)| number),
            dropped_before_ms,
            signed_at_ms: now.map_or(0, |since| {
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            }),
            public_key: None,
            signature: None,
        };
        if let Some(key) = key {
            cut.signature = Some(key.sign(cut.text().as_bytes()).to_vec());
            cut.public_key = Some(key.public().as_bytes().to_vec());
        }
        write(connection, &cut).await?;
        let Some((number, last_block)) = root else {
            continue;
        };
        sqlx::query("DELETE FROM audit_block WHERE partition = $1 AND number <= $2")
            .bind(partition)
            .bind(last_block)
            .execute(&mut *connection)
            .await?;
        sqlx::query("DELETE FROM audit_root WHERE partition = $1 AND number < $2")
            .bind(partition)
            .bind(number)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn write(connection: &mut PgConnection, cut: &Cut) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO audit_cut (partition, grid_id, last_index, root_number, dropped_before_ms,
                                signed_at_ms, public_key, signature)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (partition) DO UPDATE SET
             grid_id = EXCLUDED.grid_id, last_index = EXCLUDED.last_index,
             root_number = EXCLUDED.root_number, dropped_before_ms = EXCLUDED.dropped_before_ms,
             signed_at_ms = EXCLUDED.signed_at_ms, public_key = EXCLUDED.public_key,
             signature = EXCLUDED.signature",
    )
    .bind(cut.partition)
    .bind(cut.grid_id)
    .bind(cut.last_index)
    .bind(cut.root_number)
    .bind(cut.dropped_before_ms)
    .bind(cut.signed_at_ms)
    .bind(cut.public_key.as_deref())
    .bind(cut.signature.as_deref())
    .execute(connection)
    .await?;
    Ok(())
}
