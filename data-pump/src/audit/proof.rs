//! Proofs: that one fact is under a signed root, for somebody who trusts the grid's key and nobody else.
//!
//! A proof is a JSON document with the fact's own text fields, the hashes from its leaf to the root, and
//! the signed statement. Checking it needs SHA-256 and Ed25519, and no database.

use serde::{Deserialize, Serialize};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::block::Block;
use super::canonical::canonical_json;
use super::fact::Fact;
use super::hash::{Hash, from_hex, to_hex};
use super::key::AuditPublicKey;
use super::merkle::{path, root_of_path};
use super::statement::{SignedRoot, Statement};
use super::tables::{Micros, blocks_after, root_of_block};
use crate::pump::{ChangePlace, partition_number};

/// The format's name.
const FORMAT: &str = "spacegrid-proof-1";
/// Longer paths than this are of trees that nobody has.
const PATH_MAX: usize = 64;

/// What is to be proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A bid, by its id.
    Bid(Uuid),
    /// The sale of a ticket, by the ticket's id.
    Ticket(Uuid),
    /// Any change.
    Change(ChangePlace),
}

/// Why there is no proof, or why one is worth nothing.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The database is away or refuses. Retry, or read what it says.
    #[error("{0}")]
    Database(#[from] sqlx::Error),
    /// The database does not know it. Perhaps the pump has not written it yet.
    #[error("the database has no such fact; the pump may not have written it yet")]
    Unknown,
    /// It was written before the audit trail began, or its month was dropped.
    #[error("{0} is in no block: it is from before the audit trail, or was dropped for its age")]
    NoBlock(ChangePlace),
    /// No root has been signed since. Ask again after `pump.audit_root_interval_s`; it needs a key.
    #[error(
        "{0} is under no signed root yet: ask again after pump.audit_root_interval_s (60 s), and see \
         `grid audit key` whether the grid signs at all"
    )]
    NotSigned(ChangePlace),
    /// What is in the database does not go together. Run `grid audit verify`.
    #[error("{0} cannot be proved: {1}; see `grid audit verify`")]
    Broken(ChangePlace, &'static str),
    /// The document is no proof.
    #[error("this is no proof: {0}")]
    Format(String),
    /// The document was changed, or never was right.
    #[error("the proof is WRONG: {0}")]
    Wrong(&'static str),
    /// The proof goes together, and somebody else signed it.
    #[error("the proof is WRONG: it is signed by key {found}, which is not the key to be trusted")]
    ForeignKey {
        /// The short name of the key in it.
        found: String,
    },
}

impl ProofError {
    /// Whether asking again later may help without anybody's doing.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Database(_) | Self::Unknown | Self::NotSigned(_))
    }
}

/// The fact of a proof; fields as in [`Fact`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "as in Fact")]
pub struct ProofFact {
    pub partition: i32,
    pub log_index: i64,
    pub seq: i32,
    pub at_ms: i64,
    pub kind: String,
    pub entity: Uuid,
    /// Canonical JSON, as text: it is hashed as it stands.
    pub payload: String,
}

/// A signed root as a document; fields as in [`Statement`], hashes in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "as in Statement")]
pub struct ProofRoot {
    pub grid_id: Uuid,
    pub partition: i32,
    pub number: i64,
    pub first_leaf: i64,
    pub leaves: i64,
    pub first_block: i64,
    pub last_block: i64,
    pub last_index: i64,
    pub root: String,
    pub chain: String,
    pub previous: String,
    pub signed_at_ms: i64,
    pub public_key: String,
    pub signature: String,
}

/// A proof, as written to a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// `spacegrid-proof-1`.
    pub format: String,
    /// What is proved.
    pub fact: ProofFact,
    /// The fact's place among those under the root, from 0.
    pub leaf_index: i64,
    /// The hashes from the leaf to the root, in hexadecimal.
    pub path: Vec<String>,
    /// The root.
    pub root: ProofRoot,
}

/// What a right proof shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// The fact.
    pub fact: ProofFact,
    /// The grid.
    pub grid_id: Uuid,
    /// When the root over it was signed, milliseconds since the Unix epoch.
    pub signed_at_ms: i64,
    /// The short name of the key.
    pub key_id: String,
}

