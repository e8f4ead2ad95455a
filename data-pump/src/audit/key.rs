//! The grid's key: Ed25519, one for all nodes, and what it signs.

use std::fmt;
use std::str::FromStr;

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use super::hash::{from_hex, sha256, to_hex};

/// The length of the secret and of the public key.
const KEY_BYTES: usize = 32;
/// The length of a signature.
const SIGNATURE_BYTES: usize = 64;
/// Digits of a key's short name.
const ID_DIGITS: usize = 16;

/// A signature.
pub type Signature = [u8; SIGNATURE_BYTES];

/// The key with which roots are signed. Its text is never shown.
pub struct AuditKey {
    pair: Ed25519KeyPair,
    public: AuditPublicKey,
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuditKey({})", self.public.id())
    }
}

/// A text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key is 64 hexadecimal digits")]
pub struct KeyFormatError;

impl AuditKey {
    /// From its 32 secret bytes.
    ///
    /// # Errors
    /// [`KeyFormatError`] if they are no seed of a key.
    pub fn from_seed(seed: &[u8; KEY_BYTES]) -> Result<Self, KeyFormatError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyFormatError)?;
        let mut public = [0; KEY_BYTES];
        public.copy_from_slice(pair.public_key().as_ref());
        Ok(Self {
            pair,
            public: AuditPublicKey(public),
        })
    }

    /// From 64 hexadecimal digits, as in its file.
    ///
    /// # Errors
    /// [`KeyFormatError`].
    pub fn parse(text: &str) -> Result<Self, KeyFormatError> {
        Self::from_seed(&from_hex(text.trim()).ok_or(KeyFormatError)?)
    }

    /// The key that checks what it signs.
    #[must_use]
    pub fn public(&self) -> AuditPublicKey {
        self.public
    }

    pub(crate) fn sign(&self, text: &[u8]) -> Signature {
        let mut signature = [0; SIGNATURE_BYTES];
        signature.copy_from_slice(self.pair.sign(text).as_ref());
        signature
    }
}

/// The key that checks signatures. Everybody may know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditPublicKey([u8; KEY_BYTES]);

impl AuditPublicKey {
    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.try_into().ok()?))
    }

    /// Its short name: the first digits of its hash.
    #[must_use]
    pub fn id(&self) -> String {
        let mut id = to_hex(&sha256(&[&self.0]));
        id.truncate(ID_DIGITS);
        id
    }

    pub(crate) fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(text, signature)
            .is_ok()
    }
}

impl fmt::Display for AuditPublicKey {
    /// 64 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

impl FromStr for AuditPublicKey {
    type Err = KeyFormatError;

    fn from_str(text: &str) -> Result<Self, KeyFormatError> {
        from_hex(text.trim()).map(Self).ok_or(KeyFormatError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_of_one_key_and_one_text() {
        let key = AuditKey::parse(&"07".repeat(32)).expect("a seed");
        let other = AuditKey::parse(&"08".repeat(32)).expect("a seed");
        let signature = key.sign(b"text");
        assert!(key.public().verifies(b"text", &signature));
        assert!(!key.public().verifies(b"test", &signature));
        assert!(!other.public().verifies(b"text", &signature));
        assert_ne!(key.public().id(), other.public().id());
        assert_eq!(key.public().to_string().parse(), Ok(key.public()));
        assert!(!format!("{key:?}").contains("07070707"), "it is secret");
    }
}
