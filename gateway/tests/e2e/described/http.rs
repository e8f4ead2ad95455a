//! `/openapi.json`.

use std::collections::BTreeSet;
use std::path::Path;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::document::Document;
use crate::harness::{ADMIN_TOKEN, Grid, auction_body, event_body, patiently, person, text};

/// Operations that a grid of one node, or one that takes callers at their word, can only refuse.
const REFUSED_HERE: [&str; 4] = ["rebuild", "wsTicket", "logout", "revokeSessions"];
const METHODS: [Method; 5] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
];

/// One request by the document's own words.
struct Asked<'a> {
    user: Option<Uuid>,
    roles: &'a str,
    body: Option<Value>,
    query: &'a str,
}

const fn nobody() -> Asked<'static> {
    Asked {
        user: None,
        roles: "",
        body: None,
        query: "",
    }
}

fn by(number: u128) -> Asked<'static> {
    Asked {
        user: Some(person(number)),
        ..nobody()
    }
}

fn with(number: u128, body: Value) -> Asked<'static> {
    Asked {
        body: Some(body),
        ..by(number)
    }
}

/// Uses the interface as the document says, and remembers what was used.
struct Walk<'a> {
    grid: &'a Grid,
    document: Document,
    done: BTreeSet<String>,
}

impl Walk<'_> {
    /// Sends a request; the answer must be described and as described.
    async fn ask(
        &mut self,
        method: Method,
        address: &str,
        ids: &[&str],
        asked: Asked<'_>,
        expected: u16,
    ) -> Value {
        let name = method.as_str().to_lowercase();
        let operation = self.document.0["paths"][address][&name].clone();
        assert!(operation.is_object(), "{name} {address} is not described");
        let what = format!("{name} {address}");
        if let Some(body) = &asked.body
            && expected < 300
        {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            self.document.check(&what, schema, body);
        }
        let mut path = filled(address, ids);
        path.push_str(asked.query);
        let mut request = self.grid.http.request(method, self.grid.url(&path));
        if let Some(user) = asked.user {
            request = request.header("x-user-id", user.to_string());
        }
        if !asked.roles.is_empty() {
            request = request.header("x-roles", asked.roles);
        }
        if address.starts_with("/admin/") {
            request = request.bearer_auth(ADMIN_TOKEN);
        }
        if let Some(body) = asked.body {
            request = request.json(&body);
        }
        let response = patiently("a response", request.send())
            .await
            .expect("a response");
        let status = response.status();
        let headers = response.headers().clone();
        let bytes = response.bytes().await.expect("a body");
        let body = String::from_utf8_lossy(&bytes);
        assert_eq!(status.as_u16(), expected, "{what}: {body}");
        let described = &operation["responses"][status.as_str()];
        assert!(described.is_object(), "{what} answers {status} undescribed");
        let described = self.document.resolve(described).clone();
        if let Some(expected) = described["headers"].as_object() {
            for name in expected.keys() {
                assert!(headers.contains_key(name), "{what}: no header {name}");
            }
        }
        if status.is_success() {
            self.done.insert(text(&operation["operationId"]));
        }
        let kind = headers["content-type"].to_str().expect("text").to_owned();
        let kind = kind.split(';').next().unwrap_or_default();
        let contents = &described["content"];
        if contents["*/*"].is_object() {
            return Value::Null;
        }
        let content = &contents[kind];
        assert!(content.is_object(), "{what}: {kind} is not described");
        if !kind.ends_with("json") || kind == "application/x-ndjson" {
            assert!(!bytes.is_empty(), "{what}: nothing");
            return Value::Null;
        }
        let value: Value = serde_json::from_slice(&bytes).expect("JSON");
        self.document.check(&what, &content["schema"], &value);
        value
    }

    async fn get(&mut self, address: &str, ids: &[&str]) -> Value {
        self.ask(Method::GET, address, ids, nobody(), 200).await
    }

    async fn post(&mut self, address: &str, ids: &[&str], asked: Asked<'_>) -> Value {
        self.ask(Method::POST, address, ids, asked, 200).await
    }

    async fn create(&mut self, address: &str, ids: &[&str], asked: Asked<'_>) -> Value {
        self.ask(Method::POST, address, ids, asked, 201).await
    }

    async fn auctions(&mut self) -> String {
        let item = self
            .create("/v1/items", &[], with(1, json!({"name": "Vase"})))
            .await;
        self.get("/v1/items/{id}", &[&text(&item["item_id"])]).await;
        let made = self
            .create("/v1/auctions", &[], with(1, auction_body()))
            .await;
        let id = text(&made["auction_id"]);
        let unknown = Uuid::nil().to_string();
        let (bids, bid) = ("/v1/auctions/{id}/bids", "/v1/auctions/{id}/bids/{bid_id}");
        self.get("/v1/auctions", &[]).await;
        self.get("/v1/auctions/{id}", &[&id]).await;
        // As its host: with the reserve.
        let own = self
            .ask(Method::GET, "/v1/auctions/{id}", &[&id], by(1), 200)
            .await;
        assert!(own["reserve_price"].is_object());
        let show = "/v1/auctions/{id}";
        self.ask(Method::GET, show, &[&unknown], nobody(), 404)
            .await;
        self.ask(Method::GET, show, &["x"], nobody(), 400).await;
        let first = json!({"amount": "100.00"});
        let early = with(2, first.clone());
        self.ask(Method::POST, bids, &[&id], early, 409).await;
        self.post("/v1/auctions/{id}/start", &[&id], by(1)).await;
        let own = with(1, first.clone());
        self.ask(Method::POST, bids, &[&id], own, 403).await;
        let stranger = Asked {
            body: Some(first.clone()),
            ..nobody()
        };
        self.ask(Method::POST, bids, &[&id], stranger, 401).await;
        let placed = self.create(bids, &[&id], with(2, first.clone())).await;
        let full = json!({"amount": {"amount": "120.00", "currency": "EUR"}});
        self.ask(Method::PUT, bids, &[&id], with(3, full), 201)
            .await;
        let low = self
            .ask(Method::POST, bids, &[&id], with(2, first), 409)
            .await;
        assert_eq!(low["data"]["minimum"], "121.00");
        self.ask(Method::GET, bids, &[&id], by(2), 200).await;
        let placed = text(&placed["bid_id"]);
        self.ask(Method::DELETE, bid, &[&id, &placed], by(2), 200)
            .await;
        self.ask(Method::GET, "/v1/me/bids", &[], by(2), 200).await;
        self.post("/v1/auctions/{id}/close", &[&id], by(1)).await;
        self.get("/v1/auctions/{id}", &[&id]).await;
        let other = self
            .create("/v1/auctions", &[], with(1, auction_body()))
            .await;
        let other = text(&other["auction_id"]);
        self.post("/v1/auctions/{id}/cancel", &[&other], by(1))
            .await;
        id
    }

    async fn seats(&mut self) -> String {
        let made = self
            .create("/v1/events", &[], with(1, event_body(60)))
            .await;
        let id = text(&made["event_id"]);
        self.get("/v1/events", &[]).await;
        self.get("/v1/events/{id}", &[&id]).await;
        self.get("/v1/events/{id}/seats", &[&id]).await;
        self.get("/v1/events/{id}/seats/{section}", &[&id, "A"])
            .await;
        let (holds, hold) = ("/v1/events/{id}/holds", "/v1/events/{id}/holds/{hold_id}");
        let best = json!({"quantity": 2, "best_available": true});
        let kept = self.create(holds, &[&id], with(2, best)).await;
        let named = json!({"seats": ["B-1-a"]});
        let given = self.create(holds, &[&id], with(3, named)).await;
        let taken = with(4, json!({"seats": ["B-1-a"]}));
        let refused = self.ask(Method::POST, holds, &[&id], taken, 409).await;
        assert_eq!(refused["data"]["seats"], json!(["B-1-a"]));
        self.ask(Method::GET, "/v1/me/holds", &[], by(2), 200).await;
        let given = text(&given["hold_id"]);
        self.ask(Method::DELETE, hold, &[&id, &given], by(3), 200)
            .await;
        self.ask(Method::DELETE, hold, &[&id, &given], by(3), 404)
            .await;
        let kept = text(&kept["hold_id"]);
        let paid = with(2, json!({"payment_reference": "pay-1"}));
        self.post(
            "/v1/events/{id}/holds/{hold_id}/confirm",
            &[&id, &kept],
            paid,
        )
        .await;
        self.ask(Method::GET, "/v1/me/tickets", &[], by(2), 200)
            .await;
        let manager = Asked {
            roles: "manager",
            ..by(9)
        };
        let tickets = "/v1/events/{id}/tickets";
        self.ask(Method::GET, tickets, &[&id], manager, 200).await;
        self.ask(Method::GET, tickets, &[&id], by(2), 403).await;
        id
    }

    async fn waiting_room(&mut self) {
        let made = self
            .create("/v1/events", &[], with(1, event_body(60)))
            .await;
        let id = text(&made["event_id"]);
        let (queue, room) = ("/v1/events/{id}/queue", "/v1/events/{id}/waiting-room");
        self.ask(Method::GET, room, &[&id], nobody(), 404).await;
        let new = with(1, json!({"rate_per_minute": 60_000}));
        self.create(room, &[&id], new).await;
        let best = with(2, json!({"quantity": 1, "best_available": true}));
        let holds = "/v1/events/{id}/holds";
        self.ask(Method::POST, holds, &[&id], best, 403).await;
        let step = "/v1/events/{id}/waiting-room/{step}";
        self.post(step, &[&id, "pause"], by(1)).await;
        let rate = with(1, json!({"rate_per_minute": 120_000}));
        self.post(step, &[&id, "rate"], rate).await;
        self.post(queue, &[&id], by(2)).await;
        self.ask(Method::GET, queue, &[&id], by(2), 200).await;
        self.ask(Method::DELETE, queue, &[&id], by(2), 200).await;
        self.get(room, &[&id]).await;
        self.get("/v1/events/{id}/waiting-room/order", &[&id]).await;
    }

    async fn probes_and_pages(&mut self) {
        self.ask(Method::GET, "/metrics", &[], nobody(), 404).await;
        let gateway = self.grid.gateway.as_ref().expect("it runs");
        gateway.serve_metrics(|| "things_total 3\n".to_owned());
        for address in [
            "/health",
            "/ready",
            "/metrics",
            "/v1/ticket-key",
            "/v1/route",
            "/",
            "/openapi.json",
            "/asyncapi.json",
        ] {
            self.get(address, &[]).await;
        }
        let id = Uuid::nil().to_string();
        self.get("/auction/{id}", &[&id]).await;
        self.get("/event/{id}", &[&id]).await;
        self.get("/web/{file}", &["spacegrid.js"]).await;
        for (address, operation) in [("/v1/ws", "connect"), ("/ws", "connectShort")] {
            self.ask(Method::GET, address, &[], nobody(), 426).await;
            self.done.insert(operation.to_owned());
        }
        self.grid.connect(person(1)).await.assert_alive().await;
    }

    async fn operators(&mut self, auction: &str, event: &str) {
        for address in ["/admin/v1/status", "/admin/v1/node", "/admin/v1/members"] {
            self.get(address, &[]).await;
        }
        self.get("/admin/v1/digests/{partition}", &["0"]).await;
        let snapshot = "/admin/v1/partitions/{partition}/snapshot";
        let node = || Asked {
            body: Some(json!({"node": 1})),
            ..nobody()
        };
        self.post(snapshot, &["0"], node()).await;
        self.get(snapshot, &["0"]).await;
        let rebuild = "/admin/v1/partitions/{partition}/rebuild";
        self.ask(Method::POST, rebuild, &["0"], node(), 400).await;
        for id in [auction, event] {
            self.get("/admin/v1/history/{id}", &[id]).await;
        }
        let manager = || Asked {
            roles: "manager",
            ..by(9)
        };
        for address in ["/v1/ws-tickets", "/v1/logout"] {
            self.ask(Method::POST, address, &[], by(1), 400).await;
        }
        let revoke = "/admin/v1/sessions/{user}/revoke";
        let user = person(1).to_string();
        self.ask(Method::POST, revoke, &[&user], manager(), 400)
            .await;
        let dry = Asked {
            body: Some(json!({"dry_run": true})),
            ..manager()
        };
        let member = "/admin/v1/members/{id}/{action}";
        self.post(member, &["1", "activate"], dry).await;
        self.post("/admin/v1/rules/follow-newest", &[], manager())
            .await;
    }
}

