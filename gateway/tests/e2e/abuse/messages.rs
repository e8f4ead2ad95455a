//! Messages and frames that are meant to break the decoder.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::wire::{ONE, Raw, frame, of, upgrade};
use crate::harness::{Grid, auction_body, person};

const TEXT: u8 = 0x81;

#[tokio::test]
async fn a16_fragments_are_counted_together() {
    let grid = Grid::with(|settings| settings.message_bytes_max = 1_024).await;
    let mut socket = Raw::of_person(&grid, ONE, person(1)).await;
    socket.send(&frame(0x01, &[b' '; 200])).await;
    for _ in 0..9 {
        socket.send(&frame(0x00, &[b' '; 200])).await;
    }
    socket
        .assert_goodbye("message_too_large", 1009, "ten fragments")
        .await;
    // A length that is announced is not waited for, nor is memory for it taken.
    let mut socket = Raw::of_person(&grid, ONE, person(1)).await;
    let mut huge = vec![TEXT, 0xff];
    huge.extend((1_u64 << 62).to_be_bytes());
    huge.extend([1, 2, 3, 4]);
    socket.send(&huge).await;
    socket
        .assert_goodbye("message_too_large", 1009, "an announcement")
        .await;
    grid.stop().await;
}

#[tokio::test]
async fn a17_nothing_is_ever_decompressed() {
    let grid = Grid::start().await;
    let offer = "sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n";
    let mut socket = Raw::open(&grid, ONE, &upgrade(&of(person(1)), offer)).await;
    assert!(socket.is_open(), "{}", socket.head);
    let head = socket.head.to_lowercase();
    assert!(!head.contains("sec-websocket-extensions"), "{head}");
    socket
        .send(&frame(TEXT | 0x40, b"\xaa\x56\x4a\x04\x00"))
        .await;
    socket
        .assert_goodbye("protocol_error", 1002, "a compressed frame")
        .await;
    grid.stop().await;
}

#[tokio::test]
async fn a18_frames_against_rfc_6455_close_the_connection() {
    let grid = Grid::start().await;
    let unmasked = b"\x81\x02{}".to_vec();
    let broken = [
        ("an unmasked frame", unmasked),
        ("a reserved opcode", frame(0x83, b"{}")),
        ("a reserved control frame", frame(0x8b, b"")),
        ("a long ping", frame(0x89, &[0; 126])),
        ("a ping in fragments", frame(0x09, b"")),
        ("a continuation of nothing", frame(0x80, b"{}")),
        (
            "a message inside a message",
            [frame(0x01, b"{"), frame(TEXT, b"}")].concat(),
        ),
    ];
    for (what, bytes) in broken {
        let mut socket = Raw::of_person(&grid, ONE, person(1)).await;
        socket.send(&bytes).await;
        socket.assert_goodbye("protocol_error", 1002, what).await;
    }
    for bad in [
        &b"\"\xc3\x28\""[..],
        b"\xed\xa0\x80",
        b"\xff",
        b"\xf8\x88\x80\x80\x80",
    ] {
        let mut socket = Raw::of_person(&grid, ONE, person(1)).await;
        socket.send(&frame(TEXT, bad)).await;
        socket
            .assert_goodbye("invalid_utf8", 1007, "bad UTF-8")
            .await;
    }
    let (status, problem) = post(&grid, "/v1/items", b"{\"name\":\"\xc3\x28\"}".to_vec()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{problem}");
    grid.stop().await;
}

async fn post(grid: &Grid, path: &str, body: Vec<u8>) -> (StatusCode, Value) {
    let request = grid.http.request(Method::POST, grid.url(path));
    let request = request.header("x-user-id", person(1).to_string());
    let answer = request.body(body).send().await.expect("an answer");
    let status = answer.status();
    let text = answer.text().await.expect("a body");
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

#[tokio::test]
async fn a19_nesting_has_a_bottom() {
    let grid = Grid::start().await;
    let mut socket = Raw::of_person(&grid, ONE, person(1)).await;
    for (open, close) in [("[", "]"), ("{\"x\":", "}")] {
        let deep = format!("{}1{}", open.repeat(100), close.repeat(100));
        let unclosed = open.repeat(12_000);
        for nested in [deep, unclosed] {
            let message = format!(r#"{{"type":"ping","id":7,"x":{nested}}}"#);
            let answer = socket.ask(&message).await;
            assert_eq!(answer["code"], "bad_request", "{answer}");
            let body = format!(r#"{{"name":"Vase","x":{nested}}}"#);
            let (status, problem) = post(&grid, "/v1/items", body.into_bytes()).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{problem}");
            assert_eq!(problem["detail"], "nested too deeply: at most 16 levels");
        }
    }
    assert_eq!(socket.ask(r#"{"type":"ping"}"#).await["type"], "reply");
    grid.stop().await;
}

#[tokio::test]
async fn a20_what_can_be_read_in_two_ways_is_not_read() {
    let grid = Grid::start().await;
    let auction = grid.open_auction(person(9)).await;
    let mut socket = Raw::of_person(&grid, ONE, person(1)).await;
    let bid = format!(r#""type":"place_bid","auction_id":"{auction}""#);
    let digits = "9".repeat(5_000);
    let messages = [
        format!(r#"{{{bid},"amount":"150.00","amount":"1.00"}}"#),
        format!(r#"{{"type":"ping",{bid},"amount":"150.00"}}"#),
        format!(r#"{{{bid},"amount":{{"amount":"150.00","amount":"1.00"}}}}"#),
        format!(r#"{{{bid},"amount":{digits}}}"#),
        format!(r#"{{{bid},"amount":"{digits}"}}"#),
        format!(r#"{{{bid},"amount":1e999999}}"#),
        format!(r#"{{{bid},"amount":"١٥٠"}}"#),
        format!(r#"{{{bid},"amount":"150.00"}}}}"#),
        format!(r#"{{{bid},"amount":"150.00","key":{{}}}}"#),
        r#"{"type":"PING"}"#.to_owned(),
        r#"{"type":"ping\u0000"}"#.to_owned(),
        r#"{"type":"__proto__"}"#.to_owned(),
        format!(r#"{{"type":"hold_seats","event_id":"{auction}","quantity":"{digits}"}}"#),
        format!(r#"{{"type":"hold_seats","event_id":"{auction}","quantity":4294967297}}"#),
    ];
    for message in messages {
        let answer = socket.ask(&message).await;
        assert_eq!(answer["code"], "bad_request", "{message:.200}: {answer}");
        let text = answer["message"].as_str().expect("a text");
        assert!(text.len() <= 256, "what was sent comes back: {text:.300}");
    }
    let mut body = auction_body();
    body["starting_price"] = json!(0);
    let text = body.to_string();
    for price in [digits.as_str(), "1e400", "\"1\",\"starting_price\":\"2\""] {
        let changed = text.replacen(
            r#""starting_price":0"#,
            &format!(r#""starting_price":{price}"#),
            1,
        );
        assert_ne!(changed, text);
        let (status, problem) = post(&grid, "/v1/auctions", changed.into_bytes()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{price:.50}: {problem}");
    }
    grid.stop().await;
}
