//! HTTP requests that are slow, long, or meant to be read in two ways.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::wire::{ONE, ask, body, connect, exchange, get, rest};
use crate::harness::{Grid, patiently, person};

#[tokio::test]
async fn a11_a_head_that_comes_drop_by_drop_is_cut_off() {
    let grid = Grid::with(|settings| settings.edge.header_timeout_ms = 300).await;
    let mut stream = connect(&grid, ONE).await;
    stream
        .write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n")
        .await
        .expect("sent");
    // A byte now and then keeps nothing alive.
    patiently("the end", async {
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    // Nor does a connection that was of use once.
    let once = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
    let answer = exchange(connect(&grid, ONE).await, once.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    grid.stop().await;
}

#[tokio::test]
async fn a13_a_body_that_does_not_come_is_not_waited_for() {
    let grid = Grid::with(|settings| settings.edge.body_timeout_ms = 300).await;
    let request = format!(
        "POST /v1/items HTTP/1.1\r\nhost: x\r\nx-user-id: {}\r\ncontent-length: 99\r\n\r\n{{",
        person(1)
    );
    let mut stream = connect(&grid, ONE).await;
    stream.write_all(request.as_bytes()).await.expect("sent");
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("did not arrive in time"), "{answer}");
    grid.stop().await;
}

#[tokio::test]
async fn a14_heads_and_bodies_have_an_end() {
    let grid = Grid::start().await;
    let long = format!("x-long: {}\r\n", "x".repeat(64 << 10));
    let many: String = (0..100).map(|n| format!("x-{n}: x\r\n")).collect();
    let path = format!("/{}", "x".repeat(80 << 10));
    for request in [get("/health", &long), get("/health", &many), get(&path, "")] {
        let answer = exchange(connect(&grid, ONE).await, request.as_bytes()).await;
        let is_refused = ["431", "414"]
            .iter()
            .any(|status| answer.starts_with(&format!("HTTP/1.1 {status} ")));
        assert!(is_refused || answer.is_empty(), "{answer:.200}");
    }
    // Only a venue may be long; by its announcement, and without one by its bytes.
    let name = "x".repeat(300 << 10);
    let item = format!(r#"{{"name":"{name}"}}"#);
    let announced = format!(
        "POST /v1/items HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-user-id: {}\r\n\
         content-length: {}\r\n\r\n{item}",
        person(1),
        item.len()
    );
    let chunked = format!(
        "POST /v1/items HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-user-id: {}\r\n\
         transfer-encoding: chunked\r\n\r\n{:x}\r\n{item}\r\n0\r\n\r\n",
        person(1),
        item.len()
    );
    for request in [announced, chunked] {
        let answer = exchange(connect(&grid, ONE).await, request.as_bytes()).await;
        // A connection that is closed with bytes unread may break before the answer is read.
        let is_too_large = body(&answer)["code"] == "message_too_large";
        assert!(is_too_large || answer.is_empty(), "{answer:.300}");
    }
    let small = "POST /v1/items HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 999999999999\r\n\r\n";
    let answer = ask(&grid, ONE, small).await;
    assert_eq!(body(&answer)["code"], "unauthenticated", "{answer}");
    grid.stop().await;
}

#[tokio::test]
async fn a15_a_request_is_read_in_one_way_only() {
    let grid = Grid::start().await;
    let smuggled = "GET /v1/smuggled HTTP/1.1\r\nhost: x\r\n\r\n";
    let both = format!(
        "POST /v1/items HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n\
         0\r\n\r\n{smuggled}",
        5 + smuggled.len()
    );
    let swapped = format!(
        "POST /v1/items HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n\
         0\r\n\r\n{smuggled}"
    );
    for request in [both, swapped] {
        let answer = ask(&grid, ONE, &request).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
    for headers in [
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: +5\r\n",
        "content-length: 5, 5\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: gzip\r\n",
        "transfer-encoding : chunked\r\n",
        "x: y\r\n transfer-encoding: chunked\r\n",
    ] {
        let request =
            format!("POST /v1/items HTTP/1.1\r\nhost: x\r\n{headers}\r\n0\r\n\r\n{smuggled}");
        let answer = ask(&grid, ONE, &request).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{headers}{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{headers}{answer}");
    }
    grid.stop().await;
}
