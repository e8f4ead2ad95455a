//! Where a provider's keys come from: its address or a file, fetched at the start, then now and then, and
//! at once when a token names a key that is not known.
//!
//! Bounds: one fetch at a time, of bounded length and in bounded time; for unknown keys not more often
//! than the settings say, so that tokens with made-up keys cost the provider nothing. While the provider
//! is away, the keys that were fetched last go on counting.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jsonwebtoken::Algorithm;
use parking_lot::RwLock;
use tokio::time::Instant;

use super::keys::{Key, KeySet, NoKey};

/// The longest document.
const DOCUMENT_BYTES_MAX: usize = 256 << 10;
/// How long a fetch may take.
const FETCH_TIMEOUT_MS: u64 = 5_000;

/// The keys cannot be used as they are set. Nothing was started; the operator must correct it.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Others could change what is fetched on its way.
    #[error("gateway.identity.jwks_url must begin with https://, or http:// on this machine: {0}")]
    Insecure(String),
    /// The system has no list of authorities to check the provider's certificate with.
    #[error("the system's certificate authorities cannot be read: {0}")]
    NoAuthorities(std::io::Error),
    /// The file is not there or is none.
    #[error("gateway.identity.jwks_file: {0}")]
    File(String),
}

type HttpsClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;
type PlainClient = Client<HttpConnector, Empty<Bytes>>;

#[derive(Debug)]
enum Place {
    Https(HttpsClient, Uri),
    /// On this machine.
    Http(PlainClient, Uri),
    File(PathBuf),
}

/// The keys, and where to fetch them again.
#[derive(Debug)]
pub(super) struct KeySource {
    place: Place,
    present: RwLock<Option<Arc<KeySet>>>,
    /// When the last fetch began; held during one.
    fetching: tokio::sync::Mutex<Option<Instant>>,
    refresh: Duration,
    refresh_min: Duration,
}

/// Why there is no key for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// The provider has no such key.
    Unknown,
    /// Its key is for another algorithm.
    OtherAlgorithm,
    /// The provider could not be asked so far.
    NotFetched,
}

impl KeySource {
    /// From the provider's address.
    pub(super) fn url(
        url: &str,
        (refresh, refresh_min): (Duration, Duration),
    ) -> Result<Self, KeysError> {
        let insecure = || KeysError::Insecure(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| insecure())?;
        let is_here = uri.host().is_some_and(|host| {
            let address = host.trim_start_matches('[').trim_end_matches(']');
            host == "localhost"
                || address
                    .parse::<std::net::IpAddr>()
                    .is_ok_and(|address| address.is_loopback())
        });
        let place = match uri.scheme_str() {
            Some("https") => {
                let provider = rustls::crypto::ring::default_provider();
                let connector = HttpsConnectorBuilder::new()
                    .with_provider_and_native_roots(provider)
                    .map_err(KeysError::NoAuthorities)?
                    .https_only()
                    .enable_http1()
                    .build();
                Place::Https(Client::builder(TokioExecutor::new()).build(connector), uri)
            }
            Some("http") if is_here => {
                let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
                Place::Http(client, uri)
            }
            _ => return Err(insecure()),
        };
        Ok(Self::new(place, None, (refresh, refresh_min)))
    }

    /// From a file, which must be readable now.
    pub(super) fn file(path: PathBuf, times: (Duration, Duration)) -> Result<Self, KeysError> {
        let unusable = |why: String| KeysError::File(format!("{}: {why}", path.display()));
        let text = std::fs::read(&path).map_err(|error| unusable(error.to_string()))?;
        let keys = KeySet::read(&text).map_err(|error| unusable(error.to_string()))?;
        if keys.len() == 0 {
            return Err(unusable("it has no key that can be used".to_owned()));
        }
        Ok(Self::new(Place::File(path), Some(keys), times))
    }