/// An address with its `{…}` filled in.
fn filled(address: &str, ids: &[&str]) -> String {
    let mut ids = ids.iter();
    let parts = address.split('/').map(|part| match part.starts_with('{') {
        true => ids.next().copied().unwrap_or("0"),
        false => part,
    });
    parts.collect::<Vec<_>>().join("/")
}

async fn served(grid: &Grid) -> Document {
    let (status, document) = grid.get("/openapi.json").await;
    assert_eq!(status, StatusCode::OK);
    Document::read(&document.to_string())
}

#[tokio::test]
async fn every_described_address_answers_as_described() {
    let grid = Grid::start().await;
    let document = served(&grid).await;
    let mut walk = Walk {
        grid: &grid,
        document,
        done: BTreeSet::new(),
    };
    let auction = walk.auctions().await;
    let event = walk.seats().await;
    walk.waiting_room().await;
    walk.probes_and_pages().await;
    walk.operators(&auction, &event).await;
    let described = walk.document.map("/paths").values();
    let missed: Vec<String> = described
        .flat_map(|address| address.as_object().expect("methods").values())
        .map(|operation| text(&operation["operationId"]))
        .filter(|name| !walk.done.contains(name) && !REFUSED_HERE.contains(&name.as_str()))
        .collect();
    assert!(missed.is_empty(), "never done here: {missed:?}");
    grid.stop().await;
}

