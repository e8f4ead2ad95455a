//! Auctions over HTTP and WebSocket.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Grid, auction_body, person, text};

fn bid(auction: &str, amount: &str) -> Value {
    json!({"type": "place_bid", "auction_id": auction, "amount": amount})
}

#[tokio::test]
async fn bids_follow_the_rule_and_are_watched() {
    let grid = Grid::start().await;
    let host = person(9);
    let auction = grid.open_auction(host).await;
    let mut anna = grid.connect(person(1)).await;
    let mut ben = grid.connect(person(2)).await;

    let snapshot = ben
        .ask(json!({"type": "subscribe", "auction_id": auction}))
        .await;
    assert_eq!(snapshot["type"], "snapshot");
    assert_eq!(snapshot["data"]["status"], "open");
    assert_eq!(snapshot["data"]["minimum_next"]["amount"], "100.00");
    assert_eq!(snapshot["data"].get("reserve_price"), None);
    anna.ask(json!({"type": "subscribe", "auction_id": auction}))
        .await;

    let low = anna.refused(bid(&auction, "99.99"), "bid_too_low").await;
    assert_eq!(low["detail"]["minimum"], "100.00");
    let placed = anna.data(bid(&auction, "100.00")).await;
    assert_eq!(placed["rank"], 1);
    assert_eq!(placed["minimum_next"]["amount"], "101.00");
    anna.refused(bid(&auction, "110.00"), "own_bid_leads").await;
    let mut hosting = grid.connect(host).await;
    hosting.refused(bid(&auction, "110.00"), "forbidden").await;

    let seen = ben.expect_type("bid_placed").await;
    assert_eq!(seen["data"]["user_id"], "bidder-1");
    assert_eq!(seen["data"]["current_price"]["amount"], "100.00");
    assert_eq!(seen["data"].get("own"), None);
    assert_eq!(anna.expect_type("bid_placed").await["data"]["own"], true);

    // A JSON number is read digit by digit; 120.50 would be 120.5 as a floating-point number.
    let exact =
        format!(r#"{{"type":"place_bid","id":"exact","auction_id":"{auction}","amount":120.50}}"#);
    ben.send_text(&exact).await;
    assert_eq!(ben.expect_type("reply").await["id"], "exact");
    let close = format!("/v1/auctions/{auction}/close");
    let (status, refused) = grid.post(&close, person(1), json!({})).await;
    assert_eq!(
        (status, &refused["code"]),
        (StatusCode::FORBIDDEN, &json!("forbidden"))
    );
    let (status, closed) = grid.post(&close, host, json!({})).await;
    assert_eq!(status, StatusCode::OK, "{closed}");
    assert_eq!(closed["outcome"]["sold"], true);
    let ended = anna.expect_type("auction_ended").await;
    assert_eq!(ended["data"]["winner"], "bidder-2");
    assert_eq!(ended["data"]["amount"]["amount"], "120.50");
    anna.refused(bid(&auction, "130.00"), "auction_not_open")
        .await;
    grid.stop().await;
}

#[tokio::test]
async fn auctions_are_listed_over_all_partitions() {
    let grid = Grid::start().await;
    let host = person(9);
    let mut made = Vec::new();
    for _ in 0..6 {
        made.push(grid.open_auction(host).await);
    }
    made.sort();
    let mut listed = Vec::new();
    let mut after = String::new();
    loop {
        let (status, page) = grid
            .get(&format!("/v1/auctions?status=open&limit=4{after}"))
            .await;
        assert_eq!(status, StatusCode::OK, "{page}");
        let items = page["items"].as_array().expect("a list");
        listed.extend(items.iter().map(|item| text(&item["auction_id"])));
        let Some(next) = page["next"].as_str() else {
            break;
        };
        after = format!("&after={next}");
    }
    assert_eq!(listed, made);
    let (_, none) = grid.get("/v1/auctions?status=ended").await;
    assert_eq!(none["items"], json!([]));
    grid.stop().await;
}

#[tokio::test]
async fn a_retry_creates_nothing_new_and_an_item_is_sold_once() {
    let grid = Grid::start().await;
    let host = person(9);
    let key = [("idempotency-key", "create-1")];
    let body = auction_body();
    let create = || {
        grid.call(
            Method::POST,
            "/v1/auctions",
            Some(host),
            &key,
            Some(body.clone()),
        )
    };
    let (first, second) = (create().await, create().await);
    assert_eq!(first.0, StatusCode::CREATED, "{}", first.1);
    assert_eq!(first, second);

    let mut other = auction_body();
    other["item"] = Value::Null;
    other["item_id"] = first.1["item_id"].clone();
    let (status, busy) = grid.post("/v1/auctions", host, other).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(busy["code"], "item_already_on_auction");
    assert_eq!(busy["data"]["auction_id"], first.1["auction_id"]);
    grid.stop().await;
}

#[tokio::test]
async fn bids_are_withdrawn_and_listed() {
    let grid = Grid::start().await;
    let auction = grid.open_auction(person(9)).await;
    let bids = format!("/v1/auctions/{auction}/bids");
    let (status, placed) = grid
        .post(&bids, person(1), json!({"amount": "150.00"}))
        .await;
    assert_eq!(status, StatusCode::CREATED, "{placed}");
    let path = format!("{bids}/{}", text(&placed["bid_id"]));
    let (status, refused) = grid
        .call(Method::DELETE, &path, Some(person(2)), &[], None)
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{refused}");
    let (status, _) = grid
        .call(Method::DELETE, &path, Some(person(1)), &[], None)
        .await;
    assert_eq!(status, StatusCode::OK);
    let (_, page) = grid
        .call(Method::GET, &bids, Some(person(1)), &[], None)
        .await;
    assert_eq!(page["items"][0]["withdrawn"], true, "{page}");
    assert_eq!(page["items"][0]["own"], true);
    assert_eq!(page["items"][0]["user_id"], "bidder-1");
    let (_, mine) = grid
        .call(Method::GET, "/v1/me/bids", Some(person(1)), &[], None)
        .await;
    assert_eq!(mine["items"][0]["bid_id"], placed["bid_id"]);
    grid.stop().await;
}
