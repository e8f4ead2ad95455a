//! Whether a token counts: signed by a known key with an allowed algorithm, by the right issuer, for this
//! house, within its time.
//!
//! Two roots are known: the provider of the settings, and the grid's own key. A token names its key; the
//! root that has the key says which issuer the token must have, so that neither can speak for the other.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use grid_config::{IdentitySettings, TokenAlgorithm};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use uuid::Uuid;

use super::caller::Caller;
use super::claims::{Claims, namespace};
pub use super::jwks::KeysError;
use super::jwks::{KeySource, Missing};
use super::own_key::{IdentityPublicKey, OWN_AUDIENCE, OWN_ISSUER};
use crate::failure::{Detail, Failure};
use crate::protocol::code::ErrorCode;

/// The longest token.
const TOKEN_BYTES_MAX: usize = 16 << 10;
/// The longest name of a key.
const KEY_ID_BYTES_MAX: usize = 256;
/// When a client asks again while the provider is away.
const KEYS_RETRY_AFTER_MS: u64 = 2_000;

/// Why a token, or a ticket, does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenError {
    Malformed,
    Algorithm,
    UnknownKey,
    Signature,
    Expired,
    NotYetValid,
    Issuer,
    Audience,
    /// Something that must be said is not, or not as it must be.
    Claims,
    /// It is good for longer than tokens may be.
    TooLong,
    Revoked,
    Ticket,
    /// The provider's keys could not be fetched so far: ask again.
    KeysAway,
}

impl TokenError {
    /// Its class, for programs and the audit log.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Claims => "claims",
            Self::TooLong => "life_too_long",
            Self::Revoked => "revoked",
            Self::Ticket => "ticket",
            Self::KeysAway => "keys_away",
        }
    }

    pub(super) fn failure(self) -> Failure {
        let text = match self {
            Self::KeysAway => {
                let retry_after_ms = KEYS_RETRY_AFTER_MS;
                let text = "tokens cannot be checked just now; ask again";
                return Failure::new(ErrorCode::Unavailable, text)
                    .with(Detail::RetryAfter { retry_after_ms });
            }
            Self::Malformed => "that is no token",
            Self::Algorithm => "the token is signed in a way that is not allowed",
            Self::UnknownKey => "the token is signed with a key that is not known",
            Self::Signature => "the token's signature is wrong",
            Self::Expired => "the token has run out; get a new one",
            Self::NotYetValid => "the token is not good yet",
            Self::Issuer => "the token is from another issuer",
            Self::Audience => "the token is for another audience",
            Self::Claims => "the token does not say what it must",
            Self::TooLong => "the token is good for too long",
            Self::Revoked => "the token was taken back; log in again",
            Self::Ticket => "the ticket is unknown here, used or too old; get a new one",
        };
        let reason = self.reason();
        Failure::new(ErrorCode::Unauthenticated, text).with(Detail::Reason { reason })
    }

    fn of(kind: &ErrorKind) -> Self {
        match kind {
            ErrorKind::ExpiredSignature => Self::Expired,
            ErrorKind::ImmatureSignature => Self::NotYetValid,
            ErrorKind::InvalidIssuer => Self::Issuer,
            ErrorKind::InvalidAudience => Self::Audience,
            ErrorKind::InvalidSignature => Self::Signature,
            ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => Self::Algorithm,
            ErrorKind::MissingRequiredClaim(_)
            | ErrorKind::InvalidClaimFormat(_)
            | ErrorKind::InvalidSubject
            | ErrorKind::Json(_) => Self::Claims,
            _ => Self::Malformed,
        }
    }
}

struct Own {
    key_id: String,
    key: DecodingKey,
}

impl std::fmt::Debug for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Own({})", self.key_id)
    }
}

