//! The grid's own key, for tokens without a provider: a house that has none, a script, a test.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
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

    /// The public half in base64url, as a JWK has it.
    pub(super) fn public(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.key.verifying_key().as_bytes())
    }

    /// How tokens name it: other keys of other grids are told apart.
    pub(super) fn id(&self) -> String {
        format!("grid-{:016x}", xxh3_64(self.key.verifying_key().as_bytes()))
    }

    /// A signed token.
    ///
    /// # Errors
    /// When its parts cannot be written as JSON, a defect.
    pub fn issue(&self, order: &TokenOrder<'_>) -> Result<String, serde_json::Error> {
        let id = self.id();
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
