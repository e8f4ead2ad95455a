//! How connections end: slow, silent, or because the gateway stops.

use std::time::Duration;

use futures_util::StreamExt;
use gateway::{AdminToken, Gateway, GatewayError, GatewayOptions, Mode};
use grid_config::GatewaySettings;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::harness::{Grid, patiently, person};

#[tokio::test]
async fn a_stopping_gateway_says_goodbye() {
    let mut grid = Grid::start().await;
    let mut client = grid.connect(person(1)).await;
    client.assert_alive().await;
    let gateway = grid.gateway.take().expect("running");
    let stop = tokio::spawn(gateway.shutdown());
    let goodbye = client.expect().await;
    assert_eq!(goodbye["type"], "goodbye");
    assert_eq!(goodbye["data"]["reason"], "draining");
    assert!(goodbye["data"]["retry_after_ms"].as_u64() > Some(0));
    match patiently("the close", client.socket.next()).await {
        Some(Ok(Message::Close(Some(frame)))) => assert_eq!(frame.code, CloseCode::Away),
        other => panic!("a close frame, not {other:?}"),
    }
    patiently("the stop", stop).await.expect("stopped");
    assert!(TcpStream::connect(grid.address()).await.is_err());
    grid.stop().await;
}

#[tokio::test]
async fn clients_are_sent_away_one_after_the_other_and_nobody_comes_in() {
    let mut grid = Grid::start().await;
    let mut clients = Vec::new();
    for number in 0..25 {
        clients.push(grid.connect(person(number)).await);
    }
    let gateway = grid.gateway.take().expect("running");
    patiently("sending them away", gateway.send_away()).await;
    assert!(TcpStream::connect(grid.address()).await.is_err());
    for client in &mut clients {
        let goodbye = client.expect_type("goodbye").await;
        assert_eq!(goodbye["data"]["reason"], "draining");
        // They need not be spread any more than they are.
        let wait_ms = goodbye["data"]["retry_after_ms"].as_u64();
        assert!(wait_ms.is_some_and(|wait_ms| wait_ms <= 50), "{goodbye}");
    }
    patiently("the stop", gateway.shutdown()).await;
    grid.stop().await;
}

#[tokio::test]
async fn a_silent_client_is_pinged_and_a_dead_one_closed() {
    let grid = Grid::with(|settings| {
        settings.ping_interval_ms = 50;
        settings.idle_timeout_ms = 600;
    })
    .await;
    let mut client = grid.connect(person(1)).await;
    // Reading answers pings; the client stays although it says nothing itself.
    let mut pings = 0;
    while pings < 20 {
        match patiently("a ping", client.socket.next()).await {
            Some(Ok(Message::Ping(_))) => pings += 1,
            other => panic!("a ping, not {other:?}"),
        }
    }
    client.assert_alive().await;

    // Bare TCP after the handshake: nothing answers the pings.
    let dead = grid.connect(person(2)).await;
    let mut stream = dead.socket.into_inner();
    let mut received = Vec::new();
    patiently("the end", stream.read_to_end(&mut received))
        .await
        .expect("closed in order");
    let received = String::from_utf8_lossy(&received);
    assert!(received.contains("idle_timeout"), "{received}");
    drop(client);
    grid.stop().await;
}

#[tokio::test]
async fn half_a_request_is_cut_off() {
    let grid = Grid::start().await;
    let mut stream = TcpStream::connect(grid.address()).await.expect("connected");
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET /v1/ws HTTP/1.1\r\nhost: x\r\n")
        .await
        .expect("sent");
    let mut received = Vec::new();
    let end = patiently("the end", stream.read_to_end(&mut received)).await;
    assert!(end.is_ok() || received.is_empty());
    grid.stop().await;
}

#[tokio::test]
async fn a_slow_consumer_is_sent_away_and_others_are_not() {
    let grid = Grid::with(|settings| settings.send_queue_max = 16).await;
    let auction = grid.open_auction(person(9)).await;
    let subscribe = json!({"type": "subscribe", "auction_id": auction});
    let mut slow = grid.connect(person(3)).await;
    slow.ask(subscribe.clone()).await;
    // The slow one asks and asks and reads nothing, until the server stops to listen to it.
    let padding = "x".repeat(5_000);
    let mut echo = subscribe.clone();
    echo["padding"] = json!(padding);
    let echo = echo.to_string();
    while tokio::time::timeout(Duration::from_millis(1_000), slow.send_text(&echo))
        .await
        .is_ok()
    {}
    let mut good = grid.connect(person(4)).await;
    good.ask(subscribe).await;
    let mut bidders = [grid.connect(person(1)).await, grid.connect(person(2)).await];
    for amount in 100..140_u64 {
        let bid = json!({"type": "place_bid", "auction_id": auction, "amount": amount.to_string()});
        bidders[(amount % 2) as usize].data(bid).await;
        good.expect_type("bid_placed").await;
    }
    // What was written before is read first; the goodbye is the last message.
    let mut last = None;
    while let Some(message) = slow.next().await {
        last = Some(message);
    }
    let last = last.expect("a message");
    assert_eq!(last["type"], "goodbye", "{last}");
    assert_eq!(last["data"]["reason"], "slow_consumer");
    good.assert_alive().await;
    grid.stop().await;
}

#[tokio::test]
async fn trusted_mode_refuses_other_addresses() {
    let grid = Grid::start().await;
    let listener = std::net::TcpListener::bind("0.0.0.0:0").expect("a free port");
    let started = Gateway::start(GatewayOptions {
        listener,
        tls: None,
        client: grid.node.as_ref().expect("running").client(),
        settings: GatewaySettings::default(),
        ticket_key: [7; 32],
        admin_token: AdminToken::random().expect("random bytes"),
        mode: Mode::Trusted,
    });
    assert!(matches!(started, Err(GatewayError::NotLoopback(_))));
    grid.stop().await;
}
