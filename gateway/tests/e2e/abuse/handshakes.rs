//! Who gets a WebSocket.

use gateway::{Mode, TokenOrder};
use reqwest::StatusCode;
use serde_json::json;

use super::wire::{ONE, Raw, ask, body, of, upgrade};
use crate::harness::{Grid, person};
use crate::provider::{now_s, own_key};

#[tokio::test]
async fn a01_pages_of_other_origins_get_no_socket() {
    let grid = Grid::start().await;
    for origin in [
        "http://evil.example",
        "https://localhost.evil.example",
        "null",
        "file://",
    ] {
        let header = format!("origin: {origin}\r\n");
        let raw = Raw::open(&grid, ONE, &upgrade(&of(person(1)), &header)).await;
        assert!(
            raw.head.starts_with("HTTP/1.1 403 "),
            "{origin}: {}",
            raw.head
        );
    }
    let twice = "origin: http://localhost\r\norigin: http://evil.example\r\n";
    let raw = Raw::open(&grid, ONE, &upgrade(&of(person(1)), twice)).await;
    assert!(raw.head.starts_with("HTTP/1.1 403 "), "{}", raw.head);
    let own = "origin: http://localhost:8080\r\n";
    let raw = Raw::open(&grid, ONE, &upgrade(&of(person(1)), own)).await;
    assert!(raw.is_open(), "{}", raw.head);
    grid.stop().await;
}

#[tokio::test]
async fn a02_what_is_no_handshake_of_rfc_6455_is_refused() {
    let grid = Grid::start().await;
    let good = upgrade(&of(person(1)), "");
    let bad = [
        (good.replace("version: 13", "version: 8"), 426),
        (good.replace("upgrade: websocket", "upgrade: h2c"), 426),
        (
            good.replace("connection: upgrade", "connection: keep-alive"),
            426,
        ),
        (good.replacen("GET", "POST", 1), 426),
        (good.replace("sec-websocket-key", "x-key"), 400),
        (
            upgrade(&of(person(1)), "sec-websocket-protocol: other\r\n"),
            400,
        ),
    ];
    for (request, status) in bad {
        let raw = Raw::open(&grid, ONE, &request).await;
        let expected = format!("HTTP/1.1 {status} ");
        assert!(raw.head.starts_with(&expected), "{request}{}", raw.head);
    }
    grid.stop().await;
}

#[tokio::test]
async fn a04_a_token_in_the_address_counts_for_nothing() {
    let mode = Mode::Token {
        own_key: Some(own_key().public()),
    };
    let grid = Grid::in_mode(mode, |settings| settings.identity.guests_may_watch = false).await;
    let order = TokenOrder {
        user: person(7),
        roles: &["bidder".to_owned()],
        issued_at_s: now_s().unsigned_abs(),
        life_s: 300,
    };
    let token = own_key().issue(&order).expect("a token");
    for name in ["token", "access_token", "authorization", "bearer", "ticket"] {
        let refused = grid.try_connect(&format!("{name}={token}"), &[]).await;
        assert_eq!(refused.err(), Some(StatusCode::UNAUTHORIZED), "{name}");
    }
    // Nor does a caller's own word.
    let own_word = grid
        .try_connect(&format!("user_id={}", person(7)), &[])
        .await;
    assert_eq!(own_word.err(), Some(StatusCode::UNAUTHORIZED));
    let request = format!(
        "GET /v1/me/bids?access_token={token} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         x-user-id: {}\r\n\r\n",
        person(7)
    );
    let answer = ask(&grid, ONE, &request).await;
    assert_eq!(body(&answer)["code"], "unauthenticated", "{answer}");
    let shown = format!("Bearer {token}");
    let mut client = grid
        .try_connect("", &[("authorization", &shown)])
        .await
        .expect("in the header it counts");
    client.data(json!({"type": "ping"})).await;
    grid.stop().await;
}