impl From<&SignedRoot> for ProofRoot {
    fn from(root: &SignedRoot) -> Self {
        let statement = &root.statement;
        Self {
            grid_id: statement.grid_id,
            partition: statement.partition,
            number: statement.number,
            first_leaf: statement.first_leaf,
            leaves: statement.leaves,
            first_block: statement.first_block,
            last_block: statement.last_block,
            last_index: statement.last_index,
            root: to_hex(&statement.root),
            chain: to_hex(&statement.chain),
            previous: to_hex(&statement.previous),
            signed_at_ms: statement.signed_at_ms,
            public_key: root.public_key.to_string(),
            signature: to_hex(&root.signature),
        }
    }
}

impl ProofRoot {
    /// The root that the document describes.
    ///
    /// # Errors
    /// [`ProofError::Format`] when a hash, the key or the signature has another length.
    pub fn read(&self) -> Result<SignedRoot, ProofError> {
        let wrong = |what: &str| ProofError::Format(format!("{what} is not hexadecimal"));
        let hash = |text: &str, what| from_hex(text).ok_or_else(|| wrong(what));
        Ok(SignedRoot {
            statement: Statement {
                grid_id: self.grid_id,
                partition: self.partition,
                number: self.number,
                first_leaf: self.first_leaf,
                leaves: self.leaves,
                first_block: self.first_block,
                last_block: self.last_block,
                last_index: self.last_index,
                root: hash(&self.root, "root.root")?,
                chain: hash(&self.chain, "root.chain")?,
                previous: hash(&self.previous, "root.previous")?,
                signed_at_ms: self.signed_at_ms,
            },
            public_key: self
                .public_key
                .parse()
                .map_err(|_| wrong("root.public_key"))?,
            signature: from_hex(&self.signature).ok_or_else(|| wrong("root.signature"))?,
        })
    }
}

impl Proof {
    /// Reads a proof's document.
    ///
    /// # Errors
    /// [`ProofError::Format`].
    pub fn parse(text: &str) -> Result<Self, ProofError> {
        serde_json::from_str(text).map_err(|error| ProofError::Format(error.to_string()))
    }

    /// Checks it against the keys to be trusted.
    ///
    /// # Errors
    /// [`ProofError::Format`], [`ProofError::Wrong`], [`ProofError::ForeignKey`].
    pub fn check(&self, keys: &[AuditPublicKey]) -> Result<Checked, ProofError> {
        if self.format != FORMAT {
            return Err(ProofError::Format(format!("its format is not {FORMAT}")));
        }
        let root = self.root.read()?;
        let statement = &root.statement;
        let path: Option<Vec<Hash>> = self.path.iter().map(|hash| from_hex(hash)).collect();
        let path = path.filter(|path| path.len() <= PATH_MAX).ok_or_else(|| {
            ProofError::Format("path holds something else than hashes".to_owned())
        })?;
        let fact = &self.fact;
        let leaf = Fact {
            partition: fact.partition,
            log_index: fact.log_index,
            seq: fact.seq,
            at_ms: fact.at_ms,
            kind: &fact.kind,
            entity: fact.entity,
            payload: &fact.payload,
        }
        .leaf();
        let place = u64::try_from(self.leaf_index).ok();
        let found = place
            .zip(u64::try_from(statement.leaves).ok())
            .and_then(|(place, leaves)| root_of_path(leaf, place, leaves, &path));
        if found != Some(statement.root) || fact.partition != statement.partition {
            return Err(ProofError::Wrong("the fact is not under the root"));
        }
        if !root.is_signed() {
            return Err(ProofError::Wrong("the signature does not fit"));
        }
        if !keys.contains(&root.public_key) {
            let found = root.public_key.id();
            return Err(ProofError::ForeignKey { found });
        }
        Ok(Checked {
            fact: fact.clone(),
            grid_id: statement.grid_id,
            signed_at_ms: statement.signed_at_ms,
            key_id: root.public_key.id(),
        })
    }
}

/// Makes a proof from what the database has.
///
/// # Errors
/// See [`ProofError`].
pub async fn prove(database_url: &str, subject: Subject) -> Result<Proof, ProofError> {
    let mut connection = PgConnection::connect(database_url).await?;
    let proof = prove_over(&mut connection, subject).await;
    connection.close().await?;
    proof
}

