//! Mutual TLS between the nodes: the certificates, read again when their files change.
//!
//! ```text
//!   CA certificate ─┬─► whom this node believes        every certificate is for `nodes.spacegrid` and for
//!   certificate,  ──┴─► what it shows, either way      `node-N.spacegrid`, N being the node's number
//!   key                        a gateway's is for `gateways.spacegrid` instead, and makes no node
//! ```
//!
//! The dialling side asks for any node of the CA, because it does not always know whom it will find
//! ([`any_node`]); once the two have introduced themselves each checks that the certificate is of the
//! very node ([`PeerIdentity::check`]), so one node's key does not make another node.
//!
//! The files are read from the machine itself, not through [`crate::platform`]: a simulated grid has none.
//!
//! What it deliberately does not do: revoke single certificates (make a new CA, which takes two restarts
//! of files with both CAs in `ca.crt` between them), or end connections whose certificate expires while
//! they last.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use grid_config::NodeSettings;
use parking_lot::Mutex;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::time::Instant;

use super::handshake::{Hello, Refusal, RefusalReason, Role};

/// The name that every node's certificate has.
const ANY_NODE: &str = "nodes.spacegrid";
/// The name that every gateway's certificate has, and no node's.
const ANY_GATEWAY: &str = "gateways.spacegrid";
/// The files are looked at when a connection begins, at most this often.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The names that a node's certificate must be for.
#[must_use]
pub fn certificate_names(node: u64) -> [String; 2] {
    [node_name(node), ANY_NODE.to_owned()]
}

/// The name that a gateway's certificate must be for. It is good for asking what gateways may ask, and for
/// nothing that nodes do.
#[must_use]
pub fn gateway_certificate_name() -> String {
    ANY_GATEWAY.to_owned()
}

fn node_name(node: u64) -> String {
    format!("node-{node}.spacegrid")
}

/// The name that any node answers to.
pub(super) fn any_node() -> ServerName<'static> {
    ServerName::try_from(ANY_NODE).expect("it is a DNS name")
}

fn any_gateway() -> ServerName<'static> {
    ServerName::try_from(ANY_GATEWAY).expect("it is a DNS name")
}

/// Certificates that cannot be used. The operator must correct the file named.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecurityError {
    #[error("node.tls_ca_file, node.tls_certificate_file and node.tls_key_file belong together")]
    Incomplete,
    #[error("{}: {why}", path.display())]
    Unusable { path: PathBuf, why: String },
    #[error(
        "{listen} is not a loopback address and there are no certificates: make some with `grid certs`, \
         or set node.tls_allow_plaintext where nobody else can reach it"
    )]
    Plaintext { listen: std::net::SocketAddr },
}

/// How this node's connections to other nodes are secured.
#[derive(Debug)]
pub(crate) struct Security {
    tls: Option<Tls>,
    allow_plaintext: bool,
}

#[derive(Debug)]
struct Tls {
    files: Files,
    state: Mutex<State>,
}

#[derive(Debug)]
struct Files {
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Debug)]
struct State {
    looked_at: Instant,
    stamps: Stamps,
    configs: Configs,
}

#[derive(Clone, Debug)]
struct Configs {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// Inode, size and time of change of each file; `None` for one that is not there.
type Stamps = [Option<(u64, u64, i64, i64)>; 3];

impl Files {
    fn stamps(&self) -> Stamps {
        [&self.ca, &self.certificate, &self.key].map(|path| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
        })
    }

