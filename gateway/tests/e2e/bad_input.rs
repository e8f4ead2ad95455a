//! Whatever a client sends, it gets an answer or a goodbye, and nobody else notices.

use futures_util::{SinkExt, StreamExt};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use uuid::Uuid;

use crate::harness::{Grid, auction_body, event_body, patiently, person};

#[tokio::test]
async fn unreadable_messages_are_refused_and_the_connection_lives() {
    let grid = Grid::start().await;
    let auction = grid.open_auction(person(1)).await;
    let event = grid.event(60).await;
    let mut client = grid.connect(person(2)).await;
    let nobody = Uuid::from_u128(5);
    let without_id = [
        "",
        "{",
        "[]",
        "7",
        "null",
        "\u{0}",
        "{\"type\":\"ping\",\"id\":[]}",
    ];
    for message in without_id {
        client.send_text(message).await;
        let error = client.expect().await;
        assert_eq!(error["code"], "bad_request", "{message:?}: {error}");
        assert_eq!(error["id"], Value::Null, "{message:?}");
    }
    let with_id = [
        json!({"type": "nonsense"}),
        json!({"type": 7}),
        json!({}),
        json!({"type": "subscribe"}),
        json!({"type": "subscribe", "auction_id": "x"}),
        json!({"type": "subscribe", "auction_id": auction, "event_id": event}),
        json!({"type": "subscribe", "auction_id": auction, "from": "not a cursor"}),
        json!({"type": "subscribe", "auction_id": auction, "from": "999:1:1"}),
        json!({"type": "place_bid", "auction_id": auction}),
        json!({"type": "place_bid", "auction_id": auction, "amount": "1.5"}),
        json!({"type": "place_bid", "auction_id": auction, "amount": "-150.00"}),
        json!({"type": "place_bid", "auction_id": auction, "amount": -150}),
        json!({"type": "place_bid", "auction_id": auction, "amount": "1e9"}),
        json!({"type": "place_bid", "auction_id": auction, "amount": 1e300}),
        json!({"type": "place_bid", "auction_id": auction, "amount": "99999999999999999999"}),
        json!({"type": "place_bid", "auction_id": auction, "amount": {"amount": "150.00", "currency": "USD"}}),
        json!({"type": "place_bid", "auction_id": auction, "amount": [150]}),
        json!({"type": "place_bid", "auction_id": auction, "amount": true}),
        json!({"type": "place_bid", "auction_id": auction, "amount": "150.00", "key": ""}),
        json!({"type": "place_bid", "auction_id": auction, "amount": "150.00", "key": "k".repeat(300)}),
        json!({"type": "place_bid", "auction_id": auction, "amount": "150.00", "key": 7}),
        json!({"type": "hold_seats", "event_id": event}),
        json!({"type": "hold_seats", "event_id": event, "seats": []}),
        json!({"type": "hold_seats", "event_id": event, "seats": "A-1-1"}),
        json!({"type": "hold_seats", "event_id": event, "seats": vec!["A-1-1"; 500]}),
        json!({"type": "hold_seats", "event_id": event, "quantity": 0, "best_available": true}),
        json!({"type": "hold_seats", "event_id": event, "quantity": -3, "best_available": true}),
        json!({"type": "hold_seats", "event_id": event, "seats": ["A-1-1"], "quantity": 1}),
        json!({"type": "confirm_hold", "event_id": event, "hold_id": nobody}),
        json!({"type": "release_hold", "event_id": event}),
    ];
    for message in with_id {
        client.refused(message, "bad_request").await;
    }
    client
        .socket
        .send(Message::binary(vec![1, 2, 3]))
        .await
        .expect("sent");
    assert_eq!(client.expect().await["code"], "bad_request");
    client.assert_alive().await;
    grid.stop().await;
}