#[derive(Debug)]
struct Provider {
    issuer: String,
    namespace: Uuid,
    keys: KeySource,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Verifier {
    own: Option<Own>,
    provider: Option<Provider>,
    algorithms: Vec<Algorithm>,
    audience: String,
    client: String,
    leeway_s: u64,
    life_max_s: u64,
}

impl Verifier {
    pub(super) fn new(
        settings: &IdentitySettings,
        own_key: Option<&IdentityPublicKey>,
    ) -> Result<Self, KeysError> {
        let times = (
            Duration::from_secs(settings.jwks_refresh_s),
            Duration::from_millis(settings.jwks_refresh_min_ms),
        );
        let keys = match (&settings.jwks_url, &settings.jwks_file) {
            (Some(url), _) => Some(KeySource::url(url, times)?),
            (None, Some(path)) => Some(KeySource::file(path.clone(), times)?),
            (None, None) => None,
        };
        let provider = settings.issuer.clone().zip(keys);
        let own = own_key.and_then(|own| {
            let key = DecodingKey::from_ed_components(&own.components()).ok()?;
            let key_id = own.id();
            Some(Own { key_id, key })
        });
        Ok(Self {
            own,
            provider: provider.map(|(issuer, keys)| Provider {
                namespace: namespace(&issuer),
                issuer,
                keys,
            }),
            algorithms: settings
                .algorithms
                .iter()
                .map(|algorithm| match algorithm {
                    TokenAlgorithm::RS256 => Algorithm::RS256,
                    TokenAlgorithm::ES256 => Algorithm::ES256,
                    TokenAlgorithm::EdDsa => Algorithm::EdDSA,
                })
                .collect(),
            audience: settings.audience.clone(),
            client: settings
                .client
                .clone()
                .unwrap_or_else(|| settings.audience.clone()),
            leeway_s: settings.leeway_s,
            life_max_s: settings.token_life_max_s,
        })
    }

    /// Keeps the provider's keys fresh, for ever.
    pub(super) async fn keep_keys(&self) {
        if let Some(provider) = &self.provider {
            provider.keys.keep_fresh().await;
        }
    }

    /// Whose token it is. The caller's address is not known here.
    pub(super) async fn verify(&self, token: &str, now_s: u64) -> Result<Caller, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let header = decode_header(token).map_err(|error| match error.kind() {
            // An algorithm that is not known at all, such as `none`, does not get through the parser.
            ErrorKind::Json(_) => TokenError::Algorithm,
            _ => TokenError::Malformed,
        })?;
        let key_id = header.kid.as_deref();
        if header.crit.is_some() || key_id.is_some_and(|id| id.len() > KEY_ID_BYTES_MAX) {
            return Err(TokenError::Malformed);
        }
        let own = self
            .own
            .as_ref()
            .filter(|own| key_id == Some(own.key_id.as_str()));
        if let Some(own) = own {
            if header.alg != Algorithm::EdDSA {
                return Err(TokenError::Algorithm);
            }
            return self.check(
                token,
                (&own.key, Algorithm::EdDSA),
                (OWN_ISSUER, &namespace(OWN_ISSUER), OWN_AUDIENCE),
                now_s,
            );
        }
        if !self.algorithms.contains(&header.alg) {
            return Err(TokenError::Algorithm);
        }
        let provider = self.provider.as_ref().ok_or(TokenError::UnknownKey)?;
        let key = provider.keys.key(key_id, header.alg).await;
        let key = key.map_err(|missing| match missing {
            Missing::Unknown => TokenError::UnknownKey,
            Missing::OtherAlgorithm => TokenError::Algorithm,
            Missing::NotFetched => TokenError::KeysAway,
        })?;
        let issuer = (
            provider.issuer.as_str(),
            &provider.namespace,
            self.audience.as_str(),
        );
        self.check(token, (&key.decoding, key.algorithm), issuer, now_s)
    }

    fn check(
        &self,
        token: &str,
        (key, algorithm): (&DecodingKey, Algorithm),
        (issuer, namespace, audience): (&str, &Uuid, &str),
        now_s: u64,
    ) -> Result<Caller, TokenError> {
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.leeway_s;
        validation.validate_nbf = true;
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let claims = decode::<Claims>(token, key, &validation)
            .map_err(|error| TokenError::of(error.kind()))?
            .claims;
        if claims.sub.is_empty() || !claims.is_access_token() {
            return Err(TokenError::Claims);
        }
        if claims.iat > now_s.saturating_add(self.leeway_s) {
            return Err(TokenError::NotYetValid);
        }
        if claims.exp.saturating_sub(claims.iat) > self.life_max_s {
            return Err(TokenError::TooLong);
        }
        Ok(Caller::known(
            claims.user(namespace),
            claims.roles(&self.client),
            claims.iat,
            Some(claims.exp),
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        ))
    }
}
