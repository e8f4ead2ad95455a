//! Blocks and roots in the database: `audit_block`, `audit_root`, `audit_key`.

use sqlx::PgConnection;
use sqlx::postgres::{PgTypeInfo, PgValueRef, Postgres};
use uuid::Uuid;

use super::block::Block;
use super::hash::Hash;
use super::key::AuditPublicKey;
use super::statement::{SignedRoot, Statement};

/// Blocks that one question brings: a few megabytes at most, but for entries of many changes.
pub(crate) const BLOCKS_PER_READ: i64 = 32;
/// Roots that one question brings.
pub(crate) const ROOTS_PER_READ: i64 = 256;

/// Microseconds from the Unix epoch to the database's, which is the year 2000.
const DATABASE_EPOCH_US: i64 = 946_684_800_000_000;

/// A `timestamptz` to the last microsecond, counted from the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Micros(pub(crate) i64);

impl sqlx::Type<Postgres> for Micros {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("TIMESTAMPTZ")
    }
}

impl<'r> sqlx::Decode<'r, Postgres> for Micros {
    fn decode(value: PgValueRef<'r>) -> Result<Self, sqlx::error::BoxDynError> {
        let bytes: [u8; 8] = value.as_bytes()?.try_into()?;
        // The ends of time are infinities.
        Ok(Self(
            i64::from_be_bytes(bytes).saturating_add(DATABASE_EPOCH_US),
        ))
    }
}

/// A row of `audit_block`.
#[derive(Debug, sqlx::FromRow)]
struct BlockRow {
    number: i64,
    first_leaf: i64,
    first_index: i64,
    last_index: i64,
    entries: Vec<u8>,
    leaves: Vec<u8>,
    chain: Vec<u8>,
}

/// A block with the link that the database has of it.
#[derive(Clone, Debug)]
pub(crate) struct StoredBlock {
    pub(crate) block: Block,
    pub(crate) chain: Vec<u8>,
}

/// The blocks after one, in their order, at most [`BLOCKS_PER_READ`].
pub(crate) async fn blocks_after(
    connection: &mut PgConnection,
    partition: i32,
    number: i64,
) -> Result<Vec<StoredBlock>, sqlx::Error> {
    let rows: Vec<BlockRow> = sqlx::query_as(
        "SELECT number, first_leaf, first_index, last_index, entries, leaves, chain
         FROM audit_block WHERE partition = $1 AND number > $2 ORDER BY number LIMIT $3",
    )
    .bind(partition)
    .bind(number)
    .bind(BLOCKS_PER_READ)
    .fetch_all(connection)
    .await?;
    let blocks = rows.into_iter().map(|row| StoredBlock {
        block: Block {
            partition,
            number: row.number,
            first_leaf: row.first_leaf,
            first_index: row.first_index,
            last_index: row.last_index,
            entries: row.entries,
            leaves: row.leaves,
        },
        chain: row.chain,
    });
    Ok(blocks.collect())
}

/// A row of `audit_root` with its key.
#[derive(Debug, sqlx::FromRow)]
struct RootRow {
    grid_id: Uuid,
    partition: i32,
    number: i64,
    first_leaf: i64,
    leaves: i64,
    first_block: i64,
    last_block: i64,
    last_index: i64,
    root: Vec<u8>,
    chain: Vec<u8>,
    previous: Vec<u8>,
    signed_at_ms: i64,
    public_key: Vec<u8>,
    signature: Vec<u8>,
}

/// A root as the database has it; `None` where a hash, the key or the signature has another length.
pub(crate) type StoredRoot = (i64, i64, Option<SignedRoot>);

impl RootRow {
    fn read(self) -> StoredRoot {
        (self.number, self.last_block, self.signed())
    }

