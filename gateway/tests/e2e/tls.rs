//! The encrypted socket: everything that clients do in plain text, through a tunnel as a client's library
//! makes one, and what comes to it that is no TLS.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use gateway::{Gateway, GatewayError, GatewayOptions, Mode, Place, TlsOptions};
use grid_config::GatewaySettings;
use reqwest::StatusCode;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use crate::harness::{Grid, patiently, person, text};
use crate::provider::own_key;

const BIDS: u32 = 200;

/// A certificate that only this test trusts.
fn issue(directory: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    std::fs::write(directory.join("crt"), made.cert.pem()).expect("written");
    std::fs::write(directory.join("key"), made.signing_key.serialize_pem()).expect("written");
    made.cert.der().clone()
}

fn options(directory: &Path, address: &str) -> TlsOptions {
    TlsOptions {
        listener: std::net::TcpListener::bind(address).expect("a free port"),
        certificate_file: directory.join("crt"),
        key_file: directory.join("key"),
    }
}

fn connector(trusted: CertificateDer<'static>) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("known")
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// Listens in plain text and carries everything on over TLS.
async fn tunnel(to: SocketAddr, trusted: CertificateDer<'static>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let connector = connector(trusted);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let connector = connector.clone();
            tokio::spawn(async move {
                let name = ServerName::try_from("localhost").expect("a name");
                let far = TcpStream::connect(to).await.expect("it listens");
                let mut far = connector.connect(name, far).await.expect("trusted");
                let _ = copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    address
}

/// A grid that everybody reaches over TLS.
async fn sealed(mode: Mode, listen: &str) -> (tempfile::TempDir, Grid) {
    let directory = tempfile::tempdir().expect("a directory");
    let trusted = issue(directory.path());
    let mut grid = Grid::with_tls(mode, options(directory.path(), listen), |_| ()).await;
    let gateway = grid.gateway.as_ref().expect("running");
    let port = gateway.tls_address().expect("it listens").port();
    let to = SocketAddr::from(([127, 0, 0, 1], port));
    grid.come_by(tunnel(to, trusted).await);
    (directory, grid)
}

#[tokio::test]
async fn a_purchase_and_an_auction_over_tls() {
    let (_directory, grid) = sealed(Mode::Trusted, "127.0.0.1:0").await;
    let event = grid.event(300).await;
    let mut buyer = grid.connect(person(1)).await;
    let hold = json!({"type": "hold_seats", "event_id": event, "seats": ["A-1-1"], "key": "h1"});
    let held = buyer.data(hold).await;
    let confirm = json!({"type": "confirm_hold", "event_id": event, "hold_id": held["hold_id"],
                         "payment_reference": "pay-1", "key": "c1"});
    let bought = buyer.data(confirm).await;
    let tickets = bought["tickets"].as_array().map(Vec::len);
    assert_eq!(tickets, Some(1), "{bought}");

    let auction = grid.open_auction(person(9)).await;
    let mut watcher = grid.connect(person(2)).await;
    let subscribe = json!({"type": "subscribe", "auction_id": auction});
    let snapshot = watcher.ask(subscribe).await;
    assert_eq!(snapshot["type"], "snapshot", "{snapshot}");
    let mut bidders = [buyer, grid.connect(person(3)).await];
    for number in 0..BIDS {
        let amount = (100 + number).to_string();
        let bid = json!({"type": "place_bid", "auction_id": auction, "amount": amount});
        let bidder = &mut bidders[(number % 2) as usize];
        bidder.data(bid).await;
    }
    // What is sealed must come in its order.
    for number in 0..BIDS {
        let event = watcher.expect_type("bid_placed").await;
        let amount = text(&event["data"]["amount"]["amount"]);
        assert_eq!(amount, format!("{}.00", 100 + number), "{event}");
    }
    grid.stop().await;
    let goodbye = watcher.expect_type("goodbye").await;
    assert_eq!(goodbye["data"]["reason"], "draining");
}

#[tokio::test]
async fn what_is_no_tls_is_told_so_and_what_stays_silent_goes() {
    let directory = tempfile::tempdir().expect("a directory");
    issue(directory.path());
    let tls = options(directory.path(), "127.0.0.1:0");
    let change = |settings: &mut GatewaySettings| settings.edge.header_timeout_ms = 300;
    let grid = Grid::with_tls(Mode::Trusted, tls, change).await;
    let address = grid.gateway.as_ref().expect("running").tls_address();
    let address = address.expect("it listens");
    let said = async |bytes: &[u8]| {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(bytes).await.expect("sent");
        let mut answer = Vec::new();
        let reading = patiently("the end", stream.read_to_end(&mut answer)).await;
        reading.map(|_| String::from_utf8_lossy(&answer).into_owned())
    };
    let told = said(b"GET /ready HTTP/1.1\r\nhost: here\r\n\r\n").await;
    let told = told.expect("an answer");
    assert!(told.starts_with("HTTP/1.1 400 "), "{told}");
    assert!(told.contains("this port speaks https and wss"), "{told}");
    // Nothing at all, and a handshake that is not gone on with.
    assert_eq!(said(b"").await.expect("closed"), "");
    let begun = said(&[22, 3, 1]).await.unwrap_or_default();
    assert!(!begun.contains("HTTP"), "{begun}");
    assert_eq!(grid.get("/ready").await.0, StatusCode::OK);
    grid.stop().await;
}

#[tokio::test]
async fn only_a_public_address_binds_browsers_to_tls() {
    let header = async |grid: &Grid| {
        let asked = grid.http.get(grid.url("/ready")).send();
        let response = patiently("a response", asked).await.expect("a response");
        response.headers().get("strict-transport-security").cloned()
    };
    let mode = || Mode::Token {
        own_key: Some(own_key().public()),
    };
    let (_directory, public) = sealed(mode(), "0.0.0.0:0").await;
    let told = header(&public).await.expect("told");
    assert_eq!(told, "max-age=31536000");
    public.stop().await;
    let (_directory, private) = sealed(mode(), "127.0.0.1:0").await;
    assert_eq!(header(&private).await, None);
    private.stop().await;
}

#[tokio::test]
async fn trusted_mode_listens_to_this_machine_only() {
    let directory = tempfile::tempdir().expect("a directory");
    issue(directory.path());
    let grid = Grid::start().await;
    let started = Gateway::start(GatewayOptions {
        listener: std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"),
        tls: Some(options(directory.path(), "0.0.0.0:0")),
        place: Place::Node {
            client: grid.node.as_ref().expect("running").client(),
            admin_token: gateway::AdminToken::random().expect("random bytes"),
        },
        settings: GatewaySettings::default(),
        ticket_key: [7; 32],
        mode: Mode::Trusted,
    });
    assert!(matches!(started, Err(GatewayError::NotLoopback(_))));
    grid.stop().await;
}
