//! A grid under mutual TLS, and the admin token.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Grid, grid, kill_at_once, person, text, wait_for};

/// The nodes as `grid status` shows them; `None` while one of them does not answer.
fn nodes(grid: &Grid) -> Option<Vec<Value>> {
    let shown = grid.run(&["status"]).done();
    let nodes = shown["nodes"].as_array().expect("a list").clone();
    let answers = |node: &Value| !node["status"].is_null();
    nodes.iter().all(answers).then_some(nodes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grid_over_mutual_tls_sells_and_survives_a_kill() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let data = folder.path().join("data");
    let arguments = ["--tls", "--no-database"];
    let running = Grid::up_with(&data, &arguments);
    let shown = running.run(&["certs", "show"]).done();
    let certificates = shown["certificates"].as_array().expect("a list");
    assert_eq!(certificates.len(), 4, "{shown}");
    for file in ["ca.key", "node-1.key", "node-1.crt"] {
        let found = std::fs::metadata(data.join("certs").join(file)).expect("made");
        assert_eq!(found.permissions().mode() & 0o777, 0o600, "{file}");
    }
    for node in nodes(&running).expect("all answer") {
        assert_eq!(node["status"]["encrypted"], true, "{node}");
        assert_eq!(node["status"]["unreachable"], json!([]), "{node}");
    }

    let item = json!({"name": "Vase", "images": ["https://x/1.jpg"]});
    let made = running.post("/v1/items", person(1), item).await;
    kill_at_once(running.node_pid(2));
    let path = format!("/v1/items/{}", text(&made["item_id"]));
    let found = running.get(&path, person(1)).await;
    assert_eq!(found["name"], "Vase");
    wait_for("the killed node is back among the others", async || {
        let nodes = nodes(&running)?;
        let connected = |node: &Value| node["status"]["unreachable"] == json!([]);
        nodes.iter().all(connected).then_some(())
    })
    .await;

    // A stranger on the port for nodes.
    let file = std::fs::read(data.join("grid.json")).expect("written");
    let file: Value = serde_json::from_slice(&file).expect("JSON");
    let port = file["nodes"][0]["raft_port"].as_u64().expect("a port");
    let mut stranger = TcpStream::connect(format!("127.0.0.1:{port}")).expect("it listens");
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("sent");
    // Closed without a word, be it by an end or a reset.
    let mut answer = Vec::new();
    let _ = stranger.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{answer:?}");
    wait_for("garbage is counted", async || {
        let nodes = nodes(&running)?;
        let count = nodes[0]["status"]["refused_connections"]["garbage"].as_u64();
        count.filter(|count| *count == 1)
    })
    .await;
    running.stop().await;

    // Without the flag too, a grid that has certificates uses them.
    let again = Grid::up_with(&data, &["--no-database"]);
    for node in nodes(&again).expect("all answer") {
        assert_eq!(node["status"]["encrypted"], true, "{node}");
    }
    assert_eq!(again.get(&path, person(1)).await["name"], "Vase");
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_the_admin_token_by_itself_and_others_are_refused() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let data = folder.path().join("data");
    let running = Grid::up_with(&data, &["--no-database", "--nodes", "1"]);
    running.run(&["status"]).done();
    let status = "/admin/v1/status";
    let (code, problem) = running
        .call(0, Method::GET, status, person(1), json!({}))
        .await;
    assert_eq!(code, 401);
    assert_eq!(problem["code"], "unauthenticated");

    // The token of a directory is for the gateways of that directory only.
    let data = data.to_str().expect("a plain path");
    let url = running.gateway(0);
    let refused = grid(&["--data-dir", data, "--url", url, "status"]);
    assert_eq!(refused.code, 1, "{}", refused.json);
    assert_eq!(refused.json["error"]["code"], "unauthenticated");
    let file = format!("{data}/admin.token");
    grid(&["--admin-token-file", &file, "--url", url, "status"]).done();
    let missing = grid(&["--admin-token-file", "/nowhere", "--url", url, "status"]);
    assert_eq!(missing.code, 2, "{}", missing.json);
    running.stop().await;
}

/// A certificate for clients, which nobody else has signed.
fn issue(directory: &Path) -> rustls::pki_types::CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    std::fs::write(directory.join("key"), made.signing_key.serialize_pem()).expect("written");
    std::fs::write(directory.join("crt"), made.cert.pem()).expect("written");
    made.cert.der().clone()
}

/// What `GET /ready` says over TLS to a client that trusts this certificate only.
fn asked_over_tls(
    address: &str,
    trusted: rustls::pki_types::CertificateDer<'static>,
) -> std::io::Result<String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("known")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().expect("a name");
    let mut session = rustls::ClientConnection::new(Arc::new(config), name).expect("configured");
    let mut stream = TcpStream::connect(address)?;
    let mut tls = rustls::Stream::new(&mut session, &mut stream);
    tls.write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    tls.read_to_string(&mut answer)?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_served_over_tls_and_a_new_certificate_is_taken_up() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let (path, config) = (folder.path(), folder.path().join("grid.toml"));
    let settings = format!(
        "[gateway.tls]\nlisten = \"127.0.0.1:0\"\nreload_interval_ms = 50\n\
         certificate_file = \"{0}/crt\"\nkey_file = \"{0}/key\"\n",
        path.display()
    );
    std::fs::write(&config, settings).expect("written");
    let first = issue(path);
    let config = config.to_str().expect("UTF-8");
    let arguments = ["--no-database", "--nodes=1", "--config", config];
    let running = Grid::up_with(&path.join("data"), &arguments);
    let url = text(&running.ready["tls_gateways"][0]);
    let address = url.strip_prefix("https://").expect("TLS");
    let shown = nodes(&running).expect("all answer");
    let attached = &shown[0]["status"]["attached"]["gateway"];
    assert_eq!(attached["tls_url"], url, "{attached}");
    let answer = asked_over_tls(address, first.clone()).expect("trusted");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

    let second = issue(path);
    let second = wait_for("the new certificate is shown", async || {
        asked_over_tls(address, second.clone()).ok()
    });
    assert!(second.await.starts_with("HTTP/1.1 200 "));
    let refused = asked_over_tls(address, first);
    assert!(refused.is_err(), "{refused:?}");
    running.stop().await;
}