#[tokio::test]
async fn unknown_things_are_not_found() {
    let grid = Grid::start().await;
    let event = grid.event(60).await;
    let mut client = grid.connect(person(2)).await;
    let nothing = Uuid::from_u128(5);
    for message in [
        json!({"type": "subscribe", "auction_id": nothing}),
        json!({"type": "subscribe", "event_id": nothing}),
        json!({"type": "place_bid", "auction_id": nothing, "amount": "1.00"}),
        json!({"type": "withdraw_bid", "auction_id": nothing, "bid_id": nothing}),
        json!({"type": "hold_seats", "event_id": nothing, "seats": ["A-1-1"]}),
        json!({"type": "hold_seats", "event_id": event, "seats": ["Z-1-1"]}),
        json!({"type": "hold_seats", "event_id": event, "section": "Z", "quantity": 1, "best_available": true}),
    ] {
        client.refused(message, "not_found").await;
    }
    let confirm = json!({"type": "confirm_hold", "event_id": event, "hold_id": nothing, "payment_reference": "p"});
    client.refused(confirm, "hold_not_found").await;
    let release = json!({"type": "release_hold", "event_id": event, "hold_id": nothing});
    client.refused(release, "hold_not_found").await;
    client.assert_alive().await;
    for path in [
        "/v1/nowhere".to_owned(),
        format!("/v1/auctions/{nothing}"),
        format!("/v1/auctions/{nothing}/bids"),
        format!("/v1/items/{nothing}"),
        format!("/v1/events/{nothing}"),
        format!("/v1/events/{nothing}/seats"),
        format!("/v1/events/{event}/seats/Z"),
    ] {
        let (status, problem) = grid.get(&path).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}: {problem}");
        assert_eq!(problem["code"], "not_found", "{path}");
    }
    let (status, problem) = grid.admin("/admin/v1/digests/77").await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{problem}");
    grid.stop().await;
}

#[tokio::test]
async fn bad_bodies_are_refused_with_a_problem() {
    let grid = Grid::with(|settings| settings.body_bytes_max = 4_096).await;
    let change = |base: Value, field: &str, value: Value| {
        let mut body = base;
        body[field] = value;
        body
    };
    let bodies = [
        ("/v1/auctions", json!([])),
        ("/v1/auctions", json!({})),
        (
            "/v1/auctions",
            change(auction_body(), "currency", json!("XXX")),
        ),
        (
            "/v1/auctions",
            change(auction_body(), "starting_price", json!("1.234")),
        ),
        (
            "/v1/auctions",
            change(auction_body(), "starting_price", json!(-5)),
        ),
        (
            "/v1/auctions",
            change(auction_body(), "end_time", json!("soon")),
        ),
        (
            "/v1/auctions",
            change(auction_body(), "item_id", json!(person(1))),
        ),
        ("/v1/events", change(event_body(60), "sections", json!([]))),
        (
            "/v1/events",
            change(event_body(60), "hold_seconds", json!(u64::MAX)),
        ),
        (
            "/v1/events",
            change(event_body(60), "max_seats_per_buyer", json!(-1)),
        ),
        ("/v1/items", json!({"name": 7})),
    ];
    for (path, body) in bodies {
        let (status, problem) = grid.post(path, person(1), body.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}: {problem}");
        assert_eq!(problem["code"], "bad_request", "{body}");
        assert!(problem["detail"].is_string(), "{problem}");
    }
    let long = change(auction_body(), "title", json!("x".repeat(5_000)));
    let (status, problem) = grid.post("/v1/auctions", person(1), long).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(problem["code"], "message_too_large");
    let (status, problem) = grid.get("/v1/auctions/not-a-uuid").await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::BAD_REQUEST, &json!("bad_request"))
    );
    let (status, _) = grid.get("/v1/auctions?limit=many").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, _) = grid.get("/v1/auctions?status=odd").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    grid.stop().await;
}