#[tokio::test]
async fn a_method_that_is_not_described_is_not_there() {
    let grid = Grid::start().await;
    let document = served(&grid).await;
    for (address, methods) in document.map("/paths") {
        if address.ends_with("/ws") {
            continue;
        }
        for method in METHODS {
            if methods.get(method.as_str().to_lowercase()).is_some() {
                continue;
            }
            let path = filled(address, &[]);
            let token = format!("Bearer {ADMIN_TOKEN}");
            let headers = [("authorization", token.as_str())];
            let (status, _) = grid
                .call(method.clone(), &path, Some(person(1)), &headers, None)
                .await;
            assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {address}");
        }
    }
    grid.stop().await;
}

/// The addresses in a file's calls of `.route(`.
fn routes_in(source: &str) -> Vec<String> {
    let calls = source.split(".route(").skip(1);
    calls
        .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
        // Other text that looks like a call, such as a test's.
        .filter(|address| address.starts_with('/'))
        .map(str::to_owned)
        .collect()
}

fn routes_under(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            routes_under(&path, found);
            continue;
        }
        let source = std::fs::read_to_string(&path).expect("a source file");
        let prefix = match path.components().any(|part| part.as_os_str() == "admin") {
            true => "/admin/v1",
            false => "",
        };
        let routes = routes_in(&source);
        found.extend(routes.iter().map(|route| format!("{prefix}{route}")));
    }
}

#[test]
fn every_route_is_described_and_every_description_has_a_route() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut routes = BTreeSet::new();
    routes_under(&source, &mut routes);
    assert!(routes.contains("/v1/events/{id}/holds"), "{routes:?}");
    assert!(routes.contains("/admin/v1/members"), "{routes:?}");
    let document = Document::read(include_str!("../../../web/openapi.json"));
    let described: BTreeSet<String> = document.map("/paths").keys().cloned().collect();
    let undescribed: Vec<_> = routes.difference(&described).collect();
    let gone: Vec<_> = described.difference(&routes).collect();
    assert!(
        undescribed.is_empty() && gone.is_empty(),
        "describe {undescribed:?} in gateway/web/openapi.json; no route leads to {gone:?}"
    );
}
