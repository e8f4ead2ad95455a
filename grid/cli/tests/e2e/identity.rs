//! A grid whose buyers show tokens, from the command line's own key to the sale and the revocation.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Grid, person, text, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_buys_a_seat_until_it_is_taken_back_on_every_gateway() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let data = folder.path().join("data");
    let config = folder.path().join("token.toml");
    std::fs::write(&config, "[gateway.identity]\nmode = \"token\"\n").expect("written");
    let config = config.to_str().expect("a plain path");
    let running = Grid::up_with(&data, &["--no-database", "--config", config]);
    let buyer = person(1).to_string();
    let issued = running
        .run(&["token", "issue", "--user", &buyer, "--ttl", "10m"])
        .done();
    assert_eq!(issued["roles"], json!(["bidder"]));
    let token = text(&issued["token"]);
    let nobody = running.run(&["token", "issue"]);
    assert_eq!(nobody.code, 2, "{}", nobody.json);

    let http = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client");
    let call = async |gateway: usize, method: Method, path: &str, token: &str, body: Value| {
        let url = format!("{}{path}", running.gateway(gateway));
        let sent = http.request(method, url).bearer_auth(token).json(&body);
        let answer = sent.send().await.expect("an answer");
        let status = answer.status();
        (status, answer.json::<Value>().await.unwrap_or(Value::Null))
    };
    let host = person(9).to_string();
    let hosting = running
        .run(&["token", "issue", "--user", &host, "--roles", "host,bidder"])
        .done();
    let event = json!({
        "name": "Concert", "artist": "Band", "venue": "Hall",
        "starts_at": "2099-01-01T00:00:00Z", "on_sale_at": "2020-01-01T00:00:00Z",
        "currency": "EUR", "max_seats_per_buyer": 8, "hold_seconds": 60,
        "sections": [{"name": "A", "price": "50.00", "rows": [{"name": "1", "seats": 10}]}]
    });
    let (status, refused) = call(0, Method::POST, "/v1/events", token, event.clone()).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{refused}");
    let hosting = text(&hosting["token"]);
    let (status, made) = call(0, Method::POST, "/v1/events", hosting, event).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let holds = format!("/v1/events/{}/holds", text(&made["event_id"]));
    let wish = json!({"seats": ["A-1-1"]});
    let (status, held) = call(1, Method::POST, &holds, token, wish).await;
    assert_eq!(status, StatusCode::CREATED, "{held}");
    let confirm = format!("{holds}/{}/confirm", text(&held["hold_id"]));
    let payment = json!({"payment_reference": "card-secret-1"});
    let (status, bought) = call(1, Method::POST, &confirm, token, payment).await;
    assert_eq!(status, StatusCode::OK, "{bought}");

    let revoked = running.run(&["session", "revoke", "--user", &buyer]).done();
    assert_eq!(revoked["user_id"], json!(buyer));
    for gateway in 0..3 {
        wait_for("the token is refused everywhere", async || {
            let path = "/v1/me/tickets";
            let (status, problem) = call(gateway, Method::GET, path, token, json!({})).await;
            let is_refused = status == StatusCode::UNAUTHORIZED;
            is_refused.then(|| assert_eq!(problem["data"]["reason"], "revoked"))
        })
        .await;
    }
    let (status, _) = call(2, Method::GET, "/v1/me/tickets", hosting, json!({})).await;
    assert_eq!(status, StatusCode::OK, "another's session goes on");

    // What happened is in the audit log of the node where it did, without secrets.
    wait_for("the purchase is in the audit log", async || {
        let log = std::fs::read_to_string(data.join("node-2/audit.log")).ok()?;
        assert!(
            !log.contains("card-secret") && !log.contains("eyJ"),
            "{log}"
        );
        let mut lines = log.lines();
        lines.find_map(|line| {
            let record: Value = serde_json::from_str(line).expect("JSON");
            let is_it = record["event"] == "purchase" && record["outcome"] == "ok";
            is_it.then(|| {
                assert_eq!(record["user"], json!(buyer));
                assert_eq!(record["address"], "127.0.0.1");
            })
        })
    })
    .await;
    running.stop().await;
}