    fn new(
        place: Place,
        keys: Option<KeySet>,
        (refresh, refresh_min): (Duration, Duration),
    ) -> Self {
        Self {
            place,
            present: RwLock::new(keys.map(Arc::new)),
            fetching: tokio::sync::Mutex::new(None),
            refresh,
            refresh_min,
        }
    }

    /// The key of a token.
    pub(super) async fn key(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Key, Missing> {
        match self.present_key(id, algorithm) {
            Err(Missing::Unknown | Missing::NotFetched) => {}
            found => return found,
        }
        self.fetch_unless_younger(self.refresh_min).await;
        self.present_key(id, algorithm)
    }

    fn present_key(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Key, Missing> {
        let present = self.present.read();
        let keys = present.as_ref().ok_or(Missing::NotFetched)?;
        match keys.find(id, algorithm) {
            Ok(key) => Ok(key.clone()),
            Err(NoKey::Unknown) => Err(Missing::Unknown),
            Err(NoKey::OtherAlgorithm) => Err(Missing::OtherAlgorithm),
        }
    }

    /// Fetches now and then, for ever; to be spawned.
    pub(super) async fn keep_fresh(&self) {
        loop {
            self.fetch_unless_younger(self.refresh_min).await;
            tokio::time::sleep(self.refresh).await;
        }
    }

    /// Whoever waits while another fetches finds that it has just been done.
    async fn fetch_unless_younger(&self, age_min: Duration) {
        let mut last = self.fetching.lock().await;
        if last.is_some_and(|last| last.elapsed() < age_min) {
            return;
        }
        *last = Some(Instant::now());
        match self.fetch().await {
            Ok(keys) => {
                metrics::counter!("gateway_identity_key_fetches_total", "result" => "ok")
                    .increment(1);
                *self.present.write() = Some(Arc::new(keys));
            }
            Err(error) => {
                metrics::counter!("gateway_identity_key_fetches_total", "result" => "failed")
                    .increment(1);
                tracing::warn!(
                    error,
                    "the identity provider's keys cannot be fetched; those known go on counting"
                );
            }
        }
    }

    async fn fetch(&self) -> Result<KeySet, String> {
        let timeout = Duration::from_millis(FETCH_TIMEOUT_MS);
        let text = tokio::time::timeout(timeout, self.text())
            .await
            .map_err(|_| "no answer in time".to_owned())??;
        let keys = KeySet::read(&text).map_err(|error| error.to_string())?;
        match keys.len() {
            0 => Err("there is no key that can be used".to_owned()),
            _ => Ok(keys),
        }
    }

    async fn text(&self) -> Result<Bytes, String> {
        let answered = match &self.place {
            Place::File(path) => {
                let read = tokio::fs::read(path).await;
                return read.map(Bytes::from).map_err(|error| error.to_string());
            }
            Place::Https(client, uri) => client.get(uri.clone()).await,
            Place::Http(client, uri) => client.get(uri.clone()).await,
        };
        let answer = answered.map_err(|error| error.to_string())?;
        if answer.status() != StatusCode::OK {
            return Err(format!("the answer is {}", answer.status()));
        }
        let body = Limited::new(answer.into_body(), DOCUMENT_BYTES_MAX);
        let body = body.collect().await.map_err(|error| error.to_string())?;
        Ok(body.to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_tls_or_from_this_machine() {
        let times = (Duration::from_secs(1), Duration::from_secs(1));
        for good in [
            "http://127.0.0.1:8080/certs",
            "http://localhost/certs",
            "http://[::1]:80/certs",
        ] {
            assert!(KeySource::url(good, times).is_ok(), "{good}");
        }
        for wrong in [
            "http://id.example/certs",
            "http://127.0.0.1.evil.example/",
            "ftp://127.0.0.1/",
            "file:///etc/passwd",
            "certs",
        ] {
            let refused = KeySource::url(wrong, times);
            assert!(matches!(refused, Err(KeysError::Insecure(_))), "{wrong}");
        }
    }
}