#[tokio::test]
async fn whoever_does_not_say_who_they_are_is_turned_away() {
    let grid = Grid::start().await;
    let (status, problem) = grid
        .call(
            Method::POST,
            "/v1/auctions",
            None,
            &[],
            Some(auction_body()),
        )
        .await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(problem["code"], "unauthenticated");
    for address in ["/v1/ws", "/v1/ws?user_id=me", "/ws"] {
        let url = format!("ws://{}{address}", grid.address());
        let refused = tokio_tungstenite::connect_async(url).await;
        let Err(tokio_tungstenite::tungstenite::Error::Http(response)) = refused else {
            panic!("{address} was not refused over HTTP");
        };
        assert_eq!(response.status().as_u16(), 401, "{address}");
    }
    grid.stop().await;
}

#[tokio::test]
async fn other_web_pages_are_turned_away() {
    let grid = Grid::start().await;
    let origin = [("origin", "http://evil.example")];
    let (status, _) = grid
        .call(
            Method::POST,
            "/v1/auctions",
            Some(person(1)),
            &origin,
            Some(auction_body()),
        )
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let upgrade = [
        ("origin", "http://evil.example"),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="),
    ];
    let (status, problem) = grid
        .call(Method::GET, "/v1/ws", Some(person(1)), &upgrade, None)
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{problem}");
    let (status, _) = grid
        .call(Method::GET, "/v1/ws", Some(person(1)), &[], None)
        .await;
    assert_eq!(status, StatusCode::UPGRADE_REQUIRED);
    grid.stop().await;
}

#[tokio::test]
async fn an_oversized_message_closes_with_1009() {
    let grid = Grid::with(|settings| settings.message_bytes_max = 1_024).await;
    let mut client = grid.connect(person(2)).await;
    client
        .send_text(&format!(r#"{{"type":"ping","x":"{}"}}"#, "y".repeat(5_000)))
        .await;
    assert_eq!(client.expect().await["code"], "message_too_large");
    let goodbye = client.expect().await;
    assert_eq!(goodbye["type"], "goodbye");
    assert_eq!(goodbye["data"]["reason"], "message_too_large");
    match patiently("the close", client.socket.next()).await {
        Some(Ok(Message::Close(Some(frame)))) => assert_eq!(frame.code, CloseCode::Size),
        other => panic!("a close frame, not {other:?}"),
    }
    grid.connect(person(2)).await.assert_alive().await;
    grid.stop().await;
}

#[tokio::test]
async fn too_many_messages_are_limited_by_rate() {
    let grid = Grid::start().await;
    let mut client = grid.connect(person(2)).await;
    let (mut sink, mut stream) = client.socket.split();
    let count = 12_000;
    let flood = async {
        for id in 0..count {
            let ping = format!(r#"{{"type":"ping","id":{id}}}"#);
            sink.feed(Message::text(ping)).await.expect("sent");
        }
        sink.flush().await.expect("sent");
    };
    let read = async {
        let mut limited = 0;
        for _ in 0..count {
            let Some(Ok(Message::Text(text))) = stream.next().await else {
                panic!("the connection ended");
            };
            let message: Value = serde_json::from_str(&text).expect("JSON");
            if message["code"] == "rate_limited" {
                assert!(message["detail"]["retry_after_ms"].as_u64() > Some(0));
                limited += 1;
            }
        }
        limited
    };
    let ((), limited) = patiently("the flood", async { tokio::join!(flood, read) }).await;
    assert!(limited > 0, "all {count} passed");
    client.socket = sink.reunite(stream).expect("the same socket");
    grid.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_get_503() {
    let grid = Grid::with(|settings| settings.connections_max = 1).await;
    // The harness's own connection may still hold the one place: it is given up first.
    let mut held = tokio::net::TcpStream::connect(grid.address())
        .await
        .expect("connected");
    let refused = patiently("a refusal", async {
        loop {
            let mut next = tokio::net::TcpStream::connect(grid.address())
                .await
                .expect("connected");
            let mut answer = Vec::new();
            let _ = next
                .write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                .await;
            if next.read_to_end(&mut answer).await.is_ok() && !answer.is_empty() {
                return String::from_utf8(answer).expect("text");
            }
        }
    })
    .await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("overloaded"), "{refused}");
    let _ = held.shutdown().await;
    grid.stop().await;
}
