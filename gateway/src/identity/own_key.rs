//! The grid's own key, for tokens without a provider: a house that has none, a script, a test.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::Serialize;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

/// The claim `iss` of the grid's own tokens.
pub(super) const OWN_ISSUER: &str = "spacegrid";
/// And `aud`: they are for the grid that issued them.
pub(super) const OWN_AUDIENCE: &str = "spacegrid";

/// A secret Ed25519 key. The same on all gateways of a grid.
#[derive(Clone)]
pub struct IdentityKey {
    key: Box<SigningKey>,
}

impl std::fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdentityKey(..)")
    }
}

/// The public half of an [`IdentityKey`]: enough to check the grid's own tokens, and not to make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityPublicKey {
    key: Box<VerifyingKey>,
}

/// The text is no public key. Find the right file: `identity.pub` in the data directory of `grid up`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a public identity key is 32 bytes of an Ed25519 key in base64url")]
pub struct IdentityPublicKeyError;

impl std::fmt::Display for IdentityPublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.components())
    }
}

impl std::str::FromStr for IdentityPublicKey {
    type Err = IdentityPublicKeyError;

    fn from_str(text: &str) -> Result<Self, IdentityPublicKeyError> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim()).ok();
        let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let key = bytes.and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok());
        key.map(|key| Self { key: Box::new(key) })
            .ok_or(IdentityPublicKeyError)
    }
}

impl IdentityPublicKey {
    /// In base64url, as a JWK has it.
    pub(super) fn components(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.key.as_bytes())
    }

    /// How tokens name it: other keys of other grids are told apart.
    pub(super) fn id(&self) -> String {
        format!("grid-{:016x}", xxh3_64(self.key.as_bytes()))
    }
}

/// Whose token is to be made, and what it says.
#[derive(Clone, Debug)]
pub struct TokenOrder<'a> {
    /// The person.
    pub user: Uuid,
    /// Names of roles: `bidder`, `host`, `manager`, `admin`.
    pub roles: &'a [String],
    /// When it is issued, in seconds since the Unix epoch.
    pub issued_at_s: u64,
    /// How long it is good, in seconds.
    pub life_s: u64,
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'static str,
    kid: &'a str,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'static str,
    sub: Uuid,
    aud: &'static str,
    iat: u64,
    nbf: u64,
    exp: u64,
    roles: &'a [String],
}

impl IdentityKey {
    /// From 32 random bytes that nobody else has.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self {
            key: Box::new(SigningKey::from_bytes(seed)),
        }
    }

    /// The half that gateways check tokens with.
    #[must_use]
    pub fn public(&self) -> IdentityPublicKey {
        IdentityPublicKey {
            key: Box::new(self.key.verifying_key()),
        }
    }

    /// A signed token.
    ///
    /// # Errors
    /// When its parts cannot be written as JSON, a defect.
    pub fn issue(&self, order: &TokenOrder<'_>) -> Result<String, serde_json::Error> {
        let id = self.public().id();
        let header = Header {
            alg: "EdDSA",
            typ: "JWT",
            kid: &id,
        };
        let claims = Claims {
            iss: OWN_ISSUER,
            sub: order.user,
            aud: OWN_AUDIENCE,
            iat: order.issued_at_s,
            nbf: order.issued_at_s,
            exp: order.issued_at_s.saturating_add(order.life_s),
            roles: order.roles,
        };
        let header = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&header)?);
        let claims = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims)?);
        let signed = format!("{header}.{claims}");
        let signature = self.key.sign(signed.as_bytes()).to_bytes();
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_is_read_as_it_is_written_and_tells_nothing_of_the_secret() {
        let key = IdentityKey::from_seed(&[9; 32]);
        let text = key.public().to_string();
        assert_eq!(format!("{text}\n").parse(), Ok(key.public()));
        assert_ne!(key.public(), IdentityKey::from_seed(&[8; 32]).public());
        let secret = URL_SAFE_NO_PAD.encode([9; 32]);
        assert!(!text.contains(&secret));
        for wrong in ["", "AAAA", "not base64url!", &"09".repeat(32)] {
            let read = wrong.parse::<IdentityPublicKey>();
            assert_eq!(read, Err(IdentityPublicKeyError), "{wrong}");
        }
    }
}
