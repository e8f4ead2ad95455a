//! A first session, as the manual tells it, and a client that comes back.

use reqwest::Method;
use serde_json::json;

use crate::support::{Grid, person, sample, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_session() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let grid = Grid::up(folder.path());
    let status = grid.run(&["status"]).done();
    assert_eq!(
        status["nodes"].as_array().map(Vec::len),
        Some(3),
        "{status}"
    );

    let event = grid.run(&["import", "venue", &sample("arena.json")]).done();
    assert_eq!(event["seats"], 20_000);
    let event_id = text(&event["event_id"]).to_owned();
    let lots = grid.run(&["import", "lots", &sample("lots.csv")]).done();
    assert_eq!(
        (&lots["created"], &lots["known"]),
        (&json!(500), &json!(0)),
        "{lots}"
    );
    let again = grid.run(&["import", "lots", &sample("lots.csv")]).done();
    assert_eq!(
        (&again["created"], &again["known"]),
        (&json!(0), &json!(500)),
        "{again}"
    );

    sell(&grid, &event_id).await;
    let auction_id = hold_an_auction(&grid).await;
    comes_back(&grid, &auction_id).await;

    let load = [
        "load",
        "bidding",
        "--connections",
        "8",
        "--auctions",
        "2",
        "--duration",
        "1s",
    ];
    let load = grid.run(&load).done();
    assert_eq!(load["ok"], true, "{load}");
    let load = grid
        .run(&["load", "onsale", "--connections", "8", "--duration", "1s"])
        .done();
    assert!(
        load["ok"] == true && load["medians"]["holds_per_s"].as_f64() > Some(0.0),
        "{load}"
    );

    let verdict = grid.run(&["verify"]).done();
    assert_eq!(verdict["ok"], true, "{verdict}");
    if grid.has_database() {
        assert_eq!(verdict["database"], "compared", "{verdict}");
        let report = grid
            .run(&["report", "sales_by_event", "--limit", "1000"])
            .done();
        let rows = report["rows"].as_array().expect("rows");
        let row = rows
            .iter()
            .find(|row| row["event_id"] == event_id.as_str())
            .expect("our sale");
        assert_eq!(
            (&row["sold"], &row["held"]),
            (&json!(2), &json!(1)),
            "{row}"
        );
        let file = folder.path().join("sales.svg");
        let drawn = grid
            .run(&[
                "report",
                "sales_by_minute",
                "--event",
                &event_id,
                "--since",
                "1h",
                "--chart",
                file.to_str().expect("a plain path"),
            ])
            .done();
        assert!(drawn["rows"].as_u64() > Some(0), "{drawn}");
        let svg = std::fs::read_to_string(&file).expect("drawn");
        assert!(svg.starts_with("<svg"), "{svg}");
    }
    grid.stop().await;
}

/// Two seats are sold, one stays held.
async fn sell(grid: &Grid, event_id: &str) {
    let holds = format!("/v1/events/{event_id}/holds");
    let hold = grid
        .post(
            &holds,
            person(1),
            json!({"quantity": 2, "best_available": true}),
        )
        .await;
    let confirm = format!("{holds}/{}/confirm", text(&hold["hold_id"]));
    let tickets = grid
        .post(&confirm, person(1), json!({"payment_reference": "p-1"}))
        .await;
    assert_eq!(
        tickets["tickets"].as_array().map(Vec::len),
        Some(2),
        "{tickets}"
    );
    let seat = &tickets["tickets"][0]["seat"];
    let (status, refused) = grid
        .call(1, Method::POST, &holds, person(2), json!({"seats": [seat]}))
        .await;
    assert_eq!(
        (status, &refused["code"]),
        (409, &json!("seat_taken")),
        "{refused}"
    );
    grid.post(&holds, person(2), json!({"seats": ["Floor A-T-1"]}))
        .await;
    let shown = grid.run(&["event", "show", event_id]).done();
    let sold: u64 = shown["sections"]
        .as_array()
        .expect("sections")
        .iter()
        .filter_map(|section| section["sold"].as_u64())
        .sum();
    assert_eq!(sold, 2, "{shown}");
}

async fn hold_an_auction(grid: &Grid) -> String {
    let created = grid
        .run(&["auction", "create", "Clock", "--starting-price", "10.00"])
        .done();
    let auction_id = text(&created["auction_id"]).to_owned();
    let bids = format!("/v1/auctions/{auction_id}/bids");
    grid.post(&bids, person(3), json!({"amount": "10.00"}))
        .await;
    let (status, low) = grid
        .call(
            2,
            Method::POST,
            &bids,
            person(4),
            json!({"amount": "10.50"}),
        )
        .await;
    assert_eq!(
        (status, &low["code"]),
        (409, &json!("bid_too_low")),
        "{low}"
    );
    let shown = grid.run(&["auction", "show", &auction_id]).done();
    assert_eq!(
        (&shown["status"], &shown["bids"]),
        (&json!("open"), &json!(1)),
        "{shown}"
    );
    auction_id
}

/// A client that was cut off gets exactly what it missed, at another gateway.
async fn comes_back(grid: &Grid, auction_id: &str) {
    let bids = format!("/v1/auctions/{auction_id}/bids");
    let mut client = grid.connect(0, person(5)).await;
    client
        .send(&json!({"type": "subscribe", "id": 1, "auction_id": auction_id}))
        .await;
    client.next_of("snapshot").await;
    grid.post(&bids, person(4), json!({"amount": "11.00"}))
        .await;
    let seen = client.next_of("bid_placed").await;
    drop(client);
    for (bidder, amount) in [(3, "12.00"), (4, "13.00")] {
        grid.post(&bids, person(bidder), json!({"amount": amount}))
            .await;
    }
    let mut client = grid.connect(1, person(5)).await;
    let resume =
        json!({"type": "subscribe", "id": 2, "auction_id": auction_id, "from": seen["cursor"]});
    client.send(&resume).await;
    let resumed = client.next().await;
    assert_eq!(resumed["data"]["mode"], "replayed", "{resumed}");
    for amount in ["12.00", "13.00"] {
        let missed = client.next().await;
        assert_eq!(missed["type"], "bid_placed", "{missed}");
        assert_eq!(missed["data"]["amount"]["amount"], amount, "{missed}");
    }
    grid.post(&bids, person(3), json!({"amount": "14.00"}))
        .await;
    let live = client.next_of("bid_placed").await;
    assert_eq!(live["data"]["amount"]["amount"], "14.00", "{live}");
}
