//! Nodes with certificates: the right ones, wrong ones, and none.

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::security::any_node;
use super::*;

/// A private CA.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).expect("signed");
        Self {
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }
}

/// A node's files.
pub(super) struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    /// A certificate of `authority` for `node`, whose holder believes `authority`.
    pub(super) fn of(authority: &Authority, node: u64) -> Self {
        let files = Self {
            folder: tempfile::tempdir().expect("temporary directory"),
        };
        files.write(authority, node, 2999);
        files
    }

    /// The same for a gateway.
    pub(super) fn of_gateway(authority: &Authority) -> Self {
        let files = Self {
            folder: tempfile::tempdir().expect("temporary directory"),
        };
        let names = vec![gateway_certificate_name()];
        files.write_for(
            authority,
            names,
            2999,
            vec![ExtendedKeyUsagePurpose::ClientAuth],
        );
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, authority: &Authority, node: u64, last_year: i32) {
        let usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        self.write_for(
            authority,
            certificate_names(node).to_vec(),
            last_year,
            usages,
        );
    }

    fn write_for(
        &self,
        authority: &Authority,
        names: Vec<String>,
        last_year: i32,
        usages: Vec<ExtendedKeyUsagePurpose>,
    ) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(names).expect("names");
        params.not_after = date_time_ymd(last_year, 1, 1);
        params.extended_key_usages = usages;
        let certificate = params.signed_by(&key, &authority.issuer).expect("signed");
        for (name, text) in [
            ("ca.crt", authority.pem.clone()),
            ("node.crt", certificate.pem()),
            ("node.key", key.serialize_pem()),
        ] {
            std::fs::write(self.path(name), text).expect("written");
        }
    }

    pub(super) fn security(&self) -> Security {
        Security::open(&NodeSettings {
            tls_ca_file: Some(self.path("ca.crt")),
            tls_certificate_file: Some(self.path("node.crt")),
            tls_key_file: Some(self.path("node.key")),
            ..NodeSettings::default()
        })
        .expect("good files")
    }
}

fn plaintext() -> Security {
    Security::open(&NodeSettings::default()).expect("nothing to read")
}

fn pair_of(one: Security, two: Security) -> (Node, Node) {
    let (listener_one, one_address) = listen();
    let (listener_two, two_address) = listen();
    let members = BTreeMap::from([(1, one_address), (2, two_address)]);
    (
        start_with(1, GRID, "f", listener_one, &members, one),
        start_with(2, GRID, "f", listener_two, &members, two),
    )
}

/// Two nodes of one authority that have found each other.
async fn connected_pair(authority: &Authority) -> (Node, Node) {
    let security = |node| Files::of(authority, node).security();
    let (one, two) = pair_of(security(1), security(2));
    one.connected(2).await;
    two.connected(1).await;
    (one, two)
}