    fn signed(self) -> Option<SignedRoot> {
        let hash = |bytes: &[u8]| Hash::try_from(bytes).ok();
        Some(SignedRoot {
            statement: Statement {
                grid_id: self.grid_id,
                partition: self.partition,
                number: self.number,
                first_leaf: self.first_leaf,
                leaves: self.leaves,
                first_block: self.first_block,
                last_block: self.last_block,
                last_index: self.last_index,
                root: hash(&self.root)?,
                chain: hash(&self.chain)?,
                previous: hash(&self.previous)?,
                signed_at_ms: self.signed_at_ms,
            },
            public_key: AuditPublicKey::from_slice(&self.public_key)?,
            signature: self.signature.as_slice().try_into().ok()?,
        })
    }
}

const ROOT_COLUMNS: &str = "grid_id, partition, number, first_leaf, leaves, first_block, last_block, \
     last_index, root, chain, previous, signed_at_ms, public_key, signature";

/// The roots after one, in their order, at most [`ROOTS_PER_READ`].
pub(crate) async fn roots_after(
    connection: &mut PgConnection,
    partition: i32,
    number: i64,
) -> Result<Vec<StoredRoot>, sqlx::Error> {
    let sql = format!(
        "SELECT {ROOT_COLUMNS} FROM audit_root
         WHERE partition = $1 AND number > $2 ORDER BY number LIMIT $3"
    );
    let rows: Vec<RootRow> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(partition)
        .bind(number)
        .bind(ROOTS_PER_READ)
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(RootRow::read).collect())
}

/// A partition's newest root.
pub(crate) async fn newest_root(
    connection: &mut PgConnection,
    partition: i32,
) -> Result<Option<StoredRoot>, sqlx::Error> {
    let sql = format!(
        "SELECT {ROOT_COLUMNS} FROM audit_root WHERE partition = $1 ORDER BY number DESC LIMIT 1"
    );
    let row: Option<RootRow> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(partition)
        .fetch_optional(connection)
        .await?;
    Ok(row.map(RootRow::read))
}

/// A root by its number.
pub(crate) async fn root_at(
    connection: &mut PgConnection,
    partition: i32,
    number: i64,
) -> Result<Option<SignedRoot>, sqlx::Error> {
    let roots = roots_after(connection, partition, number - 1).await?;
    let found = roots.into_iter().next().filter(|root| root.0 == number);
    Ok(found.and_then(|(_, _, root)| root))
}

/// The root under which a block is, if there is one yet.
pub(crate) async fn root_of_block(
    connection: &mut PgConnection,
    partition: i32,
    number: i64,
) -> Result<Option<StoredRoot>, sqlx::Error> {
    let sql = format!(
        "SELECT {ROOT_COLUMNS} FROM audit_root
         WHERE partition = $1 AND last_block >= $2 ORDER BY last_block LIMIT 1"
    );
    let row: Option<RootRow> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(partition)
        .bind(number)
        .fetch_optional(connection)
        .await?;
    Ok(row.map(RootRow::read))
}

/// Writes a root, unless one of its number is there.
pub(crate) async fn insert_root(
    connection: &mut PgConnection,
    root: &SignedRoot,
) -> Result<(), sqlx::Error> {
    let statement = &root.statement;
    sqlx::query(
        "WITH known AS (
             INSERT INTO audit_key (public_key, id) VALUES ($13, $15) ON CONFLICT DO NOTHING)
         INSERT INTO audit_root (grid_id, partition, number, first_leaf, leaves, first_block, last_block,
             last_index, root, chain, previous, signed_at_ms, public_key, signature)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
         ON CONFLICT DO NOTHING",
    )
    .bind(statement.grid_id)
    .bind(statement.partition)
    .bind(statement.number)
    .bind(statement.first_leaf)
    .bind(statement.leaves)
    .bind(statement.first_block)
    .bind(statement.last_block)
    .bind(statement.last_index)
    .bind(statement.root.as_slice())
    .bind(statement.chain.as_slice())
    .bind(statement.previous.as_slice())
    .bind(statement.signed_at_ms)
    .bind(root.public_key.as_bytes())
    .bind(root.signature.as_slice())
    .bind(root.public_key.id())
    .execute(connection)
    .await?;
    Ok(())
}
