//! What one address and one user may do.

use std::net::Ipv4Addr;

use serde_json::json;
use tokio::io::AsyncReadExt;

use super::wire::{
    ONE, OTHER, Raw, ask, assert_limited, connect, frame, get, of, only_the_harness_is_exempt,
    upgrade,
};
use crate::harness::{Grid, patiently, person};

/// How many of `count` requests for a page are let through.
async fn passed(
    grid: &Grid,
    from: Ipv4Addr,
    count: usize,
    headers: impl Fn(usize) -> String,
) -> usize {
    let mut passed = 0;
    for number in 0..count {
        let answer = ask(grid, from, &get("/health", &headers(number))).await;
        if answer.starts_with("HTTP/1.1 200 ") {
            passed += 1;
        } else {
            assert_limited(&answer);
        }
    }
    passed
}

#[tokio::test]
async fn a08_a_client_that_makes_up_addresses_is_still_one() {
    let grid = Grid::with(|settings| {
        only_the_harness_is_exempt(settings);
        settings.identity.trusted_proxies = vec![OTHER.to_string()];
        settings.edge.address_requests_per_s = 1;
    })
    .await;
    let made_up = |number: usize| format!("x-forwarded-for: 203.0.113.{number}\r\n");
    let count = passed(&grid, ONE, 40, made_up).await;
    assert!((5..40).contains(&count), "{count} passed");
    let exempt = |_| "x-forwarded-for: 127.0.0.1\r\n".to_owned();
    let count = passed(&grid, ONE, 40, exempt).await;
    assert!(count < 40, "it passed for an exempt address");
    // The word of a trusted proxy counts, but not what the client wrote before it.
    let forwarded =
        |number: usize| format!("x-forwarded-for: 203.0.113.{number}, 198.51.100.1\r\n");
    let count = passed(&grid, OTHER, 40, forwarded).await;
    assert!((5..40).contains(&count), "{count} passed");
    assert_eq!(passed(&grid, OTHER, 40, made_up).await, 40);
    grid.stop().await;
}

#[tokio::test]
async fn a09_connections_of_one_address_are_bounded() {
    let grid = Grid::with(|settings| {
        only_the_harness_is_exempt(settings);
        settings.edge.address_connections_max = 3;
    })
    .await;
    let mut sockets = Vec::new();
    for number in 0..3 {
        sockets.push(Raw::of_person(&grid, ONE, person(number)).await);
    }
    assert_limited(&ask(&grid, ONE, &get("/health", "")).await);
    let other = ask(&grid, OTHER, &get("/health", "")).await;
    assert!(other.starts_with("HTTP/1.1 200 "), "{other}");
    // The place of a connection that ends is free again.
    sockets.pop();
    patiently("a place", async {
        while !ask(&grid, ONE, &get("/health", ""))
            .await
            .starts_with("HTTP/1.1 200 ")
        {}
    })
    .await;
    grid.stop().await;
}

#[tokio::test]
async fn a10_an_address_that_connects_again_and_again_is_held_off() {
    let grid = Grid::with(|settings| {
        only_the_harness_is_exempt(settings);
        settings.edge.address_connects_per_s = 1;
    })
    .await;
    let count = passed(&grid, ONE, 40, |_| String::new()).await;
    assert!((5..40).contains(&count), "{count} passed");
    let other = ask(&grid, OTHER, &get("/health", "")).await;
    assert!(other.starts_with("HTTP/1.1 200 "), "{other}");
    grid.stop().await;
}