/// Waits until both nodes say why they are not connected.
async fn both_refuse(one: &Node, two: &Node, reason: RefusalReason) {
    for (node, peer) in [(one, 2), (two, 1)] {
        until("both know the reason", || {
            let known = node.transport.refusal(peer);
            known.is_some_and(|refusal| refusal.reason == reason)
        })
        .await;
        assert!(!node.transport.is_reachable(peer));
        let counts = node.transport.refused_counts();
        assert!(counts.contains_key(reason.name()), "{counts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_one_authority_talk_over_tls() {
    let authority = Authority::new();
    let (one, two) = connected_pair(&authority).await;
    assert!(one.transport.is_encrypted());
    for bytes in [0, 1, 20_000, 3 << 20] {
        let payload = Bytes::from(vec![7; bytes]);
        assert_eq!(one.ask(2, ECHO, &payload).await, Ok(payload.clone()));
        assert_eq!(two.ask(1, ECHO, &payload).await, Ok(payload));
    }
    let (sender, mut receiver) = one
        .transport
        .open_stream(2, Lane::Bulk, ECHO, Bytes::new())
        .expect("connected");
    for number in 0..200_u32 {
        let message = Bytes::copy_from_slice(&number.to_le_bytes());
        sender.send(message.clone()).await.expect("open");
        assert_eq!(receiver.recv().await, Some(Ok(message)));
    }
    one.transport.shutdown().await;
    two.transport.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_different_authorities_are_refused_on_both_sides() {
    let (one, two) = pair_of(
        Files::of(&Authority::new(), 1).security(),
        Files::of(&Authority::new(), 2).security(),
    );
    both_refuse(&one, &two, RefusalReason::Certificate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_refused_on_both_sides() {
    let authority = Authority::new();
    let expired = Files::of(&authority, 2);
    expired.write(&authority, 2, 2001);
    let (one, two) = pair_of(Files::of(&authority, 1).security(), expired.security());
    both_refuse(&one, &two, RefusalReason::Certificate).await;
    for (node, peer) in [(&one, 2), (&two, 1)] {
        let refusal = node.transport.refusal(peer).expect("refused");
        assert!(refusal.detail.contains("expired"), "{refusal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_anothers_certificate_is_refused_on_both_sides() {
    let authority = Authority::new();
    let (one, two) = pair_of(
        Files::of(&authority, 1).security(),
        Files::of(&authority, 3).security(),
    );
    both_refuse(&one, &two, RefusalReason::Certificate).await;
    let refusal = two.transport.refusal(1).expect("refused");
    assert!(refusal.detail.contains("node-2.spacegrid"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_and_tls_tell_each_other_that_they_differ() {
    let authority = Authority::new();
    let (one, two) = pair_of(Files::of(&authority, 1).security(), plaintext());
    both_refuse(&one, &two, RefusalReason::Plaintext).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_certificate_is_told_that_it_needs_one() {
    let authority = Authority::new();
    let files = Files::of(&authority, 1);
    let (listener, address) = listen();
    let members = BTreeMap::from([(1, address.clone()), (2, listen().1)]);
    let one = start_with(1, GRID, "f", listener, &members, files.security());
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(files.path("ca.crt")).expect("a certificate");
    roots.add(ca).expect("a CA");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("supported")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let socket = dial(&address).await;
    let mut socket = connector
        .connect(any_node(), socket)
        .await
        .expect("the server has a good certificate");
    let introduced = introduce(&mut socket, &hello()).await.map_err(|error| {
        let handshake::HandshakeError::Io(error) = error else {
            panic!("an alert, not {error}");
        };
        tls_error::explain(error, "node 1").to_string()
    });
    let error = introduced.expect_err("refused");
    assert!(error.contains("none was shown"), "{error}");
    until("it is counted", || {
        one.transport.refused_counts().contains_key("certificate")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_dropped_and_counted_with_and_without_tls() {
    let authority = Authority::new();
    let (one, two) = connected_pair(&authority).await;
    let (plain, address, _other) = alone();
    let mut junk = vec![0x16];
    junk.extend((0..5_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8));
    let web = b"GET / HTTP/1.1\r\n\r\n".to_vec();
    for (node, address, texts) in [
        (&one, &one.address, [&junk, &web]),
        (&plain, &address, [&web, &web]),
    ] {
        for text in texts {
            let mut socket = dial(address).await;
            // The node may close before it has read all of it.
            let _ = socket.write_all(text).await;
            closed_by_peer(socket).await;
        }
        until("both are counted", || {
            node.transport.refused_counts().get("garbage") == Some(&2)
        })
        .await;
    }
    let payload = Bytes::from_static(b"still here");
    assert_eq!(two.ask(1, ECHO, &payload).await, Ok(payload));
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_certificates_are_used_without_a_restart() {
    let authority = Authority::new();
    let files = Files::of(&Authority::new(), 2);
    let (one, two) = pair_of(Files::of(&authority, 1).security(), files.security());
    both_refuse(&one, &two, RefusalReason::Certificate).await;
    std::fs::write(files.path("node.key"), "half a file").expect("written");
    files.write(&authority, 2, 2999);
    one.connected(2).await;
    two.connected(1).await;
    let payload = Bytes::from_static(b"hello");
    assert_eq!(one.ask(2, ECHO, &payload).await, Ok(payload));
}

#[tokio::test]
async fn a_node_that_its_peers_would_refuse_does_not_start() {
    let authority = Authority::new();
    let loopback = "127.0.0.1:1".parse().expect("an address");
    let anywhere = "0.0.0.0:1".parse().expect("an address");
    let files = Files::of(&authority, 1);
    let reason = |security: &Security, node, listen| {
        let checked = security.check_start(node, listen);
        checked.map_err(|error| error.to_string())
    };
    assert_eq!(reason(&files.security(), 1, anywhere), Ok(()));
    let wrong = reason(&files.security(), 2, loopback).expect_err("another node's");
    assert!(wrong.contains("node.crt"), "{wrong}");
    files.write(&authority, 1, 2001);
    let expired = reason(&files.security(), 1, loopback).expect_err("expired");
    assert!(expired.contains("expired"), "{expired}");

    assert_eq!(reason(&plaintext(), 1, loopback), Ok(()));
    let open = reason(&plaintext(), 1, anywhere).expect_err("plain text");
    assert!(open.contains("tls_allow_plaintext"), "{open}");
    let allowed = Security::open(&NodeSettings {
        tls_allow_plaintext: true,
        ..NodeSettings::default()
    })
    .expect("nothing to read");
    assert_eq!(reason(&allowed, 1, anywhere), Ok(()));

    std::fs::write(files.path("ca.crt"), "").expect("written");
    let opened = Security::open(&NodeSettings {
        tls_ca_file: Some(files.path("ca.crt")),
        tls_certificate_file: Some(files.path("node.crt")),
        tls_key_file: Some(files.path("node.key")),
        ..NodeSettings::default()
    });
    let error = opened.expect_err("an empty file").to_string();
    assert!(error.contains("ca.crt"), "{error}");
}