    fn roots(&self) -> Result<Arc<RootCertStore>, SecurityError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca)? {
            roots
                .add(certificate)
                .map_err(|error| unusable(&self.ca, error))?;
        }
        Ok(Arc::new(roots))
    }

    /// Whether this side's certificate is a gateway's, signed by the CA and not expired.
    fn check_gateway(&self) -> Result<(), SecurityError> {
        let path = &self.certificate;
        let wrong =
            |error: rustls::Error| unusable(path, format!("not good for a gateway: {error}"));
        let chain = certificates(path)?;
        let (own, rest) = chain
            .split_first()
            .ok_or_else(|| unusable(path, "there is no certificate in it"))?;
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots()?, provider())
            .build()
            .map_err(|error| unusable(&self.ca, error))?;
        verifier
            .verify_client_cert(own, rest, UnixTime::now())
            .map_err(wrong)?;
        let parsed = ParsedCertificate::try_from(own).map_err(wrong)?;
        verify_server_name(&parsed, &any_gateway()).map_err(wrong)
    }

    /// Whether it is that node's.
    fn check_node(&self, node: u64) -> Result<(), SecurityError> {
        let path = &self.certificate;
        let chain = certificates(path)?;
        let (own, rest) = chain
            .split_first()
            .ok_or_else(|| unusable(path, "there is no certificate in it"))?;
        let verifier = WebPkiServerVerifier::builder_with_provider(self.roots()?, provider())
            .build()
            .map_err(|error| unusable(&self.ca, error))?;
        for name in certificate_names(node) {
            let name = ServerName::try_from(name).map_err(|error| unusable(path, error))?;
            verifier
                .verify_server_cert(own, rest, &name, &[], UnixTime::now())
                .map_err(|error| unusable(path, format!("not good for node {node}: {error}")))?;
        }
        Ok(())
    }

    fn read(&self) -> Result<Configs, SecurityError> {
        let provider = provider();
        let roots = self.roots()?;
        let chain = certificates(&self.certificate)?;
        let key =
            PrivateKeyDer::from_pem_file(&self.key).map_err(|error| unusable(&self.key, error))?;
        let wrong = |error: rustls::Error| unusable(&self.certificate, error);
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|error| unusable(&self.ca, error))?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(wrong)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(wrong)?;
        // Connections last for days: resuming would save nothing and outlive changed certificates.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(wrong)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(wrong)?;
        client.resumption = Resumption::disabled();
        Ok(Configs {
            server: Arc::new(server),
            client: Arc::new(client),
        })
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn unusable(path: &Path, why: impl std::fmt::Display) -> SecurityError {
    SecurityError::Unusable {
        path: path.to_owned(),
        why: why.to_string(),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SecurityError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found: Vec<_> = read.map_err(|error| unusable(path, error))?;
    match found.is_empty() {
        true => Err(unusable(path, "there is no certificate in it")),
        false => Ok(found),
    }
}

impl Security {
    /// Reads the certificates that the settings name.
    pub(crate) fn open(settings: &NodeSettings) -> Result<Self, SecurityError> {
        let files = match (
            &settings.tls_ca_file,
            &settings.tls_certificate_file,
            &settings.tls_key_file,
        ) {
            (Some(ca), Some(certificate), Some(key)) => Files {
                ca: ca.clone(),
                certificate: certificate.clone(),
                key: key.clone(),
            },
            (None, None, None) => {
                return Ok(Self {
                    tls: None,
                    allow_plaintext: settings.tls_allow_plaintext,
                });
            }
            _ => return Err(SecurityError::Incomplete),
        };
        let stamps = files.stamps();
        let configs = files.read()?;
        Ok(Self {
            tls: Some(Tls {
                files,
                state: Mutex::new(State {
                    looked_at: Instant::now(),
                    stamps,
                    configs,
                }),
            }),
            allow_plaintext: settings.tls_allow_plaintext,
        })
    }

    /// Checks, before a node starts, what its peers would only tell it later: that its certificate is
    /// its own, signed by the CA and not expired, or that plain text is in order at `listen`.
    pub(crate) fn check_start(
        &self,
        node: u64,
        listen: std::net::SocketAddr,
    ) -> Result<(), SecurityError> {
        let Some(tls) = &self.tls else {
            return match self.allows_plaintext(listen.ip()) {
                true => Ok(()),
                false => Err(SecurityError::Plaintext { listen }),
            };
        };
        tls.files.check_node(node)
    }

    /// The same for a gateway, which listens to nobody.
    pub(crate) fn check_gateway(&self) -> Result<(), SecurityError> {
        match &self.tls {
            Some(tls) => tls.files.check_gateway(),
            None => Ok(()),
        }
    }

    /// Whether connections are encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether frames may go to or come from that address without TLS.
    pub(super) fn allows_plaintext(&self, address: IpAddr) -> bool {
        self.allow_plaintext || address.to_canonical().is_loopback()
    }

    pub(super) fn client(&self) -> Option<Arc<ClientConfig>> {
        self.tls.as_ref().map(|tls| tls.current().client)
    }

    pub(super) fn server(&self) -> Option<Arc<ServerConfig>> {
        self.tls.as_ref().map(|tls| tls.current().server)
    }
}

impl Tls {
    /// The present certificates. Files that changed are read again; when they cannot be used, such as
    /// halfway through their replacement, the former ones stay.
    fn current(&self) -> Configs {
        let mut state = self.state.lock();
        if state.looked_at.elapsed() >= LOOK_INTERVAL {
            state.looked_at = Instant::now();
            let stamps = self.files.stamps();
            if stamps != state.stamps {
                state.stamps = stamps;
                match self.files.read() {
                    Ok(configs) => {
                        state.configs = configs;
                        tracing::info!("changed certificates are used from now on");
                    }
                    Err(error) => tracing::error!(
                        %error,
                        "changed certificates cannot be used; the former ones stay"
                    ),
                }
            }
        }
        state.configs.clone()
    }
}

/// Who a peer has proven to be.
#[derive(Clone, Debug)]
pub(super) enum PeerIdentity {
    /// Nothing was asked for.
    Unproven,
    /// The holder of this certificate's key; `None` where TLS had none, which it does not allow.
    Certificate(Option<CertificateDer<'static>>),
}

impl PeerIdentity {
    pub(super) fn of(chain: Option<&[CertificateDer<'static>]>) -> Self {
        Self::Certificate(chain.and_then(|chain| chain.first()).cloned())
    }

    /// Whether whoever dialled may come as what it says.
    pub(super) fn check_dialler(&self, hello: &Hello) -> Result<(), Refusal> {
        match hello.role {
            Role::Member | Role::Guest => self.check(hello.from),
            Role::Gateway => self.check_name(ANY_GATEWAY, "a gateway"),
        }
    }

    /// Whether the peer may call itself that node.
    pub(super) fn check(&self, node: u64) -> Result<(), Refusal> {
        self.check_name(&node_name(node), &format!("node {node}"))
    }

    fn check_name(&self, name: &str, whose: &str) -> Result<(), Refusal> {
        let certificate = match self {
            Self::Unproven => return Ok(()),
            Self::Certificate(certificate) => certificate,
        };
        let is_its_own = || {
            let parsed = ParsedCertificate::try_from(certificate.as_ref()?).ok()?;
            let name = ServerName::try_from(name).ok()?;
            verify_server_name(&parsed, &name).ok()
        };
        is_its_own().ok_or_else(|| {
            Refusal::new(
                RefusalReason::Certificate,
                format!("the certificate shown by {whose} is not for {name}"),
            )
        })
    }
}
