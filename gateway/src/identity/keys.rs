//! A provider's published keys (RFC 7517), as far as they are of use: for signatures, of the algorithms
//! that may be allowed, and strong enough. A key is bound to its one algorithm, so that no token chooses
//! how it is checked.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

/// Keys of one provider; more are not read.
const KEYS_MAX: usize = 64;
/// The shortest RSA modulus, in bytes (2,048 bits).
const RSA_BYTES_MIN: usize = 256;

/// One key.
#[derive(Clone)]
pub(super) struct Key {
    id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({:?}, {:?})", self.id, self.algorithm)
    }
}

/// Why a token has no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// Fetching the keys again may help.
    Unknown,
    /// There is such a key, for another algorithm.
    OtherAlgorithm,
}

/// The text is no set of keys.
#[derive(Debug, thiserror::Error)]
#[error("that is no set of JSON web keys: {0}")]
pub(super) struct NotKeys(#[from] serde_json::Error);

/// All keys of a provider.
#[derive(Clone, Debug, Default)]
pub(super) struct KeySet(Vec<Key>);

impl KeySet {
    /// Reads a JWKS document; keys of no use are left out.
    pub(super) fn read(text: &[u8]) -> Result<Self, NotKeys> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<serde_json::Value>,
        }
        let document: Document = serde_json::from_slice(text)?;
        let keys = document.keys.into_iter().take(KEYS_MAX);
        Ok(Self(
            keys.filter_map(|key| usable(&serde_json::from_value(key).ok()?))
                .collect(),
        ))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The key that a token names. A token that names none gets the only one of its algorithm.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<&Key, NoKey> {
        let Some(id) = id else {
            let mut fitting = self.0.iter().filter(|key| key.algorithm == algorithm);
            return match (fitting.next(), fitting.next()) {
                (Some(only), None) => Ok(only),
                _ => Err(NoKey::Unknown),
            };
        };
        let mut named = self.0.iter().filter(|key| key.id.as_deref() == Some(id));
        match named.clone().find(|key| key.algorithm == algorithm) {
            Some(key) => Ok(key),
            None if named.next().is_some() => Err(NoKey::OtherAlgorithm),
            None => Err(NoKey::Unknown),
        }
    }
}

fn usable(key: &Jwk) -> Option<Key> {
    let is_for_signatures = matches!(
        key.common.public_key_use,
        None | Some(PublicKeyUse::Signature)
    );
    let algorithm = match &key.algorithm {
        AlgorithmParameters::RSA(parameters) => {
            let modulus = URL_SAFE_NO_PAD.decode(&parameters.n).ok()?;
            let bytes = modulus.iter().skip_while(|byte| **byte == 0).count();
            (bytes >= RSA_BYTES_MIN).then_some(Algorithm::RS256)?
        }
        AlgorithmParameters::EllipticCurve(parameters)
            if parameters.curve == EllipticCurve::P256 =>
        {
            Algorithm::ES256
        }
        AlgorithmParameters::OctetKeyPair(parameters)
            if parameters.curve == EllipticCurve::Ed25519 =>
        {
            Algorithm::EdDSA
        }
        _ => return None,
    };
    let said = match key.common.key_algorithm {
        None => Some(algorithm),
        Some(KeyAlgorithm::RS256) => Some(Algorithm::RS256),
        Some(KeyAlgorithm::ES256) => Some(Algorithm::ES256),
        Some(KeyAlgorithm::EdDSA) => Some(Algorithm::EdDSA),
        Some(_) => None,
    };
    if !is_for_signatures || said != Some(algorithm) {
        return None;
    }
    Some(Key {
        id: key.common.key_id.clone(),
        algorithm,
        decoding: DecodingKey::from_jwk(key).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rsa(bytes: usize, rest: &str) -> String {
        let n = URL_SAFE_NO_PAD.encode(vec![0xC5; bytes]);
        format!(r#"{{"kty":"RSA","n":"{n}","e":"AQAB"{rest}}}"#)
    }

    fn read(keys: &[String]) -> KeySet {
        let text = format!(r#"{{"keys":[{}]}}"#, keys.join(","));
        KeySet::read(text.as_bytes()).expect("a document")
    }

    #[test]
    fn only_strong_keys_for_signatures_are_kept() {
        let set = read(&[
            rsa(256, r#","kid":"good","use":"sig","alg":"RS256""#),
            rsa(256, r#","kid":"encrypts","use":"enc","alg":"RSA-OAEP""#),
            rsa(128, r#","kid":"short","use":"sig""#),
            rsa(256, r#","kid":"other","alg":"PS512""#),
            r#"{"kty":"oct","kid":"secret","k":"c2VjcmV0"}"#.to_owned(),
            r#"{"kty":"new"}"#.to_owned(),
            "7".to_owned(),
        ]);
        assert_eq!(set.len(), 1, "{set:?}");
        assert!(set.find(Some("good"), Algorithm::RS256).is_ok());
        assert!(set.find(None, Algorithm::RS256).is_ok(), "the only one");
        let found = set.find(Some("good"), Algorithm::EdDSA);
        assert_eq!(found.map(|_| ()), Err(NoKey::OtherAlgorithm));
        let found = set.find(Some("short"), Algorithm::RS256);
        assert_eq!(found.map(|_| ()), Err(NoKey::Unknown));
        assert!(KeySet::read(b"{}").is_err());
    }

    #[test]
    fn a_token_that_names_no_key_does_not_get_one_of_several() {
        let set = read(&[rsa(256, r#","kid":"a""#), rsa(256, r#","kid":"b""#)]);
        let found = set.find(None, Algorithm::RS256);
        assert_eq!(found.map(|_| ()), Err(NoKey::Unknown));
    }
}