#[tokio::test]
async fn a12_connections_that_ask_for_nothing_give_way() {
    let grid = Grid::with(|settings| settings.edge.handshakes_max = 4).await;
    let mut idle = Vec::new();
    for _ in 0..40 {
        idle.push(connect(&grid, ONE).await);
    }
    // The first ones end though they sent nothing and nobody's time has run out.
    for stream in &mut idle[..30] {
        let end = patiently("the end", stream.read(&mut [0; 1])).await;
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
    let answer = ask(&grid, ONE, &get("/health", "")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    // Whoever is through gives way to nobody.
    let mut socket = Raw::of_person(&grid, ONE, person(1)).await;
    for _ in 0..40 {
        idle.push(connect(&grid, ONE).await);
    }
    let _ = patiently("the end", idle[60].read(&mut [0; 1])).await;
    assert_eq!(socket.ask(r#"{"type":"ping"}"#).await["type"], "reply");
    grid.stop().await;
}

#[tokio::test]
async fn a21_control_frames_without_end_close_the_connection() {
    let grid = Grid::start().await;
    let mut socket = Raw::of_person(&grid, ONE, person(1)).await;
    let pings = frame(0x89, b"x").repeat(1_000);
    socket.assert_flood_ends(&pings, "flood", 1008).await;
    let answer = ask(&grid, ONE, &get("/health", "")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    grid.stop().await;
}

#[tokio::test]
async fn a22_a_user_is_one_however_many_sockets_they_have() {
    let grid = Grid::with(|settings| {
        only_the_harness_is_exempt(settings);
        settings.edge.user_requests_per_s = 1;
        settings.edge.user_sockets_max = 3;
    })
    .await;
    let mut sockets = Vec::new();
    for from in [ONE, OTHER, ONE] {
        sockets.push(Raw::of_person(&grid, from, person(1)).await);
    }
    let fourth = Raw::open(&grid, OTHER, &upgrade(&of(person(1)), "")).await;
    assert!(fourth.head.starts_with("HTTP/1.1 429 "), "{}", fourth.head);
    let mut other = Raw::of_person(&grid, OTHER, person(2)).await;

    let ping = json!({"type": "ping", "id": 1}).to_string();
    let (mut passed, mut limited) = (0, 0);
    for number in 0..30 {
        let answer = sockets[number % 3].ask(&ping).await;
        match answer["code"].as_str() {
            None => passed += 1,
            Some(code) => {
                assert_eq!(code, "rate_limited");
                assert!(
                    answer["detail"]["retry_after_ms"].as_u64() > Some(0),
                    "{answer}"
                );
                limited += 1;
            }
        }
    }
    assert!(passed >= 5 && limited > 0, "{passed} passed, {limited} not");
    assert_eq!(other.ask(&ping).await["type"], "reply", "another user");
    // Over HTTP it is the same user.
    let mine = format!("x-user-id: {}\r\n", person(1));
    let mut answers = Vec::new();
    for _ in 0..10 {
        answers.push(ask(&grid, ONE, &get("/v1/me/bids", &mine)).await);
    }
    let limited = answers
        .iter()
        .find(|answer| !answer.starts_with("HTTP/1.1 200 "));
    assert_limited(limited.expect("one that was too many"));
    // A socket that is closed makes room.
    sockets.pop();
    patiently("a place", async {
        while !Raw::open(&grid, OTHER, &upgrade(&of(person(1)), ""))
            .await
            .is_open()
        {}
    })
    .await;
    grid.stop().await;
}

#[tokio::test]
async fn a23_requests_of_one_address_are_bounded() {
    let grid = Grid::with(|settings| {
        only_the_harness_is_exempt(settings);
        settings.edge.address_requests_per_s = 2;
    })
    .await;
    for path in [
        "/",
        "/health",
        "/v1/auctions",
        "/v1/nowhere",
        "/v1/ws",
        "/admin/v1/node",
    ] {
        let mut limited = 0;
        for _ in 0..30 {
            let answer = ask(&grid, ONE, &get(path, "")).await;
            limited += usize::from(answer.starts_with("HTTP/1.1 429 "));
        }
        assert!(limited > 0, "{path} has no limit");
    }
    let other = ask(&grid, OTHER, &get("/v1/auctions", "")).await;
    assert!(other.starts_with("HTTP/1.1 200 "), "{other}");
    grid.stop().await;
}
