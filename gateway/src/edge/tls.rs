//! The encrypted socket: TLS 1.2 and 1.3, with a certificate that may be replaced while it runs.
//!
//! ```text
//!   files ── every reload_interval_ms ──► changed, and fit each other? ──► the next handshakes
//!                                              └ no: the old one stays; a warning and a counter
//! ```
//!
//! Sessions are resumed by tickets, so that a crowd that comes back costs no signature each. A request in
//! the first flight (0-RTT) could be repeated by whoever hears it, so there is none.
//!
//! It deliberately does not: ask clients for certificates, fetch certificates from anybody, or end
//! connections when their certificate is replaced.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The first byte of every TLS connection: a handshake record.
const HANDSHAKE_RECORD: u8 = 22;

/// The encrypted socket of a gateway, for [`crate::GatewayOptions`].
#[derive(Debug)]
pub struct TlsOptions {
    /// The bound socket.
    pub listener: std::net::TcpListener,
    /// The certificate with its chain, in PEM, the gateway's own first.
    pub certificate_file: PathBuf,
    /// Its secret key, in PEM.
    pub key_file: PathBuf,
}

/// Why a certificate cannot be used. Correct the files; a running gateway takes them up by itself.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file system's word.
    #[error("{}: {source}", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{} holds no {what} in PEM", file.display())]
    Empty {
        /// Which file.
        file: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// The two do not belong together, or are of a kind that is not known.
    #[error("the key in {} cannot be used with the certificate in {}: {source}", key_file.display(), certificate_file.display())]
    Unfit {
        /// The certificate.
        certificate_file: PathBuf,
        /// The key.
        key_file: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The cryptography does not start.
    #[error("TLS cannot be set up: {0}")]
    Unavailable(#[source] rustls::Error),
}

/// What the files say.
struct Texts {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// The certificate that new connections are shown.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read()))
    }
}

/// See the module.
pub(crate) struct Encryption {
    acceptor: TlsAcceptor,
    shown: Arc<Shown>,
    certificate_file: PathBuf,
    key_file: PathBuf,
    /// Of what was read at the start.
    loaded: (u64, u64),
}

impl std::fmt::Debug for Encryption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Encryption({})", self.certificate_file.display())
    }
}

impl Encryption {
    /// Reads the files.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub(crate) fn new(certificate_file: PathBuf, key_file: PathBuf) -> Result<Self, TlsError> {
        let texts = read(&certificate_file, &key_file)?;
        let certified = certified(&texts, &certificate_file, &key_file)?;
        let shown = Arc::new(Shown(RwLock::new(Arc::new(certified))));
        let provider = Arc::new(ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(TlsError::Unavailable)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Shown>::clone(&shown));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ticketer = ring::Ticketer::new().map_err(TlsError::Unavailable)?;
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            shown,
            certificate_file,
            key_file,
            loaded: digest(&texts),
        })
    }

    /// The handshake. It is the caller's to give up on it.
    ///
    /// # Errors
    /// The client's or the network's.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.acceptor.accept(stream).await
    }

    /// Takes up a certificate that has changed, for ever.
    pub(crate) async fn keep_current(&self, interval: Duration) {
        // Good or not: one word about each.
        let mut looked_at = Some(self.loaded);
        loop {
            tokio::time::sleep(interval).await;
            let files = (self.certificate_file.clone(), self.key_file.clone());
            let reading = tokio::task::spawn_blocking(move || read(&files.0, &files.1));
            let Ok(found) = reading.await else {
                continue;
            };
            let digest = found.as_ref().ok().map(digest);
            if std::mem::replace(&mut looked_at, digest) != digest {
                self.take_up(found);
            }
        }
    }

    fn take_up(&self, found: Result<Texts, TlsError>) {
        let (certificate_file, key_file) = (&self.certificate_file, &self.key_file);
        match found.and_then(|texts| certified(&texts, certificate_file, key_file)) {
            Ok(certified) => {
                *self.shown.0.write() = Arc::new(certified);
                metrics::counter!("gateway_tls_reloads_total").increment(1);
                tracing::info!(file = %certificate_file.display(), "new connections get another certificate");
            }
            Err(error) => {
                metrics::counter!("gateway_tls_reloads_failed_total").increment(1);
                tracing::warn!(%error, "the certificate has changed and cannot be used; the old one stays");
            }
        }
    }
}

/// Whether what comes first is TLS. Waits for the first byte.
///
/// # Errors
/// The network's.
pub(crate) async fn is_tls(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    Ok(stream.peek(&mut first).await? == 1 && first == [HANDSHAKE_RECORD])
}

