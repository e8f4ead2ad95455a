//! A grid of one node with a gateway, and clients for it. Every wait ends by an event, or fails the test
//! after [`PATIENCE`].

use std::collections::{BTreeMap, VecDeque};
use std::net::TcpListener;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use gateway::{AdminToken, Gateway, GatewayOptions, Mode, Place, SUBPROTOCOL, TlsOptions};
use grid::{GridNode, NodeOptions};
use grid_config::{ClusterSettings, GatewaySettings, NodeSettings};
use processing_unit::Unit;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use uuid::Uuid;

/// How long anything may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The operator's secret.
pub(crate) const ADMIN_TOKEN: &str =
    "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Waits for a future, or fails the test.
pub(crate) async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("{what} took too long"))
}

/// One node, its gateway, and where its data lies.
pub(crate) struct Grid {
    pub(crate) gateway: Option<Gateway>,
    pub(crate) node: Option<GridNode<Unit>>,
    pub(crate) http: reqwest::Client,
    address: String,
    _directory: tempfile::TempDir,
}

/// A person for one test.
pub(crate) fn person(number: u128) -> Uuid {
    Uuid::from_u128(0xa11ce << 64 | number)
}

impl Grid {
    pub(crate) async fn start() -> Self {
        Self::with(|_| ()).await
    }

    /// Starts with changed gateway settings and waits until it is ready.
    pub(crate) async fn with(change: impl FnOnce(&mut GatewaySettings)) -> Self {
        Self::start_with("", Mode::Trusted, None, change).await
    }

    /// The same in another mode.
    pub(crate) async fn in_mode(mode: Mode, change: impl FnOnce(&mut GatewaySettings)) -> Self {
        Self::start_with("", mode, None, change).await
    }

    /// Starts with an address that clients are told.
    pub(crate) async fn with_address(gateway_address: &str) -> Self {
        Self::start_with(gateway_address, Mode::Trusted, None, |_| ()).await
    }

    /// Starts with another socket, for clients that speak TLS.
    pub(crate) async fn with_tls(
        mode: Mode,
        tls: TlsOptions,
        change: impl FnOnce(&mut GatewaySettings),
    ) -> Self {
        Self::start_with("", mode, Some(tls), change).await
    }

    /// From now on everybody comes by this address.
    pub(crate) fn come_by(&mut self, address: std::net::SocketAddr) {
        self.address = address.to_string();
    }