async fn prove_over(connection: &mut PgConnection, subject: Subject) -> Result<Proof, ProofError> {
    let place = find(connection, subject)
        .await?
        .ok_or(ProofError::Unknown)?;
    let fact = read_fact(connection, place)
        .await?
        .ok_or(ProofError::Unknown)?;
    let number: Option<i64> = sqlx::query_scalar(
        "SELECT number FROM audit_block
         WHERE partition = $1 AND last_index >= $2 AND first_index <= $2
         ORDER BY last_index LIMIT 1",
    )
    .bind(fact.partition)
    .bind(fact.log_index)
    .fetch_optional(&mut *connection)
    .await?;
    let number = number.ok_or(ProofError::NoBlock(place))?;
    let (_, _, root) = root_of_block(connection, fact.partition, number)
        .await?
        .ok_or(ProofError::NotSigned(place))?;
    let root = root.ok_or(ProofError::Broken(place, "its root is damaged"))?;
    let statement = &root.statement;
    let mut leaves: Vec<Hash> = Vec::new();
    let mut index = None;
    let mut next = statement.first_block;
    while next <= statement.last_block {
        let page = blocks_after(connection, fact.partition, next - 1).await?;
        let Some(first) = page.first() else {
            return Err(ProofError::Broken(place, "blocks are missing"));
        };
        if first.block.number != next {
            return Err(ProofError::Broken(place, "blocks are missing"));
        }
        for stored in page {
            if stored.block.number > statement.last_block {
                break;
            }
            if stored.block.number == number {
                index = place_in(&stored.block, &fact).map(|within| leaves.len() + within);
            }
            leaves.extend(stored.block.hashes());
            next = stored.block.number + 1;
        }
    }
    let index = index.ok_or(ProofError::Broken(place, "its block does not list it"))?;
    let path = path(&leaves, index).ok_or(ProofError::Broken(place, "its block is damaged"))?;
    let proof = Proof {
        format: FORMAT.to_owned(),
        fact,
        leaf_index: i64::try_from(index).unwrap_or(i64::MAX),
        path: path.iter().map(|hash| to_hex(hash)).collect(),
        root: ProofRoot::from(&root),
    };
    match proof.check(&[root.public_key]) {
        Ok(_) => Ok(proof),
        Err(_) => Err(ProofError::Broken(
            place,
            "the row is not as it was written",
        )),
    }
}

/// A fact's place in its block.
fn place_in(block: &Block, fact: &ProofFact) -> Option<usize> {
    let places = block.places()?;
    places
        .iter()
        .position(|place| *place == (fact.log_index, fact.seq))
}

async fn find(
    connection: &mut PgConnection,
    subject: Subject,
) -> Result<Option<ChangePlace>, sqlx::Error> {
    let query = match subject {
        Subject::Change(place) => return Ok(Some(place)),
        Subject::Bid(bid) => sqlx::query_as(
            "SELECT a.partition, b.log_index, b.seq FROM bids b JOIN auctions a USING (auction_id)
             WHERE b.bid_id = $1",
        )
        .bind(bid),
        Subject::Ticket(ticket) => sqlx::query_as(
            "SELECT e.partition, t.log_index, t.seq FROM tickets t JOIN events e USING (event_id)
             WHERE t.ticket_id = $1",
        )
        .bind(ticket),
    };
    let found: Option<(i32, i64, i32)> = query.fetch_optional(connection).await?;
    Ok(found.map(|(partition, log_index, seq)| ChangePlace {
        partition: u32::try_from(partition).unwrap_or(u32::MAX),
        log_index: u64::try_from(log_index).unwrap_or(u64::MAX),
        seq: u32::try_from(seq).unwrap_or(u32::MAX),
    }))
}

#[derive(sqlx::FromRow)]
struct FactRow {
    at: Micros,
    kind: String,
    entity: Uuid,
    payload: String,
}

/// The fact at a place, written or parked.
async fn read_fact(
    connection: &mut PgConnection,
    place: ChangePlace,
) -> Result<Option<ProofFact>, sqlx::Error> {
    let partition = partition_number(place.partition);
    let log_index = i64::try_from(place.log_index).unwrap_or(i64::MAX);
    let seq = i32::try_from(place.seq).unwrap_or(i32::MAX);
    let row: Option<FactRow> = sqlx::query_as(
        "SELECT at, kind, entity, payload::text AS payload FROM changes
         WHERE partition = $1 AND log_index = $2 AND seq = $3
         UNION ALL SELECT at, kind, entity, payload FROM dead_letter
         WHERE partition = $1 AND log_index = $2 AND seq = $3
         UNION ALL SELECT at, kind, entity, payload FROM dead_letter_dropped
         WHERE partition = $1 AND log_index = $2 AND seq = $3
         LIMIT 1",
    )
    .bind(partition)
    .bind(log_index)
    .bind(seq)
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| ProofFact {
        partition,
        log_index,
        seq,
        at_ms: row.at.0 / 1_000,
        kind: row.kind,
        entity: row.entity,
        payload: canonical_json(&row.payload).unwrap_or(row.payload),
    }))
}
