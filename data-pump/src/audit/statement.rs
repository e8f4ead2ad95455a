//! What the grid's key signs: that a partition's facts up to a place are those under a root.

use uuid::Uuid;

use super::hash::{Hash, sha256, to_hex};
use super::key::{AuditKey, AuditPublicKey, Signature};

/// A root over the facts since the one before, with all that is signed with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The grid.
    pub grid_id: Uuid,
    /// The partition.
    pub partition: i32,
    /// From 1, one after another in each partition.
    pub number: i64,
    /// How many facts of the partition come before those under this root.
    pub first_leaf: i64,
    /// How many facts are under this root.
    pub leaves: i64,
    /// The first block under it.
    pub first_block: i64,
    /// The last block under it.
    pub last_block: i64,
    /// The log index of the last fact under it.
    pub last_index: i64,
    /// The Merkle root.
    pub root: Hash,
    /// The last block's link in the chain over all blocks.
    pub chain: Hash,
    /// The hash of the statement before; zeros for the first.
    pub previous: Hash,
    /// When it was signed, milliseconds since the Unix epoch, by the signing node's clock.
    pub signed_at_ms: i64,
}

impl Statement {
    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        format!(
            "spacegrid-root-1\ngrid {}\npartition {}\nnumber {}\nfirst_leaf {}\nleaves {}\nfirst_block {}\n\
             last_block {}\nlast_index {}\nroot {}\nchain {}\nprevious {}\nsigned_at_ms {}\n",
            self.grid_id,
            self.partition,
            self.number,
            self.first_leaf,
            self.leaves,
            self.first_block,
            self.last_block,
            self.last_index,
            to_hex(&self.root),
            to_hex(&self.chain),
            to_hex(&self.previous),
            self.signed_at_ms
        )
    }

    /// The hash by which the next statement names this one.
    #[must_use]
    pub fn hash(&self) -> Hash {
        sha256(&[self.text().as_bytes()])
    }

    /// Signs it.
    pub(crate) fn sign(self, key: &AuditKey) -> SignedRoot {
        let signature = key.sign(self.text().as_bytes());
        SignedRoot {
            statement: self,
            public_key: key.public(),
            signature,
        }
    }
}

/// A statement with its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRoot {
    /// What is said.
    pub statement: Statement,
    /// The key that is said to have signed it.
    pub public_key: AuditPublicKey,
    /// The signature over the statement's text.
    pub signature: Signature,
}

impl SignedRoot {
    /// Whether its own key signed it. Whose key that is, is another question.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.public_key
            .verifies(self.statement.text().as_bytes(), &self.signature)
    }
}