    async fn start_with(
        gateway_address: &str,
        mode: Mode,
        tls: Option<TlsOptions>,
        change: impl FnOnce(&mut GatewaySettings),
    ) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let listen = || TcpListener::bind("127.0.0.1:0").expect("a free port");
        let listener = listen();
        let peers = listener.local_addr().expect("bound").to_string();
        let node = GridNode::<Unit>::start(NodeOptions {
            grid_id: 1,
            node_id: 1,
            members: BTreeMap::from([(1, peers)]),
            seeds: Vec::new(),
            peer_address: None,
            gateway_address: gateway_address.to_owned(),
            listener,
            cluster: ClusterSettings {
                partitions: 4,
                replicas: 1,
                ..ClusterSettings::default()
            },
            settings: NodeSettings {
                data_dir: directory.path().to_owned(),
                ..NodeSettings::default()
            },
            keep_for_pump: false,
        })
        .await
        .expect("a node");
        let mut settings = GatewaySettings::default();
        change(&mut settings);
        let gateway = Gateway::start(GatewayOptions {
            listener: listen(),
            tls,
            place: Place::Node {
                client: node.client(),
                admin_token: AdminToken::parse(ADMIN_TOKEN).expect("a token"),
            },
            settings,
            ticket_key: [7; 32],
            mode,
        })
        .expect("a gateway");
        let grid = Self {
            address: gateway.address().to_string(),
            gateway: Some(gateway),
            node: Some(node),
            http: reqwest::Client::new(),
            _directory: directory,
        };
        patiently("readiness", async {
            while grid.get("/ready").await.0 != StatusCode::OK {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        grid
    }

    pub(crate) async fn stop(mut self) {
        if let Some(gateway) = self.gateway.take() {
            gateway.shutdown().await;
        }
        if let Some(node) = self.node.take() {
            node.shutdown().await;
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A request as a person, with its status and JSON.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        user: Option<Uuid>,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let mut request = self.http.request(method, self.url(path));
        if let Some(user) = user {
            request = request.header("x-user-id", user.to_string());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = patiently("a response", request.send())
            .await
            .expect("a response");
        let status = response.status();
        let text = response.text().await.expect("a body");
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.call(Method::GET, path, None, &[], None).await
    }

    /// What an operator reads.
    pub(crate) async fn admin(&self, path: &str) -> (StatusCode, Value) {
        let token = format!("Bearer {ADMIN_TOKEN}");
        let headers = [("authorization", token.as_str())];
        self.call(Method::GET, path, None, &headers, None).await
    }

    /// What an operator orders.
    pub(crate) async fn order(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let token = format!("Bearer {ADMIN_TOKEN}");
        let headers = [("authorization", token.as_str())];
        self.call(Method::POST, path, None, &headers, Some(body))
            .await
    }

    pub(crate) async fn post(&self, path: &str, user: Uuid, body: Value) -> (StatusCode, Value) {
        self.call(Method::POST, path, Some(user), &[], Some(body))
            .await
    }

    /// An open auction of `host` in EUR from 100.00, closing in an hour.
    pub(crate) async fn open_auction(&self, host: Uuid) -> String {
        let (status, made) = self.post("/v1/auctions", host, auction_body()).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        let id = text(&made["auction_id"]);
        let path = format!("/v1/auctions/{id}/start");
        let (status, started) = self.post(&path, host, json!({})).await;
        assert_eq!(status, StatusCode::OK, "{started}");
        id
    }

    /// An event on sale: section A with 2 rows of 10 at 50.00, section B with 1 row of 5 at 20.00.
    pub(crate) async fn event(&self, hold_seconds: u64) -> String {
        let (status, made) = self
            .post("/v1/events", person(99), event_body(hold_seconds))
            .await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        assert_eq!(made["seats"], 25);
        text(&made["event_id"])
    }

    pub(crate) async fn connect(&self, user: Uuid) -> Client {
        let connected = self.try_connect(&format!("user_id={user}"), &[]).await;
        connected.expect("a connection")
    }

    /// Opens a WebSocket, or says with which status that was refused.
    pub(crate) async fn try_connect(
        &self,
        query: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Client, StatusCode> {
        let mut request = format!("ws://{}/v1/ws?{query}", self.address)
            .into_client_request()
            .expect("a request");
        let protocol = SUBPROTOCOL.parse().expect("a header");
        request
            .headers_mut()
            .insert("sec-websocket-protocol", protocol);
        for (name, value) in headers {
            let value = value.parse().expect("a header");
            request.headers_mut().insert(*name, value);
        }
        match patiently("a connection", connect_async(request)).await {
            Ok((socket, _)) => Ok(Client {
                socket,
                next_id: 0,
                kept: VecDeque::new(),
            }),
            Err(Error::Http(refused)) => Err(refused.status()),
            Err(error) => panic!("the connection broke: {error}"),
        }
    }
}

pub(crate) fn auction_body() -> Value {
    json!({
        "item": {"name": "Guitar", "description": "Played once", "category": "music"},
        "title": "A guitar", "category": "music", "currency": "EUR",
        "starting_price": "100.00", "reserve_price": "120.00", "increment": "1.00",
        "start_time": in_hours(1), "end_time": in_hours(2),
        "withdrawal": "while_open"
    })
}

pub(crate) fn event_body(hold_seconds: u64) -> Value {
    json!({
        "name": "Concert", "artist": "Band", "venue": "Hall",
        "starts_at": in_hours(48), "on_sale_at": "2020-01-01T00:00:00Z",
        "currency": "EUR", "max_seats_per_buyer": 8, "hold_seconds": hold_seconds,
        "sections": [
            {"name": "A", "price": "50.00", "rows": [
                {"name": "1", "seats": 10}, {"name": "2", "seats": 10}]},
            {"name": "B", "price": 20, "rows": [
                {"name": "1", "seats": ["a", "b", "c", "d", "e"]}]}
        ]
    })
}

fn in_hours(hours: i64) -> String {
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(hours);
    at.to_string()
}

/// A JSON string's text.
pub(crate) fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("a string, not {value}"))
        .to_owned()
}

/// A WebSocket client.
pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    next_id: u64,
    /// Events that came while an answer was waited for.
    kept: VecDeque<Value>,
}

impl Client {
    pub(crate) async fn send_text(&mut self, text: &str) {
        patiently("sending", self.socket.send(Message::text(text)))
            .await
            .expect("sent");
    }

    /// The next JSON message; `None` when the server has closed.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        match self.kept.pop_front() {
            Some(kept) => Some(kept),
            None => self.receive().await,
        }
    }

    async fn receive(&mut self) -> Option<Value> {
        loop {
            match patiently("a message", self.socket.next()).await? {
                Ok(Message::Text(text)) => {
                    return Some(serde_json::from_str(&text).expect("JSON"));
                }
                Ok(Message::Close(_)) => return None,
                Ok(_) => {}
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => return None,
                Err(error) => panic!("the connection broke: {error}"),
            }
        }
    }

    pub(crate) async fn expect(&mut self) -> Value {
        self.next().await.expect("a message")
    }

    /// The next message of a type; others before it are dropped.
    pub(crate) async fn expect_type(&mut self, kind: &str) -> Value {
        loop {
            let message = self.expect().await;
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// Sends a request with a fresh id and returns the message that answers it.
    pub(crate) async fn ask(&mut self, mut request: Value) -> Value {
        self.next_id += 1;
        request["id"] = json!(self.next_id);
        self.send_text(&request.to_string()).await;
        loop {
            let message = self.receive().await.expect("an answer");
            if message["id"] == request["id"] {
                return message;
            }
            self.kept.push_back(message);
        }
    }

    /// As [`Self::ask`], for a request that must succeed.
    pub(crate) async fn data(&mut self, request: Value) -> Value {
        let reply = self.ask(request).await;
        assert_eq!(reply["type"], "reply", "{reply}");
        reply["data"].clone()
    }

    /// As [`Self::ask`], for a request that must fail with a code.
    pub(crate) async fn refused(&mut self, request: Value, code: &str) -> Value {
        let reply = self.ask(request).await;
        assert_eq!(reply["type"], "error", "{reply}");
        assert_eq!(reply["code"], code, "{reply}");
        reply
    }

    pub(crate) async fn assert_alive(&mut self) {
        self.data(json!({"type": "ping"})).await;
    }
}
