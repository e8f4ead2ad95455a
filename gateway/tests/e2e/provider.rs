//! An identity provider for tests: it publishes its keys over HTTP and signs tokens with each algorithm.
//! The keys in `keys/` were made for this and are used nowhere else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use gateway::{IdentityKey, Mode};
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::Grid;

const ISSUER: &str = "https://id.example/realms/tickets";
const AUDIENCE: &str = "spacegrid";

/// A key of the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TestKey {
    pub(crate) id: &'static str,
    pub(crate) algorithm: Algorithm,
    pem: &'static str,
}

pub(crate) const RSA: TestKey = TestKey {
    id: "rsa-one",
    algorithm: Algorithm::RS256,
    pem: include_str!("keys/rsa-one.pem"),
};
pub(crate) const RSA_NEXT: TestKey = TestKey {
    id: "rsa-two",
    algorithm: Algorithm::RS256,
    pem: include_str!("keys/rsa-two.pem"),
};
pub(crate) const EC: TestKey = TestKey {
    id: "ec",
    algorithm: Algorithm::ES256,
    pem: include_str!("keys/ec.pem"),
};
pub(crate) const ED: TestKey = TestKey {
    id: "ed",
    algorithm: Algorithm::EdDSA,
    pem: include_str!("keys/ed.pem"),
};

impl TestKey {
    fn private(self) -> EncodingKey {
        let pem = self.pem.as_bytes();
        match self.algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(pem),
            Algorithm::ES256 => EncodingKey::from_ec_pem(pem),
            _ => EncodingKey::from_ed_pem(pem),
        }
        .expect("a key")
    }

    pub(crate) fn public(self) -> Jwk {
        let mut key = Jwk::from_encoding_key(&self.private(), self.algorithm).expect("a key");
        key.common.key_id = Some(self.id.to_owned());
        key.common.public_key_use = Some(PublicKeyUse::Signature);
        key
    }

    /// A token with these claims.
    pub(crate) fn sign(self, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.id.to_owned());
        encode(&header, claims, &self.private()).expect("a token")
    }

    /// The same under the name of another key.
    pub(crate) fn sign_as(self, id: &str, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(id.to_owned());
        encode(&header, claims, &self.private()).expect("a token")
    }
}

pub(crate) fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Good claims of a person, as Keycloak shapes them.
pub(crate) fn claims(user: Uuid, roles: &[&str]) -> Value {
    json!({
        "iss": ISSUER, "aud": [AUDIENCE, "account"], "sub": user.to_string(), "typ": "Bearer",
        "iat": now_s(), "exp": now_s() + 300,
        "realm_access": {"roles": roles},
        "resource_access": {"account": {"roles": ["admin"]}}
    })
}

#[derive(Default)]
struct Published {
    keys: Mutex<Vec<Jwk>>,
    fetches: AtomicUsize,
    is_away: AtomicBool,
}

/// See the module.
pub(crate) struct Provider {
    published: Arc<Published>,
    url: String,
}

impl Provider {
    pub(crate) async fn start(keys: &[TestKey]) -> Self {
        let published = Arc::new(Published::default());
        let certs = |State(published): State<Arc<Published>>| async move {
            published.fetches.fetch_add(1, Ordering::SeqCst);
            if published.is_away.load(Ordering::SeqCst) {
                return Err(StatusCode::BAD_GATEWAY);
            }
            Ok(json!({"keys": *published.keys.lock()}).to_string())
        };
        let router = Router::new()
            .route("/certs", get(certs))
            .with_state(Arc::clone(&published));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let url = format!("http://{}/certs", listener.local_addr().expect("bound"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let provider = Self { published, url };
        provider.publish(keys);
        provider
    }

    pub(crate) fn publish(&self, keys: &[TestKey]) {
        *self.published.keys.lock() = keys.iter().map(|key| key.public()).collect();
    }

    pub(crate) fn set_away(&self, is_away: bool) {
        self.published.is_away.store(is_away, Ordering::SeqCst);
    }

    pub(crate) fn fetches(&self) -> usize {
        self.published.fetches.load(Ordering::SeqCst)
    }

    /// A grid that believes it.
    pub(crate) async fn grid(
        &self,
        change: impl FnOnce(&mut grid_config::IdentitySettings),
    ) -> Grid {
        let own_key = Some(own_key().public());
        Grid::in_mode(Mode::Token { own_key }, |settings| {
            let identity = &mut settings.identity;
            identity.issuer = Some(ISSUER.to_owned());
            identity.jwks_url = Some(self.url.clone());
            identity.leeway_s = 0;
            change(identity);
        })
        .await
    }
}

/// The grid's own key.
pub(crate) fn own_key() -> IdentityKey {
    IdentityKey::from_seed(&[9; 32])
}

/// What a token is shown in.
pub(crate) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}
