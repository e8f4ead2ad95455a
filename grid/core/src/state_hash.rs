//! The running state hash: a chain over everything that applying the log produced.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `blake3(previous ‖ index ‖ time ‖ outputs)`: equal on two replicas at the same index exactly when
/// they produced the same replies and changes from the first entry on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateHash(pub [u8; 32]);

impl StateHash {
    /// The hash after an entry at `index`, stamped `now_ms`, that produced these encoded outputs.
    #[must_use]
    pub fn chain(self, index: u64, now_ms: u64, outputs: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        hasher.update(&index.to_le_bytes());
        hasher.update(&now_ms.to_le_bytes());
        hasher.update(outputs);
        Self(*hasher.finalize().as_bytes())
    }
}

impl fmt::Display for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}