fn digest(texts: &Texts) -> (u64, u64) {
    let hash = xxhash_rust::xxh3::xxh3_64;
    (hash(&texts.certificate), hash(&texts.key))
}

fn read(certificate_file: &PathBuf, key_file: &PathBuf) -> Result<Texts, TlsError> {
    let text = |file: &PathBuf| {
        std::fs::read(file).map_err(|source| TlsError::Read {
            file: file.clone(),
            source,
        })
    };
    Ok(Texts {
        certificate: text(certificate_file)?,
        key: text(key_file)?,
    })
}

fn certified(
    texts: &Texts,
    certificate_file: &PathBuf,
    key_file: &PathBuf,
) -> Result<CertifiedKey, TlsError> {
    let empty = |file: &PathBuf, what| TlsError::Empty {
        file: file.clone(),
        what,
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&texts.certificate)
        .collect::<Result<_, _>>()
        .map_err(|_| empty(certificate_file, "certificate"))?;
    if chain.is_empty() {
        return Err(empty(certificate_file, "certificate"));
    }
    let key =
        PrivateKeyDer::from_pem_slice(&texts.key).map_err(|_| empty(key_file, "secret key"))?;
    let unfit = |source| TlsError::Unfit {
        certificate_file: certificate_file.clone(),
        key_file: key_file.clone(),
        source,
    };
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(unfit)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rustls::pki_types::ServerName;
    use tokio::net::TcpListener;

    use super::*;

    /// Writes a certificate of its own maker's, and returns it.
    fn issue(directory: &Path) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
        std::fs::write(directory.join("crt"), made.cert.pem()).expect("written");
        std::fs::write(directory.join("key"), made.signing_key.serialize_pem()).expect("written");
        made.cert.der().clone()
    }

    fn encryption(directory: &Path) -> Result<Encryption, TlsError> {
        Encryption::new(directory.join("crt"), directory.join("key"))
    }

    /// The certificate that a client of this version is shown.
    async fn shown(
        encryption: &Encryption,
        trusted: &CertificateDer<'static>,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> io::Result<CertificateDer<'static>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(trusted.clone()).expect("a certificate");
        let provider = Arc::new(ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("known")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let address = listener.local_addr()?;
        let near = async {
            let (stream, _) = listener.accept().await?;
            assert!(is_tls(&stream).await?);
            encryption.accept(stream).await
        };
        let far = async {
            let name = ServerName::try_from("localhost").expect("a name");
            connector
                .connect(name, TcpStream::connect(address).await?)
                .await
        };
        let (near, far) = tokio::join!(near, far);
        near?;
        let far = far?;
        let (_, session) = far.get_ref();
        assert_eq!(session.protocol_version(), Some(version.version));
        let chain = session.peer_certificates().expect("it has one");
        Ok(chain[0].clone())
    }

    #[tokio::test]
    async fn both_versions_are_spoken_and_a_new_certificate_is_shown() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = issue(directory.path());
        let encryption = encryption(directory.path()).expect("it fits");
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let seen = shown(&encryption, &first, version).await;
            assert_eq!(seen.expect("trusted"), first);
        }
        let interval = Duration::from_millis(5);
        let keeping = encryption.keep_current(interval);
        let changing = async {
            // Half of a change: the old one stays.
            let path = directory.path();
            std::fs::write(path.join("key"), "half").expect("written");
            tokio::time::sleep(interval * 4).await;
            let seen = shown(&encryption, &first, &rustls::version::TLS13).await;
            assert_eq!(seen.expect("still trusted"), first);
            let second = issue(path);
            while shown(&encryption, &second, &rustls::version::TLS13)
                .await
                .is_err()
            {
                tokio::time::sleep(interval).await;
            }
        };
        tokio::select! {
            () = keeping => {}
            done = tokio::time::timeout(Duration::from_secs(60), changing) => done.expect("taken up"),
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let refused = || encryption(path).expect_err("refused").to_string();
        assert!(refused().contains("crt: No such file"), "{}", refused());
        issue(path);
        let key = std::fs::read(path.join("key")).expect("there");
        issue(path);
        std::fs::write(path.join("key"), key).expect("written");
        assert!(refused().contains("cannot be used with"), "{}", refused());
        std::fs::write(path.join("key"), "nothing").expect("written");
        assert!(refused().contains("no secret key"), "{}", refused());
        std::fs::write(path.join("crt"), "nothing").expect("written");
        assert!(refused().contains("no certificate"), "{}", refused());
    }
}
